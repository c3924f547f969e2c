"""What a client sees of a node whose disk cannot sync, or is slow, asked of both worlds alike.

Where the two differ, the bodies ask for what both promise:

    a failed sync    a simulated disk may have lost what it should have written at once, or when it is
                     next read from the disk itself; the real one here has it yet. So a write whose
                     sync failed may be there after a restart or not
    power            only the simulated disk can lose its power (tests/sim/test_disk_power.py). What
                     keeps a real node's word then is that it waits for the disk, which is asked here
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.durable_worlds import RealDurable, SimulatedDurable

World = RealDurable | SimulatedDurable
WORLDS = [pytest.param("real", marks=pytest.mark.live), "dropped", "kept"]
SLOW_US = 200_000


@pytest.fixture(params=WORLDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def world(kind: str, sync: str, tmp_path: Path) -> Iterator[World]:
    if kind == "real":
        real = RealDurable(tmp_path, sync)
        try:
            yield real
            real.close()
        finally:
            real.end()
    else:
        made = SimulatedDurable(1, sync, "kept" if kind == "kept" else "dropped")
        yield made
        made.close()


def _set(world: World, key: str, value: str) -> None:
    assert world.answer(type="SET", key=key, value=value)["status"] == "SUCCESS"


def _get(world: World, key: str) -> str | None:
    reply = world.answer(type="GET", key=key)
    return None if reply.get("code") == "NOT_FOUND" else reply["value"]


def _code(world: World, **request: str) -> str:
    return world.answer(**request).get("code", "")


@pytest.mark.parametrize("sync", ["always"])
def test_a_write_whose_sync_fails_is_not_acknowledged_and_none_is_until_a_restart(world):
    world.start()
    _set(world, "kept", "1")
    _set(world, "k", "old")
    world.break_sync()
    end = world.connect()
    end.ask(type="SET", key="k", value="new")
    world.wait_for(lambda: end.gone, "the connection to be reset")

    assert end.got == b""
    assert _code(world, type="SET", key="other", value="x") == "READ_ONLY"
    assert _code(world, type="DELETE", key="kept") == "READ_ONLY"
    assert _get(world, "kept") == "1"
    # Whether the new value is there after a restart nobody knows: so nobody may see it, or not.
    assert _code(world, type="GET", key="k") == "UNAVAILABLE"
    world.mend_sync()
    refused = world.answer(type="SET", key="k", value="newer")
    assert refused["code"] == "READ_ONLY"
    assert "it must be started again" in refused["error"]

    world.kill()
    world.start()
    assert _get(world, "kept") == "1"
    assert _get(world, "other") is None
    assert _get(world, "k") in {"old", "new"}
    _set(world, "k", "newest")
    assert _get(world, "k") == "newest"


@pytest.mark.parametrize("sync", ["interval"])
def test_writes_that_wait_for_no_sync_are_refused_from_the_first_that_fails(world):
    # What is said in the moment in which it fails may be cut off, in place of its reply.
    world.start()
    _set(world, "kept", "1")
    world.kill()
    world.start()
    old = world.connect()
    world.break_sync()

    def is_refused() -> bool:
        end = world.connect()
        end.ask(type="SET", key="k", value="v")
        world.wait_for(lambda: end.replies or end.gone, "a reply or the end")
        return bool(end.replies) and end.replies[0].get("code") == "READ_ONLY"

    world.wait_for(is_refused, "writes to be refused")
    old.ask(type="GET", key="kept")
    world.wait_for(lambda: old.replies or old.gone, "a reply")

    assert old.replies[0]["value"] == "1"
    assert _get(world, "k") in (
        "v",
        "",
    )  # a sync of the node's own may have failed before the first SET
    world.mend_sync()
    assert _code(world, type="SET", key="k", value="w") == "READ_ONLY"
    world.kill()
    world.start()
    assert _get(world, "kept") == "1"
    _set(world, "k", "x")
    assert _get(world, "k") == "x"


@pytest.mark.parametrize("sync", ["os"])
def test_a_node_that_never_syncs_does_not_notice_that_it_could_not(world):
    world.start()
    world.break_sync()
    for number in range(10):
        _set(world, f"k{number}", "v")
    world.kill()
    world.mend_sync()
    world.start()

    assert [_get(world, f"k{number}") for number in range(10)] == ["v"] * 10


@pytest.mark.parametrize("sync", ["always", "os"])
def test_a_new_node_does_not_start_while_its_disk_cannot_sync(world):
    world.break_sync()
    assert "cannot sync" in world.why_not_start()
    world.mend_sync()
    world.start()

    _set(world, "k", "v")
    assert _get(world, "k") == "v"


@pytest.mark.parametrize("sync", ["always"])
def test_nothing_is_acknowledged_before_the_disk_has_it(world):
    world.start()
    world.slow_sync(SLOW_US)
    end = world.connect()
    asked_us = world.now_us
    end.ask(type="SET", key="k", value="v")
    end.ask(type="GET", key="k")
    world.wait_for(lambda: end.replies, "a reply")

    assert world.now_us - asked_us >= SLOW_US
    world.wait_for(lambda: len(end.replies) == 2, "the read behind it")
    assert end.replies[1]["value"] == "v"
