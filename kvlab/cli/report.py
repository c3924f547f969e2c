"""The verb report: a finished run as one page for a browser, or what it says as JSON or tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvlab.cli import out
from kvlab.cli.options import Json
from kvlab.cli.record import page_of, read_record
from kvlab.errors import InfraError
from kvlab.rundir import find_run

if TYPE_CHECKING:
    from kvlab.report.record import RunRecord

SCHEMA = 1


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("report")(report)


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="The folder of a run, or its name for the latest.",
            show_default=False,
        ),
    ],
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Where to write the page.", show_default="RUN/report.html"
        ),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    as_json: Json = False,
) -> None:
    """Make report.html of a finished run: one file that needs no network; and say it in short.

    It shows the verdict and what proves it, faults over rate and latency, phases, checks, clients
    over time, where operations went, and on what the run ran. Runs of kvlab run and kvlab sim --out.
    The exit code says whether the page could be made, not what the verdict is.

    Examples:
      kvlab report kill-minority
      kvlab report runs/kill-minority/latest --out page.html --open
      kvlab report kill-minority --json
    """
    files = find_run(run)
    record = read_record(files)
    page = page_of(record)
    path = _written(page, file) if file is not None else files.write_report(page)
    if as_json:
        out.show_json(_document(record, path))
    else:
        _show(record, path, len(page))
    if open_it:
        typer.launch(path.absolute().as_uri())


def _written(page: str, file: Path) -> Path:
    try:
        file.write_text(page)
    except OSError as error:
        raise InfraError(f"cannot write {file}: {error.strerror}") from error
    return file


def _show(record: RunRecord, path: Path, size: int) -> None:
    from kvlab.report.phases import phase_latency_table
    from kvlab.units import format_size

    out.show(phase_latency_table(record.figures()))
    out.say("")
    out.say(f"verdict: {record.word} - {record.because}")
    out.say(f"page: {path} ({format_size(size)})")
    out.next_step(f"kvlab report {record.path} --open", f"kvlab check {record.path}")


def _document(record: RunRecord, path: Path) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run": record.path,
        "name": record.name,
        "page": str(path),
        "verdict": record.word,
        "because": record.because,
        "reproduce": record.verdict.get("reproduce", ""),
        "phases": [one.to_builtins() for one in record.figures()],
        "faults": list(record.faults),
    }
