"""A matrix: scenarios, each under all combinations of the values of some axes. Frozen values.

It runs nothing and judges nothing. The text form is `matrix_file`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from kvlab.spec.scenario import LINEAR_VERBS, SECOND_US, ScenarioSpec
from kvlab.units import format_duration

AXES: Final = ("scenario", "ns", "nodes", "copies", "workload", "seed")
"""In this order they make the name of a cell."""
SPARE_US: Final = 300 * SECOND_US  # for start, final reads and judgement
_MARKS: Final = {"nodes": "n", "copies": "c", "seed": "s"}  # before a number in a cell's name


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSpec:
    """One value of one axis: how it is written, and what it changes of a scenario."""

    axis: str  # one of AXES
    text: str
    fields: Mapping[str, Any]  # of the scenario
    workload: Mapping[str, Any]  # fields of the scenario's workload

    def change(self, scenario: ScenarioSpec) -> ScenarioSpec:
        """Return the scenario with this value."""
        workload = replace(scenario.workload, **self.workload)
        return replace(scenario, **{"workload": workload, **self.fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSpec:
    """One run of a matrix: a scenario with everything that the axes say of it."""

    name: str  # unique in its matrix, and good for a folder
    values: Mapping[str, str]  # axis -> value as written, of the axes that the matrix names
    scenario: ScenarioSpec

    def value(self, axis: str) -> str:
        """Return what a cell has on an axis, whether the matrix or the scenario says so."""
        if axis in self.values:
            return self.values[axis]
        said = {"nodes": self.scenario.nodes, "copies": self.scenario.copies}
        said |= {"seed": self.scenario.seed}
        return self.scenario.ns if axis == "ns" else str(said.get(axis, ""))

    def matches(self, pattern: Mapping[str, str]) -> bool:
        """Say whether a cell has these values."""
        return all(self.value(axis) == text for axis, text in pattern.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixSpec:
    """All runs of a matrix, in the order of the file."""

    name: str
    cells: tuple[CellSpec, ...]
    timeout_us: int = (
        0  # within which a run must have come to its end; 0: SPARE_US more than its own
    )

    def timeout_of(self, cell: CellSpec) -> int:
        """Return after how many microseconds the run of a cell is ended."""
        own_us = cell.scenario.time_us + cell.scenario.settle_us
        return self.timeout_us or own_us + SPARE_US


def make_cell(label: str, scenario: ScenarioSpec, values: list[ValueSpec]) -> CellSpec:
    """Put a cell together: `label` is what its scenario is called here."""
    for value in values:
        scenario = value.change(scenario)
    told = {"scenario": label} | {value.axis: value.text for value in values}
    name = ".".join(f"{_MARKS.get(axis, '')}{told[axis]}" for axis in AXES if told.get(axis))
    return CellSpec(name=name, values=told, scenario=scenario)


def why_impossible(cell: CellSpec) -> str:
    """Say what the values of a cell contradict; "" if it can be run."""
    scenario, work = cell.scenario, cell.scenario.workload
    if scenario.cluster is not None and {"nodes", "copies"} & cell.values.keys():
        return "its cluster.yaml says how many nodes and copies there are"
    if scenario.copies > scenario.nodes:
        return f"{scenario.copies} copies of a key need more than {scenario.nodes} nodes"
    if scenario.operations:
        verbs = {one.verb for one in scenario.operations}
        if cell.values.get("workload"):
            return "the scenario lists its operations, so a workload changes nothing"
    else:
        verbs = set(work.verbs)
        if work.span_us > scenario.time_us:
            span, time = (format_duration(us) for us in (work.span_us, scenario.time_us))
            return f"its workload goes on for {span}, its scenario for {time}"
    if scenario.ns != "linear" and (found := verbs.intersection(LINEAR_VERBS)):
        return f"{min(found)} needs ns: linear"
    return ""
