"""A get tells a version at least as new as that of every write acknowledged before it began.

It is not a check of linearizability: it compares versions, never values, and concurrent gets may
disagree. It is the promise of a store where every read quorum meets every write quorum (r + w > n);
a store with smaller quorums, or clients that asked for less (`--level one`), may break it without
anybody having broken his word. It is therefore not among the checkers that run by default.

Versions are numbers that the store tells with its answers; greater is newer, 0 is not told.

1. A write counts if it was acknowledged (`ok`) in full (not `degraded`) and told its version. What
   it told may be older than what was stored in the end, never newer.
2. A get is judged if it is `ok`, not degraded, and some write of its key that counts had ended
   before it began. It must tell a version not older than the newest of these.
3. A get that found nothing may tell no version: the store has forgotten that there was a key. That
   is legal after a delete. So it is illegal only if the newest write by 2 is none, and every delete
   that may have happened and began before the get ended counts (1), and ended before that write
   began. Otherwise it is not judged. A get that found a value and tells no version never is.
4. What is called INVALID needs no more than its evidence: the write and the get.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from kvlab.check.operations import Operations
from kvlab.check.verdict import Check, Verdict
from kvlab.check.words import at, name_of
from kvlab.history import Op

NAME = "fresh"
NEVER = 2**62


def check_fresh(history: Operations) -> Check:
    """Judge every get of a history. O(n log n) for n operations."""
    judged, violations = 0, 0
    first: tuple[Op, Op] | None = None
    for ops in history.by_key().values():
        writes = _Writes(ops)
        for get in ops:
            if get.f != "get" or get.outcome != "ok" or get.degraded:
                continue
            newest = writes.newest_before(get.start)
            if newest is None or not _can_be_judged(get, newest, writes):
                continue
            judged += 1
            if get.version < newest.version:
                violations += 1
                if first is None or get.start < first[1].start:
                    first = newest, get
    if first is not None:
        more = f" (and {violations - 1} more)" if violations > 1 else ""
        return Check(
            name=NAME,
            verdict=Verdict.INVALID,
            because=_sentence(*first) + more,
            evidence=tuple(op.start for op in first),
            judged=judged,
            violations=violations,
        )
    if not judged:
        because = "no get in full, with a version, came after a write with a version"
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because=because)
    because = f"all {judged} gets told a version as new as every write acknowledged before them"
    return Check(name=NAME, verdict=Verdict.VALID, because=because, judged=judged)


class _Writes:
    """The writes of one key, for the question "which must a get that begins here know of?"."""

    def __init__(self, ops: Iterable[Op]) -> None:
        ops = [op for op in ops if op.f != "get" and op.outcome != "fail"]
        counted = sorted((op for op in ops if _counts(op)), key=_end)
        self._ends = [_end(op) for op in counted]
        self._newest = _newest(counted)
        deletes = sorted((op for op in ops if op.f == "delete"), key=lambda op: op.start)
        self._starts = [op.start for op in deletes]
        self._last_ends: list[int] = []  # of the deletes up to each; NEVER if one does not count
        last = -1
        for op in deletes:
            last = max(last, _end(op) if _counts(op) else NEVER)
            self._last_ends.append(last)

    def newest_before(self, place: int) -> Op | None:
        """Return the newest write that ended before a place."""
        count = bisect_left(self._ends, place)
        return self._newest[count - 1] if count else None

    def deleted_until(self, place: int) -> int:
        """Return when the last delete that began before a place ended for certain; -1: none."""
        count = bisect_left(self._starts, place)
        return self._last_ends[count - 1] if count else -1


def _newest(writes: Sequence[Op]) -> list[Op]:
    """For each place, the write up to there that told the greatest version."""
    newest: list[Op] = []
    for op in writes:
        newest.append(op if not newest or op.version > newest[-1].version else newest[-1])
    return newest


def _counts(op: Op) -> bool:
    return op.outcome == "ok" and not op.degraded and op.version > 0


def _can_be_judged(get: Op, newest: Op, writes: _Writes) -> bool:
    if get.version:
        return True
    if get.value is not None or newest.f == "delete":
        return False
    return writes.deleted_until(_end(get)) < newest.start


def _end(op: Op) -> int:
    return NEVER if op.end is None else op.end


def _sentence(write: Op, get: Op) -> str:
    told = f"told version {get.version}" if get.version else "found nothing"
    return (
        f"key {get.key}: {name_of(get)} at {at(get)} {told}, though {name_of(write)} with version"
        f" {write.version} was acknowledged at {at(write)}, before that get began"
    )
