"""The bytes of one simulated file: what processes see, what is on the disk, and what is between.

It knows no names, handles or faults; those are `disk`'s. When a sync is done is told it by `disk`.

What a power cut leaves of changes that were not synced is drawn from what real disks leave:

    nothing    none of the changes
    all        all of them
    prefix     the first of them in order; the one after may be there up to any of its bytes
    sectors    the cache was written in any order: each sector of 512 bytes is as it was after some
               number of the changes, and so is, apart from them, the size

Invariants:

1. On the disk is what it was when the last sync that is done by now began, and nothing less.
2. A byte that was never written and stands within the size is zero.
3. After a power cut each sector is as it stood at some moment since that sync (cut by the size), but
   for one that a torn write may end in.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvlab.rng import Rng

SECTOR_BYTES = 512
NOTHING_SHARE = 0.15  # of power cuts, by what they leave of a file
ALL_SHARE = 0.1
PREFIX_SHARE = 0.35  # the rest by sectors


class Content:
    """Bytes with a size; what was reserved and not written takes no memory."""

    __slots__ = ("data", "size")

    def __init__(self, data: bytes | bytearray = b"", size: int = 0) -> None:
        self.data = bytearray(data)
        self.size = max(size, len(data))

    def copy(self) -> Content:
        """Return the same bytes once more."""
        return Content(self.data, self.size)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes, fewer at the end."""
        stop = min(offset + size, self.size)
        found = bytes(self.data[offset:stop])
        return found + bytes(max(0, stop - offset) - len(found))

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at a place; the size grows where they reach beyond it."""
        if data:
            self.data += bytes(max(0, offset - len(self.data)))
            self.data[offset : offset + len(data)] = data
            self.size = max(self.size, len(self.data))

    def resize(self, size: int) -> None:
        """Cut, or grow by zeros."""
        del self.data[size:]
        self.size = size

    def flip(self, offset: int, bit: int) -> None:
        """Turn one bit over, if the byte is within the size."""
        if offset < self.size:
            self.write(offset, bytes([self.read(offset, 1)[0] ^ (1 << bit)]))


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes put at a place."""

    offset: int
    data: bytes

    @property
    def stop(self) -> int:
        """The place behind the last byte."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class Resize:
    """The file cut, or grown by zeros."""

    size: int


Change = Write | Resize


@dataclass(frozen=True, slots=True)
class Loss:
    """What became of changes that were not synced."""

    bytes: int = 0  # places that read differently than before
    torn: int = 0  # writes of which a part is there, and a part not


class Pages:
    """One file."""

    __slots__ = ("_covers", "_gone", "_pending", "disk", "seen")

    def __init__(self) -> None:
        self.seen = Content()  # by processes
        self.disk = Content()
        self._pending: list[Change] = []  # in order
        self._gone = 0  # changes so far that are no longer pending
        self._covers: list[tuple[int, int]] = []  # (when a sync is done, changes it covers)

    @property
    def size(self) -> int:
        """The size that processes see."""
        return self.seen.size

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at a place."""
        if data:
            self._change(Write(offset, data))

    def resize(self, size: int) -> None:
        """Cut, or grow by zeros."""
        if size != self.seen.size:
            self._change(Resize(size))

    def _change(self, change: Change) -> None:
        _apply(self.seen, change)
        self._pending.append(change)

    def sync(self, now_us: int, done_us: int) -> None:
        """Begin to make durable what is pending; it counts when it is done."""
        self._covers.append((done_us, self._gone + len(self._pending)))
        self.settle(now_us)

    def settle(self, now_us: int) -> None:
        """Put on the disk what syncs cover that are done by now."""
        covered = max((count for done, count in self._covers if done <= now_us), default=0)
        count = covered - self._gone
        if count > 0:
            for change in self._pending[:count]:
                _apply(self.disk, change)
            del self._pending[:count]
            self._gone = covered
        self._covers = [cover for cover in self._covers if cover[1] > self._gone]

    def lose(self, now_us: int, rng: Rng) -> Loss:
        """The power is cut."""
        self.settle(now_us)
        left, torn = _survivors(self.disk, self._pending, rng)
        loss = Loss(_differing(self.seen, left), torn)
        self.disk, self.seen = left, left.copy()
        self._forget_pending()
        return loss

    def fail(self, rng: Rng, *, keep: bool) -> Loss:
        """A sync has failed: what is pending is partly on the disk, and will never be more.

        Processes read it until it is forgotten (keep) or cannot any more. The system still knows
        the size.
        """
        if self._covers:  # syncs under way that did not fail
            self.settle(max(done_us for done_us, _ in self._covers))
        self.disk, torn = _survivors(self.disk, self._pending, rng)
        self._forget_pending()
        if self.disk.size != self.seen.size:
            self._pending.append(Resize(self.seen.size))
        there = self._read_back()
        loss = Loss(_differing(self.seen, there), torn)
        if not keep:
            self.seen = there
        return loss

    def evict(self) -> None:
        """The system forgets pages that it need not write: reads see what the disk has."""
        self.seen = self._read_back()

    def _read_back(self) -> Content:
        content = self.disk.copy()
        for change in self._pending:
            _apply(content, change)
        return content

    def flip(self, offset: int, bit: int) -> None:
        """A bit turns over, wherever the byte is now."""
        self.seen.flip(offset, bit)
        self.disk.flip(offset, bit)
        for index, change in enumerate(self._pending):
            if isinstance(change, Write) and change.offset <= offset < change.stop:
                data = bytearray(change.data)
                data[offset - change.offset] ^= 1 << bit
                self._pending[index] = Write(change.offset, bytes(data))

    def _forget_pending(self) -> None:
        self._gone += len(self._pending)
        self._pending.clear()
        self._covers.clear()


