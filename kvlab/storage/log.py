"""The log of one node: what must survive it, in the order in which it was said. Pure steps on a Disk.

It neither reads back what a crash left (`recovery`) nor knows when to write or wait: whoever owns a
Log appends in its own time, and lets `Sync.run` go on in a worker thread meanwhile. Group commit is
nothing more: one sync for all that was appended before it.

A frame carries a list of entries (`journal`), whatever they are.

Invariants:

1. What was appended up to `position` is durable once `synced` has reached it, and not before.
2. An append that raises leaves the log as it was, and what is remembered stays readable.
3. Files are synced in the order in which they were filled: a frame is never durable before those
   that came earlier are.
4. After DiskFailedError nothing is appended or synced any more (`failed`): what the disk holds is
   unknown from then on, and a later success would hide what was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from kvlab.rng import Rng
from kvlab.storage.disk import (
    Disk,
    DiskError,
    DiskFailedError,
    DiskFullError,
    File,
    OutOfFilesError,
)
from kvlab.storage.frame import (
    FRAME_BYTES,
    Header,
    encode_frame,
    encode_header,
    position_of,
)
from kvlab.storage.journal import Entry

SEGMENT_BYTES = 64 * 1024 * 1024  # a segment that is larger is followed by a new one
RESERVE_BYTES = 4 * 1024 * 1024  # room is reserved in such steps: syncing is cheaper without growth
SNAPSHOT_BYTES_MIN = 16 * 1024 * 1024  # of log: below that a snapshot saves nobody time

_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Sync:
    """One sync under way: `run` blocks and may be called in a worker thread, then `Log.end_sync`."""

    files: tuple[File, ...]
    disk: Disk | None  # its folder is to be synced too: there are new names
    position: int

    def run(self) -> None:
        """Wait for the disk. Raise DiskFailedError."""
        for file in self.files:
            file.sync()
        if self.disk is not None:
            self.disk.sync_dir()


class Log:
    """The end of a log, where it grows. `recovery.recover` makes one.

    `segment` is the first that is made here, `before` where the one before it ended, `size` the bytes
    of all that a snapshot would stand for.
    """

    def __init__(
        self, disk: Disk, identity: int, rng: Rng, segment: int, *, before: int = 0, size: int = 0
    ) -> None:
        self.segment = segment  # the one that is being filled, or the next one to be made
        self.synced = position_of(segment, 0)
        self.told = 0  # what the last frame says was durable: damage before that will be noticed
        self.failed: DiskFailedError | None = None
        self.reserve_bytes = RESERVE_BYTES
        self.bytes_since_snapshot = size
        self.snapshot_bytes = 0  # of the last snapshot, as its owner says
        self._before = before
        self._disk = disk
        self._identity = identity
        self._rng = rng
        self._file: File | None = None
        self._header = Header(segment, identity, before, 0)
        self._reserved = 0
        self._unsynced: list[File] = []  # in the order in which they were filled; the last grows
        self._new_names = False
        self._syncing = False

    # -- appending ------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Return the position behind all that was appended."""
        return position_of(self.segment, self._file.end if self._file is not None else 0)

    @property
    def is_synced(self) -> bool:
        """Whether nothing waits to become durable."""
        return not self._unsynced or self.synced >= self.position

    def append(self, entries: list[Entry]) -> int:
        """Remember entries; return the position at which they are durable.

        Raise DiskFullError or OutOfFilesError (nothing changed; it may work later) or DiskFailedError.
        """
        self._check()
        payload = _encode(entries)
        try:
            file = self._writable()
            self._reserve(file, FRAME_BYTES + len(payload))
            file.append(encode_frame(self._header, file.end, self.synced, payload))
        except DiskFailedError as error:
            self.failed = error
            raise
        self.told = self.synced
        self.bytes_since_snapshot += FRAME_BYTES + len(payload)
        return self.position

    def _writable(self) -> File:
        """Return the file that takes the next frame."""
        if self._file is None:
            return self._begin(self.segment)
        if self._file.end >= SEGMENT_BYTES:
            try:
                return self._begin(self.segment + 1)
            except (DiskFullError, OutOfFilesError):
                return self._file  # larger than it should be, and no worse
        return self._file

    def _begin(self, segment: int) -> File:
        """Make the file of a segment."""
        before = self._file.end if self._file is not None else self._before
        file, header = make_file(
            self._disk,
            segment_name(segment),
            Header(segment, self._identity, before, self._rng.getrandbits(32)),
        )
        self.segment, self._file, self._header = segment, file, header
        self._reserved = 0
        self._unsynced.append(file)
        self._new_names = True
        return file

    def _reserve(self, file: File, size: int) -> None:
        """Reserve room ahead, if there is so much; if not, the append will say whether it fits."""
        if file.end + size > self._reserved:
            try:
                file.preallocate(file.end + size + self.reserve_bytes)
                self._reserved = file.size
            except DiskFullError:
                self._reserved = file.end + size

    def _check(self) -> None:
        if self.failed is not None:
            raise self.failed

    # -- syncing --------------------------------------------------------------------------------

    def begin_sync(self) -> Sync | None:
        """Return the sync of all that was appended so far; None if there is nothing, or one goes on."""
        self._check()
        if self._syncing or self.is_synced:
            return None
        self._syncing = True
        disk = self._disk if self._new_names else None
        self._new_names = False
        return Sync(tuple(self._unsynced), disk, self.position)

    def end_sync(self, sync: Sync, error: DiskFailedError | None = None) -> None:
        """Take note that a sync has come to its end, with the error that `run` raised."""
        self._syncing = False
        if error is not None:
            self.failed = error
            return
        self.synced = sync.position
        for file in sync.files[:-1]:  # the last was growing, and may have grown since
            self._unsynced.remove(file)
            file.close()

    def let_go(self) -> None:
        """Leave segments that are full to the system, where nobody waits for syncs."""
        if len(self._unsynced) > 1:
            for file in self._unsynced[:-1]:
                file.close()
            del self._unsynced[:-1]

    def sync_all(self) -> None:
        """Wait for the disk to have everything, whatever else is under way. Raise DiskFailedError."""
        self._check()
        Sync(tuple(self._unsynced), self._disk, self.position).run()

    # -- snapshots ------------------------------------------------------------------------------

    @property
    def wants_snapshot(self) -> bool:
        """Whether so much was appended that reading it again would take longer than it should."""
        return self.bytes_since_snapshot > max(SNAPSHOT_BYTES_MIN, self.snapshot_bytes)

    def begin_snapshot(self) -> Snapshot:
        """Begin a snapshot of all that is remembered now, in place of all segments up to here.

        What is appended from now on goes to a new segment. Raise as `append` does.
        """
        self._check()
        try:
            if self._file is not None:
                self._begin(self.segment + 1)
            salt = self._rng.getrandbits(32)
            snapshot = Snapshot(self._disk, Header(self.segment, self._identity, 0, salt))
        except DiskFailedError as error:
            self.failed = error
            raise
        self.bytes_since_snapshot = 0
        return snapshot

    def close(self) -> None:
        """Give the files back, without a sync."""
        for file in self._unsynced:
            file.close()
        if self._file is not None:
            self._file.close()


