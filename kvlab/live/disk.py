"""The machine's disk: one folder of files, as `storage.disk` promises it.

It does not know what is in the files, starts no threads and locks no folder: who calls `sync` in a
worker thread sees to it that the file stays open meanwhile.

Invariants, beside those of `storage.disk`:

1. Errors of the system leave here as DiskError; a DiskFullError or OutOfFilesError is one that may
   pass, and what is not known to pass is a DiskFailedError.
2. A closed File never touches a descriptor again: its number may be somebody else's by then.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from kvlab.storage.disk import (
    Bytes,
    Disk,
    DiskDeniedError,
    DiskError,
    DiskFailedError,
    DiskFullError,
    File,
    FileMissingError,
    FileTakenError,
    OutOfFilesError,
    check_name,
    is_name,
)

FILE_MODE = 0o600
ZEROS_BYTES = 64 * 1024

_CLASSES: dict[int, type[DiskError]] = {
    errno.ENOSPC: DiskFullError,
    errno.EDQUOT: DiskFullError,
    errno.EFBIG: DiskFullError,  # the limit of a file's size, which is how the laboratory fills disks
    errno.EMFILE: OutOfFilesError,
    errno.ENFILE: OutOfFilesError,
    errno.ENOENT: FileMissingError,
    errno.EEXIST: FileTakenError,
    errno.EACCES: DiskDeniedError,
    errno.EPERM: DiskDeniedError,
    errno.EISDIR: DiskDeniedError,
    errno.ENOTDIR: DiskDeniedError,
    errno.ELOOP: DiskDeniedError,
}
_HINTS: dict[type[DiskError], str] = {
    DiskFullError: "make room, or let the node use another folder",
    OutOfFilesError: "raise the limit of open files (ulimit -n)",
}


def _error(err: OSError, doing: str) -> DiskError:
    """Make the error of an errno."""
    kind = _CLASSES.get(err.errno or 0, DiskFailedError)
    return kind(f"cannot {doing}: {err.strerror or err}", hint=_HINTS.get(kind, ""))


def sync_parents(folder: Path, count: int) -> None:
    """Wait until the disk has the way to a new folder: a power cut must not take it with all in it.

    `count` folders above it are synced; those that cannot be opened were there before.
    """
    for parent in folder.resolve().parents[:count]:
        with contextlib.suppress(OSError):
            fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _some(wrote: int) -> int:
    """Return how much was written; nothing at all, without an error, would be tried for ever."""
    if not wrote:
        raise OSError(errno.EIO, "the system takes no bytes")
    return wrote


class LiveFile(File):
    """An open file of a LiveDisk."""

    def __init__(self, fd: int, name: str, size: int) -> None:
        self._fd = fd
        self._name = name
        self._end = size
        self._size = size  # as far as this File knows; exact in the one that writes
        self._failed = False

    @property
    def name(self) -> str:
        """The name that it was opened by."""
        return self._name

    @property
    def end(self) -> int:
        """Where the next append goes."""
        return self._end

    @property
    def size(self) -> int:
        """The bytes of the file, by whomever they were written."""
        fd = self._open()
        try:
            return os.fstat(fd).st_size
        except OSError as err:
            raise _error(err, f"look at {self._name}") from err

    def append(self, data: Bytes) -> int:
        """Write all of it at `end`, or raise and leave nothing."""
        fd = self._writable()
        at, size, done = self._end, len(data), 0
        try:
            # Nearly always the system takes all at once. Where it does not, the next call says why.
            done = os.pwrite(fd, data, at)
            while done < size:
                done += _some(os.pwrite(fd, memoryview(data)[done:], at + done))
        except OSError as err:
            self._undo(at, at + done)
            raise self._fail(err, f"append to {self._name}") from err
        self._end = at + size
        self._size = max(self._size, self._end)
        return at

    def _undo(self, start: int, stop: int) -> None:
        """Take back what an append wrote before it failed.

        Left behind, it could be read again after the next crash, as if it stood behind a shorter
        append that succeeded.
        """
        try:
            if stop > self._size:
                os.ftruncate(self._fd, self._size)
            stop = min(stop, self._size)
            while start < stop:
                zeros = bytes(min(ZEROS_BYTES, stop - start))
                start += _some(os.pwrite(self._fd, zeros, start))
        except OSError:
            self._failed = True

    def read_at(self, offset: int, size: int) -> bytes:
        """Read as much as there is."""
        fd = self._open()
        if offset < 0 or size < 0:
            raise ValueError("a read begins in the file and has a size")
        try:
            data = os.pread(fd, size, offset)
            if len(data) == size or not data:
                return data
            parts = [data]
            done = len(data)
            while done < size and (data := os.pread(fd, size - done, offset + done)):
                parts.append(data)
                done += len(data)
            return b"".join(parts)
        except OSError as err:
            raise _error(err, f"read {self._name}") from err

    def truncate(self, size: int) -> None:
        """Cut the file."""
        fd = self._writable()
        if not 0 <= size <= self._size:
            raise ValueError(f"{self._name} has {self._size} bytes; it cannot be cut to {size}")
        try:
            os.ftruncate(fd, size)
        except OSError as err:
            raise self._fail(err, f"cut {self._name}") from err
        self._end = self._size = size

    def preallocate(self, size: int) -> None:
        """Reserve room for appends."""
        fd = self._writable()
        if size <= self._size:
            return
        try:
            self._reserve(fd, size)
        except OSError as err:
            # Some file systems reserve a part before they find that the rest is missing.
            try:
                os.ftruncate(fd, self._size)
            except OSError:
                self._failed = True
            raise self._fail(err, f"reserve room for {self._name}") from err
        self._size = size

    def _reserve(self, fd: int, size: int) -> None:
        try:
            os.posix_fallocate(fd, self._size, size - self._size)
        except OSError as err:
            if err.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
            # The file system reserves nothing. The file has its size at least, which is what makes
            # syncs cheap; an append into it may meet a full disk.
            os.ftruncate(fd, size)

    def sync(self) -> None:
        """Wait until the disk has it. The size is part of it where it has changed."""
        fd = self._writable()
        try:
            os.fdatasync(fd)
        except OSError as err:
            self._failed = True
            raise DiskFailedError(f"cannot sync {self._name}: {err.strerror or err}") from err

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            os.close(fd)
        except OSError as err:  # the descriptor is gone even so
            raise _error(err, f"close {self._name}") from err

    def _open(self) -> int:
        if self._fd < 0:
            raise ValueError(f"{self._name} is closed")
        return self._fd

    def _writable(self) -> int:
        fd = self._open()
        if self._failed:
            raise DiskFailedError(f"{self._name} failed before; what it holds is unknown")
        return fd

    def _fail(self, err: OSError, doing: str) -> DiskError:
        error = _error(err, doing)
        self._failed = self._failed or isinstance(error, DiskFailedError)
        return error


class LiveDisk(Disk):
    """The files of one folder that exists."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open the folder. Raise DiskError."""
        # Held open, so that `sync_dir` needs no free descriptor and a moved folder stays the same.
        try:
            self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as err:
            raise _error(err, f"open the folder {os.fspath(folder)}") from err
        self._failed = False

    def names(self) -> tuple[str, ...]:
        """List plain files; what has no name of ours is not ours."""
        try:
            with os.scandir(self._folder()) as entries:
                return tuple(sorted(e.name for e in entries if is_name(e.name) and e.is_file()))
        except OSError as err:
            raise _error(err, "list the folder") from err

    def create(self, name: str) -> LiveFile:
        """Make a file that only this user can read."""
        return self._opened(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, f"create {name}")

    def open(self, name: str) -> LiveFile:
        """Open a file to read and append."""
        return self._opened(name, os.O_RDWR, f"open {name}")

    def _opened(self, name: str, flags: int, doing: str) -> LiveFile:
        check_name(name)
        try:
            fd = os.open(name, flags, FILE_MODE, dir_fd=self._folder())
        except OSError as err:
            raise _error(err, doing) from err
        try:
            size = os.fstat(fd).st_size
        except OSError as err:
            os.close(fd)
            raise _error(err, doing) from err
        return LiveFile(fd, name, size)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, at once."""
        folder = self._folder()
        try:
            os.replace(check_name(old), check_name(new), src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as err:
            raise _error(err, f"rename {old} to {new}") from err

    def remove(self, name: str) -> None:
        """Remove a name, and the file when nobody has it open."""
        try:
            os.unlink(check_name(name), dir_fd=self._folder())
        except OSError as err:
            raise _error(err, f"remove {name}") from err

    def sync_dir(self) -> None:
        """Wait until the disk has all names."""
        folder = self._folder()
        if self._failed:
            raise DiskFailedError("the folder failed before; which files it holds is unknown")
        try:
            os.fsync(folder)
        except OSError as err:
            self._failed = True
            raise DiskFailedError(f"cannot sync the folder: {err.strerror or err}") from err

    def close(self) -> None:
        """Give the folder back; files stay open. Fine twice; no other call is after it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _folder(self) -> int:
        if self._fd < 0:
            raise ValueError("the folder is closed")
        return self._fd
