"""Dialogues with one client's connection: what is held back, from whom, and for how long."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from session_client import Client, as_line, get, set_, solo_world, values
from world import World

from kvlab.kv.answer import REPLY_BYTES_MAX
from kvlab.kv.peering import NEVER_US
from kvlab.kv.session import BATCHES_MAX, PARTIAL_US_MAX, REQUESTS_MAX

MIB = 1024 * 1024
BIG = REPLY_BYTES_MAX // 4


@pytest.fixture
def alone() -> Client:
    return Client(solo_world())


@pytest.fixture
def client() -> Client:
    return Client(World(3))


# -- half a document ------------------------------------------------------------------------------


def test_half_a_document_is_given_a_time(alone: Client) -> None:
    replies = alone.ask(set_("a", "1"), b'{"type":"GET","ke')
    begun_us = alone.world.now_us
    assert values(replies) == [""]
    assert alone.session.stirred
    assert alone.session.deadline_us == begun_us + PARTIAL_US_MAX

    assert alone.ask(b'y":"') == []
    assert alone.session.deadline_us == begun_us + PARTIAL_US_MAX  # of the whole, not of a piece

    assert values(alone.ask(b'a"}')) == ["1"]
    assert alone.session.deadline_us == NEVER_US


def test_half_a_document_and_then_silence_is_told_and_ends(alone: Client) -> None:
    alone.send(b'{"type":"GET","ke')
    session, due_us = alone.session, alone.session.deadline_us
    assert session.expire(due_us - 1) == b""
    assert not session.close_due

    alone.write(session.expire(due_us))

    [reply] = alone.take()
    assert (reply["status"], reply["code"]) == ("ERROR", "BAD_REQUEST")
    assert "half a document, then silence for 30 s" in reply["error"]
    assert session.close_due
    assert session.deadline_us == NEVER_US
    assert alone.node.state.counters["partial_timeouts"] == 1
    assert alone.send(b'y":"a"}') == []


def test_the_word_about_silence_waits_for_its_turn(client: Client) -> None:
    client.send(set_("a", "1"), b'{"type":"GET","ke')
    client.write(client.session.expire(client.session.deadline_us))
    assert client.take() == []
    assert not client.session.close_due

    client.deliver()

    assert [reply["status"] for reply in client.take()] == ["SUCCESS", "ERROR"]
    assert client.closed


def test_who_goes_on_sending_is_not_called_silent(alone: Client) -> None:
    """Each piece ends inside a document, as pieces of a long pipeline mostly do."""
    line = as_line(**set_("a", "1"))
    alone.ask(line + line[:10])
    first_us = alone.session.deadline_us

    alone.world.now_us += PARTIAL_US_MAX - 100
    assert len(alone.ask(line[10:] + line[:20])) == 1

    assert alone.session.deadline_us > first_us
    assert alone.session.expire(first_us) == b""


def test_a_client_that_is_not_read_is_not_blamed_for_its_silence(alone: Client) -> None:
    session = alone.session
    alone.send(b'{"type":"GET","ke')
    session.pause_writing()
    assert session.expire(session.deadline_us) == b""
    session.resume_writing(session.deadline_us - 1)  # what was not read meanwhile is yet to come
    begun_us = session.deadline_us

    assert session.expire(begun_us) == b""

    assert session.deadline_us == begun_us + PARTIAL_US_MAX
    assert not session.closing
    assert b"then silence" in session.expire(session.deadline_us)


# -- held requests --------------------------------------------------------------------------------


def _heavy(client: Client, count: int, **more: object) -> list[dict]:
    """Ask for far more than one batch may hold, in one piece, and for something small after it."""
    for number in range(3):
        client.send(set_(f"k{number}", str(number) * BIG))
        client.deliver()
    client.take()
    lines = [get(f"k{number % 3}", **more) for number in range(count)]
    return client.send(*lines, set_("after", "x"), get("after"))


def _drain(client: Client, replies: list[dict]) -> list[dict]:
    """Let turns of the loop and the other nodes go on until nothing is owed."""
    while client.session.busy:
        replies += client.turns()
        client.deliver()
        replies += client.take()
    return replies


@pytest.mark.parametrize("make", [solo_world, World], ids=["alone", "three"])
@pytest.mark.parametrize("more", [{}, {"req_id": "x"}], ids=["plain", "options"])
def test_what_is_too_heavy_is_held_and_comes_in_order(
    make: Callable[[], World], more: dict
) -> None:
    client = Client(make())
    replies = _heavy(client, 20, **more)
    assert client.session.held
    assert client.session.stirred
    assert client.session.read_paused
    assert client.node.state.rest == ()

    _drain(client, replies)

    wanted = [str(number % 3) * BIG for number in range(20)]
    assert values(replies) == [*wanted, "", "x"]
    assert not client.session.read_paused


def test_each_turn_begins_about_one_batch(alone: Client) -> None:
    replies = _heavy(alone, 20)
    sizes = [len(replies)]
    while alone.session.wants_turn:
        sizes.append(len(alone.turn()))

    assert sum(sizes) == 22
    assert max(sizes) <= REPLY_BYTES_MAX // BIG + 2
    assert len(sizes) >= 4


def test_nothing_held_is_begun_before_the_replies_ahead_are_out(client: Client) -> None:
    _heavy(client, 20)
    assert client.session.busy
    assert not client.session.wants_turn
    begun = client.node.state.requests

    assert client.session.go_on(client.world.now_us) == b""
    assert client.node.state.requests == begun

    client.deliver()
    assert client.session.wants_turn


def test_other_clients_are_served_while_requests_are_held(alone: Client) -> None:
    other = Client(alone.world)
    replies = _heavy(alone, 20)

    assert values(other.send(set_("b", "2"), get("b"))) == ["", "2"]
    replies += alone.turn()
    assert values(other.send(get("b"))) == ["2"]

    assert len(_drain(alone, replies)) == 22


def test_what_arrives_behind_held_requests_waits_for_them(alone: Client) -> None:
    """A shell cannot take back what it had read already."""
    replies = _heavy(alone, 10)
    assert alone.send(set_("late", "1")) == []
    assert alone.send(get("late", req_id="x")) == []
    assert alone.send(get("late")) == []

    _drain(alone, replies)

    assert values(replies[-3:]) == ["", "1", "1"]
    assert not alone.session.held


def test_a_document_that_went_silent_behind_held_requests_is_told_last(alone: Client) -> None:
    replies = _heavy(alone, 10)
    assert alone.send(b'{"type":"GET","ke') == []
    _drain(alone, replies)
    assert len(replies) == 12
    assert alone.session.expire(alone.session.deadline_us) == b""  # reading was paused

    alone.write(alone.session.expire(alone.session.deadline_us))

    assert alone.take()[0]["code"] == "BAD_REQUEST"
    assert alone.closed


def test_an_error_that_ends_waits_for_what_is_held(alone: Client) -> None:
    replies = _heavy(alone, 10)
    assert alone.send(b"{]\n") == []
    assert not alone.session.close_due

    _drain(alone, replies)

    assert [reply["status"] for reply in replies] == ["SUCCESS"] * 12 + ["ERROR"]
    assert alone.closed


def test_a_client_that_went_away_begins_nothing_more(alone: Client) -> None:
    _heavy(alone, 10)
    alone.session.gone()

    assert not alone.session.wants_turn
    assert alone.session.go_on(alone.world.now_us) == b""
    assert alone.session.feed(as_line(**set_("late")), alone.world.now_us) == b""
    assert alone.world.holders("late") == {}


# -- back-pressure --------------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_not_read_from(alone: Client) -> None:
    alone.session.pause_writing()
    assert alone.session.read_paused
    assert alone.session.stirred

    assert alone.session.resume_writing(alone.world.now_us) == b""
    assert not alone.session.read_paused


def test_held_requests_begin_when_the_client_reads_again(alone: Client) -> None:
    replies = _heavy(alone, 20)
    session = alone.session
    session.pause_writing()
    assert not session.wants_turn
    assert session.go_on(alone.world.now_us) == b""  # a turn that was promised before

    alone.write(session.resume_writing(alone.world.now_us))

    more = alone.take()
    assert 1 <= len(more) < 10
    assert session.wants_turn
    assert len(_drain(alone, replies + more)) == 22


def test_reading_stops_at_many_batches_and_goes_on_well_below(client: Client) -> None:
    session = client.session
    paused_at = 0
    for number in range(BATCHES_MAX):
        client.send(set_(f"k{number}"))
        client.world.collect()
        if session.read_paused:
            paused_at = number + 1
            break
    assert paused_at == BATCHES_MAX
    session.stirred = False

    client.deliver()

    assert len(client.take()) == BATCHES_MAX
    assert not session.read_paused
    assert session.stirred


def test_reading_stops_at_many_requests_and_goes_on_well_below(client: Client) -> None:
    session, piece = client.session, [set_(f"k{number}") for number in range(1000)]
    sent = 0
    while not session.read_paused:
        client.send(*piece)
        client.world.collect()
        sent += len(piece)
        assert sent < REQUESTS_MAX + 2 * len(piece)
    assert sent >= REQUESTS_MAX

    client.deliver()

    assert len(client.take()) == sent
    assert not session.read_paused


def test_reading_stops_while_large_replies_wait(client: Client) -> None:
    client.send(set_("big", "x" * BIG))
    client.deliver()
    client.take()

    client.send(*[get("big")] * 3)
    assert not client.session.read_paused
    client.send(*[get("big")] * 3)
    assert client.session.read_paused
    assert not client.session.held

    client.deliver()
    assert len(client.take()) == 6
    assert not client.session.read_paused


@pytest.mark.parametrize("seed", range(12))
def test_cuts_and_pauses_anywhere_change_no_reply(seed: int) -> None:
    chance = random.Random(seed)
    client = Client(World(3) if seed % 2 else solo_world())
    lines, wanted, held = [], [], {}
    for number in range(120):
        key = f"k{chance.randrange(5)}"
        if chance.random() < 0.3:
            held[key] = f"{number}." * chance.choice([1, 1, 100, BIG // 4])
            lines.append(set_(key, held[key]))
            wanted.append("")
        elif chance.random() < 0.1:
            lines.append({"type": "FLY", "key": key})
            wanted.append("Invalid request type")
        else:
            lines.append(get(key) | ({"req_id": str(number)} if chance.random() < 0.2 else {}))
            wanted.append(held.get(key, "Key does not exist"))
    data = b"".join(as_line(**line) for line in lines)

    replies = _trickle(client, data, chance)

    assert [reply["value"] or reply["error"] for reply in replies] == wanted
    assert not client.session.read_paused
    assert client.session.deadline_us == NEVER_US
    assert client.node.state.requests == len(lines)


def _trickle(client: Client, data: bytes, chance: random.Random) -> list[dict]:
    """Send bytes in pieces, while the transport fills up and empties; return all replies."""
    session, world = client.session, client.world
    replies, at = [], 0
    while at < len(data) or session.busy:
        what = chance.randrange(6)
        if what < 2 and at < len(data) and not session.read_paused:
            size = chance.choice([1, 30, 1000, MIB, len(data)])
            replies += client.send(data[at : at + size])
            at += size
        elif what == 2 and session.wants_turn:
            replies += client.turn()
        elif what == 3:
            session.pause_writing()
        elif what == 4:
            client.write(session.resume_writing(world.now_us))
        else:
            client.deliver()
        replies += client.take()
    client.write(session.resume_writing(world.now_us))
    return replies
