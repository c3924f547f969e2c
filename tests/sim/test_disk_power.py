"""What a power cut leaves of a simulated disk: never less than was synced, never what was not there."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.disk import SimDisk, SimFile
from kvlab.sim.pages import SECTOR_BYTES

SEEDS = range(300)

seeds = st.integers(0, 2**32)
# Bytes that are nowhere else, so that each can be told from all others and from nothing.
sizes = st.sampled_from([1, 7, 100, 511, 512, 513, 1500])
changes = st.lists(
    st.one_of(
        st.tuples(st.just("append"), sizes),
        st.tuples(st.just("append"), sizes),
        st.tuples(st.just("truncate"), st.floats(0, 1)),
        st.tuples(st.just("preallocate"), sizes),
        st.tuples(st.just("sync"), st.none()),
    ),
    max_size=12,
)


def make_disk(seed: int = 1) -> SimDisk:
    return SimDisk(Clock(), Rng(seed, "disk"))


def _bytes(count: int, size: int) -> bytes:
    return bytes(1 + (count * 7 + place) % 255 for place in range(size))


def _content(disk: SimDisk, name: str) -> bytes:
    file = disk.open(name)
    return file.read_at(0, file.size)


def _durable(disk: SimDisk, name: str) -> SimFile:
    """Make a file whose name survives."""
    file = disk.create(name)
    disk.sync_dir()
    return file


def _run(file: SimFile, some: list[tuple]) -> list[bytes]:
    """Make changes; return the content at the last sync and after each change since."""
    since = [b""]
    for count, (what, value) in enumerate(some):
        if what == "append":
            file.append(_bytes(count, value))
        elif what == "truncate":
            file.truncate(int(value * file.size))
        elif what == "preallocate":
            file.preallocate(file.size + value)
        else:
            file.sync()
            since.clear()
        since.append(file.read_at(0, file.size))
    return since


def _sector(content: bytes, base: int, size: int) -> bytes:
    return content[base : base + SECTOR_BYTES].ljust(SECTOR_BYTES, b"\0")[: size - base]


@settings(max_examples=200, deadline=None)
@given(changes, seeds)
def test_every_sector_is_as_it_stood_at_some_moment_since_the_sync(some, seed):
    disk = make_disk()
    since = _run(_durable(disk, "one"), some)
    disk.power_cut(Rng(seed))
    left = _content(disk, "one")

    ends = [len(one) for one in since]
    # Only an append that is torn leaves a size that the file never had.
    grown = pairwise([0, *ends]) if any(what == "append" for what, _ in some) else []
    assert len(left) in ends or any(before < len(left) < after for before, after in grown)
    torn = []
    for base in range(0, len(left), SECTOR_BYTES):
        sector = left[base : base + SECTOR_BYTES]
        versions = [_sector(one, base, len(left)) for one in since]
        if sector not in versions:
            torn.append(base)
        for place, byte in enumerate(sector):
            assert byte in {one[place] for one in versions}
    assert len(torn) <= 1


@given(changes, seeds)
def test_what_was_synced_survives_as_it_was(some, seed):
    disk = make_disk()
    file = _durable(disk, "one")
    _run(file, some)
    file.sync()
    before = file.read_at(0, file.size)
    disk.power_cut(Rng(seed))

    assert _content(disk, "one") == before
    assert disk.counts.lost_bytes == disk.counts.torn_writes == 0


@given(changes, st.lists(sizes, max_size=6), seeds)
def test_appends_that_were_not_synced_do_not_harm_what_was(some, later, seed):
    disk = make_disk()
    file = _durable(disk, "one")
    _run(file, some)
    file.sync()
    before = file.read_at(0, file.end)
    for count, size in enumerate(later):
        file.append(_bytes(100 + count, size))
    disk.power_cut(Rng(seed))

    assert _content(disk, "one").startswith(before)


@given(changes, seeds)
def test_the_end_of_a_process_and_then_a_sync_by_another_lose_nothing(some, seed):
    disk = make_disk()
    file = _durable(disk, "one")
    _run(file, some)
    before = file.read_at(0, file.size)
    disk.kill()
    disk.open("one").sync()
    disk.power_cut(Rng(seed))

    assert _content(disk, "one") == before


@given(changes, seeds)
def test_the_same_seed_leaves_the_same(some, seed):
    outcomes = []
    for _ in range(2):
        disk = make_disk(seed)
        disk.faults.slow_sync(50, 1000)
        _run(_durable(disk, "one"), some)
        _run(disk.create("two"), some)
        disk.power_cut(Rng(seed))
        disk.power_cut(Rng(seed + 1))
        contents = [(name, _content(disk, name)) for name in disk.names()]
        outcomes.append((contents, disk.counts, disk.done_us))

    assert outcomes[0] == outcomes[1]


def _after_cut(seed: int, parts: list[bytes], *, reserved: int = 0) -> tuple[SimDisk, bytes]:
    disk = make_disk()
    file = _durable(disk, "one")
    file.preallocate(reserved)
    file.sync()
    for part in parts:
        file.append(part)
    disk.power_cut(Rng(seed))
    return disk, _content(disk, "one")


def test_a_cut_leaves_nothing_all_a_beginning_or_holes():
    parts = [_bytes(count, 700) for count in range(4)]
    whole = b"".join(parts)
    found = set()
    for seed in SEEDS:
        disk, left = _after_cut(seed, parts, reserved=len(whole))
        written = left.rstrip(b"\0")
        assert (disk.counts.lost_bytes == 0) == (left == whole)
        if left == whole:
            found.add("all")
        elif not written:
            found.add("nothing")
        elif whole.startswith(written):
            found.add("whole appends" if len(written) % 700 == 0 else "a torn append")
            if len(written) % SECTOR_BYTES:
                found.add("a torn sector")
        elif left.endswith(whole[-100:]):
            found.add("the end without what was before")
        else:
            found.add("holes")

    assert found == {
        *("all", "nothing", "whole appends", "a torn append", "a torn sector", "holes"),
        "the end without what was before",
    }


def test_a_torn_write_is_counted():
    torn = whole = 0
    for seed in SEEDS:
        disk, left = _after_cut(seed, [_bytes(1, 2000)])
        if disk.counts.torn_writes:
            torn += 1
            assert left.strip(b"\0") not in {b"", _bytes(1, 2000)}
        else:
            whole += 1
            assert left in {b"", _bytes(1, 2000)}

    assert torn > len(SEEDS) / 4
    assert whole > len(SEEDS) / 8


def test_what_was_cut_off_may_stand_behind_new_bytes_until_the_cut_is_synced():
    old, new = b"o" * 2 * SECTOR_BYTES, b"n" * 100
    found = set()
    for seed in SEEDS:
        disk = make_disk()
        file = _durable(disk, "one")
        file.append(old)
        file.sync()
        file.truncate(0)
        file.append(new)
        disk.power_cut(Rng(seed))
        found.add(_content(disk, "one"))
        assert new + old[100:] not in found  # a sector is cleared by the cut, or not written yet

    assert {old, b"", new, new.ljust(SECTOR_BYTES, b"\0") + old[SECTOR_BYTES:]} <= found


def test_a_file_may_keep_what_was_written_after_what_another_lost():
    kept = {(first, second): 0 for first in (False, True) for second in (False, True)}
    for seed in SEEDS:
        disk = make_disk()
        files = [_durable(disk, name) for name in ("one", "two")]
        for file in files:
            file.append(b"x" * 100)
        disk.power_cut(Rng(seed))
        first, second = (_content(disk, name) == b"x" * 100 for name in ("one", "two"))
        kept[first, second] += 1

    assert all(kept.values())


def _frame(data: bytes) -> bytes:
    return struct.pack("<II", len(data), zlib.crc32(data)) + data


def _frames(content: bytes) -> list[bytes]:
    """Read frames up to the first that is not whole, as a log does."""
    found: list[bytes] = []
    at = 0
    while at + 8 <= len(content):
        size, check = struct.unpack_from("<II", content, at)
        data = content[at + 8 : at + 8 + size]
        if not size or len(data) < size or zlib.crc32(data) != check:
            break
        found.append(data)
        at += 8 + size
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(sizes, st.booleans()), max_size=10),
    st.sampled_from([0, 4000, 20_000]),
    seeds,
)
def test_a_log_with_checked_frames_finds_all_that_was_synced_and_a_beginning_of_the_rest(
    some, reserved, seed
):
    disk = make_disk()
    file = _durable(disk, "log")
    file.preallocate(reserved)
    written, synced = [], 0
    for count, (size, is_synced) in enumerate(some):
        written.append(_bytes(count, size))
        file.append(_frame(written[-1]))
        if is_synced:
            file.sync()
            synced = len(written)
    disk.power_cut(Rng(seed))
    found = _frames(_content(disk, "log"))

    assert len(found) >= synced
    assert found == written[: len(found)]


# -- time -----------------------------------------------------------------------------------------


def _cut_at(at_us: int, seed: int) -> bytes:
    """Sync for 100 us from 1000 on, append in the middle, and cut the power."""
    clock = Clock()
    disk = SimDisk(clock, Rng(1))
    file = _durable(disk, "one")
    disk.faults.slow_sync(100)
    file.append(b"before")
    clock.at(1000, file.sync)
    clock.at(1050, file.append, b"during")
    clock.run(at_us)
    disk.power_cut(Rng(seed))
    return _content(disk, "one")


def test_a_sync_counts_when_it_is_done_and_only_for_what_was_before_it():
    assert b"" in {_cut_at(1099, seed) for seed in SEEDS}
    left = {_cut_at(1100, seed) for seed in SEEDS}
    assert all(one.startswith(b"before") for one in left)
    assert left >= {b"before", b"beforeduring"}


def test_the_disk_does_one_sync_after_the_other_and_says_when_all_is_done():
    clock = Clock()
    disk = SimDisk(clock, Rng(1))
    file = disk.create("one")
    assert disk.done_us == 0
    disk.faults.slow_sync(100)
    file.sync()
    assert disk.done_us == 100
    disk.sync_dir()
    assert disk.done_us == 200
    clock.run(5000)
    assert disk.done_us == 5000
    file.sync()
    assert disk.done_us == 5100


def test_the_time_of_a_sync_is_drawn_within_its_bounds():
    disk = make_disk()
    file = disk.create("one")
    disk.faults.slow_sync(100, 50)
    before, times = 0, set()
    for _ in range(200):
        file.sync()
        times.add(disk.done_us - before)
        before = disk.done_us

    assert min(times) >= 100
    assert max(times) <= 150
    assert len(times) > 30
