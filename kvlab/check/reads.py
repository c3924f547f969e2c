"""Reads during the run return only what somebody had written.

It is not a check of freshness: a stale value is fine here, an invented one is not.

1. A get that returns a value is legal iff some write of this value on this key, not failed, began
   before the get ended. A write of unknown end counts: it may have happened.
2. A get that found nothing, failed, or has an unknown end is always legal.
3. Keys with incr or append are not judged: their values are made by the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvlab.check.operations import Operations
from kvlab.check.verdict import Check, Verdict
from kvlab.check.words import shown
from kvlab.history import History, Op

NAME = "reads"
MADE_BY_STORE = frozenset({"incr", "append"})


def check_reads(history: Operations) -> Check:
    """Judge every get of a history, final reads too. O(n) for n operations."""
    by_key = history.by_key()
    judged, violations = 0, 0
    suspects: Iterable[Sequence[Op]] = by_key.values()
    if not isinstance(history, History):
        # Late: numpy takes a tenth of a second to load, and small histories do not need it.
        from kvlab.check.reads_quick import clear_keys

        judged, names = clear_keys(history)
        suspects = (by_key[name] for name in names)
    first: tuple[str, tuple[Op, ...]] | None = None
    first_read = 0
    for ops in suspects:
        if any(op.f in MADE_BY_STORE for op in ops):
            continue
        written = _written(ops)
        for read in ops:
            if read.f != "get" or read.outcome != "ok" or read.value is None:
                continue
            judged += 1
            found = _judge(read, written.get(read.value, []))
            if found:
                violations += 1
                if first is None or read.start < first_read:
                    first, first_read = found, read.start
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


def _written(ops: Iterable[Op]) -> dict[str, list[Op]]:
    """Return the writes of each value, failed ones too."""
    written: dict[str, list[Op]] = {}
    for op in ops:
        if op.f in {"set", "cas"} and op.value is not None:
            written.setdefault(op.value, []).append(op)
    return written


def _judge(read: Op, writes: Sequence[Op]) -> tuple[str, tuple[Op, ...]] | None:
    """Return what is wrong with a read, and the operations that prove it."""
    where = f"key {read.key}: the get by {read.client} (op {read.op}) returned {shown(read.value)}"
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
