"""Growing texts: every part that was appended is there once, in the order in which it was appended.

It is not a check of linearizability, which is stricter. The workload is that of Jepsen's append tests
with a key alone.

1. Growing texts are keys with `append` and gets alone, whose parts all end with one character that is
   nowhere else in them, and differ; others are not judged.
2. A part that nobody appended, or that was refused, is unexpected; one that is there twice, duplicated.
3. A part that was acknowledged before a read began, and is not in it, is lost.
4. A part that was acknowledged before another was begun comes before it.
5. Of two reads, one is the beginning of the other: a text never changes, it grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from kvlab.check.findings import invalid
from kvlab.check.operations import Operations
from kvlab.check.verdict import Check, Verdict
from kvlab.check.words import at, name_of, shown
from kvlab.history import Op

NAME = "append"


def check_append(history: Operations) -> Check:
    """Judge every read of every growing text. O(n) for n operations and all that they read."""
    texts, judged = 0, 0
    wrong: list[tuple[str, list[Op]]] = []
    for key, ops in history.by_key().items():
        parts = [op for op in ops if op.f == "append"]
        mark = _mark(parts)
        if not mark or any(op.f not in ("append", "get") for op in ops):
            continue
        texts += 1
        reads = [op for op in ops if op.f == "get" and op.outcome == "ok"]
        judged += len(reads)
        for read in reads:
            found = _judge(key, {op.value or "": op for op in parts}, read, mark)
            wrong += [found] if found else []
        wrong += _no_beginnings(key, reads)
    if wrong:
        return invalid(NAME, wrong, judged, {})
    if not judged:
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because="nobody read a growing text")
    because = f"in all {judged} reads of {texts} texts, every part is there once and in order"
    return Check(name=NAME, verdict=Verdict.VALID, because=because, judged=judged)


def _mark(parts: Sequence[Op]) -> str:
    """Return the character that ends every part and is nowhere else in them, or ""."""
    values = [op.value or "" for op in parts]
    ends = {value[-1:] for value in values}
    if len(ends) != 1 or len(set(values)) < len(values):
        return ""
    [mark] = ends
    return mark if mark and not any(mark in value[:-1] for value in values) else ""


def _judge(key: str, parts: dict[str, Op], read: Op, mark: str) -> tuple[str, list[Op]] | None:
    where = f"text {key}: {name_of(read)} at {at(read)}"
    *whole, rest = (read.value or "").split(mark)
    found = [f"{part}{mark}" for part in whole] + ([rest] if rest else [])
    seen: dict[str, int] = {}
    for place, part in enumerate(found):
        op = parts.get(part)
        if op is None or op.outcome == "fail":
            why = f"which {name_of(op)} was told had failed" if op else "which nobody had appended"
            return f"{where} found {shown(part)}, {why}", [*([op] if op else []), read]
        if part in seen:
            return f"{where} found {shown(part)} twice", [op, read]
        seen[part] = place
    for part, op in parts.items():
        if op.outcome == "ok" and op.end is not None and op.end < read.start and part not in seen:
            return (
                f"{where} did not find {shown(part)}, which {name_of(op)} had appended at {at(op)}",
                [op, read],
            )
    last: Op | None = None  # of the parts so far, the one that began last
    for part in found:
        op = parts[part]
        if last is not None and op.outcome == "ok" and op.end is not None and op.end < last.start:
            said = f"{where} found {shown(part)} after {shown(last.value)}, yet {name_of(op)} had ended"
            return f"{said} before {name_of(last)} began", [op, last, read]
        if last is None or op.start > last.start:
            last = op
    return None


def _no_beginnings(key: str, reads: Sequence[Op]) -> list[tuple[str, list[Op]]]:
    """Return the reads that are no beginning of the next longer one."""
    ordered = sorted(reads, key=lambda op: len(op.value or ""))
    found = []
    for one, other in pairwise(ordered):
        if not (other.value or "").startswith(one.value or ""):
            said = f"text {key}: {name_of(one)} at {at(one)} found {shown(one.value)}, which is no"
            said += f" beginning of what {name_of(other)} at {at(other)} found"
            found.append((said, sorted((one, other), key=lambda op: op.start)))
    return found
