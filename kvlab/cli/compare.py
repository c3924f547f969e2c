"""The verb compare: two finished runs side by side. It judges neither."""

from __future__ import annotations

from typing import Annotated

import typer

from kvlab.cli import out
from kvlab.cli.options import Json
from kvlab.cli.record import read_record
from kvlab.rundir import find_run


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("compare")(compare)


def compare(
    run_a: Annotated[
        str, typer.Argument(metavar="A", help="The folder of a run, or its name for the latest.")
    ],
    run_b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    *,
    as_json: Json = False,
) -> None:
    """Show two runs side by side: verdicts, checks, phases with ratios, environments.

    B/A is the second run over the first. Two single runs differ by chance too: repeat both a few
    times before you call one faster. The exit code is 0 whatever differs.

    Examples:
      kvlab compare runs/kill-one/20261124-101500 runs/kill-one/latest
      kvlab compare kill-one kill-minority
      kvlab compare kill-one pause-coordinator --json
    """
    from kvlab.report.compare import compare_runs, compare_tables

    found = compare_runs(read_record(find_run(run_a)), read_record(find_run(run_b)))
    if as_json:
        out.show_json(found.to_builtins())
        return
    for letter, place in (("A", 0), ("B", 1)):
        out.say(
            f"{letter}: {found.names[place]}: {found.verdicts[place]} - {found.becauses[place]}"
        )
    out.say("")
    out.show(*compare_tables(found))
    out.next_step(f"kvlab report {found.names[0]} --open", f"kvlab report {found.names[1]} --open")
