"""The verb matrix: many runs, from one file to a table of verdicts, JUnit XML and an exit code.

It parses, calls `matrix_pool` and prints. How it goes is shown by `matrix_progress`.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kvlab import units
from kvlab.cli import EXIT_INTERRUPTED, out
from kvlab.cli.matrices import DEFAULT_FILE, chosen, read_matrix, shipped_matrices
from kvlab.cli.options import Json
from kvlab.cli.run import STAMP, UTC, environment
from kvlab.cli.scenarios import about
from kvlab.cli.sim_pool import cores
from kvlab.errors import InfraError, InvalidError, UnknownError, UsageError, VacuousError
from kvlab.report import matrix as outcomes
from kvlab.report.matrix import CellResult
from kvlab.rundir import REPORT, MatrixDir, new_run
from kvlab.spec.matrix import AXES, CellSpec, MatrixSpec
from kvlab.spec.matrix_items import parse_seeds

JOBS_MAX = 64
EXIT_CODES = {
    outcomes.PASSED: 0,
    outcomes.FAILED: InvalidError.exit_code,
    outcomes.UNKNOWN: UnknownError.exit_code,
    outcomes.VACUOUS: VacuousError.exit_code,
    outcomes.BROKEN: InfraError.exit_code,
    outcomes.INTERRUPTED: EXIT_INTERRUPTED,
    outcomes.NOT_RUN: EXIT_INTERRUPTED,  # where nothing is worse, no run was under way just then
}


File = Annotated[
    str,
    typer.Argument(
        metavar="[FILE]", help="A file, or a name of --list.", show_default="./matrix.yaml"
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("-j", "--jobs", min=1, max=JOBS_MAX, help="Runs at once.", show_default="cores"),
]
ClusterFile = Annotated[
    Path | None,
    typer.Option(
        "-f", "--file", metavar="FILE", help="Run it on the cluster of this cluster.yaml."
    ),
]
Seeds = Annotated[
    str, typer.Option("--seeds", help="Seeds in place of the file's: 1-3.", show_default=False)
]
Filters = Annotated[
    list[str] | None,
    typer.Option("-k", metavar="TEXT", help="Only cells with this in their name; repeatable."),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Begin no more runs after one that did not pass.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="A new folder, for the folders of the runs.",
        show_default="runs/NAME/TIME",
    ),
]
Junit = Annotated[
    Path | None, typer.Option("--junit", metavar="PATH", help="Write JUnit XML here, too.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be run, and start nothing.")
]
ListAll = Annotated[bool, typer.Option("--list", help="List the matrices of the package.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("matrix")(matrix)


def matrix(
    file: File = DEFAULT_FILE,
    *,
    jobs: Jobs = None,
    cluster: ClusterFile = None,
    seeds: Seeds = "",
    filters: Filters = None,
    fail_fast: FailFast = False,
    directory: Out = None,
    junit: Junit = None,
    dry_run: DryRun = False,
    list_all: ListAll = False,
    as_json: Json = False,
) -> None:
    """Run scenarios under all combinations of namespaces, sizes, workloads and seeds.

    Each cell of the matrix is one `kvlab run` on real processes, with a folder of its own. The exit
    code is that of the worst: 0 all are as expected, 1 one is not, 5 the machine, 3 unknown, 4 one
    proved nothing. Ctrl-C ends all runs, and nothing is left running.

    Examples:
      kvlab matrix short -j 2
      kvlab matrix matrix.yaml --seeds 1-3 --junit junit.xml
      kvlab matrix short -k linear --dry-run
      kvlab matrix matrix.yaml -f cluster.yaml      servers by others, on free ports
      kvlab matrix --list
    """
    if list_all:
        _list(as_json=as_json)
        return
    wanted = parse_seeds(seeds) if seeds else ()
    if seeds and not wanted:
        raise UsageError(f'"{seeds}" are no seeds', hint="write a range like 1-3, or 1,5,7-9")
    spec = read_matrix(file, wanted, cluster)
    cells = chosen(spec.cells, filters or ())
    command = f"kvlab matrix {shlex.quote(file)}" + (f" --seeds {seeds}" if seeds else "")
    command += f" -f {shlex.quote(str(cluster))}" if cluster is not None else ""
    if dry_run:
        _show_cells(spec, cells, command, as_json=as_json)
        return
    _perform(
        spec,
        cells,
        command,
        jobs or cores(),
        directory,
        junit,
        fail_fast=fail_fast,
        as_json=as_json,
    )


# -- a matrix that is run -----------------------------------------------------------------------


def _perform(
    spec: MatrixSpec,
    cells: Sequence[CellSpec],
    command: str,
    jobs: int,
    directory: Path | None,
    junit: Path | None,
    *,
    fail_fast: bool,
    as_json: bool,
) -> None:
    """Run cells, write and show what they came to."""
    from kvlab.cli.matrix_pool import Job, run_cells
    from kvlab.cli.matrix_progress import Progress

    utc, began = time.strftime(UTC, time.gmtime()), time.monotonic()
    if junit is not None:
        _write(junit, "")  # better told now than after an hour
    if directory is not None:
        files = MatrixDir.create(directory)
    else:
        files = MatrixDir(new_run(spec.name, time.strftime(STAMP)).path)
    job = Job(files, command, spec.timeout_of, jobs, fail_fast)
    with Progress(len(cells), quiet=as_json) as progress:
        progress.tell(f"{spec.name}: {len(cells)} cells, {jobs} at once, files in {files.path}")
        results = run_cells(job, cells, progress)
    took_us = round((time.monotonic() - began) * 1e6)
    document = _document(spec, results, took_us, command)
    text = _junit(spec, results, utc, took_us)
    files.finish(document, text)
    if junit is not None:
        _write(junit, text)
    if as_json:
        out.show_json(document | {"run": str(files.path)})
    else:
        _show(results, files, took_us, command)
    raise typer.Exit(EXIT_CODES[outcomes.worst_outcome(results)])


def _junit(spec: MatrixSpec, results: Sequence[CellResult], utc: str, took_us: int) -> str:
    from kvlab.report.junit import junit_xml

    cases = outcomes.cases_of_matrix(spec.name, results)
    return junit_xml(spec.name, cases, timestamp=utc, took_us=took_us)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InfraError(f"cannot write {path}: {error.strerror}") from error


def _document(
    spec: MatrixSpec, results: Sequence[CellResult], took_us: int, command: str
) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": spec.name,
        "outcome": outcomes.worst_outcome(results),
        "because": outcomes.summary(results),
        "took_us": took_us,
        "cells": [one.to_builtins() for one in results],
        "reproduce": command,
        "environment": environment(),
    }


def _show(results: Sequence[CellResult], files: MatrixDir, took_us: int, command: str) -> None:
    links = {one.run: _link(files, one) for one in results if one.outcome != outcomes.NOT_RUN}
    grid = outcomes.grid_table(results)
    out.show(outcomes.runs_table(results, links), *([grid] if grid is not None else []))
    out.say("")
    ended = (outcomes.NOT_RUN, outcomes.INTERRUPTED)
    bad = [one for one in results if not one.passed and one.outcome not in ended]
    for one in bad:
        out.say(f"{one.cell.name}: {': '.join(part for part in (one.said, one.because) if part)}")
        out.say(f"  reproduce: {one.repeat}")
    worst = outcomes.worst_outcome(results)
    took = units.format_duration(took_us)
    out.say(f"{worst}: {outcomes.summary(results)}; took {took}; files in {files.path}")
    shown = (bad or results)[0]
    if shown.verdict:
        out.next_step(f"kvlab check {shown.run} --check sessions", f"kvlab replay {shown.run}")
    else:
        out.next_step(shown.repeat if bad else command)


def _link(files: MatrixDir, result: CellResult) -> str:
    """Return where a terminal's link to a run leads: its report, or the folder."""
    folder = files.run(result.cell.name).absolute()
    report = folder / REPORT
    return (report if report.exists() else folder).as_uri()