def _apply(content: Content, change: Change) -> None:
    if isinstance(change, Write):
        content.write(change.offset, change.data)
    else:
        content.resize(change.size)


def _survivors(disk: Content, changes: list[Change], rng: Rng) -> tuple[Content, int]:
    """Draw what is left of changes; return it and how many writes are torn."""
    left = disk.copy()
    if not changes:
        return left, 0
    share = rng.random() - NOTHING_SHARE
    if share < 0:
        return left, 0
    if share < ALL_SHARE:
        for change in changes:
            _apply(left, change)
        return left, 0
    if share < ALL_SHARE + PREFIX_SHARE:
        return _prefix(left, changes, rng)
    return _sectors(disk, changes, rng)


def _prefix(left: Content, changes: list[Change], rng: Rng) -> tuple[Content, int]:
    """Apply the first of the changes in order, and a part of the next."""
    count = rng.randrange(len(changes))
    for change in changes[:count]:
        _apply(left, change)
    torn = changes[count]
    if isinstance(torn, Resize):
        return left, 0
    part = rng.randint(0, len(torn.data))
    left.write(torn.offset, torn.data[:part])
    return left, int(0 < part < len(torn.data))


def _sectors(disk: Content, changes: list[Change], rng: Rng) -> tuple[Content, int]:
    """Take each sector, and the size, as it was after some number of the changes."""
    newest = rng.random()  # the share of sectors that were written last of all
    left = disk.copy()
    counts: dict[int, int] = {}
    for sector, touching in sorted(_touched(disk, changes).items()):
        steps = [0, *(index + 1 for index in touching)]
        count = steps[-1] if rng.random() < newest else rng.choice(steps)
        counts[sector] = count
        done = [changes[index] for index in touching if index < count]
        left.write(sector * SECTOR_BYTES, _sector(disk, done, sector))
    size = disk.size
    for change in changes[
        : len(changes) if rng.random() < newest else rng.randint(0, len(changes))
    ]:
        size = change.size if isinstance(change, Resize) else max(size, change.stop)
    left.resize(size)
    return left, sum(_is_torn(index, change, counts, size) for index, change in enumerate(changes))


def _touched(disk: Content, changes: list[Change]) -> dict[int, list[int]]:
    """Return the sectors that changes write or clear, each with the indices of those changes."""
    touched: dict[int, list[int]] = {}
    extent = len(disk.data)
    for index, change in enumerate(changes):
        if isinstance(change, Write):
            first, stop = change.offset, change.stop
            extent = max(extent, stop)
        else:
            first, stop = change.size, extent
            extent = min(extent, change.size)
        if first < stop:
            for sector in range(first // SECTOR_BYTES, (stop - 1) // SECTOR_BYTES + 1):
                touched.setdefault(sector, []).append(index)
    return touched


def _sector(disk: Content, changes: list[Change], sector: int) -> bytes:
    """Return one sector as it is on the disk after some changes."""
    base = sector * SECTOR_BYTES
    part = Content(disk.data[base : base + SECTOR_BYTES], SECTOR_BYTES)
    for change in changes:
        if isinstance(change, Resize):
            del part.data[max(0, change.size - base) :]
        else:
            start = max(change.offset, base)
            piece = change.data[start - change.offset : base + SECTOR_BYTES - change.offset]
            part.write(start - base, piece)
    return part.read(0, SECTOR_BYTES)


def _is_torn(index: int, change: Change, counts: dict[int, int], size: int) -> bool:
    if isinstance(change, Resize):
        return False
    sectors = range(change.offset // SECTOR_BYTES, (change.stop - 1) // SECTOR_BYTES + 1)
    there = sum(counts[sector] > index for sector in sectors)
    if not there or change.offset >= size:
        return False
    return there < len(sectors) or size < change.stop


def _differing(one: Content, other: Content) -> int:
    """Count the places that differ, those that only one has included."""
    if one.size == other.size and one.data == other.data:
        return 0
    count = abs(one.size - other.size)
    for base in range(
        0, min(one.size, other.size, max(len(one.data), len(other.data))), SECTOR_BYTES
    ):
        stop = min(base + SECTOR_BYTES, one.size, other.size) - base
        a, b = one.read(base, stop), other.read(base, stop)
        if a != b:
            count += sum(x != y for x, y in zip(a, b, strict=True))
    return count
