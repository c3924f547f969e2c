"""What the cells of a matrix came to: values, tables, test cases. It runs and judges nothing.

Invariant: every cell of a matrix has one result, also if its run was never begun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kvlab.report.junit import ERROR, FAILURE, SKIPPED, Case
from kvlab.report.table import Column, Table, table
from kvlab.spec.matrix import AXES, CellSpec
from kvlab.units import format_count, format_duration

PASSED: Final = "passed"  # the verdict is the expected one
VACUOUS: Final = "vacuous"  # a guard failed
UNKNOWN: Final = "unknown"
BROKEN: Final = "error"  # the machine did not let it, or it took too long
FAILED: Final = "failed"  # the verdict is not the expected one
NOT_RUN: Final = "not run"
INTERRUPTED: Final = "interrupted"
OUTCOMES: Final = (PASSED, NOT_RUN, VACUOUS, UNKNOWN, BROKEN, FAILED, INTERRUPTED)
"""The worst last."""

_COLUMN_AXES: Final = ("ns", "nodes", "copies")
_UNITS: Final = {"nodes": " nodes", "copies": " copies"}
_STYLES: Final = {PASSED: "green", FAILED: "bold red", BROKEN: "bold red", NOT_RUN: "dim"}
_JUNIT: Final = {PASSED: "", NOT_RUN: SKIPPED, FAILED: FAILURE}


@dataclass(frozen=True, slots=True)
class CellResult:
    """What one cell came to."""

    cell: CellSpec
    outcome: str  # one of OUTCOMES
    run: str  # the folder of the run
    repeat: str = ""  # the command that runs this cell again
    verdict: str = ""  # of verdict.json; "": there is none
    because: str = ""
    took_us: int = 0
    last_lines: tuple[str, ...] = ()  # of what a run said that came to no verdict

    @property
    def passed(self) -> bool:
        """Whether the verdict is the expected one."""
        return self.outcome == PASSED

    @property
    def said(self) -> str:
        """The outcome in a word or two: the verdict, and whether that was expected."""
        expect = self.cell.scenario.expect
        if self.passed:
            return self.verdict if self.verdict == "valid" else f"{self.verdict} (expected)"
        if self.outcome == FAILED:
            return self.verdict if expect == "valid" else f"{self.verdict} (expected: {expect})"
        return self.outcome

    def to_builtins(self) -> dict[str, Any]:
        """Return the part of matrix.json that belongs to this cell."""
        return {
            "cell": self.cell.name,
            "values": {axis: self.cell.value(axis) for axis in AXES if self.cell.value(axis)},
            "outcome": self.outcome,
            "expect": self.cell.scenario.expect,
            "verdict": self.verdict or None,
            "because": self.because,
            "took_us": self.took_us,
            "run": self.run,
            "reproduce": self.repeat,
            "last_lines": list(self.last_lines),
        }


def worst_outcome(results: Iterable[CellResult]) -> str:
    """Return the worst outcome of some cells."""
    return max((one.outcome for one in results), key=OUTCOMES.index, default=PASSED)


def summary(results: Sequence[CellResult]) -> str:
    """Say how many cells came to what."""
    counts = Counter(one.outcome for one in results)
    bad = [f"{counts[outcome]} {outcome}" for outcome in reversed(OUTCOMES[1:]) if counts[outcome]]
    return ", ".join([f"{counts[PASSED]} of {len(results)} cells are as expected", *bad])


# -- tables -------------------------------------------------------------------------------------


def cells_table(cells: Sequence[CellSpec]) -> Table:
    """Show what is to be run."""
    rows = [
        (
            cell.name,
            cell.scenario.ns,
            str(cell.scenario.nodes),
            str(cell.scenario.copies),
            str(cell.scenario.seed),
            format_count(len(cell.scenario.operations) or cell.scenario.workload.operations),
            format_duration(cell.scenario.time_us),
            cell.scenario.expect,
        )
        for cell in cells
    ]
    columns = (
        Column("CELL"),
        Column("NS"),
        Column("NODES", right=True),
        Column("COPIES", right=True, rank=2),
        Column("SEED", right=True, rank=1),
        Column("OPERATIONS", right=True, rank=3),
        Column("TIME", right=True),
        Column("EXPECT", quiet="valid"),
    )
    return table("cells", columns, rows)


def runs_table(results: Sequence[CellResult], links: Mapping[str, str]) -> Table:
    """Show each cell with the folder of its run; a terminal makes links of those in `links`."""
    rows = [(one.cell.name, one.said, format_duration(one.took_us), one.run) for one in results]
    columns = (
        Column("CELL", rank=1),
        Column("VERDICT", styles={one.said: _style([one]) for one in results}),
        Column("TOOK", right=True, rank=2),
        Column("RUN", styles={run: f"link {target}" for run, target in links.items()}),
    )
    return table("runs", columns, rows)


def grid_table(results: Sequence[CellResult]) -> Table | None:
    """Show verdicts as rows and columns of the axes' values; None where one column would do."""
    named = {axis for one in results for axis in one.cell.values}  # others are the scenarios' own
    axes = [
        axis
        for axis in AXES
        if axis in named and len({one.cell.value(axis) for one in results}) > 1
    ]
    across = [axis for axis in _COLUMN_AXES if axis in axes]
    down = ["scenario", *(axis for axis in axes if axis == "workload")]
    heads = list(dict.fromkeys(_head(one.cell, across) for one in results))
    if len(heads) < 2:
        return None
    squares: dict[tuple[str, ...], dict[str, list[CellResult]]] = {}
    for one in results:
        row = squares.setdefault(tuple(one.cell.value(axis) for axis in down), {})
        row.setdefault(_head(one.cell, across), []).append(one)
    styles = {_square(found): _style(found) for row in squares.values() for found in row.values()}
    columns = [Column(axis.upper()) for axis in down]
    columns += [Column(head.upper(), styles=styles) for head in heads]
    rows = [
        (*values, *(_square(row[head]) if head in row else "" for head in heads))
        for values, row in squares.items()
    ]
    return table("verdicts", columns, rows)


def _head(cell: CellSpec, axes: Sequence[str]) -> str:
    """Name a column of the grid."""
    return " ".join(f"{cell.value(axis)}{_UNITS.get(axis, '')}" for axis in axes)


def _square(results: Sequence[CellResult]) -> str:
    """Say what the runs of one square came to: a word, or how many of each."""
    if len(results) == 1:
        return results[0].said
    counts = Counter(one.said for one in results)
    return ", ".join(f"{count} {said}" for said, count in counts.items())


def _style(results: Sequence[CellResult]) -> str:
    return _STYLES.get(worst_outcome(results), "yellow")


def matrices_table(rows: Sequence[tuple[str, str, str, str]]) -> Table:
    """Show matrices: name, how many cells, how long they take one after the other, what they are."""
    columns = (
        Column("MATRIX"),
        Column("CELLS", right=True),
        Column("TIME", right=True),
        Column("WHAT FOR"),
    )
    return table("matrices", columns, rows)


# -- for CI -------------------------------------------------------------------------------------


def cases_of_matrix(name: str, results: Sequence[CellResult]) -> list[Case]:
    """Return a test case for each cell."""
    return [
        Case(
            name=one.cell.name,
            classname=f"{name}.{one.cell.value('scenario')}",
            took_us=one.took_us,
            outcome=_JUNIT.get(one.outcome, ERROR),
            kind=one.outcome,
            because=f"{one.said}: {one.because}" if one.because else one.said,
            details="\n".join([f"run: {one.run}", f"reproduce: {one.repeat}", *one.last_lines]),
        )
        for one in results
    ]
