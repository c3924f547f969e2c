"""Two nodes and the connections between them, as dialogues: who dials, who says what, who gives way."""

from __future__ import annotations

from world import World

from kvlab.kv.peer_session import Close, Dial, Session, Write
from kvlab.kv.peering import Peering

WAIT_US = 1_000_000  # longer than the higher id waits for the lower one


class Pair:
    """The peering of two nodes; the test carries their bytes."""

    def __init__(self) -> None:
        world = World(2, found=False)
        self.now_us = world.now_us
        self.low, self.high = (Peering(world.nodes[name]) for name in ("server1", "server2"))

    def dial(self, by: Peering) -> Session:
        """Let one side begin to dial the other."""
        by.advance(self.now_us)
        by.advance(self.now_us + WAIT_US)
        [dial] = by.take_effects()
        assert isinstance(dial, Dial)
        return dial.session

    def introduce(self, dialer: Peering, session: Session, acceptor: Peering) -> Session:
        """Let a dial succeed, and both sides say what they say."""
        accepted = acceptor.accept(self.now_us)
        dialer.connected(session)
        for _ in range(2):
            for source, target, end in (
                (dialer, acceptor, accepted),
                (acceptor, dialer, session),
            ):
                for effect in source.take_effects():
                    if isinstance(effect, Write):
                        target.received(end, effect.data, self.now_us)
        return accepted


def test_a_dial_that_reaches_a_peer_makes_a_link() -> None:
    pair = Pair()
    session = pair.dial(pair.low)

    accepted = pair.introduce(pair.low, session, pair.high)

    assert pair.low.current == {"server2": session}
    assert pair.high.current == {"server1": accepted}
    assert not pair.low.is_busy
    assert not pair.high.is_busy


def test_a_dial_that_comes_through_late_does_not_replace_a_link_that_works() -> None:
    # Seed 5052: a dial begun behind a cut came through when the other side's had made a link, took
    # its place as the lower id's, and cost the operations that were under way.
    pair = Pair()
    late = pair.dial(pair.low)
    session = pair.dial(pair.high)
    accepted = pair.introduce(pair.high, session, pair.low)

    pair.low.connected(late)

    assert pair.low.take_effects() == [Close(late)]
    pair.low.ended(late, pair.now_us)
    assert pair.low.current == {"server2": accepted}
    assert pair.high.current == {"server1": session}


def test_dials_that_cross_end_as_one_link_on_both_sides() -> None:
    pair = Pair()
    from_low, from_high = pair.dial(pair.low), pair.dial(pair.high)
    pair.low.connected(from_low)
    pair.high.connected(from_high)
    at_high, at_low = pair.high.accept(pair.now_us), pair.low.accept(pair.now_us)
    ends = {from_low: (pair.high, at_high), at_high: (pair.low, from_low)}
    ends |= {from_high: (pair.low, at_low), at_low: (pair.high, from_high)}

    while effects := [*pair.low.take_effects(), *pair.high.take_effects()]:
        for effect in effects:
            side, end = ends[effect.session]
            if isinstance(effect, Write):
                side.received(end, effect.data, pair.now_us)
            else:
                side.ended(end, pair.now_us)
                (pair.high if side is pair.low else pair.low).ended(effect.session, pair.now_us)

    assert pair.low.current == {"server2": from_low}
    assert pair.high.current == {"server1": at_high}
