"""What only the real disk does: the system's own errors, real ends of processes, a real full disk.

What it promises like any other is in tests/conformance/test_disk.py.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kvlab.live.disk import LiveDisk
from kvlab.storage.disk import (
    DiskDeniedError,
    DiskError,
    DiskFailedError,
    DiskFullError,
    FileMissingError,
    OutOfFilesError,
)

ROOT = Path(__file__).parent.parent.parent
SECONDS_MAX = 30.0


@pytest.fixture
def disk(tmp_path):
    disk = LiveDisk(tmp_path)
    yield disk
    disk.close()


def _raise(number: int):
    def call(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return call


def test_the_folder_must_be_there_and_be_one(tmp_path):
    with pytest.raises(FileMissingError, match="nowhere"):
        LiveDisk(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DiskDeniedError, match="file"):
        LiveDisk(tmp_path / "file")


def test_a_closed_folder_takes_no_call_but_another_close(tmp_path):
    disk = LiveDisk(tmp_path)
    file = disk.create("one")
    disk.close()
    disk.close()

    for call in (disk.names, disk.sync_dir, lambda: disk.open("one"), lambda: disk.remove("one")):
        with pytest.raises(ValueError, match="closed"):
            call()
    file.append(b"abc")
    file.close()


def test_what_is_not_ours_is_not_listed(disk, tmp_path):
    disk.create("one").close()
    (tmp_path / ".lock").touch()
    (tmp_path / "two words").touch()
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(tmp_path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/sock")  # a path that is short enough
        os.close(folder)

        assert disk.names() == ("one",)


def test_others_cannot_read_the_files(disk, tmp_path):
    disk.create("one").close()

    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600


def test_a_folder_that_was_moved_is_still_the_same(tmp_path):
    (tmp_path / "here").mkdir()
    disk = LiveDisk(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    disk.create("one").close()

    assert (tmp_path / "there" / "one").is_file()
    disk.close()


def test_something_else_in_the_place_of_a_file_is_refused_and_not_called_damage(disk, tmp_path):
    (tmp_path / "one").mkdir()

    with pytest.raises(DiskDeniedError, match="open one"):
        disk.open("one")
    with pytest.raises(DiskDeniedError, match="remove one"):
        disk.remove("one")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may do everything")
def test_a_file_without_permission_is_refused(disk, tmp_path):
    disk.create("one").close()
    (tmp_path / "one").chmod(0)

    with pytest.raises(DiskDeniedError, match="open one"):
        disk.open("one")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.ENFILE, OutOfFilesError),
        (errno.EROFS, DiskFailedError),
        (errno.ENOMEM, DiskFailedError),
    ],
)
def test_an_error_of_the_system_has_its_class_its_words_and_advice(disk, monkeypatch, number, kind):
    monkeypatch.setattr(os, "open", _raise(number))
    with pytest.raises(kind, match=f"cannot create one: {os.strerror(number)}") as caught:
        disk.create("one")

    assert type(caught.value) is kind
    assert bool(caught.value.hint) == (kind is not DiskFailedError)


def test_the_device_that_is_always_full(disk, tmp_path):
    (tmp_path / "one").symlink_to("/dev/full")
    file = disk.open("one")

    with pytest.raises(DiskFullError, match="No space left"):
        file.append(b"abc")
    file.close()


FILLED = """
import sys
from kvlab.live.disk import LiveDisk
from kvlab.storage.disk import DiskFullError

disk = LiveDisk(sys.argv[1])
one, two = disk.create("one"), disk.create("two")
one.append(b"x" * 10_000)
two.preallocate(32 * 1024)
try:
    one.append(b"y" * 1_000_000)
except DiskFullError as err:
    print(err)
assert (one.end, one.size) == (10_000, 10_000), one.size
assert one.read_at(0, 20_000) == b"x" * 10_000
two.append(b"z" * 32 * 1024)  # what was reserved is there
try:
    two.preallocate(1_000_000)
except DiskFullError as err:
    print(err)
assert two.size == 32 * 1024, two.size
try:
    while True:
        one.append(b"w" * 1000)
except DiskFullError:
    assert one.size % 1000 == 0, one.size
