"""What each operation of a key saw or wrote, and which of two is certainly the older.

It judges nothing: sessions and staleness ask it. Stores differ in how they order writes, so what
it calls older is what both the store and a person with a watch would.

1. Where both told their versions, the greater version is the newer. What a get told is the place of
   what it saw in the store's order. What a write told is a lower bound: a store may move a write up
   that met a newer one. It is the place itself if a get confirms it, that began after the write had
   ended and saw its value (written once) with this version, and no get saw it with a newer one.
2. Else one write is older than another if it had ended before the other began. A write of unknown
   end never ends.
3. A get saw one of the writes of its value, not failed, that began before it ended; a get that found
   nothing saw the beginning, which is older than every write, or a delete. What it saw is older than
   something if all that it may have seen is.
4. Values that the store makes (keys with incr or append) tell nothing of their origin; versions do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from kvlab.check.words import shown
from kvlab.history import Op

WRITES = frozenset({"set", "delete", "cas", "incr", "append"})
MADE = frozenset({"incr", "append"})
NEVER = 2**62
BEGINNING = -1


class Origin(msgspec.Struct, frozen=True, gc=False):
    """One place in the order of writes, as far as it is known.

    `version` is 0 where none is told. `began` and `ended` enclose the write in places of the history:
    it began no earlier, and ended no later (NEVER where that is not known).
    """

    version: int
    began: int
    ended: int

    def is_older(self, other: Origin) -> bool:
        """Say whether this is certainly the older of two."""
        if self.version and other.version:
            return self.version < other.version
        return self.ended < other.began


class Origins:
    """Where the values of one key come from."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self._gets: dict[str, list[Op]] | None = None
        self._ops = ops
        self._writers: dict[str | None, list[Op]] | None = {}
        for op in ops:
            if op.f in MADE:
                self._writers = None
                break
            if op.f != "get" and op.outcome != "fail":
                self._writers.setdefault(None if op.f == "delete" else op.value, []).append(op)

    def writers(self, get: Op) -> list[Op]:
        """Return the writes that a get may have seen; the beginning is none."""
        if self._writers is None:
            return []
        until = end_of(get)
        return [op for op in self._writers.get(get.value, ()) if op.start < until]

    def seen(self, get: Op) -> Origin | None:
        """Return what a get saw, or None where nothing is known of it."""
        writers = self.writers(get)
        if self._writers is None or not (writers or get.value is None):
            return Origin(get.version, BEGINNING, NEVER) if get.version else None
        ended = max(map(end_of, writers), default=BEGINNING)
        if get.value is None:
            return Origin(get.version, BEGINNING, ended)
        return Origin(get.version, min(op.start for op in writers), ended)

    def confirming(self, write: Op) -> Op | None:
        """Return a get that confirms the version that a write told, or None."""
        if self._writers is None or write.value is None or not write.version:
            return None
        if len(self._writers.get(write.value, ())) != 1:
            return None
        if self._gets is None:
            self._gets = {}
            for op in self._ops:
                if is_read(op) and op.version and op.value is not None:
                    self._gets.setdefault(op.value, []).append(op)
        gets = self._gets.get(write.value, ())
        if max((get.version for get in gets), default=0) != write.version:
            return None
        until = end_of(write)
        return next(
            (get for get in gets if get.start > until and get.version == write.version), None
        )


def written(op: Op) -> Origin:
    """Return what a write wrote."""
    return Origin(op.version, op.start, end_of(op))


def end_of(op: Op) -> int:
    """Return where an operation ended for certain, or NEVER."""
    return NEVER if op.end is None else op.end


def is_write(op: Op) -> bool:
    """Say whether an operation was acknowledged as a write."""
    return op.outcome == "ok" and op.f in WRITES


def is_read(op: Op) -> bool:
    """Say whether an operation is a get that was answered."""
    return op.outcome == "ok" and op.f == "get"


def told(op: Op, *, by_version: bool) -> str:
    """Say what an operation saw or wrote, for a sentence that compares versions or values."""
    what = "nothing" if op.value is None else shown(op.value)
    return f"version {op.version} ({what})" if by_version else what


def in_order(ops: Iterable[Op]) -> tuple[int, ...]:
    """Return the places of operations as evidence, each once."""
    return tuple(sorted({op.start for op in ops}))
