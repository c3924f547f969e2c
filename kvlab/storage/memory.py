"""The table of one node in memory, split by range. It promises nothing after a crash.

What changes is told to a journal, where there is one.
It does not know who owns a range, nor what a version means beyond "greater is newer".

Invariants:

1. A record is replaced only by one with a greater version (last writer wins), so applying the same
   writes in any order, any number of times, leads to the same table.
2. `keys[r]` counts the live keys of range r (tombstones apart), `sizes[r]` their key and value
   bytes.
3. `digest(r)` is the same for the same set of records, whatever the order in which they came.
4. What is not newer than `purged[r]` is taken only where the key has a record: of an absent key it is
   a late copy of what was deleted, and everybody has forgotten the tombstone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from kvlab.wire.value import Expiring

if TYPE_CHECKING:
    from kvlab.storage.journal import Journal

# A record: (version, value, prepared); the value is None in a tombstone. Values are text, or bytes
# where they are not UTF-8, or one of these with its end. `prepared` belongs to whoever serves reads: a
# reply made once and kept as long as the value stays, or None.
Plain = str | bytes
Value = Plain | Expiring
Record = tuple[int, Value | None, bytes | None]

# An odd number near 2**64 over the golden ratio: spreads versions, which are times and so alike, over
# all bits before they are added up without carry.
_SPREAD = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def spread(version: int) -> int:
    """Return 64 bits that stand for a version in a digest."""
    return version * _SPREAD & _MASK


class Table:
    """Records of `range_count` ranges."""

    __slots__ = ("_digests", "_ends", "journal", "keys", "purged", "ranges", "sizes")

    def __init__(self, range_count: int) -> None:
        self.journal: Journal | None = None  # of a node that keeps its data on disk
        # Callers on the hot path read `ranges[r].get(key)` themselves.
        self.ranges: list[dict[bytes, Record]] = [{} for _ in range(range_count)]
        self.keys = [0] * range_count
        self.sizes = [0] * range_count
        self.purged = [0] * range_count  # per range, the version up to which tombstones were erased
        self._digests: list[int | None] = [0] * range_count  # None: to be computed when asked for
        self._ends: list[tuple[int, int, bytes]] = []  # a heap of (when, range, key)

    def put(self, index: int, key: bytes, version: int, value: Value | None) -> bool:
        """Apply one write to range `index`; False unless its version is above `floor`."""
        records = self.ranges[index]
        old = records.get(key)
        if old is None:
            if version <= self.purged[index]:
                return False
            if value is not None:
                self.keys[index] += 1
                self.sizes[index] += len(key) + len(value)
        else:
            if old[0] >= version:
                return False
            before = old[1]
            if before is None:
                if value is not None:
                    self.keys[index] += 1
                    self.sizes[index] += len(key) + len(value)
            elif value is None:
                self.keys[index] -= 1
                self.sizes[index] -= len(key) + len(before)
            else:
                self.sizes[index] += len(value) - len(before)
        records[key] = (version, value, None)
        if type(value) is Expiring:
            heappush(self._ends, (value.at_us, index, key))
        if self.journal is not None:
            self.journal.records += (key, version, value)
        digest = self._digests[index]
        if digest is not None:
            if old is not None:
                digest ^= old[0] * _SPREAD & _MASK
            self._digests[index] = digest ^ (version * _SPREAD & _MASK)
        return True

    def expire(self, now_us: int, most: int) -> None:
        """Make tombstones of up to `most` values that have expired, each of its own version.

        Nothing is journaled, as they will have expired in the next life too.
        """
        ends = self._ends
        while ends and ends[0][0] <= now_us and most > 0:
            most -= 1
            _, index, key = heappop(ends)
            record = self.ranges[index].get(key)
            if record is None or type(record[1]) is not Expiring or record[1].at_us > now_us:
                continue  # another value is there by now, or none
            self.keys[index] -= 1
            self.sizes[index] -= len(key) + len(record[1])
            self.ranges[index][key] = (record[0], None, None)

    def floor(self, index: int, key: bytes) -> int:
        """Return the version above which a write must be to be taken."""
        record = self.ranges[index].get(key)
        return record[0] if record is not None else self.purged[index]

    def purge(self, index: int, version: int, keys: Iterable[bytes]) -> int:
        """Erase what is held of `keys` and is not newer than `version`; return how much it was.

        From then on nothing so old is taken of an absent key.
        """
        records = self.ranges[index]
        erased = []
        for key in keys:
            record = records.get(key)
            if record is None or record[0] > version:
                continue
            erased.append(key)
            if record[1] is not None:
                self.keys[index] -= 1
                self.sizes[index] -= len(key) + len(record[1])
            digest = self._digests[index]
            if digest is not None:
                self._digests[index] = digest ^ spread(record[0])
            del records[key]
        self.purged[index] = max(version, self.purged[index])
        if self.journal is not None:
            self.journal.purge(index, version, erased)
        return len(erased)

    def digest(self, index: int) -> int:
        """Return 64 bits that differ where the versions held in a range do, but for bad luck.

        A version is given to one write of one key, so the versions tell the records.
        """
        digest = self._digests[index]
        if digest is None:
            digest = 0
            for version, _, _ in self.ranges[index].values():
                digest ^= version * _SPREAD & _MASK
            self._digests[index] = digest
        return digest

    def forget_digests(self) -> None:
        """Compute digests anew when asked: somebody has written to `ranges` past `put`."""
        self._digests = [None] * len(self.ranges)

    def get(self, index: int, key: bytes) -> Record | None:
        """Return the record of a key, a tombstone included, or None."""
        return self.ranges[index].get(key)

    def snapshot(self, index: int) -> list[bytes]:
        """Return the keys of a range as they are now, tombstones included."""
        return list(self.ranges[index])

    def drop(self, index: int) -> None:
        """Forget a whole range."""
        if self.journal is not None and (self.ranges[index] or self.purged[index]):
            self.journal.drop(index)
        self.ranges[index] = {}
        self._digests[index] = self.purged[index] = 0
        self.keys[index] = 0
        self.sizes[index] = 0

    def held(self) -> Iterator[tuple[int, int, int]]:
        """Yield (range, live keys, bytes) for every range that holds a record."""
        for index, records in enumerate(self.ranges):
            if records:
                yield index, self.keys[index], self.sizes[index]

    @property
    def key_count(self) -> int:
        """Return the number of live keys in all ranges."""
        return sum(self.keys)

    @property
    def tombstone_count(self) -> int:
        """Return the number of records in all ranges that say that their key is absent."""
        return sum(map(len, self.ranges)) - self.key_count

    @property
    def byte_count(self) -> int:
        """Return the bytes of all live keys and their values (text counted by characters)."""
        return sum(self.sizes)