size = one.size
disk.remove("two")
two.close()
one.append(b"v" * 1000)
one.sync()
assert one.size == size + 1000
"""


def _may_mount(folder: Path) -> bool:
    try:
        done = subprocess.run([*_mounted(folder), "true"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _mounted(folder: Path) -> list[str]:
    """Run a command with a small file system in the place of a folder, which nobody else sees."""
    mount = 'mount -t tmpfs -o size=128k none "$0" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(folder)]


@pytest.mark.live
def test_a_disk_that_is_really_full(tmp_path):
    if not _may_mount(tmp_path):
        pytest.skip("this system lets no user mount in a namespace")
    done = subprocess.run(
        [*_mounted(tmp_path), sys.executable, "-c", FILLED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=SECONDS_MAX,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "cannot append to one: No space left on device",
        "cannot reserve room for two: No space left on device",
    ]
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from kvlab.live.disk import LiveDisk

disk = LiveDisk(sys.argv[1])
file = disk.create("one")
file.preallocate(1_000_000)
for _ in range(1000):
    file.append(b"0123456789")
disk.rename("one", "two")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.live
def test_a_killed_process_loses_nothing_that_a_call_had_returned_for(disk, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], check=False, cwd=ROOT, timeout=SECONDS_MAX
    )

    assert done.returncode == -signal.SIGKILL
    assert disk.names() == ("two",)
    file = disk.open("two")
    assert file.read_at(0, 10_010) == b"0123456789" * 1000 + bytes(10)
    file.close()


def test_the_system_may_take_and_give_a_few_bytes_at_a_time(disk, monkeypatch):
    pwrite, pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:3], at))
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 3), at))
    file = disk.create("one")

    assert [file.append(b"0123456789"), file.append(b"abc")] == [0, 10]
    assert file.read_at(1, 100) == b"123456789abc"
    assert file.read_at(1, 4) == b"1234"
    file.close()


def test_a_system_that_takes_nothing_is_not_asked_for_ever(disk, monkeypatch):
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    file = disk.create("one")

    with pytest.raises(DiskFailedError, match="takes no bytes"):
        file.append(b"abc")
    file.close()


def test_a_part_that_cannot_be_taken_back_ends_the_writing(disk, monkeypatch):
    file = disk.create("one")
    pwrite = os.pwrite
    answers = iter([pwrite, _raise(errno.ENOSPC)])
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: next(answers)(fd, data[:3], at))
    monkeypatch.setattr(os, "ftruncate", _raise(errno.EIO))

    with pytest.raises(DiskFullError):
        file.append(b"abcdef")
    assert file.end == 0
    with pytest.raises(DiskFailedError, match="failed before"):
        file.append(b"g")
    file.close()


def test_a_sync_that_fails_is_a_failed_disk_whatever_the_system_calls_it(disk, monkeypatch):
    for number in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
        name = errno.errorcode[number]
        file = disk.create(name)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", _raise(number))
            with pytest.raises(DiskFailedError, match="cannot sync"):
                file.sync()
        with pytest.raises(DiskFailedError, match="failed before"):
            file.sync()
        file.close()


def test_a_folder_that_failed_to_sync_does_not_sync_again(disk, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _raise(errno.EIO))
        with pytest.raises(DiskFailedError, match="cannot sync"):
            disk.sync_dir()
    with pytest.raises(DiskFailedError, match="failed before"):
        disk.sync_dir()


def test_a_file_system_that_reserves_nothing_gives_the_size_at_least(disk, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", _raise(errno.EOPNOTSUPP))
    file = disk.create("one")
    file.append(b"abc")
    file.preallocate(10)

    assert (file.end, file.size) == (3, 10)
    file.close()


def test_room_that_was_reserved_in_part_is_given_back(disk, monkeypatch):
    file = disk.create("one")
    file.append(b"abc")

    def reserve(fd: int, offset: int, size: int) -> None:
        os.ftruncate(fd, offset + size // 2)
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    with pytest.raises(DiskFullError):
        file.preallocate(1000)
    assert file.size == 3
    file.append(b"d")
    file.close()


def test_errors_of_other_calls_leave_as_ours(disk, monkeypatch):
    file = disk.create("one")
    asked = {
        "fstat": [lambda: disk.open("one"), lambda: file.size],
        "scandir": [disk.names],
        "replace": [lambda: disk.rename("one", "two")],
        "unlink": [lambda: disk.remove("one")],
        "ftruncate": [lambda: file.truncate(0)],
    }
    for call, calls in asked.items():
        with monkeypatch.context() as patch:
            patch.setattr(os, call, _raise(errno.EIO))
            for one in calls:
                with pytest.raises(DiskFailedError, match="Input/output error"):
                    one()
    file.close()


def test_appends_go_on_while_a_thread_syncs(disk):
    file = disk.create("one")
    is_over = threading.Event()
    failures: list[Exception] = []
    syncs = 0

    def sync() -> None:
        nonlocal syncs
        try:
            while not is_over.is_set():
                file.sync()
                syncs += 1
        except DiskError as err:
            failures.append(err)

    thread = threading.Thread(target=sync)
    thread.start()
    expected = bytearray()
    count = 0
    while syncs < 20 and thread.is_alive():
        data = b"%d" % count
        expected += data
        file.append(data)
        count += 1
    is_over.set()
    thread.join(SECONDS_MAX)

    assert not failures
    assert file.read_at(0, file.size) == expected
    file.close()
