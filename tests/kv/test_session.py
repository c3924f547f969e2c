"""Dialogues with one client's connection: which replies come, in which order, and how it ends."""

from __future__ import annotations

import pytest
from session_client import Client, as_line, get, set_, solo_world, values
from world import World

from kvlab.kv.peering import NEVER_US
from kvlab.wire.peer import MAGIC


@pytest.fixture
def alone() -> Client:
    return Client(solo_world())


@pytest.fixture
def client() -> Client:
    return Client(World(3))


# -- order ----------------------------------------------------------------------------------------


def test_a_node_alone_answers_in_the_same_call(alone: Client) -> None:
    replies = alone.send(set_("a", "1"), get("a"), {"type": "DELETE", "key": "a"}, get("a"))

    assert [reply["status"] for reply in replies] == ["SUCCESS"] * 3 + ["ERROR"]
    assert replies[1]["value"] == "1"
    assert not alone.session.stirred  # there is nothing else to look at
    assert not alone.session.busy


def test_replies_wait_for_the_other_nodes_and_come_in_one_piece(client: Client) -> None:
    assert client.send(set_("a", "1"), get("a"), set_("b", "2"), get("b")) == []
    assert client.session.busy
    assert client.session.stirred  # frames must be taken

    client.deliver()

    assert values(client.take()) == ["", "1", "", "2"]
    assert client.writes == 1
    assert not client.session.busy


def test_a_batch_that_ended_early_waits_for_those_before_it(client: Client) -> None:
    client.send(set_("a", "1", level="all"))
    assert client.send({"type": "PING"}) == []  # needs nobody
    assert client.send(set_("b", "2")) == []

    client.deliver()

    replies = client.take()
    assert [reply["key"] for reply in replies] == ["a", "", "b"]
    assert "info" in replies[1]


def test_a_batch_that_ends_first_is_not_written_first(client: Client) -> None:
    world = client.world
    client.send(set_("slow", "1", level="all"))
    world.collect()
    client.send(set_("quick", "2"))
    world.cut = {("server3", "server1")}  # holds up the first only: the second needs two
    client.deliver()
    assert client.take() == []

    world.cut = set()
    client.deliver()

    assert [reply["key"] for reply in client.take()] == ["slow", "quick"]


def test_a_node_alone_too_keeps_the_order_behind_what_must_wait(alone: Client) -> None:
    assert alone.send(set_("a", "1", req_id="x")) == []  # ends with this turn of the loop
    assert alone.send(get("a")) == []

    alone.deliver()

    assert values(alone.take()) == ["", "1"]


def test_two_clients_get_their_own_replies(client: Client) -> None:
    other = Client(client.world)
    client.send(set_("a", "1"))
    other.send(set_("b", "2"), get("b"))

    client.deliver()

    assert [reply["key"] for reply in client.take()] == ["a"]
    assert [reply["key"] for reply in other.take()] == ["b", "b"]


def test_requests_of_all_kinds_keep_their_order(alone: Client) -> None:
    """Plain ones, options, wrong ones and another casing take different ways."""
    alone.send(set_("a", "1"))

    [first, second, third, fourth] = alone.ask(
        get("a"), get("a", req_id="x"), {"type": "FLY"}, {"Type": "GET", "Key": "a"}
    )

    assert (first["value"], second["req_id"]) == ("1", "x")
    assert third["error"] == "Invalid request type"
    assert fourth["Value"] == "1"


# -- pieces ---------------------------------------------------------------------------------------


def test_bytes_one_at_a_time_mean_the_same(alone: Client) -> None:
    data = as_line(**set_("a", "1")) + b"\n  " + as_line(**get("a")) + as_line(type="FLY", key="é")
    whole = alone.ask(data)
    assert len(whole) == 3

    other = Client(solo_world())
    replies = []
    for at in range(len(data)):
        replies += other.ask(data[at : at + 1])

    for reply in whole + replies:
        del reply["timestamp"]
    assert replies == whole
    assert other.session.deadline_us == NEVER_US


