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

from collections.abc import Iterator

import pytest

from kvlab.fault.link import LinkRule
from kvlab.rng import Rng
from tests.conformance.link_worlds import AB, BA, MS, Real, ShimProcess, Simulated

WORLDS = [pytest.param(None, marks=pytest.mark.live, id="real")]
WORLDS += [pytest.param(seed, id=f"simulated-{seed}") for seed in range(3)]


@pytest.fixture(scope="module")
def shim_process() -> Iterator[ShimProcess]:
    process = ShimProcess()
    yield process
    process.close()


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[Real | Simulated]:
    if request.param is None:
        made: Real | Simulated = Real(request.getfixturevalue("shim_process"))
    else:
        made = Simulated(request.param)
    yield made
    made.close()


def _data(size: int) -> bytes:
    return Rng(size, "data").randbytes(size)


def _got(end, data: bytes) -> bool:
    """Whether exactly these bytes came; at no time may anything else have come."""
    assert data.startswith(end.got)
    return len(end.got) == len(data)


def test_bytes_pass_both_ways_in_order(world):
    near, far = world.connect()
    there, back = _data(300_001), _data(200_003)
    for at in range(0, len(there), 10_000):
        near.write(there[at : at + 10_000])
        far.write(back[at : at + 10_000])

    world.wait_for(lambda: _got(near, back) and _got(far, there), "all bytes")
    assert not any(end.ended or end.over for end in (near, far))


def test_connections_do_not_mix(world):
    pairs = [world.connect() for _ in range(3)]
    for number, (near, far) in enumerate(pairs):
        near.write(b"there %d" % number)
        far.write(b"back %d" % number)

    for number, (near, far) in enumerate(pairs):
        world.wait_for(
            lambda near=near, far=far, number=number: (
                _got(near, b"back %d" % number) and _got(far, b"there %d" % number)
            ),
            "the bytes of this connection",
        )


def test_a_latency_delays_by_at_least_what_was_asked_and_one_way_only(world):
    near, far = world.connect()
    world.rule([AB], LinkRule(latency_us=80 * MS))
    began_us = world.now_us
    near.write(b"slow")
    far.write(b"fast")

    world.wait_for(lambda: _got(near, b"fast"), "what has no delay")
    assert far.got == b""
    world.wait_for(lambda: _got(far, b"slow"), "what has one")
    assert world.now_us - began_us >= 80 * MS


