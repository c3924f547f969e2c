"""How long nothing succeeded: the longest gap, the first success after the last fault.

It does not ask whether answers were right. `availability` measures, and judges only where a bound is
given; `liveness` holds if anything at all succeeds once the faults are over.

1. A success is an operation that ended `ok`, or a delete that was told that there is no such key.
2. A gap is a time without the end of a success in which somebody wanted something: it begins with
   the last success, or later, when the first operation was under way. Time in which nobody asked is
   not counted.
3. Faults are over when the caller says so (`healed_us`, on the clock of the history); an operation
   counts as after them if it began then.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from kvlab.check.columns import DELETE, FAIL, INFO, NONE, OK, Bools, Columns, Ints, columns_of
from kvlab.check.operations import Operations
from kvlab.check.verdict import Check, Verdict
from kvlab.history import MISSING
from kvlab.units import format_duration

AVAILABILITY = "availability"
LIVENESS = "liveness"
GAPS_LISTED = 5
FOREVER_US = 2**62
US_PER_S = 1_000_000


class _Gap(msgspec.Struct, frozen=True):
    """A time without a success, and the rows of the successes around it (NONE: there was none)."""

    began_us: int
    length_us: int
    before: int
    after: int


def check_availability(
    history: Operations,
    *,
    healed_us: int | None = None,
    gap_us_max: int | None = None,
    heal_us_max: int | None = None,
) -> Check:
    """Measure gaps; judge them where a bound is given. O(n log n) for n operations."""
    columns = columns_of(history)
    count = len(columns)
    if not count:
        return Check(name=AVAILABILITY, verdict=Verdict.UNKNOWN, because="there are no operations")
    succeeded = _succeeded(columns)
    gaps, over = _gaps(columns, succeeded, FOREVER_US if gap_us_max is None else gap_us_max)
    longest = gaps[0].length_us if gaps else 0
    heal = None if healed_us is None else _after_heal(columns, succeeded, healed_us)
    figures: dict[str, Any] = {
        "operations": count,
        "succeeded": int(np.count_nonzero(succeeded)),
        "succeeded_share": float(np.count_nonzero(succeeded)) / count,
        "failed": int(np.count_nonzero(~succeeded & (columns.outcome == FAIL))),
        "unknown": int(np.count_nonzero(columns.outcome == INFO)),
        "longest_gap_us": longest,
    }
    if heal is not None:
        figures["first_success_after_heal_us"] = heal.first_us
    figures["longest_gaps"] = [{"began_us": gap.began_us, "gap_us": gap.length_us} for gap in gaps]
    verdict = Verdict.VALID
    evidence: tuple[int, ...] = ()
    because = f"the longest time without a success was {format_duration(longest)}"
    if over:
        verdict, evidence = Verdict.INVALID, _places(columns, gaps[0])
        because += f", from {gaps[0].began_us / US_PER_S:.6f} s on, and"
        because += f" {format_duration(gap_us_max or 0)} are allowed"
    elif heal is not None and heal_us_max is not None and heal.is_over(heal_us_max):
        verdict = Verdict.INVALID
        evidence = (int(columns.start[heal.asked_row]),)
        because = (
            f"after the last fault {heal.said()}, and {format_duration(heal_us_max)} are allowed"
        )
    elif gap_us_max is None and heal_us_max is None:
        because += "; no bound was given"
    return Check(
        name=AVAILABILITY,
        verdict=verdict,
        because=because,
        evidence=evidence,
        judged=count,
        violations=over or int(verdict is Verdict.INVALID),
        figures=figures,
    )


def check_liveness(history: Operations, *, healed_us: int | None = None) -> Check:
    """Judge whether anything succeeds after the last fault, or at all where none is known."""
    columns = columns_of(history)
    since_us = int(columns.start_us[0]) if healed_us is None and len(columns) else healed_us or 0
    when = "" if healed_us is None else " that began after the last fault"
    heal = _after_heal(columns, _succeeded(columns), since_us)
    if heal is None:
        because = (
            "there are no operations"
            if healed_us is None
            else "no operation began after the last fault"
        )
        return Check(name=LIVENESS, verdict=Verdict.UNKNOWN, because=because)
    if heal.first_us is None:
        return Check(
            name=LIVENESS,
            verdict=Verdict.INVALID,
            because=f"none of {heal.asked} operations{when} succeeded",
            evidence=(int(columns.start[heal.asked_row]),),
            judged=heal.asked,
            violations=heal.asked,
        )
    because = f"{heal.succeeded} of {heal.asked} operations{when} succeeded"
    return Check(name=LIVENESS, verdict=Verdict.VALID, because=because, judged=heal.asked)


class _Heal(msgspec.Struct, frozen=True):
    """What became of the operations that began after the last fault."""

    asked: int
    asked_row: int
    succeeded: int
    first_us: int | None  # from when it was over, and somebody asked, to the first success

    def is_over(self, bound_us: int) -> bool:
        """Say whether the first success came later than allowed, or never."""
        return self.first_us is None or self.first_us > bound_us

    def said(self) -> str:
        """Say how long it took."""
        if self.first_us is None:
            return f"none of {self.asked} operations succeeded"
        return f"the first success took {format_duration(self.first_us)}"


def _after_heal(columns: Columns, succeeded: Bools, healed_us: int) -> _Heal | None:
    rows = np.flatnonzero(columns.start_us >= healed_us)
    if not len(rows):
        return None
    ends = columns.end_us[rows][succeeded[rows]]
    asked_us = int(columns.start_us[rows[0]])
    first_us = int(ends.min()) - asked_us if len(ends) else None
    return _Heal(len(rows), int(rows[0]), len(ends), first_us)


def _succeeded(columns: Columns) -> Bools:
    told = [number for number, text in enumerate(columns.errors) if text == MISSING]
    missing = (columns.f == DELETE) & (columns.outcome == FAIL) & np.isin(columns.error, told)
    found: Bools = (columns.outcome == OK) | missing
    return found


def _gaps(columns: Columns, succeeded: Bools, bound_us: int) -> tuple[list[_Gap], int]:
    """Return the longest gaps, the longest first, and how many exceed a bound."""
    rows = np.flatnonzero(succeeded)
    rows = rows[np.argsort(columns.end_us[rows], kind="stable")]
    last_us = max(int(columns.start_us.max()), int(columns.end_us.max()))
    ends_us = columns.end_us[rows]
    begins = np.concatenate(([columns.start_us.min()], ends_us))
    until = np.concatenate((ends_us, [last_us]))
    begins = np.maximum(begins, _wanted_from(columns, begins))
    lengths = np.maximum(until - begins, 0)
    before = np.concatenate(([NONE], rows))
    after = np.concatenate((rows, [NONE]))
    order = np.argsort(-lengths, kind="stable")
    longest = [at for at in order[:GAPS_LISTED].tolist() if lengths[at] > 0]
    return [
        _Gap(int(begins[at]), int(lengths[at]), int(before[at]), int(after[at])) for at in longest
    ], int(np.count_nonzero(lengths > bound_us))


def _wanted_from(columns: Columns, moments: Ints) -> Ints:
    """For each moment, the first from there on at which some operation is under way."""
    starts = np.sort(columns.start_us)
    ends = np.sort(np.where(columns.end_us == NONE, FOREVER_US, columns.end_us))
    begun = np.searchsorted(starts, moments, side="right")
    under_way = begun > np.searchsorted(ends, moments, side="right")
    later = np.append(starts, FOREVER_US)[begun]
    return np.where(under_way, moments, later)


def _places(columns: Columns, gap: _Gap) -> tuple[int, ...]:
    return tuple(int(columns.start[row]) for row in (gap.before, gap.after) if row != NONE)
