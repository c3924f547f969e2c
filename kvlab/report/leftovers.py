"""The table of what a dead supervisor left behind. It ends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvlab.report.table import Column, Table, table


def leftovers_table(answer: Mapping[str, Any]) -> Table:
    """Show {"dry_run", "processes": [{"pid", "name", "state"}], "files": [path]}."""
    rows = [("process", str(one["pid"]), one["name"], one["state"]) for one in answer["processes"]]
    rows += [("file", "", "", path) for path in answer["files"]]
    columns = (Column("KIND"), Column("PID", right=True), Column("NAME"), Column("WHERE"))
    if not rows:
        return table("nothing was left behind", columns, rows)
    said = "would be ended or removed" if answer["dry_run"] else "ended or removed"
    return table(f"{said}: {len(rows)}", columns, rows)
