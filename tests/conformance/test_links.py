"""What links do to connections, asked of the real shims and of the simulated network alike.

Where the two differ, the bodies ask for what both promise:

    half-close       a simulated process cannot end one direction alone; who closes hears nothing more
    connect          a shim accepts before it asks its links: a connect that hangs or is refused may
                     look connected for a while, the simulated one does not; neither reaches the node
    heal and retry   a shim goes on with a hung connect when the link is healed, the simulated caller
                     when TCP tries again: up to twice as long after the connect as the heal was
    abort            a shim hands over what it has before the reset, the simulated network loses what
                     is under way: a beginning of what was sent arrives
    two rules        a rule is added to those that the shim has; the simulated network is told the sum
"""

from __future__ import annotations

import pytest

from kvlab.fault.link import LinkRule
from kvlab.rng import Rng
from tests.conformance.link_worlds import AB, BA, MS


def _data(size: int) -> bytes:
    return Rng(size, "data").randbytes(size)


def _got(end, data: bytes) -> bool:
    """Whether exactly these bytes came; at no time may anything else have come."""
    assert data.startswith(end.got)
    return len(end.got) == len(data)


def test_bytes_pass_both_ways_in_order(network):
    near, far = network.connect()
    there, back = _data(300_001), _data(200_003)
    for at in range(0, len(there), 10_000):
        near.write(there[at : at + 10_000])
        far.write(back[at : at + 10_000])

    network.wait_for(lambda: _got(near, back) and _got(far, there), "all bytes")
    assert not any(end.ended or end.over for end in (near, far))


def test_connections_do_not_mix(network):
    pairs = [network.connect() for _ in range(3)]
    for number, (near, far) in enumerate(pairs):
        near.write(b"there %d" % number)
        far.write(b"back %d" % number)

    for number, (near, far) in enumerate(pairs):
        network.wait_for(
            lambda near=near, far=far, number=number: (
                _got(near, b"back %d" % number) and _got(far, b"there %d" % number)
            ),
            "the bytes of this connection",
        )


def test_a_latency_delays_by_at_least_what_was_asked_and_one_way_only(network):
    near, far = network.connect()
    network.rule([AB], LinkRule(latency_us=80 * MS))
    began_us = network.now_us
    near.write(b"slow")
    far.write(b"fast")

    network.wait_for(lambda: _got(near, b"fast"), "what has no delay")
    assert far.got == b""
    network.wait_for(lambda: _got(far, b"slow"), "what has one")
    assert network.now_us - began_us >= 80 * MS


