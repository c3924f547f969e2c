"""The table of a benchmark, for people.

It decides nothing: see figures.
"""

from __future__ import annotations

from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kvbench.figures import Line
from kvbench.gate import FOREIGN_MAX

PLAIN_WIDTH = 190  # in a pipe there is no width to fit


def table(lines: list[Line]) -> Table:
    """Return all lines, one section per row of the benchmark."""
    shown = Table(header_style="bold", title_justify="left")
    shown.add_column("row")
    shown.add_column("what")
    for name in ("kvlab", "peer", "ratio (min..max)", "CPU us/op", "target"):
        shown.add_column(name, justify="right")
    shown.add_column("reached")
    shown.add_column("note")
    row = ""
    for line in lines:
        if row and line.row != row:
            shown.add_section()
        shown.add_row(*_cells(line, first=line.row != row))
        row = line.row
    return shown


def _cells(line: Line, *, first: bool) -> tuple[str, ...]:
    peer = f"{line.peer} {_figure(line.peers)}" if line.peer else ""
    noisy = " (noisy)" if line.foreign > FOREIGN_MAX else ""
    reached = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[line.reached]
    return (
        line.row if first else "",
        escape(line.what),
        f"{_figure(line.kvlab)} {line.unit}",
        escape(peer),
        _ratio(line),
        _cpu(line),
        line.target.text() if line.target else "",
        reached + noisy,
        escape(line.note),
    )


def _figure(values: list[float]) -> str:
    value = median(values)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _ratio(line: Line) -> str:
    ratios = line.ratios
    if not ratios:
        return ""
    digits = 0 if median(ratios) >= 10 else 2
    least, middle, most = (f"{v:.{digits}f}" for v in (min(ratios), median(ratios), max(ratios)))
    return f"{middle} ({least}..{most})" if len(ratios) > 1 else middle


def _cpu(line: Line) -> str:
    known = [line.kvlab_cpu_us, line.peer_cpu_us]
    if known[0] is None:
        return ""
    return " / ".join("-" if value is None else f"{value:.2f}" for value in known)


def print_all(console: Console, lines: list[Line], facts: dict[str, str], notes: list[str]) -> None:
    """Print the facts, the table and the notes."""
    for name, text in facts.items():
        console.print(f"{name}: {text}", highlight=False, markup=False)
    console.print(table(lines))
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False)
