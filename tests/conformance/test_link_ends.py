"""How connections end across links, asked of the real shims and of the simulated network alike.

Where the two differ is said in test_links.py.
"""

from __future__ import annotations

import pytest

from kvlab.fault.link import LinkRule
from kvlab.rng import Rng
from tests.conformance.link_worlds import AB, BA, MS


def _data(size: int) -> bytes:
    return Rng(size, "data").randbytes(size)


def test_who_leaves_while_the_answer_is_under_way_is_noticed(network):
    network.rule([BA], LinkRule(latency_us=50 * MS))
    near = network.dial()
    network.wait_for(lambda: network.accepted, "the connect to arrive")
    [far] = network.accepted
    network.reaches(lambda: near.connected, 5 * MS)
    near.close()

    network.wait_for(lambda: far.ended or far.over, "the other side to notice")


@pytest.mark.parametrize("who", ["near", "far"])
def test_a_close_comes_after_the_bytes_before_it(network, who):
    near, far = network.connect()
    one, other = (near, far) if who == "near" else (far, near)
    data = _data(100_000)
    one.write(data)
    one.close()
    network.wait_for(lambda: other.ended, "the end")
    assert other.got == data
    assert not other.over
    other.close()

    network.wait_for(lambda: one.over and other.over, "both ends to be over")


def test_a_close_waits_behind_a_cut_with_the_bytes_before_it(network):
    near, far = network.connect()
    network.cut(AB)
    near.write(b"bye")
    near.close()
    network.never(lambda: far.got or far.ended or far.over, "a close passed a cut")
    network.heal()

    network.wait_for(lambda: far.ended, "the end")
    assert far.got == b"bye"


def test_a_close_is_delayed_with_its_link(network):
    near, far = network.connect()
    network.rule([AB], LinkRule(latency_us=60 * MS))
    began_us = network.now_us
    near.close()

    network.wait_for(lambda: far.ended, "the end")
    assert network.now_us - began_us >= 60 * MS


def test_who_writes_to_one_that_has_closed_is_reset(network):
    near, far = network.connect()
    near.close()
    network.wait_for(lambda: far.ended, "the end")

    def broken() -> bool:
        if not far.over:
            far.write(b"are you there")
        return far.over

    network.wait_for(broken, "the reset")


@pytest.mark.parametrize("who", ["near", "far"])
def test_an_abort_is_felt_by_the_other_side(network, who):
    near, far = network.connect()
    one, other = (near, far) if who == "near" else (far, near)
    data = _data(10_000)
    one.write(data)
    one.abort()

    network.wait_for(lambda: one.over and other.over, "both ends to be over")
    assert data.startswith(other.got)


def test_an_abort_behind_a_cut_is_felt_after_the_heal(network):
    near, far = network.connect()
    network.cut(AB, BA)
    far.abort()
    network.never(lambda: near.ended or near.over, "a reset passed a cut")
    network.heal()

    network.wait_for(lambda: near.over, "the reset")
