"""A history as numbers over time: rates by outcome, latencies, phases. It draws and judges nothing.

Final reads belong to no phase and to no series: they are asked all at once when everything is over.

Invariants:

1. An operation counts where it began, whenever it ended; so the counts of a bin are what was asked.
2. Latencies are of operations that succeeded, from sent to answered. Percentiles come from all of
   them in a bin or phase; where there are too few to tell, there is none (latency.py).
3. What is thinned out says so: `Points.left_out`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from kvlab.check.columns import DELETE, FAIL, INFO, NONE, OK, Bools, Columns, Ints
from kvlab.fault.fault import LASTING
from kvlab.history import MISSING
from kvlab.report.latency import LatencySummary, percentiles, summarize

OUTCOMES: Final = ("ok", "degraded", "failed", "unknown")
"""What became of an operation, best first. `degraded`: it succeeded with fewer copies than asked."""
SUCCEEDED: Final = 2  # the first so many of them
WIDTHS_US: Final = tuple(
    step * 10**power for power in range(3, 9) for step in (1, 2, 5)
)  # 1 ms to 500 s
BINS_MAX: Final = 180
LATENCY_OPS: Final = 100  # operations that a bin of latencies should hold
LATENCY_BINS_MIN: Final = 12
POINTS_MAX: Final = 3000
SLOWEST_PER_BIN: Final = 3


class Work(msgspec.Struct, frozen=True):
    """The operations of clients, without final reads, as arrays of one length."""

    rows: Ints  # in the columns
    start_us: Ints
    took_us: Ints  # NONE where there was no answer
    outcome: Ints  # places in OUTCOMES

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def succeeded(self) -> Bools:
        """Whether each operation did."""
        found: Bools = self.outcome < SUCCEEDED
        return found


class Rates(msgspec.Struct, frozen=True):
    """Operations begun in each bin, by outcome."""

    width_us: int
    counts: dict[str, list[int]]  # by OUTCOMES; one number a bin, from time 0 on


class Latencies(msgspec.Struct, frozen=True):
    """Percentiles of each bin in microseconds; None where there are too few operations."""

    width_us: int
    n: list[int]
    p50_us: list[int | None]
    p99_us: list[int | None]
    max_us: list[int | None]


class Points(msgspec.Struct, frozen=True):
    """Single operations worth a dot, and how many like them have none."""

    rows: Ints
    left_out: int


class PhaseFigures(msgspec.Struct, frozen=True):
    """What clients saw in one phase."""

    name: str
    began_us: int
    ended_us: int
    ok: int  # degraded ones included
    degraded: int
    failed: int
    unknown: int
    gap_us: int  # the longest time without a success
    latency: LatencySummary

    @property
    def operations(self) -> int:
        """How many began in it."""
        return self.ok + self.failed + self.unknown

    @property
    def per_s(self) -> float:
        """Operations that succeeded, per second."""
        took_us = self.ended_us - self.began_us
        return self.ok / (took_us / 1e6) if took_us else 0.0

    @property
    def ok_share(self) -> float | None:
        """The share that succeeded; None where nothing was asked."""
        return self.ok / self.operations if self.operations else None

    def to_builtins(self) -> dict[str, Any]:
        """Return the phase as JSON shows it."""
        told = msgspec.to_builtins(self)
        return {**told, "operations": self.operations, "per_s": round(self.per_s, 1)}


def work_of(columns: Columns) -> Work:
    """Return what clients did before the final reads."""
    rows = np.flatnonzero(~columns.final).astype(np.int64)
    outcome, error = columns.outcome[rows], columns.error[rows]
    told = [number for number, text in enumerate(columns.errors) if text == MISSING]
    missing = (columns.f[rows] == DELETE) & (outcome == FAIL) & np.isin(error, told)
    ok = (outcome == OK) | missing
    kinds = np.select(
        [ok & columns.degraded[rows], ok, outcome == FAIL, outcome == INFO], [1, 0, 2, 3]
    )
    start_us, end_us = columns.start_us[rows], columns.end_us[rows]
    took_us = np.where(end_us == NONE, NONE, end_us - start_us)
    return Work(rows, start_us, took_us, kinds.astype(np.int64))


def span_us(columns: Columns, phases: Sequence[tuple[str, int, int]] = ()) -> int:
    """Return how long clients worked: until the last phase or operation ended; at least 1."""
    work = work_of(columns)
    ends = work.start_us + np.maximum(work.took_us, 0)
    last_us = int(ends.max()) if len(ends) else 0
    return max([1, last_us, *(until_us for _, _, until_us in phases)])


def width_of(span: int, bins_max: int = BINS_MAX) -> int:
    """Return the smallest round width of a bin (microseconds) of which so many cover a span."""
    return next((one for one in WIDTHS_US if one * bins_max >= span), -(-span // bins_max))


def rates(work: Work, span: int) -> Rates:
    """Count operations by bin and outcome."""
    width = width_of(span)
    count = -(-span // width)
    place = np.clip(work.start_us // width, 0, count - 1)
    counts = {
        name: np.bincount(place[work.outcome == code], minlength=count).tolist()
        for code, name in enumerate(OUTCOMES)
    }
    return Rates(width, counts)


def latencies(work: Work, span: int) -> Latencies:
    """Return percentiles by bins that are wide enough to hold LATENCY_OPS operations each."""
    ok = work.succeeded
    start_us, took_us = work.start_us[ok], work.took_us[ok]
    bins = min(BINS_MAX, max(LATENCY_BINS_MIN, len(took_us) // LATENCY_OPS))
    width = width_of(span, bins)
    count = -(-span // width)
    place = np.clip(start_us // width, 0, count - 1)
    order = np.lexsort((took_us, place))
    sorted_us = took_us[order]
    bounds = np.searchsorted(place[order], np.arange(count + 1))
    found = Latencies(width, [], [], [], [])
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        part = sorted_us[low:high]
        p50, p99 = percentiles(part, np.ones(len(part), np.int64), (0.5, 0.99))  # type: ignore[arg-type]
        found.n.append(high - low)
        found.p50_us.append(p50)
        found.p99_us.append(p99)
        found.max_us.append(int(part[-1]) if len(part) else None)
    return found


def points(work: Work, outcome: str, span: int) -> Points:
    """Choose operations of one outcome: all where they are few, else the slowest of each bin."""
    chosen = np.flatnonzero(work.outcome == OUTCOMES.index(outcome))
    if len(chosen) <= POINTS_MAX:
        return Points(chosen, 0)
    place = work.start_us[chosen] // width_of(span)
    order = np.lexsort((-work.took_us[chosen], place))
    first = np.searchsorted(place[order], place[order])  # where the bin of each begins
    kept = order[np.arange(len(order)) - first < SLOWEST_PER_BIN]
    return Points(np.sort(chosen[kept]), len(chosen) - len(kept))


def phase_figures(
    columns: Columns, phases: Sequence[tuple[str, int, int]]
) -> tuple[PhaseFigures, ...]:
    """Return what clients saw in each phase, given as (name, from, until)."""
    work = work_of(columns)
    found, low_us = [], -(2**62)
    for name, began_us, ended_us in phases:
        here = (work.start_us >= low_us) & (work.start_us < ended_us)
        found.append(_phase(name, began_us, ended_us, work, here))
        low_us = ended_us
    return tuple(found)


def _phase(name: str, began_us: int, ended_us: int, work: Work, here: Bools) -> PhaseFigures:
    ok = here & work.succeeded
    took_us = np.sort(work.took_us[ok])
    ends_us = np.sort(np.minimum(work.start_us[ok] + work.took_us[ok], ended_us))
    moments = np.concatenate(([began_us], ends_us, [ended_us]))
    counts = np.bincount(work.outcome[here], minlength=len(OUTCOMES)).tolist()
    values, times = np.unique(took_us, return_counts=True)
    return PhaseFigures(
        name=name,
        began_us=began_us,
        ended_us=ended_us,
        ok=counts[0] + counts[1],
        degraded=counts[1],
        failed=counts[2],
        unknown=counts[3],
        gap_us=int(np.diff(moments).max()),
        latency=summarize(values.tolist(), times.tolist()),
    )


def fault_span(line: Mapping[str, Any], until_us: int) -> tuple[int, int]:
    """Return from when until when a fault lasted, by its line of faults.jsonl, within a run.

    What nobody undoes (a reset, a join) is a moment.
    """
    began_us = int(line.get("t_us", 0))
    if line.get("kind") in LASTING:
        until_us = min(until_us, began_us)
    ended_us = int(line.get("undone_us") or line.get("until_us") or until_us)
    return min(began_us, until_us), min(max(began_us, ended_us), until_us)
