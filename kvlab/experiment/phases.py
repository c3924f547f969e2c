"""What clients saw in each phase of a run: counts, and the longest time without a success.

It judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kvlab.experiment.plan import Plan
from kvlab.history import Event

ANSWERS = ("NOT_FOUND", "CONFLICT")  # errors that a working store gives


@dataclass(slots=True)
class PhaseCount:
    """A phase, by the operations that began in it."""

    name: str
    began_us: int
    ended_us: int
    ok: int = 0
    failed: int = 0
    unknown: int = 0
    degraded: int = 0
    gap_us: int = 0  # the longest time without a success
    last_us: int = 0


@dataclass(slots=True)
class Counts:
    """All phases together; final reads, and what began later than the last one ended, are in none."""

    phases: list[PhaseCount]
    operations: int = 0  # that were begun
    ok: int = 0
    finals: int = 0  # final reads that succeeded
    open: dict[tuple[str, int], int | None] = field(
        default_factory=dict
    )  # operation -> place of its phase


def count_phases(plan: Plan, events: Iterable[Event]) -> Counts:
    """Count the events of a history. Memory is for the operations under way."""
    counts = Counts([PhaseCount(*phase, last_us=phase[1]) for phase in plan.phases])
    for event in events:
        if event.final:
            counts.finals += event.type == "ok"
        elif event.type == "invoke":
            counts.operations += 1
            counts.open[event.client, event.op] = _place_of(counts, event.t_us)
        else:
            counts.ok += _is_ok(event)
            place = counts.open.pop((event.client, event.op), None)
            if place is not None:
                _count(counts.phases[place], event)
    for place in counts.open.values():
        if place is not None:
            counts.phases[place].unknown += 1
    for phase in counts.phases:
        phase.gap_us = max(phase.gap_us, phase.ended_us - phase.last_us)
    return counts


def _place_of(counts: Counts, t_us: int) -> int | None:
    return next((n for n, one in enumerate(counts.phases) if t_us < one.ended_us), None)


def _is_ok(event: Event) -> bool:
    return event.type == "ok" or (event.type == "fail" and event.error in ANSWERS)


def _count(phase: PhaseCount, event: Event) -> None:
    if _is_ok(event):
        phase.ok += 1
        phase.degraded += event.degraded
        end_us = min(event.t_us, phase.ended_us)
        phase.gap_us = max(phase.gap_us, end_us - phase.last_us)
        phase.last_us = max(phase.last_us, end_us)
    elif event.type == "fail":
        phase.failed += 1
    else:
        phase.unknown += 1