class Snapshot:
    """Everything at one time, being written beside the log.

    The table may go on changing meanwhile: what is written here twice, or by chance newer than the
    beginning, is said again by the log that follows, and the newest version counts.

    `append` what is remembered; then `seal().run()`, `publish().run()` and `clean()`, each after the
    one before it; `run` may be in a worker thread. A crash at any moment leaves the old or the new.
    """

    def __init__(self, disk: Disk, header: Header) -> None:
        self.segment = header.segment  # the first segment that is not in here
        self._disk = disk
        self._name = snapshot_name(self.segment)
        if self._name + NEW in disk.names():
            disk.remove(self._name + NEW)
        self._file, self._header = make_file(disk, self._name + NEW, header)
        self.is_published = False

    @property
    def bytes(self) -> int:
        """Return how large it is so far."""
        return self._file.end

    def append(self, entries: list[Entry]) -> None:
        """Write entries. Raise as `Log.append` does; then `abandon` it."""
        self._file.append(encode_frame(self._header, self._file.end, 0, _encode(entries)))

    def seal(self) -> Sync:
        """Return the sync after which it may be published."""
        return Sync((self._file,), None, position_of(self.segment, 0))

    def publish(self) -> Sync:
        """Give it its name; return the sync after which it is in force."""
        self._file.close()
        self._disk.rename(self._name + NEW, self._name)
        self.is_published = True
        return Sync((), self._disk, position_of(self.segment, 0))

    def clean(self) -> None:
        """Remove what it stands for."""
        for name in self._disk.names():
            kind, number = parse_name(name)
            if kind and number < self.segment:
                self._disk.remove(name)

    def abandon(self) -> None:
        """Give it up: the old files stay in force."""
        self._file.close()
        try:
            self._disk.remove(self._name + NEW)
        except DiskError:
            return  # the next snapshot of this name, or the next start, removes it


# -- names --------------------------------------------------------------------------------------

NEW = ".new"
_DIGITS = 12


def segment_name(segment: int) -> str:
    """Return the name of a segment's file."""
    return f"log-{segment:0{_DIGITS}d}"


def snapshot_name(segment: int) -> str:
    """Return the name of the snapshot in place of all segments before this one."""
    return f"snapshot-{segment:0{_DIGITS}d}"


def parse_name(name: str) -> tuple[str, int]:
    """Return ("log" or "snapshot", segment) of a file's name; ("", 0) if it is none of ours."""
    kind, _, digits = name.partition("-")
    if kind in ("log", "snapshot") and len(digits) == _DIGITS and digits.isdecimal():
        return kind, int(digits)
    return "", 0


def identity_of(cluster: str, node: str) -> int:
    """Return the number by which a node knows its own files."""
    digest = blake2b(f"{cluster}/{node}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def make_file(disk: Disk, name: str, header: Header) -> tuple[File, Header]:
    """Create a file with its header, whole or not at all. Raise as Disk.create and File.append do."""
    file = disk.create(name)
    try:
        file.append(encode_header(header))
    except DiskError:
        file.close()
        disk.remove(name)
        raise
    return file, header