# -- the first bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, len(MAGIC), len(MAGIC) + 7])
def test_a_peer_is_handed_on_with_what_it_said(alone: Client, size: int) -> None:
    data = (MAGIC + b"\x00\x00\x00\x09xyz")[:size]

    assert alone.session.feed(data, alone.world.now_us) == b""

    assert alone.session.stirred
    assert alone.session.peer_data == data
    assert alone.node.state.counters["bad_requests"] == 0


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n"),
        (b"POST / HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed\r\n"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"GET /" + bytes(9000), b"HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        (b"POST\r\n", b"-ERR Protocol error: this is a kvlab node"),
    ],
)
def test_a_browser_is_told_what_this_is_and_ends(
    alone: Client, first: bytes, answer: bytes
) -> None:
    session = alone.session
    told = session.feed(first, alone.world.now_us)

    assert told.startswith(answer)
    assert session.stirred
    assert session.close_due
    assert alone.node.state.counters["bad_requests"] == 1
    assert session.feed(as_line(**set_("a")), alone.world.now_us) == b""
    assert alone.world.holders("a") == {}


def test_the_http_answer_is_as_long_as_it_says(alone: Client) -> None:
    assert alone.session.feed(b"GET / HTTP/1.1\r\n", alone.world.now_us) == b""
    told = alone.session.feed(b"\r\n", alone.world.now_us)

    head, body = told.split(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize("first", [b"\n", b" ", b"\r", b"\xef\xbb\xbf"])
def test_blanks_before_the_first_document_are_json(alone: Client, first: bytes) -> None:
    assert alone.send(first) == []
    assert values(alone.send(set_("a", "1"))) == [""]


def test_a_peer_s_first_byte_later_is_no_peer(alone: Client) -> None:
    alone.send(set_("a", "1"))

    [reply] = alone.send(MAGIC)

    assert "not JSON" in reply["error"]
    assert alone.session.peer_data == b""
    assert alone.closed


# -- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"{]\n", "not JSON"),
        (b"\x00\x01\x02\n", "not JSON"),
        (b"\xf3XX\n", "not JSON"),
        (b'{"a":' * 100, "nested deeper"),
    ],
)
def test_what_is_no_json_is_told_and_ends(alone: Client, data: bytes, word: str) -> None:
    [reply] = alone.send(data)

    assert (reply["status"], reply["code"]) == ("ERROR", "BAD_REQUEST")
    assert word in reply["error"]
    assert alone.session.close_due
    assert alone.session.deadline_us == NEVER_US
    assert alone.send(set_("a")) == []


def test_an_error_that_ends_leaves_in_turn(client: Client) -> None:
    client.send(set_("a", "1"))
    client.send(set_("b", "2"), b"{]", set_("c", "3"))
    assert not client.session.close_due
    assert client.session.busy

    client.deliver()

    assert [(one["key"], one["status"]) for one in client.take()] == [
        ("a", "SUCCESS"),
        ("b", "SUCCESS"),
        ("", "ERROR"),
    ]
    assert client.closed
    assert client.world.holders("c") == {}


def test_a_client_that_is_done_sending_gets_what_it_is_owed(client: Client) -> None:
    client.send(set_("a", "1"), b'{"type":"GET","ke')
    client.session.eof()
    assert client.session.busy
    assert not client.session.close_due
    assert client.session.deadline_us == NEVER_US  # the rest will never come

    client.session.stirred = False
    client.deliver()

    assert len(client.take()) == 1
    assert client.session.stirred
    assert client.closed


def test_a_client_that_is_done_and_owed_nothing_is_closed(alone: Client) -> None:
    alone.session.eof()

    assert alone.session.close_due
    assert not alone.session.busy


def test_a_client_that_went_away_is_written_nothing(client: Client) -> None:
    client.send(set_("a", "1"), get("a"))
    client.send(b'{"type":"GET","ke')
    client.session.gone()

    client.deliver()

    assert client.got == b""
    assert not client.session.busy
    assert client.session.deadline_us == NEVER_US
    assert client.world.holders("a") == dict.fromkeys(client.world.nodes, "1")