def test_a_jitter_does_not_change_the_order(world):
    near, far = world.connect()
    world.rule([AB], LinkRule(latency_us=3 * MS, jitter_us=3 * MS))
    sent = b""
    for number in range(100):
        word = b"%05d\n" % number
        near.write(word)
        sent += word
        world.reaches(lambda: False, MS // 2)

    world.wait_for(lambda: _got(far, sent), "all bytes")


def test_a_bandwidth_takes_at_least_the_time_that_the_bytes_need(world):
    near, far = world.connect()
    world.rule([AB], LinkRule(bandwidth_bps=1_000_000))
    data, began_us = _data(100_000), world.now_us
    near.write(data)

    world.wait_for(lambda: _got(far, data), "all bytes")
    assert world.now_us - began_us >= 100 * MS


def test_the_connections_of_a_link_share_its_bandwidth(world):
    pairs = [world.connect() for _ in range(4)]
    world.rule([AB], LinkRule(bandwidth_bps=1_000_000))
    data, began_us = _data(40_000), world.now_us
    for near, _ in pairs:
        near.write(data)

    world.wait_for(lambda: all(_got(far, data) for _, far in pairs), "all bytes")
    assert world.now_us - began_us >= 160 * MS


def test_the_two_directions_do_not_share_a_bandwidth(world):
    near, far = world.connect()
    world.rule([AB], LinkRule(bandwidth_bps=1_000))
    near.write(_data(1_000))
    far.write(b"at once")

    world.wait_for(lambda: _got(near, b"at once"), "the free direction")
    assert len(far.got) < 1_000


def test_nothing_passes_a_cut_and_everything_comes_in_order_after_the_heal(world):
    near, far = world.connect()
    world.cut(AB, BA)
    near.write(b"one ")
    far.write(b"eins ")
    world.never(lambda: near.got or far.got, "bytes passed a cut")
    near.write(b"two ")
    far.write(b"zwei ")
    world.heal()
    near.write(b"three")
    far.write(b"drei")

    world.wait_for(
        lambda: _got(far, b"one two three") and _got(near, b"eins zwei drei"), "what was held"
    )


@pytest.mark.parametrize("link", [AB, BA], ids=["there", "back"])
def test_a_cut_of_one_way_lets_the_other_pass(world, link):
    near, far = world.connect()
    world.cut(link)
    near.write(b"there")
    far.write(b"back")
    free, held = (near, far) if link == AB else (far, near)

    world.wait_for(lambda: free.got, "what is not cut")
    world.never(lambda: held.got, "bytes passed a cut")
    world.heal()
    world.wait_for(lambda: _got(far, b"there") and _got(near, b"back"), "what was held")


def test_a_cut_catches_what_is_delayed(world):
    near, far = world.connect()
    world.rule([AB], LinkRule(latency_us=50 * MS))
    near.write(b"under way")
    world.reaches(lambda: False, 5 * MS)  # into the shim
    world.cut(AB)

    world.never(lambda: far.got, "delayed bytes passed a cut")
    world.heal()
    world.wait_for(lambda: _got(far, b"under way"), "what was held")


@pytest.mark.parametrize("link", [AB, BA], ids=["there", "back"])
def test_a_cut_that_resets_breaks_both_ends_and_refuses_new_ones(world, link):
    near, far = world.connect()
    world.cut(link, mode="reset")
    world.wait_for(lambda: near.over and far.over, "both ends to break")
    late = world.dial()
    world.wait_for(lambda: late.over, "the connect to be refused")

    assert len(world.accepted) == 1
    world.heal()
    world.connect()


def test_what_a_cut_held_is_lost_when_it_turns_into_one_that_resets(world):
    near, far = world.connect()
    world.cut(AB)
    near.write(b"held")
    world.never(lambda: far.got, "bytes passed a cut")
    world.cut(AB, mode="reset")

    world.wait_for(lambda: near.over and far.over, "both ends to break")
    assert far.got == b""


def test_refused_connects_leave_open_connections_alone(world):
    near, far = world.connect()
    world.rule([AB], LinkRule(connect="refuse"))
    late = world.dial()
    world.wait_for(lambda: late.over, "the connect to be refused")
    near.write(b"still there")

    world.wait_for(lambda: _got(far, b"still there"), "the old connection's bytes")
    assert len(world.accepted) == 1


@pytest.mark.parametrize(
    ("links", "rule"),
    [
        ([AB], LinkRule(connect="hang")),
        ([AB], LinkRule(cut=True)),
        ([BA], LinkRule(cut=True)),
    ],
    ids=["hang", "cut-there", "cut-back"],
)
def test_a_connect_that_hangs_reaches_nobody_until_the_heal(world, links, rule):
    world.rule(links, rule)
    near = world.dial()
    world.never(lambda: world.accepted or near.over or near.got, "a hung connect was answered")
    world.heal()
    world.wait_for(lambda: near.connected and world.accepted, "the connect to go on")
    near.write(b"there")
    world.accepted[0].write(b"back")

    world.wait_for(
        lambda: _got(near, b"back") and _got(world.accepted[0], b"there"), "bytes to pass"
    )


def test_a_hung_connect_that_was_given_up_reaches_nobody(world):
    world.cut(AB)
    near = world.dial()
    world.reaches(lambda: near.connected, 100 * MS)
    near.close()
    world.wait_for(lambda: near.over, "the caller to be rid of it")
    world.heal()
    _, far = world.connect()

    world.never(lambda: len(world.accepted) > 1 or far.got or far.ended, "a ghost came")


def test_who_leaves_while_the_answer_is_under_way_is_noticed(world):
    world.rule([BA], LinkRule(latency_us=50 * MS))
    near = world.dial()
    world.wait_for(lambda: world.accepted, "the connect to arrive")
    [far] = world.accepted
    world.reaches(lambda: near.connected, 5 * MS)
    near.close()

    world.wait_for(lambda: far.ended or far.over, "the other side to notice")


@pytest.mark.parametrize("who", ["near", "far"])
def test_a_close_comes_after_the_bytes_before_it(world, who):
    near, far = world.connect()
    one, other = (near, far) if who == "near" else (far, near)
    data = _data(100_000)
    one.write(data)
    one.close()
    world.wait_for(lambda: other.ended, "the end")
    assert other.got == data
    assert not other.over
    other.close()

    world.wait_for(lambda: one.over and other.over, "both ends to be over")


def test_a_close_waits_behind_a_cut_with_the_bytes_before_it(world):
    near, far = world.connect()
    world.cut(AB)
    near.write(b"bye")
    near.close()
    world.never(lambda: far.got or far.ended or far.over, "a close passed a cut")
    world.heal()

    world.wait_for(lambda: far.ended, "the end")
    assert far.got == b"bye"


def test_a_close_is_delayed_with_its_link(world):
    near, far = world.connect()
    world.rule([AB], LinkRule(latency_us=60 * MS))
    began_us = world.now_us
    near.close()

    world.wait_for(lambda: far.ended, "the end")
    assert world.now_us - began_us >= 60 * MS


def test_who_writes_to_one_that_has_closed_is_reset(world):
    near, far = world.connect()
    near.close()
    world.wait_for(lambda: far.ended, "the end")

    def broken() -> bool:
        if not far.over:
            far.write(b"are you there")
        return far.over

    world.wait_for(broken, "the reset")


@pytest.mark.parametrize("who", ["near", "far"])
def test_an_abort_is_felt_by_the_other_side(world, who):
    near, far = world.connect()
    one, other = (near, far) if who == "near" else (far, near)
    data = _data(10_000)
    one.write(data)
    one.abort()

    world.wait_for(lambda: one.over and other.over, "both ends to be over")
    assert data.startswith(other.got)


def test_an_abort_behind_a_cut_is_felt_after_the_heal(world):
    near, far = world.connect()
    world.cut(AB, BA)
    far.abort()
    world.never(lambda: near.ended or near.over, "a reset passed a cut")
    world.heal()

    world.wait_for(lambda: near.over, "the reset")


@pytest.mark.parametrize(
    "rule", [LinkRule(latency_us=3_600_000 * MS), LinkRule(bandwidth_bps=1)], ids=["late", "narrow"]
)
def test_a_heal_lets_go_of_what_was_slowed(world, rule):
    near, far = world.connect()
    world.rule([AB], rule)
    near.write(b"slow ")
    near.write(b"and slower, ")
    world.never(lambda: far.got, "bytes were not slowed")
    world.heal()
    near.write(b"then fast")

    world.wait_for(lambda: _got(far, b"slow and slower, then fast"), "all bytes")


def test_a_heal_of_what_is_clean_changes_nothing(world):
    world.heal()
    near, far = world.connect()
    data = _data(50_000)
    near.write(data)
    world.heal()
    far.write(b"back")
    world.heal()

    world.wait_for(lambda: _got(far, data) and _got(near, b"back"), "all bytes")
    world.connect()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_the_links_bytes_keep_their_order(world, seed):
    rng = Rng(seed, "script")
    near, far = world.connect()
    sent = {near: b"", far: b""}
    for number in range(60):
        link = rng.choice([AB, BA])
        match rng.randint(0, 9):
            case 0:
                world.cut(link)
            case 1:
                world.rule([link], LinkRule(latency_us=rng.randint(0, 4) * MS, jitter_us=2 * MS))
            case 2:
                world.rule([link], LinkRule(bandwidth_bps=rng.choice([200_000, 5_000_000])))
            case 3:
                world.heal()
            case _:
                end = rng.choice([near, far])
                word = b"%d." % number * rng.choice([1, 50, 1_000])
                end.write(word)
                sent[end] += word
        world.reaches(lambda: False, rng.choice([0, 500, 2_000]))
        assert sent[near].startswith(far.got)
        assert sent[far].startswith(near.got)
    world.heal()

    world.wait_for(lambda: _got(far, sent[near]) and _got(near, sent[far]), "all bytes")
