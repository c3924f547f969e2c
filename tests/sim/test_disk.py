"""The faults of a simulated disk other than power cuts, each with the count that proves it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.errors import UsageError
from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.disk import SimDisk, SimFile
from kvlab.sim.disk_faults import Stopped
from kvlab.storage.disk import DiskFailedError, DiskFullError, FileMissingError

SEEDS = range(100)


@pytest.fixture
def disk() -> SimDisk:
    return make_disk()


def make_disk(seed: int = 1) -> SimDisk:
    return SimDisk(Clock(), Rng(seed, "disk"))


def _durable(disk: SimDisk, name: str, data: bytes) -> SimFile:
    file = disk.create(name)
    file.append(data)
    file.sync()
    disk.sync_dir()
    return file


def _content(disk: SimDisk, name: str) -> bytes:
    file = disk.open(name)
    return file.read_at(0, file.size)


def test_a_disk_without_faults_draws_nothing_and_takes_no_time():
    rng = Rng(1)
    before = rng.getstate()
    disk = SimDisk(Clock(), rng)
    _durable(disk, "one", b"abc" * 1000)
    disk.rename("one", "two")
    disk.kill()

    assert rng.getstate() == before
    assert disk.done_us == 0


def test_calls_are_counted(disk):
    file = _durable(disk, "one", b"abc")
    file.read_at(0, 1)
    file.append(b"d")

    assert disk.counts.calls == {"create": 1, "append": 2, "sync": 1, "sync_dir": 1, "read": 1}
    assert disk.counts.failures == {}


# -- failing calls --------------------------------------------------------------------------------


def test_some_calls_succeed_then_some_fail_then_all_succeed(disk):
    file = _durable(disk, "one", b"abc")
    disk.faults.fail("read", after=2, times=2)
    answers = []
    for _ in range(6):
        try:
            answers.append(file.read_at(0, 3))
        except DiskFailedError:
            answers.append(b"failed")

    assert answers == [b"abc", b"abc", b"failed", b"failed", b"abc", b"abc"]
    assert disk.counts.failures == {"read": 2}


def test_a_failure_of_one_file_leaves_the_others_alone(disk):
    one, two = (_durable(disk, name, b"abc") for name in ("one", "two"))
    disk.faults.fail("read", name="two", times=None)

    assert one.read_at(0, 3) == b"abc"
    for _ in range(3):
        with pytest.raises(DiskFailedError):
            two.read_at(0, 3)
    disk.faults.heal()
    assert two.read_at(0, 3) == b"abc"


@pytest.mark.parametrize("values", [{"after": -1}, {"times": 0}])
def test_a_failure_that_cannot_be_is_a_mistake(disk, values):
    with pytest.raises(UsageError):
        disk.faults.fail("sync", **values)


@pytest.mark.parametrize(
    "call", ["names", "create", "open", "rename", "remove", "append", "truncate", "preallocate"]
)
def test_a_call_that_fails_changes_nothing(disk, call):
    file = _durable(disk, "one", b"abc")
    calls = {
        "names": disk.names,
        "create": lambda: disk.create("two"),
        "open": lambda: disk.open("one"),
        "rename": lambda: disk.rename("one", "two"),
        "remove": lambda: disk.remove("one"),
        "append": lambda: file.append(b"d"),
        "truncate": lambda: file.truncate(0),
        "preallocate": lambda: file.preallocate(100),
    }
    disk.faults.fail(call)
    with pytest.raises(DiskFailedError):
        calls[call]()

    assert disk.names() == ("one",)
    assert _content(disk, "one") == b"abc"


def test_pages_that_a_failed_sync_dropped_are_gone_and_a_later_sync_does_not_bring_them_back():
    lost = 0
    for seed in SEEDS:
        disk = make_disk(seed)
        file = _durable(disk, "one", b"old")
        file.append(b"new" * 1000)
        disk.faults.fail("sync")
        with pytest.raises(DiskFailedError):
            file.sync()
        left = file.read_at(0, file.size)
        assert left.startswith(b"old")
        assert len(left) == 3003
        lost += left != b"old" + b"new" * 1000
        assert (disk.counts.lost_bytes > 0) == (left != b"old" + b"new" * 1000)

        again = disk.open("one")
        again.sync()  # the trap: nothing is left to be written, so it succeeds
        disk.power_cut(Rng(seed))
        assert _content(disk, "one") == left

    assert len(SEEDS) / 2 < lost < len(SEEDS)


def test_pages_that_a_failed_sync_kept_can_be_read_until_they_leave_the_cache():
    lost = 0
    for seed in SEEDS:
        disk = make_disk(seed)
        file = _durable(disk, "one", b"old")
        file.append(b"new" * 1000)
        disk.faults.fail("sync", pages="kept")
        with pytest.raises(DiskFailedError):
            file.sync()
        assert file.read_at(0, 9999) == b"old" + b"new" * 1000
        disk.kill()
        assert _content(disk, "one") == b"old" + b"new" * 1000
        disk.open("one").sync()
        disk.drop_caches()
        lost += _content(disk, "one") != b"old" + b"new" * 1000
        assert disk.open("one").size == 3003

    assert lost > len(SEEDS) / 2


@pytest.mark.parametrize("seed", range(10))
def test_a_failed_sync_does_not_take_back_what_an_earlier_one_is_still_writing(seed):
    disk = make_disk(seed)
    file = _durable(disk, "one", b"old")
    disk.faults.slow_sync(100)
    file.append(b"first")
    file.sync()
    file.append(b"second")
    disk.faults.fail("sync")
    with pytest.raises(DiskFailedError):
        file.sync()

    assert file.read_at(0, 8) == b"oldfirst"


def test_after_a_failed_sync_of_names_none_is_synced_until_the_process_is_another(disk):
    disk.create("one")
    disk.faults.fail("sync_dir")
    for _ in range(2):
        with pytest.raises(DiskFailedError):
            disk.sync_dir()
    assert disk.names() == ("one",)
    disk.kill()
    disk.sync_dir()
    disk.power_cut(Rng(1))

    assert disk.names() == ("one",)


def test_a_failed_sync_takes_its_time_too(disk):
    file = _durable(disk, "one", b"abc")
    disk.faults.slow_sync(100)
    disk.faults.fail("sync")
    with pytest.raises(DiskFailedError):
        file.sync()

    assert disk.done_us == 100


# -- room -----------------------------------------------------------------------------------------


def test_room_is_shared_by_all_files_and_freed_when_a_removed_file_is_closed(disk):
    disk.faults.limit_capacity(100)
    one, two = disk.create("one"), disk.create("two")
    one.append(b"x" * 60)
    two.preallocate(40)
    with pytest.raises(DiskFullError):
        one.append(b"y")
    disk.remove("one")
    with pytest.raises(DiskFullError):
        two.preallocate(41)
    one.close()
    two.preallocate(100)

    assert disk.used_bytes == 100
    assert disk.counts.full == 2


def test_a_disk_made_smaller_than_what_it_holds_is_full_and_holds_it(disk):
    file = _durable(disk, "one", b"abc")
    disk.faults.limit_capacity(1)
    with pytest.raises(DiskFullError):
        file.append(b"d")

    assert file.read_at(0, 9) == b"abc"
    file.append(b"")


def test_the_part_of_an_append_that_met_the_end_of_the_disk_can_come_back_after_a_power_cut():
    came_back = 0
    for seed in SEEDS:
        disk = make_disk()
        file = _durable(disk, "one", b"abc")
        disk.faults.limit_capacity(8)
        with pytest.raises(DiskFullError):
            file.append(b"0123456789")
        assert file.read_at(0, 99) == b"abc"
        disk.power_cut(Rng(seed))
        left = _content(disk, "one")
        assert left.startswith(b"abc")
        assert b"abc01234".startswith(left.rstrip(b"\0"))
        came_back += left != b"abc"

    assert 0 < came_back < len(SEEDS)


# -- damage ---------------------------------------------------------------------------------------


@given(st.integers(0, 999), st.integers(0, 7), st.booleans())
def test_a_flipped_bit_is_one_bit_and_stays(offset, bit, is_synced):
    disk = make_disk()
    file = _durable(disk, "one", b"abc")
    file.append(bytes(range(256)) * 4)
    before = file.read_at(0, file.size)
    if is_synced:
        file.sync()
    disk.flip_bit("one", offset, bit)
    flipped = file.read_at(0, file.size)
    file.sync()
    disk.power_cut(Rng(1))

    different = [place for place in range(len(before)) if before[place] != flipped[place]]
    assert different == [offset]
    assert before[offset] ^ flipped[offset] == 1 << bit
    assert _content(disk, "one") == flipped
    assert disk.counts.flipped_bits == 1


def test_a_bit_can_flip_in_room_that_was_only_reserved(disk):
    file = disk.create("one")
    file.preallocate(1000)
    disk.flip_bit("one", 500, 3)

    assert file.read_at(499, 3) == b"\0\x08\0"


@pytest.mark.parametrize("place", [(3, 0), (-1, 0), (0, 8)])
def test_a_bit_that_is_not_there_cannot_flip(disk, place):
    _durable(disk, "one", b"abc")
    with pytest.raises(ValueError, match="one"):
        disk.flip_bit("one", *place)
    with pytest.raises(FileMissingError):
        disk.flip_bit("two", 0, 0)


def test_a_random_bit_is_drawn_among_those_written_and_named():
    flips = set()
    for seed in SEEDS:
        disk = make_disk()
        _durable(disk, "one", b"a" * 10).preallocate(10**6)
        _durable(disk, "two", b"b" * 10)
        flip = disk.flip_random_bit(Rng(seed))
        assert flip == _again(seed)
        name, offset, bit = flip
        assert _content(disk, name)[offset] == (97 if name == "one" else 98) ^ (1 << bit)
        flips.add(flip)
        assert disk.flip_random_bit(Rng(seed), "two")[0] == "two"

    assert {name for name, _, _ in flips} == {"one", "two"}
    assert len(flips) > 50


def _again(seed: int) -> tuple[str, int, int] | None:
    disk = make_disk()
    for name in ("two", "one"):
        _durable(disk, name, b"x" * 10)
    return disk.flip_random_bit(Rng(seed))


def test_an_empty_disk_has_no_bit_to_flip(disk):
    disk.create("one").preallocate(100)

    assert disk.flip_random_bit(Rng(1)) is None
    assert disk.counts.flipped_bits == 0


def test_a_wiped_disk_is_empty(disk):
    file = _durable(disk, "one", b"abc")
    disk.wipe()

    assert disk.names() == ()
    assert disk.used_bytes == 0
    with pytest.raises(ValueError, match="closed"):
        file.read_at(0, 1)


# -- the end of a process -------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["kill", "power_cut"])
def test_what_a_process_had_open_is_closed_when_it_ends(disk, end):
    file = _durable(disk, "one", b"abc")
    disk.faults.limit_open_files(1)
    disk.kill() if end == "kill" else disk.power_cut(Rng(1))

    with pytest.raises(ValueError, match="closed"):
        file.append(b"d")
    assert _content(disk, "one") == b"abc"
    assert (disk.counts.kills, disk.counts.power_cuts) == ((1, 0) if end == "kill" else (0, 1))


def _story(disk: SimDisk) -> None:
    file = disk.create("one")
    file.append(b"abc")
    file.sync()
    disk.sync_dir()
    disk.rename("one", "two")
    file.append(b"def")


def test_a_process_can_end_before_any_of_its_calls():
    ends = []
    for calls in range(6):
        disk = make_disk()
        disk.faults.stop_after(calls)
        with pytest.raises(Stopped):
            _story(disk)
        with pytest.raises(Stopped):  # nor does it clean up
            disk.names()
        disk.kill()
        ends.append([(name, _content(disk, name)) for name in disk.names()])

    assert ends[0] == []
    assert ends[1][0][1] in {b"", b"a", b"ab"}
    assert ends[2:5] == [[("one", b"abc")]] * 3
    assert ends[5][0][0] == "two"
    assert b"abcde".startswith(ends[5][0][1])
    disk = make_disk()
    disk.faults.stop_after(6)
    _story(disk)
    assert disk.used_bytes == 6


def test_an_append_that_a_process_ends_in_is_done_in_part():
    found = set()
    for seed in SEEDS:
        disk = make_disk(seed)
        file = disk.create("one")
        disk.faults.stop_after(0)
        with pytest.raises(Stopped):
            file.append(b"0123456789")
        disk.kill()
        found.add(_content(disk, "one"))

    assert found == {b"0123456789"[:size] for size in range(10)}
