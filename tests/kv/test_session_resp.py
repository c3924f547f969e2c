"""Dialogues with a connection that speaks RESP: order, pieces, bounds and ends, as for JSON."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from resp_talk import Talk, command
from session_client import as_line, set_, solo_world
from world import World

from kvlab.kv.answer import REPLY_BYTES_MAX
from kvlab.kv.peering import NEVER_US
from kvlab.kv.session import BATCHES_MAX, PARTIAL_US_MAX

BIG = REPLY_BYTES_MAX // 4
SET_A, GET_A = command("SET", "a", "1"), command("GET", "a")


@pytest.fixture
def alone() -> Talk:
    return Talk(solo_world())


@pytest.fixture
def talk() -> Talk:
    return Talk(World(3))


# -- order ----------------------------------------------------------------------------------------


def test_a_node_alone_answers_in_the_same_call(alone: Talk) -> None:
    alone.ask(SET_A)
    alone.session.stirred = False

    assert alone.send(SET_A, GET_A, command("PING"), GET_A) == [b"OK", b"1", b"PONG", b"1"]
    assert not alone.session.stirred  # there is nothing else to look at
    assert not alone.session.busy


def test_replies_wait_for_the_other_nodes_and_come_in_one_piece(talk: Talk) -> None:
    assert talk.send(SET_A, GET_A, command("PING"), command("MGET", "a", "b")) == []
    assert talk.session.busy
    assert talk.session.stirred  # frames must be taken

    talk.deliver()

    assert talk.take() == [b"OK", b"1", b"PONG", [b"1", None]]
    assert talk.writes == 1
    assert not talk.session.busy


def test_what_needs_nobody_waits_for_what_came_before(talk: Talk) -> None:
    talk.send(SET_A)
    assert talk.send(command("PING")) == []
    assert talk.send(b"PING again\r\n") == []

    talk.deliver()

    assert talk.take() == [b"OK", b"PONG", b"again"]


def test_a_change_of_the_protocol_holds_for_what_comes_after_it(talk: Talk) -> None:
    get = command("GET", "none")
    replies = talk.ask(get, command("HELLO", "3"), get, command("HELLO", "2"), get)

    assert [reply for reply in replies if not isinstance(reply, dict | list)] == [None] * 3
    assert replies[1][b"proto"] == 3
    assert replies[3][replies[3].index(b"proto") + 1] == 2

    talk.session.feed(command("HELLO", "3"), talk.world.now_us)
    talk.deliver()
    talk.send(get)
    talk.deliver()
    assert talk.got.endswith(b"_\r\n")


def test_clients_of_both_protocols_keep_apart(talk: Talk) -> None:
    other = Talk(talk.world)
    talk.send(SET_A)
    other.send(command("SET", "b", "2"), command("GET", "b"))

    talk.deliver()

    assert talk.take() == [b"OK"]
    assert other.take() == [b"OK", b"2"]


# -- pieces ---------------------------------------------------------------------------------------


def test_bytes_one_at_a_time_mean_the_same(alone: Talk) -> None:
    data = SET_A + b"GET a\r\n" + command("MGET", "a", "b") + GET_A
    whole = alone.ask(data)
    assert whole == [b"OK", b"1", [b"1", None], b"1"]

    other = Talk(solo_world())
    replies = []
    for at in range(len(data)):
        replies += other.ask(data[at : at + 1])

    assert replies == whole
    assert other.session.deadline_us == NEVER_US


def test_half_a_request_is_given_a_time(alone: Talk) -> None:
    assert alone.ask(SET_A, GET_A[:9]) == [b"OK"]
    assert alone.session.deadline_us == alone.world.now_us + PARTIAL_US_MAX

    assert alone.ask(GET_A[9:]) == [b"1"]
    assert alone.session.deadline_us == NEVER_US


def test_half_a_request_and_then_silence_is_told_and_ends(talk: Talk) -> None:
    talk.send(SET_A, GET_A[:9])
    talk.write(talk.session.expire(talk.session.deadline_us))
    assert talk.take() == []

    talk.deliver()

    told = "ERR Protocol error: half a request, then silence for 30 s"
    assert talk.take() == [b"OK", told]
    assert talk.closed
    assert talk.node.state.counters["partial_timeouts"] == 1


# -- ends -----------------------------------------------------------------------------------------


def test_what_is_no_request_is_told_in_turn_and_ends(talk: Talk) -> None:
    talk.send(SET_A)
    talk.send(command("SET", "b", "2"), b"*1\r\n!", command("SET", "c", "3"))
    assert not talk.session.close_due

    talk.deliver()

    assert talk.take() == [b"OK", b"OK", "ERR Protocol error: expected '$', got '!'"]
    assert talk.closed
    assert talk.send(SET_A) == []
    assert talk.world.holders("c") == {}
    assert talk.node.state.counters["bad_requests"] == 1


@pytest.mark.parametrize("cut", [False, True])
def test_quit_ends_after_what_was_asked_before(talk: Talk, cut: bool) -> None:
    pieces = [SET_A, b"QUIT\r\n", command("SET", "b", "2")]
    for piece in pieces if cut else [b"".join(pieces)]:
        talk.send(piece)
    talk.send(b"*1\r\n!")

    talk.deliver()

    assert talk.take() == [b"OK", b"OK"]
    assert talk.closed
    assert talk.world.holders("b") == {}


def test_json_on_a_connection_of_resp_ends_it(alone: Talk) -> None:
    alone.ask(SET_A)

    [reply] = alone.ask(as_line(**set_("b", "2")))

    assert reply == "ERR Protocol error: unbalanced quotes in request"
    assert alone.world.holders("b") == {}


def test_resp_on_a_connection_of_json_ends_it(alone: Talk) -> None:
    alone.session.feed(as_line(**set_("b", "2")), alone.world.now_us)

    told = alone.session.feed(SET_A, alone.world.now_us)

    assert b"not JSON" in told
    assert alone.session.close_due
    assert alone.world.holders("a") == {}


def test_a_client_that_went_away_is_written_nothing(talk: Talk) -> None:
    talk.send(SET_A, GET_A, GET_A[:5])
    talk.session.gone()

    talk.deliver()

    assert talk.got == b""
    assert not talk.session.busy
    assert talk.world.holders("a") == dict.fromkeys(talk.world.nodes, "1")


# -- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [solo_world, World], ids=["alone", "three"])
def test_what_is_too_heavy_is_held_and_comes_in_order(make: Callable[[], World]) -> None:
    talk = Talk(make())
    for number in range(3):
        talk.ask(command("SET", f"k{number}", str(number) * BIG))
    lines = [command("GET", f"k{number % 3}") for number in range(20)]

    replies = talk.send(*lines, SET_A, GET_A)
    assert talk.session.held
    assert talk.session.stirred
    assert talk.session.read_paused
    assert talk.node.state.rest == ()
    replies += _drain(talk)

    assert replies == [*(b"%d" % (number % 3) * BIG for number in range(20)), b"OK", b"1"]
    assert not talk.session.read_paused


def _drain(talk: Talk) -> list:
    replies = []
    while talk.session.busy:
        replies += talk.turns()
        talk.deliver()
        replies += talk.take()
    return replies


def test_an_error_that_ends_waits_for_what_is_held(alone: Talk) -> None:
    alone.ask(command("SET", "big", "x" * BIG))
    replies = alone.send(*[command("GET", "big")] * 10)
    assert alone.send(b"*1\r\n!") == []
    assert not alone.session.close_due

    replies += _drain(alone)

    assert replies[:-1] == [b"x" * BIG] * 10
    assert replies[-1].startswith("ERR Protocol error")
    assert alone.closed


def test_a_client_that_does_not_read_is_not_read_from(alone: Talk) -> None:
    alone.send(SET_A)
    alone.session.pause_writing()
    assert alone.session.read_paused

    assert alone.session.resume_writing(alone.world.now_us) == b""
    assert not alone.session.read_paused


def test_reading_stops_at_many_batches_and_goes_on_well_below(talk: Talk) -> None:
    for _ in range(BATCHES_MAX):
        talk.send(SET_A)
        talk.world.collect()
    assert talk.session.read_paused

    talk.deliver()

    assert talk.take() == [b"OK"] * BATCHES_MAX
    assert not talk.session.read_paused


@pytest.mark.parametrize("seed", range(12))
def test_cuts_and_pauses_anywhere_change_no_reply(seed: int) -> None:
    chance = random.Random(seed)
    talk = Talk(World(3) if seed % 2 else solo_world())
    data, wanted, held = b"", [], {}
    for number in range(150):
        key = f"k{chance.randrange(5)}"
        other = f"k{chance.randrange(5)}"
        match chance.randrange(7):
            case 0 | 1:
                held[key] = f"{number}.".encode() * chance.choice([1, 1, 100, BIG // 4])
                data += command("SET", key, held[key])
                wanted.append(b"OK")
            case 2:
                data += command("DEL", key)
                wanted.append(int(held.pop(key, None) is not None))
            case 3:
                data += command("MGET", key, other)
                wanted.append([held.get(key), held.get(other)])
            case 4:
                data += command("HELLO", chance.choice("23"))
                wanted.append(None)
            case 5:
                data += command("FLY")
                wanted.append("ERR unknown command 'FLY', with args beginning with: ")
            case _:
                data += command("GET", key)
                wanted.append(held.get(key))

    replies = _trickle(talk, data, chance)

    assert len(replies) == len(wanted)
    for reply, want in zip(replies, wanted, strict=True):
        hello = isinstance(reply, dict) or (isinstance(reply, list) and b"proto" in reply)
        assert hello or reply == want
    assert not talk.session.read_paused
    assert talk.session.deadline_us == NEVER_US
    assert talk.node.state.requests == len(wanted)


def _trickle(talk: Talk, data: bytes, chance: random.Random) -> list:
    """Send bytes in pieces, while the transport fills up and empties; return all replies."""
    session, world = talk.session, talk.world
    replies, at = [], 0
    while at < len(data) or session.busy:
        what = chance.randrange(6)
        if what < 2 and at < len(data) and not session.read_paused:
            size = chance.choice([1, 30, 1000, 1 << 20, len(data)])
            replies += talk.send(data[at : at + size])
            at += size
        elif what == 2 and session.wants_turn:
            replies += talk.turn()
        elif what == 3:
            session.pause_writing()
        elif what == 4:
            talk.write(session.resume_writing(world.now_us))
        else:
            talk.deliver()
        replies += talk.take()
    talk.write(session.resume_writing(world.now_us))
    return replies
