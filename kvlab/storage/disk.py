"""The disk that a durable table stands on: files in one flat folder, and the ways it can fail.

It is not a disk: `live.disk` is the machine's, `sim.disk` one that loses what disks may lose. It
does not know what stands in the files.

Calls block until they are done, or raise. A log is then written, and read, as plain steps, and only
shells know about threads and time. A server calls `sync` in a worker thread while its loop appends
on. In the simulation a call returns at once and the disk says when its work will be done
(`SimDisk.done_us`); only from then on does a sync count, so a reply that does not wait for it is
found out by a power cut. Two halves, begin and finish, would put the shells' business into every
step of the log.

Every implementation keeps, and tests/conformance/ checks:

1. When `sync` has returned, all that was appended, cut or reserved before it was called survives any
   crash. Of what came later anything may survive: parts, in any order, or nothing.
2. Creating, renaming and removing take effect at once, but survive a power cut only when `sync_dir`
   has returned. Until then a power cut may undo the latest of them, never one and not the later ones.
   Syncing a new file does not make its name durable.
3. An append that raises leaves the file as it was. Only a crash can leave a part of an append.
4. When `sync` or a write has raised `DiskFailedError`, this File takes no more writes or syncs: they
   raise it again. The system forgets pages that it could not write, so that the next sync would
   succeed without them, while reads may still show them. What the file holds is unknown.
   The same goes for `sync_dir` of a Disk.
5. Bytes between `end` and `size` are zeros.
6. The end of a process alone loses nothing that a call had returned for.

What the caller keeps: at most one open File of a name writes. `sync` and `sync_dir` may run in
another thread beside all other calls but `close`. A File or name that cannot be is a ValueError.
"""

from __future__ import annotations

import re
from typing import Protocol

from kvlab.errors import InfraError

Bytes = bytes | bytearray | memoryview

# No separators, no ".." and nothing hidden: a name is a file of this folder and of no other.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class DiskError(InfraError):
    """A call to the disk did not succeed."""


class DiskFullError(DiskError):
    """There is no room. Nothing changed, and it may work again when there is."""


class DiskFailedError(DiskError):
    """The disk could not read or write; see invariant 4."""


class DiskDeniedError(DiskError):
    """The system refuses: permissions, or something that is no file. Nothing is damaged."""


class OutOfFilesError(DiskError):
    """The process or the machine has too many files open. Nothing changed."""


class FileMissingError(DiskError):
    """No file has this name."""


class FileTakenError(DiskError):
    """A file has this name already."""


def is_name(name: str) -> bool:
    """Say whether a file may have this name: 1 to 200 of `A-Za-z0-9._-`, the first no sign."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return a name that a file may have; raise ValueError for any other."""
    if not is_name(name):
        raise ValueError(f"{name!r} is no name for a file")
    return name


class File(Protocol):
    """An open file. It stays open, and the same file, when its name is changed or removed."""

    @property
    def name(self) -> str:
        """The name that it was opened by."""

    @property
    def end(self) -> int:
        """Where the next append goes: the size when it was opened, moved by `append`, `truncate`."""

    @property
    def size(self) -> int:
        """The bytes of the file, reserved ones included; never less than `end` of its writer."""

    def append(self, data: Bytes) -> int:
        """Write at `end` and return where that was. Raise DiskFullError or DiskFailedError."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Read, less than asked for only at the end of the file. Raise DiskFailedError.

        It reads what was appended, synced or not.
        """

    def truncate(self, size: int) -> None:
        """Cut the file to `size`, which is then its `end` too; it cannot grow by this.

        Sync before the next append: until then a power cut may leave the new bytes beside old
        ones. Raise DiskFailedError.
        """

    def preallocate(self, size: int) -> None:
        """Reserve room up to `size` in all, so that appends up to there need no more of the disk.

        `end` stays. A file that has the size already stays as it is. Appending to reserved room
        makes `sync` cheaper, because only data has to be written. Raise DiskFullError (the file
        is then as before) or DiskFailedError.
        """

    def sync(self) -> None:
        """Make durable what the file holds now; see invariants 1 and 4. Raise DiskFailedError."""

    def close(self) -> None:
        """Give the file back without syncing it. Fine twice; no other call is after it."""


class Disk(Protocol):
    """One folder of files. All calls may raise DiskFailedError or DiskDeniedError."""

    def names(self) -> tuple[str, ...]:
        """Return the names of all files in order. Raise OutOfFilesError: it opens the folder."""

    def create(self, name: str) -> File:
        """Make an empty file. Raise FileTakenError, DiskFullError or OutOfFilesError."""

    def open(self, name: str) -> File:
        """Open a file to read and append. Raise FileMissingError or OutOfFilesError."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, at once; a file that had it is removed. FileMissingError."""

    def remove(self, name: str) -> None:
        """Remove a file; its room is free when nobody has it open. Raise FileMissingError."""

    def sync_dir(self) -> None:
        """Make durable all that was created, renamed and removed; see invariants 2 and 4."""
