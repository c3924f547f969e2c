"""What a run of a scenario is to do, and which scenarios there are: tables. It runs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from kvlab.experiment import Plan
from kvlab.report.table import Column, Table, table
from kvlab.units import format_duration


def plan_table(plan: Plan) -> Table:
    """Show every phase and fault of a plan in order of time, with names resolved."""
    rows = [(at_us, until_us, "phase", name) for name, at_us, until_us in plan.phases]
    rows += [(one.at_us, one.until_us, "fault", one.title) for one in plan.faults]
    rows.sort(key=lambda row: row[0])
    cells = [
        (format_duration(at_us), format_duration(until_us - at_us), what, title)
        for at_us, until_us, what, title in rows
    ]
    columns = (
        Column("AT", right=True),
        Column("FOR", right=True),
        Column("WHAT"),
        Column("TITLE"),
    )
    return table("what happens when", columns, cells)


def scenarios_table(rows: Sequence[tuple[str, str, str, str]]) -> Table:
    """Show scenarios: name, how long they take, where they can run, what they are about."""
    columns = (
        Column("SCENARIO"),
        Column("TIME", right=True),
        Column("RUNS"),
        Column("WHAT HAPPENS"),
    )
    return table("scenarios", columns, rows)
