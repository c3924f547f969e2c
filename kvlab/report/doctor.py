"""The table of what this machine lacks. It examines nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvlab.report.table import Column, Table, table

_STYLES = {"ok": "green", "slow": "yellow", "missing": "bold red"}


def doctor_table(findings: Sequence[Mapping[str, Any]]) -> Table:
    """Show [{"name", "state", "said", "advice"}]: one row each, the advice below."""
    columns = (Column("QUESTION"), Column("STATE", styles=_STYLES), Column("FOUND"))
    rows = [(one["name"], one["state"], one["said"]) for one in findings]
    wrong = [one for one in findings if one["state"] != "ok"]
    title = "this machine has all that clusters need"
    if wrong:
        title = f"{len(wrong)} of {len(findings)} answers are not as they should be"
    return table(title, columns, rows, *(f"{one['name']}: {one['advice']}" for one in wrong))
