"""Dialogues of two nodes that must prove that they know the cluster secret, and of strangers."""

from __future__ import annotations

import itertools
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import World

from kvlab.kv.peer_session import Abort, Close, Dial, Session, Write
from kvlab.kv.peering import HANDSHAKE_US_MAX, NOTED_MAX, STRANGERS_MAX, Peering
from kvlab.kv.proof import Proof, ProofError
from kvlab.wire.peer import (
    CHALLENGE,
    HELLO,
    HELLO_BYTES_MAX,
    MAGIC,
    NONCE_BYTES,
    REFUSE,
    TURN,
    Challenge,
    FrameError,
    FrameReader,
    Hello,
    Refuse,
    encode_frame,
    parse_handshake,
)

SECRET = b"a secret of many letters"
OTHER = b"a secret of other letters"
WAIT_US = 1_000_000
SAID = b"test", b"server1", b"server2"  # what no stranger may hear: the cluster and its nodes


class Side:
    """One node with its connections to another, and all that it said."""

    def __init__(self, number: int, secret: bytes, **settings: object) -> None:
        world = World(2, found=False, secret=secret, **settings)
        self.node = world.nodes[f"server{number}"]
        self.now_us = world.now_us
        self.log: list[str] = []
        self.said = b""
        numbers = itertools.count(1)

        def nonce() -> bytes:
            return bytes([number]) + next(numbers).to_bytes(NONCE_BYTES - 1, "big")

        self.peering = Peering(self.node, (), lambda _level, line: self.log.append(line), nonce)
        self.ended: set[Session] = set()

    def dial(self) -> Session:
        """Return the dial that is due, some time later."""
        self.now_us += WAIT_US
        self.peering.advance(self.now_us)
        self.now_us += WAIT_US
        self.peering.advance(self.now_us)
        [dial] = self.peering.take_effects()
        assert isinstance(dial, Dial)
        return dial.session

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.log if line.startswith("no link")]


def meet(dialer: Side, acceptor: Side, *, change=lambda frame: frame) -> tuple[Session, Session]:
    """Carry what both say until they fall silent; `change` may replace what passes."""
    out = dialer.dial()
    into = acceptor.peering.accept(acceptor.now_us, "10.0.0.9")
    dialer.peering.connected(out)
    ends = {out: (acceptor, into), into: (dialer, out)}
    sides = {out: dialer, into: acceptor}
    while effects := deque(dialer.peering.take_effects() + acceptor.peering.take_effects()):
        for effect in effects:
            side, end = ends[effect.session]
            if isinstance(effect, Write):
                sides[effect.session].said += effect.data
                side.peering.received(end, change(effect.data), side.now_us)
            elif isinstance(effect, Close | Abort):
                dialer.peering.ended(out, dialer.now_us)
                acceptor.peering.ended(into, acceptor.now_us)
                dialer.peering.take_effects()
                acceptor.peering.take_effects()
                return out, into
    return out, into


def assert_no_link(*sides: Side) -> None:
    for side in sides:
        assert side.peering.current == {}
        assert side.node.state.up == {}


def test_two_nodes_with_one_secret_meet() -> None:
    one, two = Side(1, SECRET), Side(2, SECRET)

    out, into = meet(one, two)

    assert one.peering.current == {"server2": out}
    assert two.peering.current == {"server1": into}
    assert not one.log[:-1]
    assert SECRET not in one.said + two.said


@pytest.mark.parametrize(
    ("mine", "yours", "dialer_says", "acceptor_says"),
    [
        (SECRET, OTHER, "it has another cluster secret, or none", "it has another cluster secret"),
        (SECRET, b"", "it has another cluster secret, or none", "it asks for a cluster secret"),
        (b"", SECRET, "it asks for a cluster secret", "it has no cluster secret"),
    ],
)
def test_nodes_without_one_secret_do_not_meet_and_say_why(
    mine: bytes, yours: bytes, dialer_says: str, acceptor_says: str
) -> None:
    one, two = Side(1, mine), Side(2, yours)

    meet(one, two)

    assert_no_link(one, two)
    [line] = one.warnings
    assert line.startswith(f"no link with server2 at server2:1: {dialer_says}")
    assert "--cluster-secret-file" in line
    [line] = two.warnings
    assert line.startswith(f"no link with a caller from 10.0.0.9: {acceptor_says}")
    assert two.node.state.counters["refused_peers"] == 1
    assert not one.node.membership.refused  # it is tried again: the other may be told the secret


@pytest.mark.parametrize(("mine", "yours"), [(SECRET, OTHER), (SECRET, b""), (b"", SECRET)])
def test_who_has_a_secret_tells_nothing_to_who_has_not(mine: bytes, yours: bytes) -> None:
    one, two = Side(1, mine), Side(2, yours)

    meet(one, two)

    for side in (one, two):
        if side.node.state.settings.secret:
            assert not [word for word in SAID if word in side.said]


def test_a_refusal_is_told_once_and_the_peer_is_tried_again() -> None:
    one, two = Side(1, SECRET), Side(2, OTHER)
    for _ in range(5):
        meet(one, two)

    assert len(one.warnings) == len(two.warnings) == 1
    assert two.node.state.counters["refused_peers"] == 5


def test_another_cluster_with_the_same_secret_is_refused_by_name() -> None:
    one, two = Side(1, SECRET), Side(2, SECRET)
    object.__setattr__(two.node.state.settings, "cluster", "other")

    meet(one, two)

    assert_no_link(one, two)
    [line] = two.warnings
    assert (
        line
        == "no link with a caller from 10.0.0.9: 'server1': this is cluster 'other', not 'test'"
    )
    assert one.node.membership.refused == "this is cluster 'other', not 'test'"


