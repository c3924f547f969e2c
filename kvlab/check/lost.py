"""Acknowledged writes are there at the end, and what was replaced does not come back.

It is not a check of linearizability: reads during the run may be stale (see reads for what they
may not be); only final reads are judged, those marked `final` in the history.

Model: one register per key, at first absent; sets, deletes and compare-and-sets that were
acknowledged (`ok`) happened between invocation and completion, those with an unknown end (`info`)
at any time after the invocation or never, failed ones never.

1. A final read of value v is legal iff some write of v, not failed, began before the read ended,
   and no acknowledged write or delete lies wholly between them in real time: began after the write
   completed, and completed before the read began. A write of unknown end never completes.
2. A final read of "absent" is legal iff every acknowledged set that completed before the read
   began may have been undone: there is none, or some delete, not failed, is legal by rule 1.
3. For a single read the two rules hold exactly when a linear extension of the real-time order
   explains it, so what is called INVALID has no explanation. Concurrent writes may win in any
   order: last-writer-wins by timestamp is free where real time does not decide.
4. Real-time order is that of one clock, the client's. A store that orders by the clocks of its
   nodes may lose an acknowledged write to one of another node that ended up to the clocks' error
   *before* it. `clock_error_us` is that bound: an operation counts as later only beyond it. The
   nodes of one machine share a clock; their stamps may still differ by its resolution.
5. No final read of a key with acknowledged writes, or an operation outside the model on a key
   (incr, append): not VALID, at best UNKNOWN.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from kvlab.check.operations import Operations
from kvlab.check.verdict import Check, Verdict
from kvlab.check.words import at, name_of, shown
from kvlab.history import Op

NAME = "lost"
WRITES = frozenset({"set", "delete", "cas"})
OUTSIDE = frozenset({"incr", "append"})
NEVER_US = 2**62


class Violation(msgspec.Struct, frozen=True):
    """One illegal final read: a sentence, and the operations that prove it."""

    because: str
    ops: tuple[Op, ...]


def check_lost(history: Operations, *, clock_error_us: int = 0) -> Check:
    """Judge every final read of a history. O(n log n) for n operations."""
    violations: list[Violation] = []
    judged, unread, outside = 0, 0, 0
    for key, ops in history.by_key().items():
        finals = [op for op in ops if op.final and op.f == "get" and op.outcome == "ok"]
        if any(op.f in OUTSIDE for op in ops):
            outside += 1
            continue
        if not finals:
            unread += any(op.f in WRITES and op.outcome == "ok" for op in ops)
            continue
        writes = Writes(ops, clock_error_us)
        judged += len(finals)
        found = (_judge(key, read, writes) for read in finals)
        violations.extend(violation for violation in found if violation)
    return _conclude(violations, judged, unread, outside)


class Writes:
    """The writes of one key, prepared for the question "what lies wholly between a and b?"."""

    def __init__(self, ops: Iterable[Op], clock_error_us: int) -> None:
        self.all = [op for op in ops if op.f in WRITES and op.outcome != "fail"]
        self.failed = [op for op in ops if op.f in WRITES and op.outcome == "fail"]
        self.acknowledged = [op for op in self.all if op.outcome == "ok"]
        self.by_value: dict[str, list[Op]] = {}
        for op in self.all:
            if op.value is not None and op.f != "delete":
                self.by_value.setdefault(op.value, []).append(op)
        self._error_us = clock_error_us
        self._starts = [op.start for op in self.acknowledged]
        self._starts_us = [op.start_us for op in self.acknowledged]
        self._first_ends = _first_ends(self.acknowledged)

    def between(self, write: Op, read: Op) -> Op | None:
        """Return an acknowledged write wholly after `write` and wholly before `read`, if any.

        It is the one that ended first, so it exists exactly when any does.
        """
        if write.end is None or write.end_us is None:
            return None
        later = bisect_right(self._starts, write.end)
        if self._error_us:
            later = max(later, bisect_right(self._starts_us, write.end_us + self._error_us))
        if later == len(self.acknowledged):
            return None
        found = self._first_ends[later]
        return found if _ended_before(found, read) else None


def _first_ends(acknowledged: Sequence[Op]) -> list[Op]:
    """For each place, the operation from there on that ended first."""
    ends: list[Op] = []
    best: Op | None = None
    for op in reversed(acknowledged):
        if best is None or _end(op) < _end(best):
            best = op
        ends.append(best)
    ends.reverse()
    return ends


def _end(op: Op) -> int:
    return NEVER_US if op.end is None else op.end


def _ended_before(op: Op, read: Op) -> bool:
    return _end(op) < read.start


def _began_before_end_of(op: Op, read: Op) -> bool:
    return op.start < _end(read)


def _judge(key: str, read: Op, writes: Writes) -> Violation | None:
    if read.value is None:
        return _judge_absent(key, read, writes)
    written = writes.by_value.get(read.value, [])
    candidates = [op for op in written if _began_before_end_of(op, read)]
    if not candidates:
        return _unexplained(key, read, writes, written)
    replaced_by = None
    for write in candidates:
        replaced_by = writes.between(write, read)
        if replaced_by is None:
            return None
    stale = candidates[-1]
    replaced_by = writes.between(stale, read)
    assert replaced_by is not None
    deleted = replaced_by.f == "delete"
    what = "deleted it" if deleted else f"replaced it by {shown(replaced_by.value)}"
    return Violation(
        f"key {key}: {shown(stale.value)} came back: {name_of(replaced_by)} {what} and was"
        f" acknowledged at {at(replaced_by)}, yet the final read by {read.client} at {at(read)}"
        " returned the old value",
        (stale, replaced_by, read),
    )


def _judge_absent(key: str, read: Op, writes: Writes) -> Violation | None:
    lost = [op for op in writes.acknowledged if op.f != "delete" and _ended_before(op, read)]
    if not lost:
        return None
    for op in writes.all:
        if op.f == "delete" and _began_before_end_of(op, read) and not writes.between(op, read):
            return None
    last = lost[-1]
    return Violation(
        f"key {key}: {shown(last.value)} is lost: {name_of(last)} was acknowledged at {at(last)}, no"
        f" delete came after it, yet the final read by {read.client} at {at(read)} found nothing",
        (last, read),
    )


def _unexplained(key: str, read: Op, writes: Writes, written: Sequence[Op]) -> Violation:
    for op in written:
        return Violation(
            f"key {key}: the final read at {at(read)} returned {shown(read.value)} before"
            f" {name_of(op)} began to write it",
            (read, op),
        )
    for op in writes.failed:
        if op.value == read.value:
            return Violation(
                f"key {key}: the final read at {at(read)} returned {shown(read.value)}, which"
                f" {name_of(op)} was told had not been written ({op.error or 'failed'})",
                (op, read),
            )
    return Violation(
        f"key {key}: the final read at {at(read)} returned {shown(read.value)}, which nobody wrote",
        (read,),
    )


def _conclude(violations: list[Violation], judged: int, unread: int, outside: int) -> Check:
    if violations:
        first = min(violations, key=lambda violation: len(violation.ops))
        more = len(violations) - 1
        return Check(
            name=NAME,
            verdict=Verdict.INVALID,
            because=first.because + (f" (and {more} more)" if more else ""),
            evidence=tuple(op.start for op in first.ops),
            judged=judged,
            violations=len(violations),
        )
    doubts = []
    if unread:
        doubts.append(f"{unread} keys with acknowledged writes were not read at the end")
    if outside:
        doubts.append(f"{outside} keys were counted or appended to, which this check cannot judge")
    if not judged and not doubts:
        doubts.append("there are no final reads")
    if doubts:
        because, verdict = "; ".join(doubts), Verdict.UNKNOWN
    else:
        because, verdict = f"all {judged} final reads are explained", Verdict.VALID
    return Check(name=NAME, verdict=verdict, because=because, judged=judged)
