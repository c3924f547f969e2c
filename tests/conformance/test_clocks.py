"""Nodes whose clocks are wrong, asked of processes and simulated hosts alike.

The clock of a machine is read when a node's process starts, in both worlds: a step while it runs is
seen by the next process.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvlab.kv.version import SKEW_MAX_US, microseconds
from tests.conformance.cluster_worlds import RealSeveral, SimulatedSeveral
from tests.conformance.durable_worlds import RealDurable, SimulatedDurable

Alone = RealDurable | SimulatedDurable
Pair = RealSeveral | SimulatedSeveral
WORLDS = [pytest.param("real", marks=pytest.mark.live), "simulated"]
HOUR_US = 3_600_000_000
FAR_US = 20 * SKEW_MAX_US
NEAR_US = SKEW_MAX_US // 2
SLACK_US = 2 * SKEW_MAX_US  # a clock of its own runs ahead a little, and a machine's is set right


def _world(made: Alone | Pair) -> Iterator[Alone | Pair]:
    try:
        yield made
        made.close()
    finally:
        if isinstance(made, RealDurable | RealSeveral):
            made.end()


@pytest.fixture(params=WORLDS)
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Alone | Pair]:
    is_real = request.param == "real"
    yield from _world(RealDurable(tmp_path, "os") if is_real else SimulatedDurable(1, "os"))


@pytest.fixture(params=WORLDS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Alone | Pair]:
    is_real = request.param == "real"
    yield from _world(RealSeveral(tmp_path) if is_real else SimulatedSeveral(1))


def _set(world: Alone | Pair, off_us: int, *node: str, key: str = "k", value: str = "v") -> int:
    """Write through a node whose versions are off by so much; return the version."""
    before_us = world.wall_us
    reply = world.answer(*node, type="SET", key=key, value=value, meta=True)
    assert reply["status"] == "SUCCESS"
    version = int(reply["version"])
    _check_off(world, microseconds(version), off_us, before_us)
    return version


def _check_off(world: Alone | Pair, shown_us: int, off_us: int, before_us: int) -> None:
    """Check that a time which was read since then is off by so much."""
    assert before_us + off_us - SLACK_US <= shown_us <= world.wall_us + off_us + SLACK_US


def _get(world: Alone | Pair, *node: str) -> str | None:
    reply = world.answer(*node, type="GET", key="k")
    return None if reply.get("code") == "NOT_FOUND" else reply["value"]


def _ping(world: Alone, off_us: int) -> None:
    """Check what a node says that the time is."""
    before_us = world.wall_us
    said = dt.datetime.fromisoformat(world.answer(type="PING")["timestamp"])
    _check_off(world, round(said.timestamp() * 1e6), off_us, before_us)


def test_a_clock_that_steps_back_is_seen_at_the_next_start_and_no_version_is_given_twice(alone):
    alone.set_clock(HOUR_US)
    alone.start()
    first = _set(alone, HOUR_US, value="a")
    _ping(alone, HOUR_US)
    alone.set_clock(-HOUR_US)
    second = _set(alone, HOUR_US, value="b")
    _ping(alone, HOUR_US)
    alone.kill()
    alone.start()
    _ping(alone, -HOUR_US)
    third = int(alone.answer(type="SET", key="k", value="c", meta=True)["version"])

    assert first < second < third
    assert _get(alone) == "c"
    alone.answer(type="DELETE", key="k")
    assert _get(alone) is None


def test_a_clock_that_is_far_ahead_is_not_followed_and_hides_no_write(pair):
    pair.set_clock("server2", FAR_US)
    pair.found(2)
    _set(pair, FAR_US, "server2")
    counted = [_skewed(pair, node) for node in ("server1", "server2")]
    _set(pair, 0, "server1", key="other")

    assert counted[0] > 0
    assert counted[1] == 0
    for number, node in enumerate(("server1", "server2", "server1", "server2")):
        # What meets a version of the wrong clock is written above it, by whomever.
        before_us, before = pair.wall_us, _held(pair)
        pair.answer(node, type="SET", key="k", value=str(number))
        assert _held(pair) > before
        _check_off(pair, microseconds(_held(pair)), FAR_US, before_us)
        assert [_get(pair, one) for one in ("server1", "server2")] == [str(number)] * 2
    assert pair.answer("server1", type="DELETE", key="k")["status"] == "SUCCESS"
    assert [_get(pair, one) for one in ("server1", "server2")] == [None, None]


def test_a_clock_that_is_a_little_ahead_is_followed(pair):
    pair.set_clock("server2", NEAR_US)
    pair.found(2)
    ahead = int(pair.answer("server2", type="SET", key="k", value="v", meta=True)["version"])
    after = int(pair.answer("server1", type="SET", key="other", value="v", meta=True)["version"])

    assert after > ahead
    assert [_skewed(pair, node) for node in ("server1", "server2")] == [0, 0]


def _held(pair: Pair) -> int:
    """Return the version of the key that both nodes hold."""
    asked = (pair.answer(node, type="INSPECT", key="k") for node in ("server1", "server2"))
    [version] = {int(reply["info"]["version"]) for reply in asked}
    return version


def _skewed(pair: Pair, node: str) -> int:
    """Return how many versions a node has met that were too far ahead to follow."""
    count: int = pair.answer(node, type="STATUS")["info"]["counters"]["skewed_clocks"]
    return count
