"""The text of a matrix file -> MatrixSpec, all problems at once.

It opens no file: who calls brings the scenarios that a matrix names, and says what cannot be run.
The items of its lists are matrix_items.py's.

Invariants:

1. Cells are in the order of the file: scenarios, then the axes, each value after the one before.
2. No two cells have one name, and none is impossible.
3. A pattern (`exclude`, `expect`) that fits no cell is a problem: it was meant to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Final

import yaml

from kvlab.errors import SpecError, UsageError
from kvlab.spec.cluster_file import VERSIONS, read_name
from kvlab.spec.document import Problems, compose, line_of, shown
from kvlab.spec.matrix import CellSpec, MatrixSpec, ValueSpec, make_cell, why_impossible
from kvlab.spec.matrix_items import (
    PATTERN_KEYS,
    Named,
    read_axes,
    read_expectation,
    read_item_values,
    read_pattern,
    read_scenarios,
    seed_values,
)
from kvlab.spec.scenario import EXPECTATIONS, SECOND_US, ScenarioSpec
from kvlab.spec.scenario_file import CHARS_MAX, NODES_MAX
from kvlab.spec.scenario_items import read_items
from kvlab.spec.section import Section

CELLS_MAX: Final = 1_000
"""More runs than this, each of some seconds, take a working day."""
ITEMS_MAX: Final = 1_000  # of include, exclude and expect
TIMEOUT_US_MIN: Final = SECOND_US
TIMEOUT_US_MAX: Final = 48 * 3600 * SECOND_US

_KEYS: Final = (
    *("version", "name", "scenarios", "ns", "nodes", "copies", "workloads", "seeds"),
    *("include", "exclude", "expect", "timeout"),
)

FindScenario = Callable[[str], ScenarioSpec]
"""Gives the scenario of a name or path; raises UsageError, of which SpecError is one."""
Examine = Callable[[ScenarioSpec], str]
"""Says why a scenario cannot be run; "" if it can."""
Place = Callable[[ScenarioSpec], ScenarioSpec]
"""Puts a scenario on the cluster that it is to be run on."""


def parse_matrix(
    text: str,
    *,
    find: FindScenario,
    examine: Examine = lambda _: "",
    place: Place = lambda scenario: scenario,
    seeds: Sequence[int] = (),
    source: str = "matrix.yaml",
) -> MatrixSpec:
    """Read the text of a matrix file; raise SpecError with every problem, each with its line.

    `place` puts a scenario on another cluster; `seeds` stand in for those of the file.
    """
    problems = Problems(source)
    root = compose(text, problems, chars_max=CHARS_MAX, nodes_max=NODES_MAX)
    if root is None:
        problems.raise_if_any()
    mapping = root if isinstance(root, yaml.MappingNode) else None
    if root is not None and mapping is None:
        said = f"the file is {shown(root)}; write keys and values, such as scenarios: [kill-one]"
        problems.add(line_of(root), said)
        problems.raise_if_any()
    file = Section(problems, "", mapping, _KEYS, line=1)
    spec = _Reading(file, find, examine, place, seeds).matrix()
    problems.raise_if_any()
    return spec


class _Reading:
    """One file while it is read."""

    def __init__(
        self,
        file: Section,
        find: FindScenario,
        examine: Examine,
        place: Place,
        seeds: Sequence[int],
    ) -> None:
        self._file = file
        self._problems = file.problems
        self._find = find
        self._examine = examine
        self._place = place
        self._seeds = seed_values(seeds)
        self._scenarios: dict[str, Named] = {}  # by name or path as written
        self._workloads: dict[str, ValueSpec] = {}
        self._count = 0  # of cells that the file asks for

    def matrix(self) -> MatrixSpec:
        """Read all of it."""
        file = self._file
        file.choice("version", VERSIONS[0], VERSIONS)
        before = len(self._problems.found)
        chosen = read_scenarios(file, self._named)
        axes, self._workloads = read_axes(file)
        if self._seeds:
            axes["seed"] = self._seeds
        self._seeds = axes.get("seed", ())
        cells = self._product(chosen, list(axes.values()))
        cells += self._included()
        cells = self._expecting(self._without_excluded(cells))
        cells = [(at, replace(one, scenario=self._place(one.scenario))) for at, one in cells]
        if not cells and len(self._problems.found) == before:
            advice = "write names of kvlab run --list, or paths: scenarios: [kill-one, mine.yaml]"
            self._problems.add(1, f"the matrix has no cells; {advice}")
        if len(self._problems.found) == before:  # else what follows from a problem would be one too
            self._examine_all(cells)
        return MatrixSpec(
            name=read_name(file, "matrix"),
            cells=tuple(cell for _, cell in cells),
            timeout_us=file.duration("timeout", 0, low_us=TIMEOUT_US_MIN, high_us=TIMEOUT_US_MAX),
        )

    def _named(self, text: str, line: int) -> Named | None:
        """Return the scenario of a name or path, or None and a problem."""
        if text in self._scenarios:
            return replace(self._scenarios[text], line=line)
        try:
            found = Named(text=text, scenario=self._find(text), line=line)
        except SpecError as error:
            for one in error.problems:
                self._problems.add(line, f"the scenario is wrong: {one}")
            return None
        except UsageError as error:
            said = f"{error.message}; {error.hint}" if error.hint else error.message
            self._problems.add(line, said)
            return None
        self._scenarios[text] = found
        return found

    # -- cells, each with the line that it is from ----------------------------------------------

    def _product(
        self, chosen: Sequence[Named], axes: Sequence[Sequence[ValueSpec]]
    ) -> list[tuple[int, CellSpec]]:
        self._scenarios |= {one.text: one for one in chosen}
        self._count = len(chosen) * prod(map(len, axes))
        if self._count > CELLS_MAX:
            made = f"the axes make {self._count} cells"
            said = f"{made}; write fewer values: at most {CELLS_MAX} cells"
            self._problems.add(self._file.line_of("scenarios"), said)
            return []
        return [
            (one.line, make_cell(one.label, one.scenario, list(values)))
            for one in chosen
            for values in product(*axes)
        ]

    def _included(self) -> list[tuple[int, CellSpec]]:
        """Read `include`: single cells beside the product, each under every seed unless it has one."""

        def read(section: Section) -> list[tuple[int, CellSpec]]:
            if section.get("scenario") is None:
                section.wrong("scenario", "write a name or a path")
            text = section.text("scenario") or ""
            named = self._named(text, section.line) if text else None
            values, seeds = read_item_values(section, self._workloads)
            expect = section.choice("expect", "", EXPECTATIONS)
            if named is None:
                return []
            scenario = named.scenario
            scenario = replace(scenario, expect=expect) if expect else scenario
            each = [[*values, seed] for seed in seeds or self._seeds] or [values]
            self._count += len(each)
            if self._count > CELLS_MAX:
                return []
            return [(section.line, make_cell(named.label, scenario, one)) for one in each]

        keys = (*PATTERN_KEYS, "expect")
        sample = "{scenario: kill-all, nodes: 5}"
        before = self._count
        found = read_items(self._file, "include", keys, ITEMS_MAX, sample, read)
        if before <= CELLS_MAX < self._count:
            said = f"with include there are {self._count} cells; write at most {CELLS_MAX}"
            self._problems.add(self._file.line_of("include"), said)
        return [cell for each in found for cell in each]

    def _without_excluded(self, cells: list[tuple[int, CellSpec]]) -> list[tuple[int, CellSpec]]:
        def read(section: Section) -> set[str]:
            return self._fitting(section, read_pattern(section, self._labels()), cells)

        sample = "{scenario: kill-all, ns: linear}"
        found = read_items(self._file, "exclude", PATTERN_KEYS, ITEMS_MAX, sample, read)
        gone = set().union(*found)
        return [(line, cell) for line, cell in cells if cell.name not in gone]

    def _expecting(self, cells: list[tuple[int, CellSpec]]) -> list[tuple[int, CellSpec]]:
        expected: dict[str, str] = {}

        def read(section: Section) -> None:
            pattern = read_pattern(section, self._labels())
            verdict = read_expectation(section)
            expected.update(dict.fromkeys(self._fitting(section, pattern, cells), verdict))

        keys = (*PATTERN_KEYS, "verdict")
        sample = "{scenario: kill-all, ns: linear, verdict: invalid}"
        read_items(self._file, "expect", keys, ITEMS_MAX, sample, read)
        return [
            (
                line,
                replace(cell, scenario=replace(cell.scenario, expect=expected[cell.name]))
                if cell.name in expected
                else cell,
            )
            for line, cell in cells
        ]

    def _labels(self) -> dict[str, str]:
        """Return what each scenario is called in cells, by name or path as written."""
        return {text: one.label for text, one in self._scenarios.items()}

    def _fitting(
        self, section: Section, pattern: dict[str, str], cells: list[tuple[int, CellSpec]]
    ) -> set[str]:
        """Return the names of the cells that a pattern fits; none is a problem."""
        names = {cell.name for _, cell in cells if cell.matches(pattern)}
        if pattern and cells and not names:
            self._problems.add(section.line, f"{section.path} fits no cell; {_nearest(cells)}")
        return names

    def _examine_all(self, cells: list[tuple[int, CellSpec]]) -> None:
        first: dict[str, int] = {}
        seen: set[tuple[tuple[str, str], ...]] = set()  # all values but the seed
        for line, cell in cells:
            if cell.name in first:
                said = f"the cell {cell.name} is there twice (first on line {first[cell.name]})"
                self._problems.add(line, f"{said}; leave one out, or name it differently")
            first.setdefault(cell.name, line)
            values = tuple((axis, text) for axis, text in cell.values.items() if axis != "seed")
            if values in seen:
                continue
            seen.add(values)
            said = why_impossible(cell) or self._examine(cell.scenario)
            if said:
                pairs = ", ".join(f"{axis}: {text}" for axis, text in values)
                advice = f"leave it out: exclude: [{{{pairs}}}]"
                self._problems.add(line, f"the cell {cell.name} cannot be: {said}; {advice}")


def _nearest(cells: list[tuple[int, CellSpec]]) -> str:
    """Say what a pattern could be of."""
    values = cells[0][1].values
    pairs = ", ".join(f"{axis}: {text}" for axis, text in values.items())
    return f"a pattern is such as {{{pairs}}}"
