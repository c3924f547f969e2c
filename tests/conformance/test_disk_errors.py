"""What a disk does when it is full, broken or out of descriptors, the real and the simulated alike."""

from __future__ import annotations

import pytest

from kvlab.storage.disk import (
    Disk,
    DiskFailedError,
    DiskFullError,
    File,
    OutOfFilesError,
)


def _write(disk: Disk, name: str, data: bytes) -> File:
    file = disk.create(name)
    file.append(data)
    return file


def test_an_append_to_a_full_disk_leaves_the_file_as_it_was(disk_world, disk):
    file = _write(disk, "one", b"abc")

    with disk_world.room(file, 5):
        for _ in range(2):
            with pytest.raises(DiskFullError):
                file.append(b"0123456789")
            assert (file.end, file.size, file.read_at(0, 99)) == (3, 3, b"abc")
        file.append(b"01234")
        with pytest.raises(DiskFullError):
            file.append(b"5")
        file.sync()
    file.append(b"5")
    assert file.read_at(0, 99) == b"abc012345"


def test_an_append_that_begins_in_reserved_room_and_meets_the_end_leaves_zeros(disk_world, disk):
    file = _write(disk, "one", b"abc")
    file.preallocate(10)

    with disk_world.room(file, 2):
        with pytest.raises(DiskFullError):
            file.append(b"x" * 20)
        assert (file.end, file.size, file.read_at(0, 99)) == (3, 10, b"abc" + bytes(7))


def test_reserved_room_is_there_when_the_disk_is_full(disk_world, disk):
    file = _write(disk, "one", b"abc")
    file.preallocate(10)

    with disk_world.room(file, 0):
        file.append(b"x" * 7)
        with pytest.raises(DiskFullError):
            file.append(b"y")
        file.sync()
    assert file.read_at(0, 99) == b"abcxxxxxxx"


def test_what_cannot_be_reserved_is_not(disk_world, disk):
    file = _write(disk, "one", b"abc")

    with disk_world.room(file, 1000):
        with pytest.raises(DiskFullError):
            file.preallocate(5000)
        assert (file.end, file.size, file.read_at(0, 99)) == (3, 3, b"abc")
        file.preallocate(1003)
    assert file.size == 1003


def test_a_full_disk_can_be_cut_and_removed_from(disk_world, disk):
    file = _write(disk, "one", b"abc")

    with disk_world.room(file, 0):
        file.truncate(1)
        file.append(b"xy")
        disk.rename("one", "two")
        disk.remove("two")
    assert disk.names() == ()


def test_without_a_free_descriptor_open_files_go_on_and_nothing_is_opened(disk_world, disk):
    file = _write(disk, "one", b"abc")

    with disk_world.files_left(0):
        for call in (lambda: disk.open("one"), lambda: disk.create("two"), disk.names):
            with pytest.raises(OutOfFilesError):
                call()
        with pytest.raises(OutOfFilesError):  # before it looks at the names
            disk.create("one")
        file.append(b"d")
        file.sync()
        disk.sync_dir()
        disk.rename("one", "three")
    assert disk.names() == ("three",)
    assert file.read_at(0, 9) == b"abcd"


def test_a_closed_file_makes_room_for_another(disk_world, disk):
    first = disk.create("one")

    with disk_world.files_left(1):
        second = disk.create("two")
        with pytest.raises(OutOfFilesError):
            disk.create("three")
        second.close()
        disk.create("three")
        first.append(b"abc")
    assert disk.names() == ("one", "three", "two")


def test_what_cannot_be_read_is_an_error_and_the_file_stays_usable(disk_world):
    disk_world.broken("bad")
    file = disk_world.disk.open("bad")

    for _ in range(2):
        with pytest.raises(DiskFailedError, match="bad"):
            file.read_at(0, 10)
    assert file.size == 0


@pytest.mark.parametrize("first", ["append", "sync"])
def test_after_a_failed_write_or_sync_a_file_takes_no_more(disk_world, first):
    disk_world.broken("bad")
    file = disk_world.disk.open("bad")
    calls = {
        "append": lambda: file.append(b"abc"),
        "sync": file.sync,
        "truncate": lambda: file.truncate(0),
        "preallocate": lambda: file.preallocate(10),
    }
    with pytest.raises(DiskFailedError, match="cannot"):
        calls[first]()

    for call in calls.values():
        with pytest.raises(DiskFailedError, match="failed before"):
            call()
    assert file.end == 0
    file.close()
