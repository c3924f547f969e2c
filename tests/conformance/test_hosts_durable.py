"""What a client sees of a node that keeps its data, asked of a process and a simulated host alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.durable_worlds import RealDurable, SimulatedDurable

SYNCS = ("always", "interval", "os")
WORLDS = [pytest.param(("real", sync), marks=pytest.mark.live, id=f"real-{sync}") for sync in SYNCS]
WORLDS += [pytest.param(("simulated", sync), id=f"simulated-{sync}") for sync in SYNCS]

World = RealDurable | SimulatedDurable


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    kind, sync = request.param
    if kind == "simulated":
        made: World = SimulatedDurable(1, sync)
        made.begin()
        yield made
        made.close()
        return
    real = RealDurable(tmp_path, sync)
    try:
        real.begin()
        yield real
        real.close()
    finally:
        real.end()


def _set(world: World, key: str, value: str) -> None:
    assert world.answer(type="SET", key=key, value=value)["status"] == "SUCCESS"


def _get(world: World, key: str) -> str | None:
    reply = world.answer(type="GET", key=key)
    return None if reply.get("code") == "NOT_FOUND" else reply["value"]


def test_a_killed_node_has_what_it_acknowledged_when_it_starts_again(world):
    _set(world, "a", "1")
    _set(world, "b", "2")
    world.answer(type="DELETE", key="a")
    for number in range(3):
        world.kill()
        world.start()

        assert _get(world, "a") is None
        assert _get(world, "b") == "2" + "x" * number
        _set(world, "b", "2" + "x" * (number + 1))


def test_requests_that_wait_while_a_node_reads_its_disk_are_answered_after_that(world):
    _set(world, "k", "v" * 100_000)
    world.kill()
    world.start()
    end = world.connect()
    end.ask(type="GET", key="k")
    world.wait_for(lambda: end.replies or end.gone, "the reply")

    assert end.replies[0]["value"] == "v" * 100_000


def test_a_node_whose_disk_was_wiped_begins_with_nothing(world):
    _set(world, "k", "v")
    world.kill()
    world.wipe()
    world.start()

    assert _get(world, "k") is None
    _set(world, "k", "w")
    world.kill()
    world.start()
    assert _get(world, "k") == "w"


def test_a_record_that_was_damaged_is_not_served_and_all_others_are(world):
    for number in range(20):
        _set(world, f"k{number}", f"needle-{number}-")
    world.kill()
    world.flip_bit(b"needle-7-")
    world.start()

    # Where nobody waits for the disk, no frame says what was durable: what follows a bad one may be
    # torn, and is cut off.
    kept = [_get(world, f"k{number}") for number in range(20)]
    assert kept[:7] == [f"needle-{number}-" for number in range(7)]
    assert kept[7] is None
    assert all(one in (None, f"needle-{number}-") for number, one in enumerate(kept))
    _set(world, "k7", "new")
    world.kill()
    world.start()
    assert _get(world, "k7") == "new"


def test_without_room_writes_are_refused_and_reads_are_not(world):
    _set(world, "k", "before")
    world.fill()
    heavy = "x" * 100_000

    def is_refused() -> bool:
        end = world.connect()
        end.ask(type="SET", key="heavy", value=heavy)
        world.wait_for(lambda: end.replies or end.gone, "a reply or the end")
        return bool(end.replies) and end.replies[0].get("code") == "READ_ONLY"

    world.wait_for(is_refused, "writes to be refused")
    assert _get(world, "k") == "before"
    world.make_room()
    world.wait_for(
        lambda: world.answer(type="SET", key="k", value="after")["status"] == "SUCCESS",
        "writes to be taken again",
    )
    world.kill()
    world.start()
    assert _get(world, "k") == "after"
