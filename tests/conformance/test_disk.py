"""What `storage.disk` promises, asked of the real and of the simulated disk alike.

Troubles are in test_disk_errors.py. What only a power cut shows is in tests/sim/test_disk_power.py.
"""

from __future__ import annotations

import pytest

from kvlab.storage.disk import (
    Disk,
    File,
    FileMissingError,
    FileTakenError,
)


def _write(disk: Disk, name: str, data: bytes) -> File:
    file = disk.create(name)
    file.append(data)
    return file


def _content(disk: Disk, name: str) -> bytes:
    file = disk.open(name)
    try:
        return file.read_at(0, file.size + 1)
    finally:
        file.close()


def test_a_new_disk_has_no_files(disk):
    assert disk.names() == ()


def test_a_new_file_is_empty_and_has_its_name(disk):
    file = disk.create("one")

    assert (file.name, file.end, file.size, file.read_at(0, 10)) == ("one", 0, 0, b"")
    assert disk.names() == ("one",)


def test_names_come_in_order(disk):
    for name in ("b", "a.log", "a-1", "C_2"):
        disk.create(name).close()

    assert disk.names() == ("C_2", "a-1", "a.log", "b")


def test_appends_stand_one_behind_the_other_and_say_where(disk):
    file = disk.create("one")

    assert [file.append(data) for data in (b"abc", b"", b"defg")] == [0, 3, 3]
    assert (file.end, file.size) == (7, 7)
    assert file.read_at(0, 7) == b"abcdefg"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_an_append_takes_any_kind_of_bytes_and_keeps_no_hold_of_them(disk, kind):
    source = bytearray(b"abc")
    file = _write(disk, "one", kind(source))
    source[:] = b"xyz"

    assert file.read_at(0, 3) == b"abc"


def test_a_read_returns_what_there_is(disk):
    file = _write(disk, "one", b"abcdef")

    assert file.read_at(2, 2) == b"cd"
    assert file.read_at(4, 10) == b"ef"
    assert file.read_at(6, 1) == file.read_at(100, 1) == file.read_at(2, 0) == b""


@pytest.mark.parametrize("place", [(-1, 2), (0, -1)])
def test_a_read_before_the_beginning_or_of_less_than_nothing_is_a_mistake(disk, place):
    with pytest.raises(ValueError, match="read"):
        _write(disk, "one", b"abc").read_at(*place)


def test_a_file_opened_again_goes_on_at_its_end(disk):
    _write(disk, "one", b"abc").close()
    file = disk.open("one")

    assert file.end == 3
    assert file.append(b"d") == 3
    assert _content(disk, "one") == b"abcd"


def test_a_reader_sees_what_the_writer_appends_and_cuts(disk):
    writer = disk.create("one")
    reader = disk.open("one")

    writer.append(b"abc")
    assert (reader.size, reader.read_at(0, 9)) == (3, b"abc")
    writer.truncate(1)
    assert (reader.size, reader.read_at(0, 9)) == (1, b"a")


def test_what_is_missing_or_there_already_is_said(disk):
    disk.create("one").close()

    with pytest.raises(FileTakenError, match="one"):
        disk.create("one")
    with pytest.raises(FileMissingError, match="two"):
        disk.open("two")
    with pytest.raises(FileMissingError, match="two"):
        disk.remove("two")
    with pytest.raises(FileMissingError, match="two"):
        disk.rename("two", "three")
    assert disk.names() == ("one",)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", ".a", "a b", "a\0", "ä", "a" * 201])
def test_a_name_that_leaves_the_folder_or_hides_is_a_mistake(disk, name):
    for call in (disk.create, disk.open, disk.remove):
        with pytest.raises(ValueError, match="name"):
            call(name)
    disk.create("one").close()
    with pytest.raises(ValueError, match="name"):
        disk.rename("one", name)
    with pytest.raises(ValueError, match="name"):
        disk.rename(name, "two")


