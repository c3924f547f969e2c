"""Reads during the run return only what somebody had written.

It is not a check of freshness: a stale value is fine here, an invented one is not.

1. A get that returns a value is legal iff some write of this value on this key, not failed, began
   before the get ended. A write of unknown end counts: it may have happened.
2. A get that found nothing, failed, or has an unknown end is always legal.
3. Keys with incr or append are not judged: their values are made by the store.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvlab.check.verdict import Check, Verdict
from kvlab.history import History, Op

NAME = "reads"
MADE_BY_STORE = frozenset({"incr", "append"})


def check_reads(history: History) -> Check:
    """Judge every get of a history, final reads too. O(n) for n operations."""
    written: dict[tuple[str, str], list[Op]] = {}
    skipped: set[str] = set()
    for op in history.ops:
        if op.f in MADE_BY_STORE:
            skipped.add(op.key)
        elif op.f in {"set", "cas"} and op.value is not None:
            written.setdefault((op.key, op.value), []).append(op)
    judged, violations = 0, 0
    first: tuple[str, tuple[Op, ...]] | None = None
    for read in history.ops:
        if read.f != "get" or read.outcome != "ok" or read.value is None or read.key in skipped:
            continue
        judged += 1
        found = _judge(read, written.get((read.key, read.value), []))
        if found:
            violations += 1
            first = first or found
    if first is not None:
        more = f" (and {violations - 1} more)" if violations > 1 else ""
        return Check(
            name=NAME,
            verdict=Verdict.INVALID,
            because=first[0] + more,
            evidence=tuple(op.start for op in first[1]),
            judged=judged,
            violations=violations,
        )
    if not judged:
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because="no get returned a value")
    because = f"all {judged} values read had been written before"
    return Check(name=NAME, verdict=Verdict.VALID, because=because, judged=judged)


def _judge(read: Op, writes: Sequence[Op]) -> tuple[str, tuple[Op, ...]] | None:
    """Return what is wrong with a read, and the operations that prove it."""
    where = f"key {read.key}: the get by {read.client} (op {read.op}) returned {read.value!r}"
    if not writes:
        return f"{where}, which nobody wrote", (read,)
    possible = [op for op in writes if op.outcome != "fail"]
    if not possible:
        failed = writes[0]
        reason = f"{failed.client} (op {failed.op}) was told had not been written"
        return f"{where}, which {reason} ({failed.error or 'failed'})", (failed, read)
    if read.end is not None and all(op.start > read.end for op in possible):
        later = possible[0]
        return f"{where} before {later.client} (op {later.op}) began to write it", (read, later)
    return None
