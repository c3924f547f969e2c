"""What simulated runs came to: the faults of one run, the sum of many. It runs and judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvlab.report.table import Column, Table, table
from kvlab.units import format_count, format_duration

STATES_SHOWN = 12


def faults_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """Show each fault: when, for how long, and whether it was felt."""
    rows = [
        (
            format_duration(line["t_us"]),
            format_duration(line["until_us"] - line["t_us"]),
            line["title"],
            _effect(line),
        )
        for line in lines
    ]
    styles = {"felt": "green", "not felt": "yellow"}
    columns = (
        Column("AT", right=True),
        Column("FOR", right=True),
        Column("FAULT"),
        Column("EFFECT", styles=styles),
    )
    return table("faults", columns, rows)


def _effect(line: Mapping[str, Any]) -> str:
    if not line["done"]:
        return f"not done: {line['why']}"
    return "felt" if line["bit"] else "not felt"


def mutants_table(mutants: Sequence[tuple[str, str, str]]) -> Table:
    """Show planted bugs: name, sin, the checks that find it."""
    columns = (Column("MUTANT"), Column("SIN"), Column("CAUGHT BY"))
    return table("planted bugs", columns, mutants)


def campaign_table(
    *,
    runs: int,
    verdicts: Mapping[str, int],
    operations: int,
    events: int,
    sim_us: int,
    took_us: int,
) -> Table:
    """Show how many runs there were, how fast, and what they came to."""
    per_s = runs / (took_us / 1e6) if took_us else 0.0
    factor = sim_us / took_us if took_us else 0.0
    row = (
        format_count(runs),
        *(format_count(verdicts.get(name, 0)) for name in ("valid", "invalid", "unknown")),
        format_count(operations),
        format_duration(sim_us),
        format_duration(took_us),
        f"{per_s:.1f}",
        f"{events / (took_us / 1e6):,.0f}" if took_us else "-",
        f"{factor:.0f}x",
    )
    columns = (
        Column("RUNS", right=True),
        Column("VALID", right=True, style="green"),
        Column("INVALID", right=True),
        Column("UNKNOWN", right=True),
        Column("OPERATIONS", right=True),
        Column("SIMULATED", right=True),
        Column("TOOK", right=True),
        Column("RUNS/S", right=True),
        Column("EVENTS/S", right=True),
        Column("REAL TIME", right=True),
    )
    return table("simulation", columns, [row])


def coverage_line(reached: int, known: int, missing: Sequence[str]) -> str:
    """Say how many states of the protocol were reached, and name those that were not."""
    text = f"{reached} of {known} protocol states reached"
    if not missing:
        return text
    shown = ", ".join(missing[:STATES_SHOWN])
    more = len(missing) - STATES_SHOWN
    return f"{text}; not: {shown}" + (f" and {more} more" if more > 0 else "")
