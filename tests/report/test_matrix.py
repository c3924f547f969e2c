"""The tables and test cases of a matrix, from results that are made up."""

from __future__ import annotations

import re

from kvlab.report import matrix
from kvlab.report.junit import ERROR, FAILURE, SKIPPED
from kvlab.report.matrix import (
    CellResult,
    cases_of_matrix,
    grid_table,
    runs_table,
    summary,
    worst_outcome,
)
from kvlab.report.table import plain
from kvlab.spec.matrix_file import parse_matrix
from kvlab.spec.scenario import ScenarioSpec

TEXT = """
scenarios: [kill, split]
ns: [eventual, linear]
seeds: 1-2
exclude: [{scenario: split, ns: linear}]
expect: [{scenario: split, verdict: invalid}]
"""
OWN = {"kill": ScenarioSpec(nodes=5), "split": ScenarioSpec(nodes=3)}  # no axis of the matrix
CELLS = parse_matrix(TEXT, find=OWN.__getitem__).cells


def results(*outcomes: tuple[str, str]) -> list[CellResult]:
    return [
        CellResult(
            cell, outcome, f"out/{cell.name}", f"again {cell.name}", verdict, "so", 1_000_000
        )
        for cell, (outcome, verdict) in zip(CELLS, outcomes, strict=True)
    ]


MIXED = results(
    (matrix.PASSED, "valid"),
    (matrix.FAILED, "invalid"),
    (matrix.VACUOUS, "unknown"),
    (matrix.BROKEN, ""),
    (matrix.PASSED, "invalid"),
    (matrix.FAILED, "valid"),
)


def test_verdicts_are_rows_and_columns_and_seeds_are_counted() -> None:
    table = grid_table(MIXED)

    assert table is not None
    assert [re.split(r"\s{2,}", line) for line in plain(table).splitlines()] == [
        ["verdicts"],
        ["SCENARIO", "EVENTUAL", "LINEAR"],
        ["kill", "1 valid, 1 invalid", "1 vacuous, 1 error"],
        ["split", "1 invalid (expected), 1 valid (expected: invalid)", "-"],
    ]
    styles = table.columns[1].styles
    assert styles["1 valid, 1 invalid"] == "bold red"


def test_a_grid_of_one_column_is_left_out() -> None:
    assert grid_table([one for one in MIXED if one.cell.value("ns") == "linear"]) is None


def test_each_run_has_a_line_with_its_folder() -> None:
    lines = plain(runs_table(MIXED, {})).splitlines()

    assert lines[2].split() == ["kill.eventual.s1", "valid", "1s", "out/kill.eventual.s1"]
    assert lines[6].split()[:3] == ["split.eventual.s1", "invalid", "(expected)"]
    assert len(lines) == 2 + len(MIXED)


def test_the_worst_outcome_wins() -> None:
    order = [
        *(matrix.PASSED, matrix.VACUOUS, matrix.UNKNOWN, matrix.BROKEN, matrix.FAILED),
        matrix.INTERRUPTED,
    ]
    for number, worst in enumerate(order):
        given = [*order[: number + 1], *[matrix.PASSED] * 6][:6]
        assert worst_outcome(results(*((one, "") for one in given))) == worst
    assert worst_outcome([]) == matrix.PASSED
    assert summary(MIXED) == "2 of 6 cells are as expected, 2 failed, 1 error, 1 vacuous"


def test_each_cell_is_a_test_case() -> None:
    cases = cases_of_matrix("mine", MIXED)

    assert [case.outcome for case in cases] == ["", FAILURE, ERROR, ERROR, "", FAILURE]
    assert (cases[0].classname, cases[0].name) == ("mine.kill", "kill.eventual.s1")
    assert cases[1].because == "invalid: so"
    assert cases[1].details == "run: out/kill.eventual.s2\nreproduce: again kill.eventual.s2"
    not_run = cases_of_matrix("mine", results(*[(matrix.NOT_RUN, "")] * 6))
    assert {case.outcome for case in not_run} == {SKIPPED}
