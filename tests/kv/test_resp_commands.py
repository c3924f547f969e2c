"""Dialogues with a RESP client's commands on data, and with those that are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from resp_talk import Talk, command
from session_client import Client, get, set_, solo_world, values
from world import World

from kvlab.kv.resp_answer import SEVERAL_BYTES_MAX
from kvlab.kv.resp_commands import COMMANDS
from kvlab.kv.resp_refused import REFUSED
from kvlab.ring.slot import slot_of
from kvlab.storage.journal import Journal
from kvlab.wire.limits import KEY_LIMIT_BYTES, VALUE_LIMIT_BYTES


@pytest.fixture(params=[solo_world, World], ids=["alone", "three"])
def talk(request: pytest.FixtureRequest) -> Talk:
    make: Callable[[], World] = request.param
    return Talk(make())


@pytest.fixture
def three() -> Talk:
    return Talk(World(3))


# -- data -----------------------------------------------------------------------------------------


def test_what_is_set_can_be_read_and_deleted(talk: Talk) -> None:
    assert talk("GET", "k") is None
    assert talk("SET", "k", "v") == b"OK"
    assert talk("SET", "k", "w") == b"OK"
    assert talk("GET", "k") == b"w"
    assert talk("DEL", "k") == 1
    assert talk("DEL", "k") == 0
    assert talk("GETEX", "k") is None
    assert talk("SET", "k", "again") == b"OK"
    assert talk("GET", "k") == b"again"


def test_commands_work_in_any_case(talk: Talk) -> None:
    assert talk.lines("set k v", "Get k", "dEl k") == [b"OK", b"v", 1]


def test_a_pipeline_keeps_its_order(talk: Talk) -> None:
    assert talk.lines(
        "SET a 1",
        "GET a",
        "MGET a b",
        "DEL a b",
        "GET a",
        "MSET a 2 b 3",
        "MGET b a",
        "EXISTS a a c",
    ) == [b"OK", b"1", [b"1", None], 1, None, b"OK", [b"3", b"2"], 2]


@pytest.mark.parametrize("value", [b"", b"\x00\xff\r\n", "é".encode(), b"x" * 300_000])
def test_values_are_any_bytes(talk: Talk, value: bytes) -> None:
    for _ in range(2):  # a new key, and one that is there
        assert talk("SET", "k", value) == b"OK"
        assert talk("GET", "k") == value
    assert talk("STRLEN", "k") == len(value)
    assert talk("MGET", "k") == [value]


def test_keys_are_text(talk: Talk) -> None:
    assert talk("SET", "schlüssel {a}", "v") == b"OK"
    assert talk("GET", "schlüssel {a}") == b"v"
    assert talk("SET", "", "empty") == b"OK"
    assert talk("GET", "") == b"empty"
    for args in (["GET", b"\xff"], ["SET", b"\xff", "v"], ["MSET", "a", "1", b"\xff", "2"]):
        assert talk(*args).startswith("ERR a key must be UTF-8")
    assert talk("GET", "a") is None


def test_several_keys_are_counted_as_redis_counts_them(talk: Talk) -> None:
    assert talk("MSET", "a", "1", "b", "2", "a", "3") == b"OK"
    assert talk("MGET", "a", "b", "c", "a") == [b"3", b"2", None, b"3"]
    assert talk("EXISTS", "a", "a", "b", "c") == 3
    assert talk("UNLINK", "a", "a", "c") == 1
    assert talk("EXISTS", "a") == 0


def test_what_a_key_holds(talk: Talk) -> None:
    talk("SET", "k", "äö")
    assert (talk("STRLEN", "k"), talk("STRLEN", "none")) == (4, 0)
    assert (talk("TYPE", "k"), talk("TYPE", "none")) == (b"string", b"none")
    assert talk("DBSIZE") == 1


def test_each_protocol_reads_what_the_other_wrote(talk: Talk) -> None:
    json = Client(talk.world)
    assert values(json.ask(set_("a", "ä1"))) == [""]
    assert talk("GET", "a") == "ä1".encode()

    talk("SET", "a", "ö2")
    assert values(json.ask(get("a"))) == ["ö2"]
    talk("SET", "a", "ü3")
    assert values(json.ask(get("a"), get("a"))) == ["ü3", "ü3"]

    talk("DEL", "a")
    [reply] = json.ask(get("a"))
    assert reply["code"] == "NOT_FOUND"


def test_every_node_answers(three: Talk) -> None:
    world = three.world
    talks = [Talk(world, name) for name in world.nodes]
    for number, one in enumerate(talks):
        assert one("SET", f"k{number}", str(number)) == b"OK"
        assert [other("GET", f"k{number}") for other in talks] == [str(number).encode()] * 3


# -- limits ---------------------------------------------------------------------------------------


def test_keys_and_values_have_limits(talk: Talk) -> None:
    key, value = b"k" * KEY_LIMIT_BYTES, b"v" * VALUE_LIMIT_BYTES
    assert talk("SET", key, value) == b"OK"
    assert talk("SET", key, value) == b"OK"
    assert talk("GET", key) == value

    assert talk("GET", key + b"k").startswith("TOO_LARGE the key has 65537 bytes")
    assert talk("SET", "k", value + b"v").startswith("TOO_LARGE the value has 8388609 bytes")
    assert talk("SET", key, value + b"v").startswith("TOO_LARGE")
    assert talk("STRLEN", key) == len(value)


def test_one_reply_is_not_heavier_than_its_bound(talk: Talk) -> None:
    size = VALUE_LIMIT_BYTES
    talk("SET", "k", b"v" * size)
    count = SEVERAL_BYTES_MAX // size
    assert talk("MGET", *["k"] * count) == [b"v" * size] * count
    assert talk("MGET", *["k"] * 100).startswith("TOO_LARGE these values have more than")
    assert talk("EXISTS", *["k"] * 100) == 100


# -- wrong requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("GET a b", "ERR wrong number of arguments for 'get' command"),
        ("SET a", "ERR wrong number of arguments for 'set' command"),
        ("MSET a", "ERR wrong number of arguments for 'mset' command"),
        ("MSET a 1 b", "ERR wrong number of arguments for 'mset' command"),
        ("DEL", "ERR wrong number of arguments for 'del' command"),
        ("FLY a b", "ERR unknown command 'FLY', with args beginning with: 'a' 'b' "),
        ("SET a 1 2", "ERR syntax error"),
        ("SET a 1 ex", "ERR value is not an integer"),
        ("SET a 1 PX -100", "ERR invalid expire time in 'set' command"),
        ("SET a 1 KEEPTTL", "ERR SET KEEPTTL: it reads and writes in one step"),
        ("SET a 1 EX 10 PX 10", "ERR syntax error"),
        ("SET a 1 NX", "ERR SET NX: it reads and writes in one step"),
        ("SET a 1 xx", "ERR SET XX: it reads and writes in one step"),
        ("SET a 1 GET", "ERR SET GET: it reads and writes in one step"),
        ("SET a 1 EX 9 KEEPTTL", "ERR syntax error"),
        ("SET a 1 NX GET", "ERR SET NX GET: it reads and writes in one step"),
        ("GETEX a EX 10", "ERR GETEX EX: it reads and writes in one step"),
        ("GETEX a EX 0", "ERR invalid expire time in 'getex' command"),
        ("GETEX a EX", "ERR syntax error"),
        ("GETEX a PERSIST 1", "ERR syntax error"),
        ("INCR a", "ERR INCR: it reads and writes in one step"),
        ("append a b", "ERR APPEND: it reads and writes in one step"),
        ("SETNX a b", "ERR SETNX: it reads and writes in one step"),
        ("EXPIRE a 10", "ERR EXPIRE: it reads and writes in one step"),
        ("PERSIST a", "ERR PERSIST: it reads and writes in one step"),
        ("SETEX a b c", "ERR value is not an integer"),
        ("PSETEX a 0 c", "ERR invalid expire time in 'psetex' command"),
        ("EVAL x 0", "ERR EVAL: there are no scripts"),
        ("SUBSCRIBE x", "ERR SUBSCRIBE: there are no channels"),
        ("LPUSH a b", "ERR LPUSH: values are strings only"),
        ("KEYS *", "ERR KEYS: keys are not listed all at once"),
        ("WAIT 1 0", "ERR WAIT: a write is acknowledged by its quorum"),
        ("WATCH a", "ERR WATCH: there are no transactions"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(talk: Talk, line: str, told: str) -> None:
    talk("SET", "a", "before")
    before = talk.node.state.counters["bad_requests"]

    [reply] = talk.lines(line)

    assert reply.startswith(told)
    assert talk("GET", "a") == b"before"
    assert talk.node.state.counters["bad_requests"] == before + 1


def test_an_unknown_command_is_shown_in_bounds(talk: Talk) -> None:
    reply = talk(b"\x00fly\r\n" + b"x" * 1000, *["y" * 100] * 50)

    assert reply.startswith("ERR unknown command '?fly??xxx")
    assert len(reply) < 450


WORDS = st.sampled_from(
    [name for verb in [*COMMANDS, *REFUSED] if verb != b"QUIT" for name in (verb, verb.lower())]
)
RUBBISH = st.binary(max_size=4).filter(lambda word: word.upper() != b"QUIT")
ARGS = st.binary(max_size=4) | st.sampled_from([b"3", b"GET", b"SETNAME", b"INFO", b"DOCS", b"NX"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(WORDS | RUBBISH, st.lists(ARGS, max_size=4)), max_size=8))
@example([(b"", []), (b"\xff", [b"\r\n"])])
def test_every_request_gets_one_reply_whatever_it_is(requests: list) -> None:
    talk = Talk(solo_world())

    replies = talk.ask(*[command(verb, *args) for verb, args in requests])

    assert len(replies) == len(requests)
    assert not talk.session.closing


def test_no_command_is_both_there_and_refused() -> None:
    assert not set(COMMANDS) & set(REFUSED)


def test_nothing_of_a_refused_transaction_is_done(talk: Talk) -> None:
    replies = talk.lines("SET a 1", "MULTI", "SET a 2", "GET a", "FLY", "EXEC", "GET a")

    assert replies[0] == b"OK"
    assert replies[1].startswith("ERR MULTI: there are no transactions")
    assert all(reply.startswith("ERR not done, as MULTI was refused") for reply in replies[2:5])
    assert replies[5].startswith("EXECABORT")
    assert replies[6] == b"1"


def test_a_refused_transaction_can_be_left(talk: Talk) -> None:
    assert talk.lines("MULTI", "SET a 2", "DISCARD", "GET a")[2:] == [b"OK", None]
    assert talk.lines("MULTI", "RESET", "GET a")[1:] == [b"RESET", None]
    assert talk("EXEC").startswith("ERR EXEC: there are no transactions")


# -- failures -------------------------------------------------------------------------------------


def _expire(talk: Talk) -> list:
    """Let the time of what is under way go by."""
    talk.world.tick(12)
    talk.deliver()
    return talk.take()


def test_a_node_that_is_starting_says_so(three: Talk) -> None:
    world = World(3, found=False)
    talk = Talk(world)
    for line in ("GET a", "SET a 1", "DEL a b", "MGET a b", "MSET a 1"):
        [reply] = talk.lines(line)
        assert reply.startswith("UNAVAILABLE ")
    assert talk("PING") == b"PONG"
    assert talk("CLUSTER", "SLOTS").startswith("UNAVAILABLE ")
    assert talk.node.state.counters["bad_requests"] == 0


def test_a_node_that_takes_no_writes_says_so_and_reads(talk: Talk) -> None:
    talk("SET", "a", "1")
    talk.node.state.refuse("the disk is full")

    for line in ("SET a 2", "MSET a 2 b 2", "DEL a"):
        [reply] = talk.lines(line)
        assert reply.startswith("READ_ONLY this node takes no writes: the disk is full")
    assert talk("MGET", "a", "b") == [b"1", None]


def test_what_is_written_is_told_to_the_journal(talk: Talk) -> None:
    journal = talk.node.state.table.journal = Journal()

    assert talk.lines("SET a 1", "SET a 2", "MSET b 3", "DEL a") == [b"OK", b"OK", b"OK", 1]

    assert journal.records[::3] == [b"a", b"a", b"b", b"a"]
    assert journal.records[2::3] == ["1", "2", "3", None]


def test_a_version_of_a_faster_clock_is_written_over(talk: Talk) -> None:
    """It is ahead of this node's clock by less than peers follow."""
    state = talk.node.state
    ahead = state.clock.next(talk.world.now_us + 300_000)
    state.clock.last = 0
    state.table.put(slot_of(b"a") >> state.shift, b"a", ahead, "before")

    assert talk("SET", "a", "1") == b"OK"
    assert talk("GET", "a") == b"1"


