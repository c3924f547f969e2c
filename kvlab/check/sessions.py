"""The four session guarantees that a store may give to each client, every one judged alone.

They are those of Terry and others, "Session guarantees for weakly consistent replicated data", 1994.
It says nothing of what different clients see of each other. A session is a client on one key: what
it did to other keys is not followed, for a store may keep keys on different nodes.

    read-your-writes      a get sees nothing older than what its client had written before
    monotonic-reads       a get sees nothing older than what its client had seen before
    monotonic-writes      a write is ordered after what its client had written before
    writes-follow-reads   a write is ordered after what its client had seen before

1. "Before" is that the earlier operation was acknowledged before the later began, so a client may
   have several under way. "Older" is what origins calls certainly older.
2. Where no versions are told, monotonic-reads is broken also by a client that saw a value, then
   another, then the first again, where each was written once: one of them is the older.
3. The place of a write shows in its version alone, and only where a get confirms it (origins).
   Other writes are not judged by monotonic-writes and writes-follow-reads.
4. `degraded` answers are judged as all others: a guarantee that was given up with a word is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from kvlab.check.operations import Operations
from kvlab.check.origins import Origin, Origins, end_of, in_order, is_read, is_write, told, written
from kvlab.check.verdict import Check, Verdict
from kvlab.check.words import at, name_of
from kvlab.history import Op


class Guarantee(msgspec.Struct, frozen=True):
    """Which operations of a client must not be older than which."""

    name: str
    later: Callable[[Op], bool]
    earlier: Callable[[Op], bool]


READ_YOUR_WRITES = Guarantee("read-your-writes", is_read, is_write)
MONOTONIC_READS = Guarantee("monotonic-reads", is_read, is_read)
MONOTONIC_WRITES = Guarantee("monotonic-writes", is_write, is_write)
WRITES_FOLLOW_READS = Guarantee("writes-follow-reads", is_write, is_read)
GUARANTEES = (READ_YOUR_WRITES, MONOTONIC_READS, MONOTONIC_WRITES, WRITES_FOLLOW_READS)


class _Broken(msgspec.Struct, frozen=True):
    """A later operation that is older than an earlier one of its client."""

    because: str
    evidence: tuple[int, ...]
    start: int


class _Newest:
    """The newest of what a client saw or wrote: by version, and by when it began at the earliest."""

    __slots__ = ("by_time", "by_version")

    def __init__(self) -> None:
        self.by_version: tuple[Origin, Op] | None = None
        self.by_time: tuple[Origin, Op] | None = None

    def add(self, origin: Origin, op: Op) -> None:
        if origin.version and (
            self.by_version is None or origin.version > self.by_version[0].version
        ):
            self.by_version = origin, op
        if self.by_time is None or origin.began > self.by_time[0].began:
            self.by_time = origin, op

    def newer_than(self, origin: Origin) -> Op | None:
        """Return an operation that what is asked for is older than."""
        for one in (self.by_version, self.by_time):
            if one is not None and origin.is_older(one[0]):
                return one[1]
        return None


def check_guarantee(history: Operations, guarantee: Guarantee) -> Check:
    """Judge one guarantee for every client and key. O(n log n) for n operations."""
    judged, violations = 0, 0
    first: _Broken | None = None
    for key, ops in history.by_key().items():
        for session in _sessions(key, ops, guarantee):
            judged += session.judged
            violations += session.violations
            one = session.first
            if one is not None and (first is None or one.start < first.start):
                first = one
    name = guarantee.name
    if first is not None:
        more = f" (and {violations - 1} more)" if violations > 1 else ""
        return Check(
            name=name,
            verdict=Verdict.INVALID,
            because=first.because + more,
            evidence=first.evidence,
            judged=judged,
            violations=violations,
        )
    later = "write" if guarantee.later is is_write else "get"
    earlier = "write" if guarantee.earlier is is_write else "get"
    if not judged:
        lacks = ", with versions that gets confirm" if guarantee.later is is_write else ""
        because = f"no client had a {later} after a {earlier} on the same key{lacks}"
        return Check(name=name, verdict=Verdict.UNKNOWN, because=because)
    because = f"it holds for all {judged} {later}s that came after a {earlier} of their client"
    return Check(name=name, verdict=Verdict.VALID, because=because, judged=judged)


check_read_your_writes = partial(check_guarantee, guarantee=READ_YOUR_WRITES)
check_monotonic_reads = partial(check_guarantee, guarantee=MONOTONIC_READS)
check_monotonic_writes = partial(check_guarantee, guarantee=MONOTONIC_WRITES)
check_writes_follow_reads = partial(check_guarantee, guarantee=WRITES_FOLLOW_READS)


def _sessions(key: str, ops: Sequence[Op], guarantee: Guarantee) -> Iterator[_Session]:
    """Judge every client of a key."""
    origins = Origins(ops)
    by_client: dict[str, list[Op]] = {}
    for op in ops:
        if guarantee.later(op) or guarantee.earlier(op):
            by_client.setdefault(op.client, []).append(op)
    for some in by_client.values():
        if len(some) < 2:
            continue
        session = _Session(key, guarantee, origins)
        for op, is_end in _moments(some):
            if is_end:
                session.ended(op)
            else:
                session.began(op)
        yield session


def _moments(ops: list[Op]) -> list[tuple[Op, bool]]:
    """Return beginnings and ends in the order of the history."""
    found = [(op.start, op, False) for op in ops]
    found += [(op.end, op, True) for op in ops if op.end is not None]
    found.sort(key=lambda one: one[0])
    return [(op, is_end) for _, op, is_end in found]


class _Session:
    """One client on one key."""

    def __init__(self, key: str, guarantee: Guarantee, origins: Origins) -> None:
        self.judged = 0
        self.violations = 0
        self.first: _Broken | None = None
        self._key = key
        self._guarantee = guarantee
        self._origins = origins
        self._newest = _Newest()
        self._returns = guarantee is MONOTONIC_READS
        # By value: a get of it, and a get of another after that.
        self._left: dict[str, tuple[Op, Op]] = {}
        self._last: Op | None = None  # that ended, where values are followed (2)

    def began(self, op: Op) -> None:
        """Judge an operation by what had ended before it began."""
        if not self._guarantee.later(op) or self._newest.by_time is None:
            return
        origin = self._origin(op)
        if origin is None:
            return
        confirmed = self._origins.confirming(op) if op.f != "get" else None
        if op.f != "get" and not (confirmed and self._newest.by_version):
            return
        self.judged += 1
        newer = self._newest.newer_than(origin)
        if newer is not None:
            self.violations += 1
            self.first = self.first or self._older(op, newer, confirmed)
        elif self._returns and op.value in self._left and self._is_unique(op):
            one, other = self._left[op.value]
            if end_of(other) < op.start:
                self.violations += 1
                self.first = self.first or self._back(op, one, other)

    def ended(self, op: Op) -> None:
        """Note what a client knows from here on."""
        if not self._guarantee.earlier(op):
            return
        origin = self._origin(op)
        if origin is None:
            return
        self._newest.add(origin, op)
        if self._returns and self._is_unique(op):
            last = self._last
            # Only one after the other: what ran side by side has no order.
            if last is not None and last.value != op.value and end_of(last) < op.start:
                assert last.value is not None
                self._left.setdefault(last.value, (last, op))
            self._last = op

    def _origin(self, op: Op) -> Origin | None:
        return self._origins.seen(op) if op.f == "get" else written(op)

    def _is_unique(self, op: Op) -> bool:
        return not op.version and op.value is not None and len(self._origins.writers(op)) == 1

    def _older(self, op: Op, newer: Op, confirmed: Op | None) -> _Broken:
        by_version = bool(op.version and newer.version)
        shown = [newer, op, *([confirmed] if confirmed else [])]
        if not by_version:
            shown += [
                one for get in (newer, op) if get.f == "get" for one in self._origins.writers(get)
            ]
        did = {True: "saw", False: "wrote"}
        because = (
            f"key {self._key}: {name_of(op)} at {at(op)} {did[op.f == 'get']}"
            f" {told(op, by_version=by_version)}, which is older than"
            f" {told(newer, by_version=by_version)}, which the same client {did[newer.f == 'get']}"
            f" before (op {newer.op}, ended at {at(newer)})"
        )
        if confirmed:
            because += f"; {name_of(confirmed)} saw it there"
        return _Broken(because, in_order(shown), op.start)

    def _back(self, op: Op, one: Op, other: Op) -> _Broken:
        because = (
            f"key {self._key}: {name_of(op)} at {at(op)} saw {told(op, by_version=False)} again, after"
            f" the same client had seen {told(other, by_version=False)} in between (op {other.op}),"
            " and each was written once"
        )
        writers = [write for get in (op, other) for write in self._origins.writers(get)]
        return _Broken(because, in_order([one, other, op, *writers]), op.start)
