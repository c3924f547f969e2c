"""Counters: every number seen lies between what had certainly and what had possibly been added.

It is not a check of linearizability, which is stricter: two reads may disagree within the bounds.

1. Counters are keys with `incr` and gets alone; others are not judged. A counter begins at 0.
2. What is seen by a get, or told to an `incr`, is at least the sum of the increments acknowledged
   before it began and at most that of all that began before it ended and were not refused. An `incr`
   counts itself. Negative increments change sides.
3. A value that is no whole number is wrong.
4. So in the end a counter has what was acknowledged and, at most, what is of unknown end beside.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from kvlab.check.findings import invalid
from kvlab.check.operations import Operations
from kvlab.check.verdict import Check, Verdict
from kvlab.check.words import at, name_of, shown
from kvlab.history import Op

NAME = "counter"
NEVER = 2**62


class _Sums:
    """Sums of increments by the places at which something becomes of them."""

    def __init__(self, some: Sequence[tuple[int, int]]) -> None:
        ordered = sorted(some)
        self._places = [place for place, _ in ordered]
        self._sums = [0, *accumulate(step for _, step in ordered)]

    def before(self, place: int) -> int:
        """Return the sum of what lies before a place."""
        return self._sums[bisect_left(self._places, place)]


def check_counter(history: Operations) -> Check:
    """Judge everything that was seen of every counter. O(n log n) for n operations."""
    counters, judged, acknowledged, unknown = 0, 0, 0, 0
    wrong: list[tuple[str, Op]] = []
    for key, ops in history.by_key().items():
        steps = [op for op in ops if op.f == "incr" and op.outcome != "fail"]
        if not any(op.f == "incr" for op in ops) or any(op.f not in ("incr", "get") for op in ops):
            continue
        try:
            sizes = {op.start: int(op.value or "1") for op in steps}
        except ValueError:
            continue  # no number was to be added: what a store makes of it is its own business
        counters += 1
        acknowledged += sum(sizes[op.start] for op in steps if op.outcome == "ok")
        unknown += sum(sizes[op.start] for op in steps if op.outcome == "info")
        seers = [op for op in ops if op.outcome == "ok" and (op.f == "get" or op.result)]
        judged += len(seers)
        wrong += _judge(key, steps, sizes, seers)
    figures = {"counters": counters, "acknowledged": acknowledged, "unknown": unknown}
    if wrong:
        return invalid(NAME, [(said, [seer]) for said, seer in wrong], judged, figures)
    if not judged:
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because="nobody saw a counter")
    return Check(
        name=NAME,
        verdict=Verdict.VALID,
        because=f"all {judged} numbers seen of {counters} counters are within their bounds",
        judged=judged,
        figures=figures,
    )


def _judge(
    key: str, steps: Sequence[Op], sizes: dict[int, int], seers: Sequence[Op]
) -> list[tuple[str, Op]]:
    sure = [(op.end, sizes[op.start]) for op in steps if op.outcome == "ok" and op.end is not None]
    begun = [(op.start, sizes[op.start]) for op in steps]
    up_sure, down_sure = (
        _Sums([one for one in sure if (one[1] > 0) is up]) for up in (True, False)
    )
    up, down = (_Sums([one for one in begun if (one[1] > 0) is up]) for up in (True, False))
    wrong = []
    for seer in seers:
        end = NEVER if seer.end is None else seer.end
        low = up_sure.before(seer.start) + down.before(end)
        high = up.before(end) + down_sure.before(seer.start)
        own = sizes.get(seer.start, 0) if seer.f == "incr" else 0
        low, high = low + max(own, 0), high + min(own, 0)  # it counts itself on both sides
        text = seer.value if seer.f == "get" else seer.result
        said = f"counter {key}: {name_of(seer)} at {at(seer)} saw {shown(text)}"
        try:
            number = int(text or "0")
        except ValueError:
            wrong.append((f"{said}, which is no number", seer))
            continue
        if number < low:
            wrong.append((f"{said}, yet {low} had been added and acknowledged before", seer))
        elif number > high:
            wrong.append((f"{said}, yet only {high} can have been added by then", seer))
    return wrong
