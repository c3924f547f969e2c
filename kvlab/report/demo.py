"""What a demonstration ends with: what clients saw in each phase, and what the checks say.

It judges nothing: the verdicts come from `check`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kvlab.check.verdict import Check
from kvlab.report.table import Column, Table, table
from kvlab.units import format_count, format_duration

_VERDICT_STYLES = {"valid": "green", "invalid": "bold red", "unknown": "yellow"}


class PhaseCounts(Protocol):
    """What is shown of a phase."""

    name: str
    began_us: int
    ended_us: int
    ok: int
    failed: int
    unknown: int
    degraded: int
    gap_us: int


def phases_table(phases: Sequence[PhaseCounts]) -> Table:
    """Show operations by phase: FAILED did not happen, UNKNOWN may have."""
    rows = [
        (
            phase.name,
            format_duration(phase.ended_us - phase.began_us),
            format_count(phase.ok),
            format_count(phase.degraded),
            format_count(phase.failed),
            format_count(phase.unknown),
            format_duration(phase.gap_us),
        )
        for phase in phases
    ]
    columns = (
        Column("PHASE"),
        Column("TOOK", right=True),
        Column("OK", right=True, style="green"),
        Column("DEGRADED", right=True),
        Column("FAILED", right=True),
        Column("UNKNOWN", right=True),
        Column("LONGEST GAP", right=True),
    )
    return table("what clients saw, by phase", columns, rows)


def checks_table(checks: Sequence[Check]) -> Table:
    """Show each check with its verdict and its sentence."""
    rows = [
        (check.name, check.verdict.value, format_count(check.judged), check.because)
        for check in checks
    ]
    columns = (
        Column("CHECK"),
        Column("VERDICT", styles=_VERDICT_STYLES),
        Column("JUDGED", right=True),
        Column("BECAUSE"),
    )
    return table("checks of the recorded history", columns, rows)
