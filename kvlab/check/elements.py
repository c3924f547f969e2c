"""A set whose elements are keys that are written once: what was added is there at the end, once.

It is not a check of what was read on the way: an element that is not there yet may be late. The
workload is that of Jepsen's set tests, with a key for each element.

1. Elements are keys with one `set` and otherwise only gets; others are not judged. Only final reads
   are, those marked `final`.
2. An element that was acknowledged before a final read began, and is not there, is lost.
3. One that certainly was not added, or that nobody added, and is there, is unexpected; so is a value
   that was added nowhere. A value that was added as another element is duplicated.
4. One of unknown end may be there or not (`recovered` counts those that are).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kvlab.check.operations import Operations
from kvlab.check.origins import in_order
from kvlab.check.verdict import Check, Verdict
from kvlab.check.words import at, name_of, shown
from kvlab.history import Op

NAME = "set"
FAULTS = ("lost", "unexpected", "duplicated")


def check_set(history: Operations) -> Check:
    """Judge the final reads of every element. O(n) for n operations."""
    counts: Counter[str] = Counter()
    wrong: list[tuple[str, str, list[Op]]] = []
    elements: list[tuple[str, Op | None, list[Op]]] = []
    added: dict[str | None, Op] = {}
    for key, ops in history.by_key().items():
        adds = [op for op in ops if op.f == "set"]
        finals = [op for op in ops if op.final and op.outcome == "ok" and op.f == "get"]
        if len(adds) > 1 or any(op.f not in ("set", "get") for op in ops):
            continue
        for op in adds:
            added[op.value] = op
            counts[f"added_{op.outcome}"] += 1
        elements.append((key, adds[0] if adds else None, finals))
    for key, add, finals in elements:
        judged = [_judge(key, add, read, added) for read in finals]
        counts["judged"] += bool(judged)
        counts["present"] += any(read.value is not None for read in finals)
        found = next((one for one in judged if one is not None), None)
        if found is not None:
            counts[found[0]] += 1
            wrong.append(found)
        elif add is not None and add.outcome == "info":
            counts["recovered"] += any(read.value is not None for read in finals)
    return _conclude(counts, wrong)


def _judge(
    key: str, add: Op | None, read: Op, added: dict[str | None, Op]
) -> tuple[str, str, list[Op]] | None:
    """Return what is wrong with a final read: one of FAULTS, a sentence, the operations."""
    where = f"the final read by {read.client} at {at(read)}"
    if read.value is None:
        if add is None or add.outcome != "ok" or add.end is None or add.end > read.start:
            return None
        said = f"element {key} is lost: {name_of(add)} was acknowledged at {at(add)}, yet {where}"
        return "lost", f"{said} found nothing", [add, read]
    if add is not None and read.value == add.value:
        if add.outcome != "fail":
            return None
        said = f"element {key} is unexpected: {name_of(add)} was refused ({add.error or 'failed'})"
        return "unexpected", f"{said}, yet {where} found it", [add, read]
    other = added.get(read.value)
    if other is not None:
        said = f"element {key} has the value of {other.key}: {where} found {shown(read.value)}"
        return "duplicated", said, [other, read]
    said = f"element {key} is unexpected: {where} found {shown(read.value)}"
    return "unexpected", f"{said}, which nobody had added", [read]


def _conclude(counts: Counter[str], wrong: Sequence[tuple[str, str, list[Op]]]) -> Check:
    figures = {name: counts[name] for name in ("present", *FAULTS, "recovered")}
    figures["acknowledged"], figures["unknown"] = counts["added_ok"], counts["added_info"]
    if wrong:
        _, because, ops = min(wrong, key=lambda one: one[2][-1].start)
        summed = ", ".join(f"{counts[name]} {name}" for name in FAULTS if counts[name])
        return Check(
            name=NAME,
            verdict=Verdict.INVALID,
            because=f"{because} ({summed})",
            evidence=in_order(ops),
            judged=counts["judged"],
            violations=len(wrong),
            figures=figures,
        )
    if not counts["judged"]:
        because = "there are no final reads of keys that were written once"
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because=because)
    because = f"{counts['added_ok']} elements were acknowledged, {counts['present']} are there"
    return Check(
        name=NAME,
        verdict=Verdict.VALID,
        because=f"{because}, {counts['recovered']} of them of unknown end",
        judged=counts["judged"],
        figures=figures,
    )
