"""Dialogues with a node that asks clients for a password: in JSON, RESP and HTTP."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resp_talk import Talk, command
from session_client import Client, as_line, get, set_
from world import World

from kvlab.kv.password import (
    FAILURES_MAX,
    LOCKED_BYTES_MAX,
    ORIGINS_MAX,
    REFILL_US,
    TOO_MANY,
    WRONG,
    Attempts,
    Password,
    origin_of,
)
from kvlab.kv.session import ClientSession

WORD = "correct horse"
AUTH = {"type": "AUTH", "value": WORD}
NOAUTH = "NOAUTH Authentication required."
WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled."


def alone() -> World:
    world = World(1, found=False, replication=1, r=1, w=1, password=Password(WORD))
    world.nodes["server1"].membership.alone(world.now_us)
    return world


def three() -> World:
    return World(3, password=Password(WORD))


@pytest.fixture(params=[alone, three])
def world(request: pytest.FixtureRequest) -> World:
    make: Callable[[], World] = request.param
    return make()


def codes(replies: list[dict]) -> list[str]:
    return [reply.get("code", "") for reply in replies]


# -- JSON -----------------------------------------------------------------------------------------


def test_nothing_is_done_before_the_password_and_all_after_it(world: World) -> None:
    client = Client(world)
    before = [set_("a", "1"), get("a"), {"type": "STATUS"}, {"type": "MAP"}, {"type": "FLY"}]
    before += [set_("a", "1", level="all"), get("a", ns="linear"), {"type": "LEAVE"}]
    assert codes(client.ask(*before)) == ["NOAUTH"] * len(before)
    assert client.node.state.table.key_count == 0

    [reply] = client.ask(AUTH)
    assert (reply["status"], reply["info"]) == ("SUCCESS", {"id": "server1"})
    assert WORD not in str(reply)

    replies = client.ask(set_("a", "1"), get("a"), {"type": "STATUS"})
    assert [reply["status"] for reply in replies] == ["SUCCESS"] * 3
    assert client.session.wants_turn is False


def test_a_ping_needs_no_password(world: World) -> None:
    [reply] = Client(world).ask({"type": "PING"})

    assert reply["info"] == {"id": "server1", "ready": True}


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": "correct hors"},
        {"value": ""},
        {},
        {"value": WORD, "key": "root"},
        {"key": WORD},
        {"value": WORD + "\x00"},
    ],
    ids=str,
)
def test_a_wrong_password_is_refused_and_counted(world: World, wrong: dict) -> None:
    client = Client(world)

    assert codes(client.ask({"type": "AUTH"} | wrong, get("a"))) == ["WRONGPASS", "NOAUTH"]

    assert client.node.state.counters["auth_failures"] == 1
    assert client.session.is_stranger


def test_requests_around_the_password_in_one_piece_are_told_apart(world: World) -> None:
    client = Client(world)

    replies = client.ask(get("a"), AUTH | {"key": "default"}, set_("a", "1"), get("a"))

    assert codes(replies) == ["NOAUTH", "", "", ""]
    assert replies[3]["value"] == "1"
    assert not client.session.is_stranger


def test_the_refusal_has_the_case_and_the_number_of_the_request(world: World) -> None:
    [reply] = Client(world).ask({"Type": "GET", "Key": "a", "ReqId": 7})

    assert (reply["Code"], reply["ReqId"]) == ("NOAUTH", 7)


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_cuts_anywhere_change_nothing(world: World, size: int) -> None:
    client = Client(world)
    data = as_line(**get("a")) + as_line(**AUTH) + as_line(**set_("a")) + as_line(**get("a"))
    replies = []
    for at in range(0, len(data), size):
        replies += client.ask(data[at : at + size])

    assert codes(replies) == ["NOAUTH", "", "", ""]


def test_a_stranger_cannot_make_a_node_keep_much(world: World) -> None:
    client = Client(world)
    assert client.ask(b'{"type":"SET","value":"' + b"x" * LOCKED_BYTES_MAX)[0]["code"] == "NOAUTH"
    assert client.closed

    other = Client(world)
    half = b'{"type":"SET","key":"a","value":"' + b"x" * (LOCKED_BYTES_MAX + 1)
    assert codes(other.ask(as_line(**AUTH) + half)) == [""]
    assert codes(other.ask(b'"}\n')) == [""]


def test_without_a_password_who_tells_one_is_told_so() -> None:
    [reply] = Client(World(3)).ask(AUTH)

    assert reply["code"] == "BAD_REQUEST"
    assert reply["error"] == "no password is set here, so none can be told"


@given(st.text(max_size=20), st.text(max_size=20))
def test_only_the_password_is_accepted(right: str, told: str) -> None:
    assert Password(right).accepts(told.encode()) is (right == told)


# -- RESP -----------------------------------------------------------------------------------------


def test_resp_refuses_as_redis_does(world: World) -> None:
    talk = Talk(world)
    lines = ["PING", "SET a 1", "GET a", "INFO", "CLUSTER SLOTS", "FLY", "MULTI", "CLIENT ID"]
    assert talk.lines(*lines) == [NOAUTH] * len(lines)
    assert talk("HELLO", "3").startswith("NOAUTH HELLO must be called with the client already")
    assert talk("AUTH", "wrong") == WRONGPASS
    assert talk("AUTH", "root", WORD) == WRONGPASS
    assert talk("AUTH", "default", WORD, "x") == "ERR syntax error"
    assert talk("GET", "a") == NOAUTH
    assert talk.node.state.counters["auth_failures"] == 2

    assert talk("AUTH", WORD) == b"OK"
    assert talk.lines("SET a 1", "GET a", "PING") == [b"OK", b"1", b"PONG"]


@pytest.mark.parametrize(
    "told", [("AUTH", WORD), ("auth", "default", WORD), ("HELLO", "3", "AUTH", "default", WORD)]
)
def test_requests_behind_the_password_are_done(world: World, told: tuple[str, ...]) -> None:
    talk = Talk(world)

    replies = talk.ask(
        command("GET", "a") + command(*told) + command("SET", "a", "1") + command("GET", "a")
    )

    assert replies[0] == NOAUTH
    assert replies[2:] == [b"OK", b"1"]


def test_hello_with_a_wrong_password_changes_nothing(world: World) -> None:
    talk = Talk(world)

    assert talk("HELLO", "3", "AUTH", "default", "wrong", "SETNAME", "me") == WRONGPASS

    assert talk("PING") == NOAUTH
    assert talk("AUTH", WORD) == b"OK"
    assert talk("CLIENT", "GETNAME") is None
    assert talk("CONFIG", "GET", "save") == [b"save", b""]


def test_reset_asks_for_the_password_again(world: World) -> None:
    talk = Talk(world)

    assert talk.lines(f"AUTH {WORD}".replace(" horse", "_")) == [WRONGPASS]
    assert talk("AUTH", WORD) == b"OK"
    assert talk.lines("RESET", "GET a") == [b"RESET", NOAUTH]


def test_a_stranger_cannot_make_a_node_keep_much_of_resp(world: World) -> None:
    talk = Talk(world)
    half = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000000\r\n" + b"x" * LOCKED_BYTES_MAX

    [told] = talk.ask(half)

    assert told.startswith("ERR Protocol error: a request that is longer")
    assert talk.closed


# -- HTTP -----------------------------------------------------------------------------------------


def http(world: World, path: str, *headers: str) -> bytes:
    session = ClientSession(world.nodes["server1"])
    lines = [f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]
    return session.feed("\r\n".join(lines).encode(), world.now_us)


def basic(text: str) -> str:
    return "Authorization: Basic " + base64.b64encode(text.encode()).decode()


def test_metrics_want_the_password_and_the_health_does_not(world: World) -> None:
    assert http(world, "/healthz").startswith(b"HTTP/1.1 200 ")

    refused = http(world, "/metrics")
    assert refused.startswith(b"HTTP/1.1 401 ")
    assert b'WWW-Authenticate: Basic realm="kvlab"\r\n' in refused
    assert b"kvlab_" not in refused

    assert b"kvlab_keys" in http(world, "/metrics", basic(f"default:{WORD}"))
    assert b"kvlab_keys" in http(
        world, "/metrics", basic(f"default:{WORD}").lower()[:13] + basic(f"default:{WORD}")[13:]
    )


@pytest.mark.parametrize(
    "header",
    [
        basic("default:wrong"),
        basic(f"root:{WORD}"),
        basic(WORD),
        f"Authorization: Bearer {WORD}",
        "Authorization: Basic",
        "Authorization: Basic \u00e4\u00f6",
        "Authorization: Basic ====",
        "Authorization:",
    ],
)
def test_a_header_without_the_password_is_refused(world: World, header: str) -> None:
    assert http(world, "/metrics", header).startswith(b"HTTP/1.1 401 ")


def test_without_a_password_nothing_is_asked_for() -> None:
    assert b"kvlab_keys" in http(World(3), "/metrics", basic("default:x"))


# -- guessing -------------------------------------------------------------------------------------


def _try(attempts: Attempts, word: str, origin: str, now_us: int) -> str:
    return attempts.accepts(Password(WORD), word.encode(), b"default", origin, now_us)


def test_wrong_passwords_of_one_address_are_bounded_and_forgotten_with_time() -> None:
    attempts = Attempts()
    told = [_try(attempts, "guess", "10.0.0.1", one) for one in range(FAILURES_MAX + 2)]
    assert told == [WRONG] * FAILURES_MAX + [TOO_MANY] * 2
    assert _try(attempts, WORD, "10.0.0.1", 20) == TOO_MANY, "or guessing would go on"
    assert _try(attempts, WORD, "10.0.0.2", 20) == ""
    assert attempts.blocked == 3

    assert _try(attempts, WORD, "10.0.0.1", REFILL_US) == ""
    assert _try(attempts, "guess", "10.0.0.1", REFILL_US) == WRONG
    assert _try(attempts, "guess", "10.0.0.1", REFILL_US) == TOO_MANY
    later = (FAILURES_MAX + 5) * REFILL_US
    told = [_try(attempts, "guess", "10.0.0.1", later) for _ in range(FAILURES_MAX + 1)]
    assert told == [WRONG] * FAILURES_MAX + [TOO_MANY]


@given(st.lists(st.integers(0, 10 * REFILL_US), max_size=60))
def test_no_more_are_looked_at_than_leak(steps: list[int]) -> None:
    attempts, now_us, looked = Attempts(), 0, 0
    for step in steps:
        now_us += step
        looked += _try(attempts, "guess", "a", now_us) == WRONG
    assert looked <= FAILURES_MAX + now_us // REFILL_US


def test_many_addresses_take_bounded_memory_and_the_newest_is_remembered() -> None:
    attempts = Attempts()
    for number in range(ORIGINS_MAX + 50):
        attempts.accepts(Password("x"), b"y", b"default", f"address {number}", number)
    for _ in range(FAILURES_MAX):
        assert _try(attempts, "guess", "10.0.0.1", 9999) == WRONG
    assert _try(attempts, "guess", "10.0.0.1", 9999) == TOO_MANY


def test_a_network_of_ipv6_is_one_origin() -> None:
    assert origin_of("10.0.0.1") == origin_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert (
        origin_of("2001:db8:1:2:3::4") == origin_of("2001:db8:1:2::9") != origin_of("2001:db8::9")
    )
    assert origin_of("fe80::1%eth0") == "fe80::"
    assert origin_of("") == ""


def _from(world: World, kind: type[Client], origin: str) -> Client:
    client = kind(world)
    client.session.origin = origin
    return client


def test_every_protocol_counts_and_refuses(world: World) -> None:
    wrong = {"type": "AUTH", "value": "guess"}
    for number in range(FAILURES_MAX - 2):
        assert codes(_from(world, Client, "a").ask(wrong)) == ["WRONGPASS"], number
    assert _from(world, Talk, "a").ask(command("AUTH", "guess")) == [WRONGPASS]
    header = base64.b64encode(b"default:guess").decode()
    scrape = f"GET /metrics HTTP/1.1\r\nAuthorization: Basic {header}\r\n\r\n".encode()
    assert b" 401 " in _from(world, Client, "a").session.feed(scrape, world.now_us)

    client = _from(world, Client, "a")
    assert codes(client.ask(get("k"), AUTH, get("k"))) == ["NOAUTH", "BUSY"]
    assert client.closed
    talk = _from(world, Talk, "a")
    assert talk.ask(command("AUTH", WORD), command("GET", "k")) == [f"BUSY {TOO_MANY}"]
    assert talk.closed
    assert b" 429 " in _from(world, Client, "a").session.feed(scrape, world.now_us)
    assert codes(_from(world, Client, "b").ask(AUTH)) == [""]
    status = client.node.admin.status(world.now_us)
    assert status["counters"]["auth_blocked"] == 3
    assert status["counters"]["auth_failures"] == FAILURES_MAX

    world.now_us += REFILL_US
    assert codes(_from(world, Client, "a").ask(AUTH)) == [""]