def test_without_a_secret_another_cluster_is_refused_and_told_too() -> None:
    one, two = Side(1, b""), Side(2, b"")
    object.__setattr__(two.node.state.settings, "cluster", "other")

    meet(one, two)

    assert_no_link(one, two)
    assert len(two.warnings) == 1


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_changed_bit_anywhere_makes_no_link(place: int, mask: int) -> None:
    """Of whatever passes before both are sure of each other."""
    one, two = Side(1, SECRET), Side(2, SECRET)
    seen = 0

    def change(data: bytes) -> bytes:
        nonlocal seen
        at, seen = place % 700 - seen, seen + len(data)
        if not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]

    meet(one, two, change=change)

    if place % 700 < seen:
        assert not (one.peering.current and two.peering.current)


# -- strangers ------------------------------------------------------------------------------------


def frames_of(effects: list) -> list:
    data = b"".join(one.data for one in effects if isinstance(one, Write))
    return [parse_handshake(body) for body in FrameReader().feed(data.removeprefix(MAGIC))]


def test_what_one_side_said_is_no_proof_of_the_other() -> None:
    """A stranger that sends everything back, which does without the roles."""
    side = Side(2, SECRET)
    session = side.peering.accept(side.now_us)
    side.peering.received(session, MAGIC + encode_frame(Challenge(CHALLENGE, bytes(32))), 0)
    [said] = frames_of(side.peering.take_effects())
    dialer = Proof(OTHER, said.nonce, dialed=True)
    answer = dialer.take(Challenge(CHALLENGE, said.nonce))

    side.peering.received(session, answer, 0)

    assert [type(one) for one in frames_of(side.peering.take_effects())] == [Refuse]
    assert_no_link(side)


def test_an_old_proof_is_of_no_use_on_a_new_connection() -> None:
    one, two = Side(1, SECRET), Side(2, SECRET)
    meet(one, two)
    recorded = one.said
    fresh = Side(2, SECRET)
    fresh.peering._nonce = lambda: bytes(NONCE_BYTES)
    session = fresh.peering.accept(fresh.now_us)

    fresh.peering.received(session, recorded, fresh.now_us)

    assert_no_link(fresh)


@pytest.mark.parametrize(
    "said",
    [
        Refuse(REFUSE, "old", "a newer life is known"),
        Refuse(REFUSE, "cluster", "this is another cluster"),
        [TURN, 1, 0, [], 0, [], []],
        Challenge(CHALLENGE, b"short"),
    ],
    ids=str,
)
def test_a_stranger_cannot_end_a_node_with_a_word(said: object) -> None:
    one = Side(1, SECRET)
    session = one.dial()
    one.peering.connected(session)
    one.peering.take_effects()

    one.peering.received(session, encode_frame(said), one.now_us)

    assert [type(effect) for effect in one.peering.take_effects()] == [Abort]
    assert not one.node.membership.refused
    assert one.node.state.counters["bad_frames"] == 1


def test_after_a_refusal_nothing_is_heard() -> None:
    two = Side(2, SECRET)
    session = two.peering.accept(two.now_us)
    hello = Hello(HELLO, "test", "server1", 5, 0, 16, "", 0, "server1:1")

    two.peering.received(session, MAGIC + encode_frame(hello) * 3, two.now_us)
    two.peering.received(session, encode_frame(hello), two.now_us)

    effects = two.peering.take_effects()
    assert [type(effect) for effect in effects] == [Write, Close]
    assert two.node.state.counters["refused_peers"] == 1


def test_a_stranger_may_send_little_before_it_has_proved_itself() -> None:
    two = Side(2, SECRET)
    session = two.peering.accept(two.now_us)
    two.peering.received(session, MAGIC + encode_frame(Challenge(CHALLENGE, bytes(32))), 0)
    two.peering.take_effects()

    two.peering.received(session, (HELLO_BYTES_MAX + 1).to_bytes(4, "big"), 0)

    assert [type(effect) for effect in two.peering.take_effects()] == [Abort]


def test_of_too_many_strangers_the_oldest_gives_way() -> None:
    two = Side(2, SECRET)
    sessions = [two.peering.accept(two.now_us) for _ in range(STRANGERS_MAX + 2)]

    assert two.peering.take_effects() == [Abort(sessions[0]), Abort(sessions[1])]
    two.peering.advance(two.now_us + HANDSHAKE_US_MAX)
    aborted = [one.session for one in two.peering.take_effects() if isinstance(one, Abort)]
    assert aborted == sessions[2:]


def test_strangers_cannot_fill_the_log() -> None:
    two = Side(2, SECRET)
    for number in range(NOTED_MAX + 50):
        for _ in range(2):
            session = two.peering.accept(two.now_us, f"10.0.{number >> 8}.{number & 255}")
            two.peering.received(session, b"rubbish" if number % 2 else MAGIC + bytes(4), 0)
            two.peering.ended(session, two.now_us)

    assert len(two.log) == NOTED_MAX


@given(st.binary(max_size=200))
def test_rubbish_is_refused_by_every_step(data: bytes) -> None:
    for dialed in (False, True):
        proof = Proof(SECRET, bytes(NONCE_BYTES), dialed=dialed)
        try:
            for body in FrameReader(strange=3).feed(data):
                proof.take(parse_handshake(body))
        except (FrameError, ProofError):
            pass
        assert not proof.is_mutual