def test_a_renamed_file_is_the_same_file(disk):
    file = _write(disk, "one", b"abc")
    disk.rename("one", "two")
    file.append(b"d")

    assert disk.names() == ("two",)
    assert _content(disk, "two") == b"abcd"


def test_a_rename_replaces_and_who_has_the_old_file_open_keeps_it(disk):
    old = _write(disk, "one", b"old")
    _write(disk, "two", b"new")
    disk.rename("two", "one")

    assert disk.names() == ("one",)
    assert _content(disk, "one") == b"new"
    assert old.read_at(0, 9) == b"old"


def test_a_rename_to_the_same_name_changes_nothing(disk):
    _write(disk, "one", b"abc")
    disk.rename("one", "one")

    assert _content(disk, "one") == b"abc"


def test_a_removed_file_can_be_read_and_written_while_it_is_open(disk):
    file = _write(disk, "one", b"abc")
    disk.remove("one")
    file.append(b"d")
    other = disk.create("one")

    assert file.read_at(0, 9) == b"abcd"
    assert other.size == 0
    file.sync()


def test_a_cut_moves_the_end(disk):
    file = _write(disk, "one", b"abcdef")
    file.truncate(2)

    assert (file.end, file.size) == (2, 2)
    file.append(b"x")
    assert file.read_at(0, 9) == b"abx"


@pytest.mark.parametrize("size", [-1, 4])
def test_a_cut_makes_nothing_longer(disk, size):
    file = _write(disk, "one", b"abc")

    with pytest.raises(ValueError, match="one"):
        file.truncate(size)
    assert file.read_at(0, 9) == b"abc"


def test_reserved_room_is_zeros_that_appends_fill(disk):
    file = _write(disk, "one", b"abc")
    file.preallocate(8)
    assert (file.end, file.size) == (3, 8)
    file.append(b"de")

    assert (file.end, file.size) == (5, 8)
    assert file.read_at(0, 100) == b"abcde\0\0\0"
    file.append(b"fghij")
    assert file.read_at(0, 100) == b"abcdefghij"


def test_reserving_never_cuts(disk):
    file = _write(disk, "one", b"abcdef")
    file.preallocate(2)

    assert file.read_at(0, 9) == b"abcdef"


def test_reserved_room_counts_as_content_when_opened_until_it_is_cut(disk):
    file = _write(disk, "one", b"abc")
    file.preallocate(8)
    file.close()
    file = disk.open("one")
    assert file.end == 8
    file.truncate(3)
    file.preallocate(6)

    assert (file.end, file.size) == (3, 6)
    assert file.read_at(0, 9) == b"abc\0\0\0"


def test_syncs_return_whatever_was_done(disk):
    file = disk.create("one")
    file.sync()
    file.preallocate(4096)
    file.append(b"abc")
    file.sync()
    file.truncate(0)
    disk.rename("one", "two")
    file.sync()
    disk.sync_dir()
    disk.remove("two")
    disk.sync_dir()


def test_a_process_that_ends_loses_nothing_though_it_synced_nothing(disk_world):
    file = _write(disk_world.disk, "one", b"abc" * 1000)
    file.preallocate(5000)
    _write(disk_world.disk, "two", b"xyz")
    disk_world.disk.rename("two", "three")
    disk_world.disk.create("four")
    disk_world.disk.remove("four")
    disk_world.restart()

    assert disk_world.disk.names() == ("one", "three")
    assert _content(disk_world.disk, "one") == b"abc" * 1000 + bytes(2000)
    assert _content(disk_world.disk, "three") == b"xyz"


def test_a_closed_file_takes_no_call_but_another_close(disk):
    file = _write(disk, "one", b"abc")
    file.close()
    file.close()

    for call in (
        lambda: file.append(b"d"),
        lambda: file.read_at(0, 1),
        lambda: file.truncate(0),
        lambda: file.preallocate(10),
        lambda: file.size,
        file.sync,
    ):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert _content(disk, "one") == b"abc"
