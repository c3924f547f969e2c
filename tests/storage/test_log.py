"""A log keeps what it promised through kills and power cuts, at any moment and in any order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlab.rng import Rng
from kvlab.storage import log as log_module
from kvlab.storage.disk import DiskFailedError
from kvlab.storage.log import segment_name, snapshot_name
from kvlab.storage.recovery import ForeignLogError, recover
from tests.storage.log_world import IDENTITY, LogWorld

STEPS = ["append", "append", "append", "sync", "time", "snapshot", "stop", "kill", "power cut"]


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 1500)
    monkeypatch.setattr(log_module, "RESERVE_BYTES", 512)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(STEPS), max_size=60), st.booleans())
def test_what_was_promised_survives(seed: int, steps: list[str], slow: bool) -> None:
    world = LogWorld(seed)
    if slow:
        world.disk.faults.slow_sync(40, 400)

    for step in steps:
        world.step(step)
    world.restart("power cut")


def test_a_new_folder_is_new_and_one_with_a_log_is_not() -> None:
    world = LogWorld(1)
    assert world.recovery.is_new
    world.append(1)
    world.restart("kill")

    assert not world.recovery.is_new
    assert world.got == [1]


def test_a_kill_loses_nothing_even_without_a_sync() -> None:
    world = LogWorld(1)
    for _ in range(20):
        world.append(300)

    world.restart("kill")

    assert world.got == list(range(1, 21))


def test_what_a_kill_left_is_durable_when_the_node_begins_again() -> None:
    world = LogWorld(1)
    world.append(300)
    world.restart("kill")

    world.restart("power cut")

    assert world.got == [1]


def _synced(count: int, seed: int = 1) -> LogWorld:
    world = LogWorld(seed)
    for _ in range(count):
        world.append(400)
        world.begin_sync()
        world.pass_time(1000)
    assert len(world.promised) == count
    return world


def _damage(world: LogWorld, name: str) -> None:
    while True:
        flipped = world.disk.flip_random_bit(world.rng, name)
        assert flipped is not None
        if world.disk.open(name).read_at(flipped[1] // 512 * 512, 512).strip(b"\0"):
            return


def test_a_flipped_bit_in_what_was_durable_is_damage_and_the_rest_is_read() -> None:
    for seed in range(30):
        world = _synced(12, seed)
        _damage(world, segment_name(1))
        world.crash("kill")

        recovery = world.recover()

        assert recovery.damage or len(world.got) == 12  # a bit of what was reserved hurts nobody
        assert len(world.got) >= 8
        assert world.got == sorted(world.got)


def test_a_missing_segment_is_damage() -> None:
    world = _synced(12)
    world.disk.remove(segment_name(2))
    world.crash("kill")

    assert world.recover().damage == [f"{segment_name(2)} is missing"]
    assert world.got
    assert world.got != list(range(1, 13))


def test_a_segment_that_lost_its_end_is_damage() -> None:
    world = _synced(12)
    file = world.disk.open(segment_name(1))
    file.truncate(700)
    file.sync()
    world.crash("kill")

    [damage] = world.recover().damage
    assert damage.startswith(segment_name(1))


def test_a_damaged_snapshot_is_damage() -> None:
    world = _synced(3)
    world.write_snapshot()
    world.disk.flip_bit(snapshot_name(2), 70, 3)
    world.crash("kill")

    [damage] = world.recover().damage
    assert damage.startswith(snapshot_name(2))


def test_a_snapshot_after_damage_makes_the_log_whole_again() -> None:
    world = _synced(12)
    world.disk.remove(segment_name(2))
    world.crash("kill")
    world.recover()
    world.appended = list(world.got)
    world.promised = set()

    world.write_snapshot()
    world.append(1)
    world.restart("kill")

    assert world.recovery.damage == []
    assert set(world.got) == set(world.appended)


def test_a_snapshot_takes_the_place_of_what_was_before() -> None:
    world = _synced(12)
    assert len(world.disk.names()) > 2

    world.write_snapshot()
    world.append(1)

    assert world.disk.names() == (segment_name(world.log.segment), snapshot_name(world.log.segment))
    world.restart("power cut")
    assert set(world.got) >= set(range(1, 13))


def test_a_full_disk_refuses_and_goes_on_when_there_is_room() -> None:
    world = _synced(2)
    world.disk.faults.limit_capacity(world.disk.used_bytes)
    while not world.is_refused(200):
        pass
    assert world.is_refused(200)
    world.disk.faults.heal()

    assert not world.is_refused(200)
    world.restart("kill")
    assert world.got == world.appended


def test_a_disk_that_failed_to_sync_is_not_asked_again() -> None:
    world = _synced(1)
    world.append(1)
    world.disk.faults.fail("sync")
    sync = world.log.begin_sync()
    assert sync is not None
    with pytest.raises(DiskFailedError) as caught:
        sync.run()
    world.log.end_sync(sync, caught.value)

    with pytest.raises(DiskFailedError):
        world.log.append([[0, []]])
    with pytest.raises(DiskFailedError):
        world.log.begin_sync()
    assert not world.log.is_synced


def test_the_log_of_another_node_is_refused() -> None:
    world = _synced(1)
    world.crash("kill")

    with pytest.raises(ForeignLogError, match="belongs to another node"):
        recover(world.disk, IDENTITY + 1, Rng(1), lambda _entries: None)


def test_a_sync_covers_what_was_appended_before_it_and_not_what_came_meanwhile() -> None:
    world = LogWorld(1)
    world.append(1)
    sync = world.log.begin_sync()
    assert sync is not None
    world.append(1)
    sync.run()
    world.log.end_sync(sync)

    assert not world.log.is_synced
    assert world.log.begin_sync() is not None


def test_a_segment_that_grew_and_ended_during_a_sync_is_synced_again() -> None:
    # Found by test_what_was_promised_survives: the rest of such a segment was never synced.
    world = LogWorld(1)
    world.disk.faults.slow_sync(100)
    world.append(700)
    world.begin_sync()
    while world.log.segment == 1:
        world.append(700)
    world.pass_time(1000)
    world.begin_sync()
    world.pass_time(1000)
    assert world.promised == set(world.appended)

    world.restart("power cut")

    assert world.got == world.appended
