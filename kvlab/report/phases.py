"""What clients saw in each phase of a run, as a table. It measures nothing: series.py does."""

from __future__ import annotations

from collections.abc import Sequence

from kvlab.report.latency import show_us
from kvlab.report.series import PhaseFigures
from kvlab.report.table import Column, Table, table
from kvlab.units import format_count, format_duration

TITLE = "what clients saw, by phase"


def phase_latency_table(phases: Sequence[PhaseFigures]) -> Table:
    """Show operations and latencies by phase: FAILED did not happen, UNKNOWN may have.

    OK counts degraded ones too. Percentiles are of what succeeded, from sent to answered; "-" where
    there are too few to tell.
    """
    rows = [
        (
            one.name,
            format_duration(one.ended_us - one.began_us),
            format_count(one.operations),
            f"{one.per_s:,.0f}",
            "" if one.ok_share is None else share_text(one.ok_share),
            format_count(one.degraded),
            format_count(one.failed),
            format_count(one.unknown),
            show_us(one.latency.p50_us),
            show_us(one.latency.p90_us),
            show_us(one.latency.p99_us),
            show_us(one.latency.max_us),
            format_duration(one.gap_us),
        )
        for one in phases
    ]
    columns = (
        Column("PHASE"),
        Column("TOOK", right=True, rank=1),
        Column("ASKED", right=True),
        Column("OK/S", right=True),
        Column("OK", right=True, style="green"),
        Column("DEGRADED", right=True, quiet="0"),
        Column("FAILED", right=True),
        Column("UNKNOWN", right=True),
        Column("P50", right=True),
        Column("P90", right=True, rank=2),
        Column("P99", right=True),
        Column("MAX", right=True),
        Column("LONGEST GAP", right=True),
    )
    return table(TITLE, columns, rows)


def share_text(share: float) -> str:
    """Return a share in percent; 100% only where it is whole, and never rounded up to it."""
    if share == 1:
        return "100%"
    return f"{min(share, 0.9999):.2%}"