def test_a_jitter_does_not_change_the_order(network):
    near, far = network.connect()
    network.rule([AB], LinkRule(latency_us=3 * MS, jitter_us=3 * MS))
    sent = b""
    for number in range(100):
        word = b"%05d\n" % number
        near.write(word)
        sent += word
        network.reaches(lambda: False, MS // 2)

    network.wait_for(lambda: _got(far, sent), "all bytes")


def test_a_bandwidth_takes_at_least_the_time_that_the_bytes_need(network):
    near, far = network.connect()
    network.rule([AB], LinkRule(bandwidth_bps=1_000_000))
    data, began_us = _data(100_000), network.now_us
    near.write(data)

    network.wait_for(lambda: _got(far, data), "all bytes")
    assert network.now_us - began_us >= 100 * MS


def test_the_connections_of_a_link_share_its_bandwidth(network):
    pairs = [network.connect() for _ in range(4)]
    network.rule([AB], LinkRule(bandwidth_bps=1_000_000))
    data, began_us = _data(40_000), network.now_us
    for near, _ in pairs:
        near.write(data)

    network.wait_for(lambda: all(_got(far, data) for _, far in pairs), "all bytes")
    assert network.now_us - began_us >= 160 * MS


def test_the_two_directions_do_not_share_a_bandwidth(network):
    near, far = network.connect()
    network.rule([AB], LinkRule(bandwidth_bps=1_000))
    near.write(_data(1_000))
    far.write(b"at once")

    network.wait_for(lambda: _got(near, b"at once"), "the free direction")
    assert len(far.got) < 1_000


def test_nothing_passes_a_cut_and_everything_comes_in_order_after_the_heal(network):
    near, far = network.connect()
    network.cut(AB, BA)
    near.write(b"one ")
    far.write(b"eins ")
    network.never(lambda: near.got or far.got, "bytes passed a cut")
    near.write(b"two ")
    far.write(b"zwei ")
    network.heal()
    near.write(b"three")
    far.write(b"drei")

    network.wait_for(
        lambda: _got(far, b"one two three") and _got(near, b"eins zwei drei"), "what was held"
    )


@pytest.mark.parametrize("link", [AB, BA], ids=["there", "back"])
def test_a_cut_of_one_way_lets_the_other_pass(network, link):
    near, far = network.connect()
    network.cut(link)
    near.write(b"there")
    far.write(b"back")
    free, held = (near, far) if link == AB else (far, near)

    network.wait_for(lambda: free.got, "what is not cut")
    network.never(lambda: held.got, "bytes passed a cut")
    network.heal()
    network.wait_for(lambda: _got(far, b"there") and _got(near, b"back"), "what was held")


def test_a_cut_catches_what_is_delayed(network):
    near, far = network.connect()
    network.rule([AB], LinkRule(latency_us=50 * MS))
    near.write(b"under way")
    network.reaches(lambda: False, 5 * MS)  # into the shim
    network.cut(AB)

    network.never(lambda: far.got, "delayed bytes passed a cut")
    network.heal()
    network.wait_for(lambda: _got(far, b"under way"), "what was held")


@pytest.mark.parametrize("link", [AB, BA], ids=["there", "back"])
def test_a_cut_that_resets_breaks_both_ends_and_refuses_new_ones(network, link):
    near, far = network.connect()
    network.cut(link, mode="reset")
    network.wait_for(lambda: near.over and far.over, "both ends to break")
    late = network.dial()
    network.wait_for(lambda: late.over, "the connect to be refused")

    assert len(network.accepted) == 1
    network.heal()
    network.connect()


def test_what_a_cut_held_is_lost_when_it_turns_into_one_that_resets(network):
    near, far = network.connect()
    network.cut(AB)
    near.write(b"held")
    network.never(lambda: far.got, "bytes passed a cut")
    network.cut(AB, mode="reset")

    network.wait_for(lambda: near.over and far.over, "both ends to break")
    assert far.got == b""


def test_refused_connects_leave_open_connections_alone(network):
    near, far = network.connect()
    network.rule([AB], LinkRule(connect="refuse"))
    late = network.dial()
    network.wait_for(lambda: late.over, "the connect to be refused")
    near.write(b"still there")

    network.wait_for(lambda: _got(far, b"still there"), "the old connection's bytes")
    assert len(network.accepted) == 1


@pytest.mark.parametrize(
    ("links", "rule"),
    [
        ([AB], LinkRule(connect="hang")),
        ([AB], LinkRule(cut=True)),
        ([BA], LinkRule(cut=True)),
    ],
    ids=["hang", "cut-there", "cut-back"],
)
def test_a_connect_that_hangs_reaches_nobody_until_the_heal(network, links, rule):
    network.rule(links, rule)
    near = network.dial()
    network.never(lambda: network.accepted or near.over or near.got, "a hung connect was answered")
    network.heal()
    network.wait_for(lambda: near.connected and network.accepted, "the connect to go on")
    near.write(b"there")
    network.accepted[0].write(b"back")

    network.wait_for(
        lambda: _got(near, b"back") and _got(network.accepted[0], b"there"), "bytes to pass"
    )


def test_a_hung_connect_that_was_given_up_reaches_nobody(network):
    network.cut(AB)
    near = network.dial()
    network.reaches(lambda: near.connected, 100 * MS)
    near.close()
    network.wait_for(lambda: near.over, "the caller to be rid of it")
    network.heal()
    _, far = network.connect()

    network.never(lambda: len(network.accepted) > 1 or far.got or far.ended, "a ghost came")


@pytest.mark.parametrize(
    "rule", [LinkRule(latency_us=3_600_000 * MS), LinkRule(bandwidth_bps=1)], ids=["late", "narrow"]
)
def test_a_heal_lets_go_of_what_was_slowed(network, rule):
    near, far = network.connect()
    network.rule([AB], rule)
    near.write(b"slow ")
    near.write(b"and slower, ")
    network.never(lambda: far.got, "bytes were not slowed")
    network.heal()
    near.write(b"then fast")

    network.wait_for(lambda: _got(far, b"slow and slower, then fast"), "all bytes")


def test_a_reader_that_stops_holds_its_writer_back(network):
    near, far = network.connect()
    far.pause_reading()
    near.write(bytes(32_000_000))
    assert near.choked
    network.never(lambda: far.got or not near.choked, "more was taken than there is room for")
    far.write(b"the other way is free")
    network.wait_for(lambda: near.got, "the other way")
    far.resume_reading()

    network.wait_for(lambda: len(far.got) == 32_000_000 and not near.choked, "all bytes")


def test_a_cut_holds_a_writer_back_until_the_heal(network):
    near, far = network.connect()
    network.cut(AB)
    near.write(bytes(32_000_000))
    network.never(lambda: far.got or not near.choked, "more was taken than there is room for")
    network.heal()

    network.wait_for(lambda: len(far.got) == 32_000_000 and not near.choked, "all bytes")


def test_a_heal_of_what_is_clean_changes_nothing(network):
    network.heal()
    near, far = network.connect()
    data = _data(50_000)
    near.write(data)
    network.heal()
    far.write(b"back")
    network.heal()

    network.wait_for(lambda: _got(far, data) and _got(near, b"back"), "all bytes")
    network.connect()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_the_links_bytes_keep_their_order(network, seed):
    rng = Rng(seed, "script")
    near, far = network.connect()
    sent = {near: b"", far: b""}
    for number in range(60):
        link = rng.choice([AB, BA])
        match rng.randint(0, 9):
            case 0:
                network.cut(link)
            case 1:
                network.rule([link], LinkRule(latency_us=rng.randint(0, 4) * MS, jitter_us=2 * MS))
            case 2:
                network.rule([link], LinkRule(bandwidth_bps=rng.choice([200_000, 5_000_000])))
            case 3:
                network.heal()
            case _:
                end = rng.choice([near, far])
                word = b"%d." % number * rng.choice([1, 50, 1_000])
                end.write(word)
                sent[end] += word
        network.reaches(lambda: False, rng.choice([0, 500, 2_000]))
        assert sent[near].startswith(far.got)
        assert sent[far].startswith(near.got)
    network.heal()

    network.wait_for(lambda: _got(far, sent[near]) and _got(near, sent[far]), "all bytes")