# -- what is there to run -----------------------------------------------------------------------


def _show_cells(
    spec: MatrixSpec, cells: Sequence[CellSpec], command: str, *, as_json: bool
) -> None:
    if as_json:
        told = [
            {
                "cell": cell.name,
                "values": {axis: cell.value(axis) for axis in AXES if cell.value(axis)},
                "time_us": cell.scenario.time_us,
                "expect": cell.scenario.expect,
            }
            for cell in cells
        ]
        out.show_json({"schema": 1, "name": spec.name, "cells": told})
        return
    out.show(outcomes.cells_table(cells))
    out.say("")
    out.say(f"{len(cells)} cells of {units.format_duration(_span_us(cells))} one after the other")
    out.next_step(f"{command} -j {cores()}")


def _span_us(cells: Sequence[CellSpec]) -> int:
    return sum(cell.scenario.time_us for cell in cells)


def _list(*, as_json: bool) -> None:
    found = {name: read_matrix(name) for name in shipped_matrices()}
    rows = [
        (name, len(spec.cells), _span_us(spec.cells), about(shipped_matrices()[name]))
        for name, spec in found.items()
    ]
    if as_json:
        listed = [
            {"name": name, "cells": count, "time_us": span_us, "about": said}
            for name, count, span_us, said in rows
        ]
        out.show_json({"schema": 1, "matrices": listed})
        return
    shown = [
        (name, str(count), units.format_duration(span_us), said)
        for name, count, span_us, said in rows
    ]
    out.show(outcomes.matrices_table(shown))
    out.next_step(f"kvlab matrix {rows[0][0]}", f"kvlab matrix {rows[0][0]} --dry-run")
