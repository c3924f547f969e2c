"""From the files of a folder back to what the log had remembered. Pure steps on a Disk.

It decides what was only torn by a crash and what was damaged; what a node does about damage is the
node's business.

A frame that cannot be read was *torn* if nothing says that it was durable: it is cut off with all that
came after it, as if it had never been written, which nobody was told that it was. It was *damaged* if
a later frame was written when it was already durable, or if it stands in a snapshot, or if a whole file
is missing: acknowledged data is gone. Then all that can be read is applied, and `damage` says what
cannot; the caller must not count what it holds as complete, and should write a snapshot soon.

Invariants:

1. Entries are applied in the order in which they were appended.
2. A crash at any moment of `recover` loses nothing that was durable.
3. When it returns, all that it applied is durable (in the simulation: when the disk is done).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kvlab.errors import InfraError
from kvlab.rng import Rng
from kvlab.storage.disk import Disk
from kvlab.storage.frame import (
    HEADER_BYTES,
    Bad,
    Frame,
    Header,
    parse_header,
    place_of,
    position_of,
    scan,
)
from kvlab.storage.journal import Entry
from kvlab.storage.log import NEW, Log, parse_name, segment_name, snapshot_name

_decode = msgspec.msgpack.Decoder().decode


class ForeignLogError(InfraError):
    """The folder holds the log of another node."""


@dataclass(slots=True)
class Recovery:
    """What a folder held."""

    log: Log
    is_new: bool  # there was nothing
    frames: int = 0
    torn_bytes: int = 0  # that a crash had left unfinished, and are cut off
    damage: list[str] = field(default_factory=list)  # what was durable and cannot be read


def recover(
    disk: Disk, identity: int, rng: Rng, apply: Callable[[list[Entry]], object]
) -> Recovery:
    """Apply all that a folder's log remembers; return where it goes on.

    Raise ForeignLogError for the log of another identity, DiskError where the disk fails.
    """
    names = disk.names()
    for name in names:
        if name.endswith(NEW) and parse_name(name.removesuffix(NEW))[0]:
            disk.remove(name)
    found = [parse_name(name) for name in names]
    base = max((number for kind, number in found if kind == "snapshot"), default=0)
    segments = sorted(number for kind, number in found if kind == "log" and number >= base)
    reading = _Reading(disk, identity, apply)
    if base:
        reading.snapshot(base)
    for number in range(base or min(segments, default=1), max(segments, default=0) + 1):
        if number in segments:
            reading.segment(number)
        else:
            reading.missing(number)
    reading.decide()
    for kind, number in found:
        if kind and number < base:
            disk.remove((segment_name if kind == "log" else snapshot_name)(number))
    last, end = reading.last or max(base - 1, 0), reading.end
    return Recovery(
        Log(disk, identity, rng, last + 1, before=end, size=reading.size),
        is_new=not any(kind for kind, _ in found),
        frames=reading.frames,
        torn_bytes=reading.torn_bytes,
        damage=reading.damage,
    )


class _Reading:
    """The reading of all files in order: applied up to the first bad place, kept back behind it."""

    def __init__(self, disk: Disk, identity: int, apply: Callable[[list[Entry]], object]) -> None:
        self.frames = 0
        self.torn_bytes = 0
        self.damage: list[str] = []
        self.size = 0  # bytes of all segments
        self.last = 0  # the last segment there is
        self.end = 0  # where its last good frame ends
        self._disk = disk
        self._identity = identity
        self._apply = apply
        self._bad: list[tuple[int, int, int]] = []  # (segment, offset, bytes) of segments
        self._held: list[bytes] = []  # payloads of good frames behind the first bad place
        self._synced = 0  # the greatest that a frame told

    def snapshot(self, number: int) -> None:
        """Read a snapshot: it was durable before it had its name."""
        name = snapshot_name(number)
        data = self._read(name)
        header = self._header(name, data)
        if header is None:
            self.damage.append(f"{name}: no header")
            return
        for one in scan(header, data):
            if isinstance(one, Frame):
                self._take(one.payload)
            else:
                self.damage.append(_words(name, one.offset, one.end - one.offset))

    def segment(self, number: int) -> None:
        """Read a segment."""
        before, end, self.last, self.end = self.last, self.end, number, 0
        name = segment_name(number)
        data = self._read(name)
        self.size += len(data)
        header = self._header(name, data)
        if header is None:
            self._bad.append((number, 0, len(data)))
            return
        if before == number - 1 and end < header.before and not self._is_bad(before, end):
            self._bad.append((before, end, header.before - end))
        self.end = HEADER_BYTES
        for one in scan(header, data):
            if isinstance(one, Bad):
                self._bad.append((number, one.offset, one.end - one.offset))
                continue
            self.end = one.end
            self._synced = max(self._synced, one.synced)
            if self._bad:
                self._held.append(one.payload)
            else:
                self._take(one.payload)

    def _is_bad(self, segment: int, offset: int) -> bool:
        """Whether it is known that a place behind an offset cannot be read."""
        return any(one == segment and at >= offset for one, at, _ in self._bad)

    def missing(self, number: int) -> None:
        """Take note of a segment that should be there."""
        self._bad.append((number, 0, 0))

    def decide(self) -> None:
        """Say what the bad places are: torn, then they are cut off; or damage."""
        if not self._bad:
            self._sync()
            return
        segment, offset, _ = self._bad[0]
        if position_of(segment, offset) < self._synced:
            for payload in self._held:
                self._take(payload)
            self.damage += [
                _words(segment_name(one), at, size)
                for one, at, size in self._bad
                if position_of(one, at) < self._synced
            ]
            self._sync()
            return
        self.torn_bytes = sum(size for _, _, size in self._bad)
        self.torn_bytes += sum(len(payload) for payload in self._held)
        self._cut(segment, offset)

    def _cut(self, segment: int, offset: int) -> None:
        """Remove what stands behind a place, the newest first."""
        names = self._disk.names()
        self.last, self.end = (segment, offset) if offset >= HEADER_BYTES else (segment - 1, 0)
        for number in range(max(parse_name(name)[1] for name in names), self.last, -1):
            if segment_name(number) in names:
                self._disk.remove(segment_name(number))
        self._disk.sync_dir()
        self._sync(cut=offset if self.last == segment else None)

    def _sync(self, cut: int | None = None) -> None:
        """Make durable what may not be: a process that was killed leaves it to the system."""
        names = self._disk.names()
        for number in range(max(1, place_of(self._synced)[0]), self.last + 1):
            if segment_name(number) not in names:
                continue
            file = self._disk.open(segment_name(number))
            try:
                if number == self.last and cut is not None:
                    file.truncate(cut)
                file.sync()
            finally:
                file.close()
        self._disk.sync_dir()

    def _take(self, payload: bytes) -> None:
        self.frames += 1
        entries: Any = _decode(payload)
        self._apply(entries)

    def _read(self, name: str) -> bytes:
        file = self._disk.open(name)
        try:
            return file.read_at(0, file.size)
        finally:
            file.close()

    def _header(self, name: str, data: bytes) -> Header | None:
        header = parse_header(data)
        if header is not None and header.identity != self._identity:
            raise ForeignLogError(
                f"{name} belongs to another node or cluster",
                hint="give each node a folder of its own (--data)",
            )
        return header


def _words(name: str, offset: int, size: int) -> str:
    return f"{name}: {size} bytes at {offset} cannot be read" if size else f"{name} is missing"
