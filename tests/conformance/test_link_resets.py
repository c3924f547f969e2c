"""What a reset of a link does to its connections, asked of real shims and the simulated network alike.

Where the two differ, the bodies ask for what both promise: a shim refuses what connects in the moment
of the reset, the simulated network lets it be.
"""

from __future__ import annotations

import pytest

from kvlab.fault.link import LinkRule
from tests.conformance.link_worlds import AB, BA, MS

LINKS = pytest.mark.parametrize("link", [AB, BA], ids=["there", "back"])


@LINKS
def test_a_reset_breaks_every_open_connection_at_both_ends_and_new_ones_work(network, link):
    pairs = [network.connect() for _ in range(3)]
    near, far = pairs[0]
    near.write(b"before")
    network.wait_for(lambda: far.got == b"before", "the bytes before it")
    network.reset(link)
    network.wait_for(lambda: all(end.over for pair in pairs for end in pair), "all ends to break")

    near, far = network.connect()
    near.write(b"there")
    far.write(b"back")
    network.wait_for(lambda: far.got == b"there" and near.got == b"back", "bytes to pass")
    assert not near.over
    assert not far.over


@LINKS
def test_what_is_under_way_at_a_reset_is_lost_and_rules_stay(network, link):
    near, far = network.connect()
    network.rule([AB, BA], LinkRule(bandwidth_bps=1))
    near.write(bytes(100))
    far.write(bytes(100))
    network.reaches(lambda: False, 5 * MS)  # into the shim
    network.reset(link)
    network.wait_for(lambda: near.over and far.over, "both ends to break")
    late, other = network.connect()
    late.write(b"slow, ")
    network.never(lambda: other.got, "the rule went with the connection")
    network.heal()
    late.write(b"then fast")
    network.wait_for(lambda: other.got == b"slow, then fast", "what was sent later")

    assert (near.got, far.got, late.got) == (b"", b"", b"")


def test_what_a_cut_holds_is_lost_with_a_reset_and_the_cut_stays(network):
    near, far = network.connect()
    network.cut(AB, BA)
    near.write(b"held")
    far.write(b"held")
    network.never(lambda: near.got or far.got, "bytes passed a cut")
    network.reset(AB)
    network.wait_for(lambda: near.over and far.over, "both ends to break")
    late = network.dial()
    network.never(lambda: len(network.accepted) > 1 or late.over, "a connect passed the cut")
    network.heal()
    network.wait_for(lambda: late.connected and len(network.accepted) > 1, "the connect to go on")

    assert (near.got, far.got) == (b"", b"")


def test_who_connects_after_a_reset_is_left_alone(network):
    network.reset(AB)
    near, far = network.connect()
    network.never(lambda: near.over or far.over or near.ended or far.ended, "it broke later")
    near.write(b"there")

    network.wait_for(lambda: far.got == b"there", "bytes to pass")