def test_a_full_node_says_busy(three: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvlab.kv.quorum.OPEN_GROUPS_MAX", 0)

    replies = three.lines("GET a", "SET a 1", "MSET a 1 b 2", "DEL a", "MGET a b")

    assert all(reply.startswith("BUSY ") for reply in replies)
    assert three.world.holders("a") == {}


def test_writes_without_a_quorum_in_time_are_unknown_and_reads_unavailable() -> None:
    world = World(4, replication=2, r=2, w=2)
    talk = Talk(world)
    elsewhere = next(
        key
        for key in (f"k{number}" for number in range(100))
        if "server1" not in world.nodes["server1"].state.map.ranges[_range(world, key)].replicas
    )
    for peer in ("server2", "server3", "server4"):
        world.cut.add(("server1", peer))

    talk.send(
        command("SET", elsewhere, "v"),
        command("GET", elsewhere),
        command("MSET", elsewhere, "v"),
        command("DEL", elsewhere, elsewhere),
        command("MGET", elsewhere),
    )
    replies = _expire(talk)

    assert [reply.split()[0] for reply in replies] == [
        "UNKNOWN",
        "UNAVAILABLE",
        "UNKNOWN",
        "UNKNOWN",
        "UNAVAILABLE",
    ]
    assert "0 of 2 keys were changed, 2 may have been; key 1: UNKNOWN" in replies[3]


def _range(world: World, key: str) -> int:
    return slot_of(key.encode()) >> world.nodes["server1"].state.shift


def test_a_command_that_was_done_in_part_does_not_say_that_nothing_happened() -> None:
    world = World(3, replication=1, r=1, w=1)
    talk = Talk(world)
    ranges = world.nodes["server1"].state.map.ranges
    keys = [f"k{number}" for number in range(100)]
    here = next(key for key in keys if ranges[_range(world, key)].replicas == ("server1",))
    there = next(key for key in keys if ranges[_range(world, key)].replicas == ("server2",))
    assert talk("MSET", here, "1", there, "1") == b"OK"
    world.kill("server2")
    routes = world.nodes["server1"].state.routes
    routes[_range(world, there)] = routes[_range(world, there)].owners  # nobody stands in

    told = talk("MSET", here, "2", there, "2")
    assert told.startswith("UNKNOWN 1 of 2 keys were changed, 0 may have been; key 2: UNAVAILABLE")
    assert talk("GET", here) == b"2"
    assert talk("DEL", there, here).startswith("UNKNOWN 1 of 2 keys were changed")
    assert talk("DEL", there, here).startswith("UNAVAILABLE ")  # nothing was left to change
    assert talk("MSET", there, "2").startswith("UNAVAILABLE ")
    assert talk("MGET", here, there).startswith("UNAVAILABLE ")
    assert talk("GET", here) is None
