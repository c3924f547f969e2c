"""What a power cut leaves of the names of files: their changes in order, up to one of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.disk import SimDisk, SimFile

SEEDS = range(200)
FOREVER_US = 10**9

seeds = st.integers(0, 2**32)


def make_disk() -> SimDisk:
    return SimDisk(Clock(), Rng(1, "disk"))


def _content(disk: SimDisk, name: str) -> bytes:
    file = disk.open(name)
    return file.read_at(0, file.size)


def _durable(disk: SimDisk, name: str) -> SimFile:
    """Make a file whose name survives."""
    file = disk.create(name)
    disk.sync_dir()
    return file


def _names_after(seed: int) -> tuple[str, ...]:
    disk = make_disk()
    _durable(disk, "a")
    disk.create("b")
    disk.rename("a", "c")
    disk.remove("b")
    disk.power_cut(Rng(seed))
    return disk.names()


def test_names_are_undone_from_the_last_and_only_so():
    assert {_names_after(seed) for seed in SEEDS} == {("a",), ("a", "b"), ("b", "c"), ("c",)}


@given(seeds)
def test_names_that_were_synced_survive(seed):
    disk = make_disk()
    disk.create("a")
    disk.rename("a", "b")
    disk.create("c")
    disk.remove("c")
    disk.sync_dir()
    disk.power_cut(Rng(seed))

    assert disk.names() == ("b",)
    assert disk.counts.lost_names == 0


def test_a_synced_file_without_a_synced_name_may_be_gone():
    lost = 0
    for seed in SEEDS:
        disk = make_disk()
        file = disk.create("one")
        file.append(b"abc")
        file.sync()
        disk.power_cut(Rng(seed))
        lost += disk.counts.lost_names
        assert disk.names() == () or _content(disk, "one") == b"abc"

    assert 0 < lost < len(SEEDS)


def test_a_rename_may_survive_without_the_bytes_that_were_to_replace_the_old():
    found = set()
    for seed in SEEDS:
        disk = make_disk()
        old = _durable(disk, "map")
        old.append(b"old")
        old.sync()
        disk.create("map.new").append(b"new")
        disk.rename("map.new", "map")
        disk.power_cut(Rng(seed))
        found.add(_content(disk, "map"))

    assert found >= {b"old", b"new", b""}


def test_a_removed_file_may_come_back_with_what_was_synced():
    found = set()
    for seed in SEEDS:
        disk = make_disk()
        file = _durable(disk, "one")
        file.append(b"abc")
        file.sync()
        disk.remove("one")
        disk.power_cut(Rng(seed))
        found.add(_content(disk, "one") if disk.names() else None)

    assert found == {b"abc", None}


def test_a_sync_of_names_counts_when_it_is_done():
    outcomes = set()
    for seed in SEEDS:
        disk = make_disk()
        disk.faults.slow_sync(FOREVER_US)
        disk.create("one")
        disk.sync_dir()
        disk.power_cut(Rng(seed))
        outcomes.add(disk.names())
        assert disk.done_us == 0  # what was under way is no work any more

    assert outcomes == {(), ("one",)}
