"""The lists of a matrix file -> scenarios, values of axes, patterns.

It does not know which cells there are: matrix_file.py does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import yaml

from kvlab.spec.cluster import quorum
from kvlab.spec.cluster_file import COPIES_MAX, SEED_MAX
from kvlab.spec.cluster_nodes import NAME_ADVICE, NODE_COUNT_MAX, is_name
from kvlab.spec.document import is_null, join, line_of, shown
from kvlab.spec.matrix import AXES, ValueSpec
from kvlab.spec.scenario import EXPECTATIONS, NAMESPACES, VERBS, ScenarioSpec
from kvlab.spec.scenario_file import SCENARIO_KEYS, read_scenario, read_workload
from kvlab.spec.scenario_items import TIME_US_MAX
from kvlab.spec.scenario_text import WORKLOAD_FIELDS
from kvlab.spec.section import Section, either

VALUES_MAX: Final = 1_000  # of one axis
PATTERN_KEYS: Final = AXES

_T = TypeVar("_T")
_WHOLE = re.compile(r"0|[1-9]\d{0,18}")
_SEEDS = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?")
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9_-]+")
_SEEDS_ADVICE: Final = f"write seeds such as 1-3 or [1, 7], from 0 to {SEED_MAX}"
_SCENARIO_ADVICE: Final = (
    "write names of kvlab run --list, paths of files, or whole scenarios with a name,"
    " such as [kill-one, mine.yaml]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A scenario as a matrix names it."""

    text: str  # a name, or a path
    scenario: ScenarioSpec
    line: int

    @property
    def label(self) -> str:
        """What it is called in the names of cells."""
        last = re.split(r"[/\\]", self.text)[-1]
        return _NOT_IN_LABELS.sub("-", re.sub(r"\.ya?ml$", "", last)).strip("-") or "scenario"


def read_scenarios(file: Section, find: Callable[[str, int], Named | None]) -> tuple[Named, ...]:
    """Read `scenarios`: names, paths, or scenarios written out."""

    def read(node: yaml.Node, path: str) -> Named | None:
        if isinstance(node, yaml.MappingNode):
            section = Section(file.problems, path, node, SCENARIO_KEYS, line=line_of(node))
            if section.get("name") is None:
                section.wrong("name", f"{NAME_ADVICE} kill-two")
            scenario = read_scenario(section)
            return Named(text=scenario.name, scenario=scenario, line=section.line)
        if isinstance(node, yaml.ScalarNode) and not is_null(node) and node.value:
            return find(node.value, line_of(node))
        file.problems.add(line_of(node), f"{path} is {shown(node)}; {_SCENARIO_ADVICE}")
        return None

    found = _read_list(file, "scenarios", read, _SCENARIO_ADVICE)
    return tuple(one for one in found if one is not None)


def read_axes(
    file: Section,
) -> tuple[dict[str, tuple[ValueSpec, ...]], dict[str, ValueSpec]]:
    """Read the axes that the file has, each with its values; and the workloads by name."""
    workloads = _read_workloads(file)
    found = {
        "ns": _read_axis(file, "ns", _ns, f"write {either(NAMESPACES)}, or [eventual, linear]"),
        "nodes": _read_axis(file, "nodes", _nodes, f"write counts up to {NODE_COUNT_MAX}: [3, 5]"),
        "copies": _read_axis(file, "copies", _copies, f"write counts up to {COPIES_MAX}: [1, 3]"),
        "workload": tuple(workloads.values()),
        "seed": _read_seeds(file, "seeds"),
    }
    return {axis: values for axis, values in found.items() if values}, workloads


def read_item_values(
    section: Section, workloads: dict[str, ValueSpec]
) -> tuple[list[ValueSpec], tuple[ValueSpec, ...]]:
    """Read the values of one included cell, and its seeds."""
    found = []
    for key, read, advice in (
        ("ns", _ns, f"write {either(NAMESPACES)}"),
        ("nodes", _nodes, f"write a count from 1 to {NODE_COUNT_MAX}"),
        ("copies", _copies, f"write a count from 1 to {COPIES_MAX}"),
        ("workload", workloads.get, _workload_advice(workloads)),
    ):
        if section.get(key) is None:
            continue
        value = read(section.text(key) or "")
        if value is None:
            section.wrong(key, advice)
        else:
            found.append(value)
    return found, _read_seeds(section, "seed")


def read_pattern(section: Section, labels: dict[str, str]) -> dict[str, str]:
    """Read which values a cell must have; `labels` are those of scenarios as written."""
    pattern = {axis: section.text(axis) or "" for axis in AXES if section.get(axis) is not None}
    for axis, text in pattern.items():
        if not text:
            section.wrong(axis, "write one value, as its axis has it")
    if not pattern:
        section.problems.add(
            section.line, f"{section.path} fits everything; write at least one of {', '.join(AXES)}"
        )
    if "scenario" in pattern:
        pattern["scenario"] = labels.get(pattern["scenario"], pattern["scenario"])
    return pattern


def read_expectation(section: Section) -> str:
    """Read the `verdict` of an item of `expect`."""
    if section.get("verdict") is None:
        section.wrong("verdict", f"write {either(EXPECTATIONS)}")
    return section.choice("verdict", EXPECTATIONS[0], EXPECTATIONS)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of a text such as 1-3 or 1,7-9; none if it says none or too many."""
    found: list[int] = []
    for part in text.split(","):
        match = _SEEDS.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= first <= last <= SEED_MAX or last - first >= VALUES_MAX:
            return ()
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found)) if len(found) <= VALUES_MAX else ()


def seed_values(seeds: Iterable[int]) -> tuple[ValueSpec, ...]:
    """Return seeds as values of their axis."""
    return tuple(_value("seed", str(seed), seed=seed) for seed in seeds)


# -- one axis -----------------------------------------------------------------------------------


def _value(axis: str, text: str, **fields: object) -> ValueSpec:
    return ValueSpec(axis=axis, text=text, fields=fields, workload={})


def _ns(text: str) -> ValueSpec | None:
    return _value("ns", text, ns=text) if text in NAMESPACES else None


def _nodes(text: str) -> ValueSpec | None:
    count = _count(text, NODE_COUNT_MAX)
    return _value("nodes", text, nodes=count) if count else None


def _copies(text: str) -> ValueSpec | None:
    """Quorums are majorities, as where a cluster file says n alone."""
    count = _count(text, COPIES_MAX)
    return _value("copies", text, copies=count, r=quorum(count), w=quorum(count)) if count else None


def _count(text: str, high: int) -> int:
    return int(text) if _WHOLE.fullmatch(text) and int(text) <= high else 0


def _read_axis(
    file: Section, key: str, read: Callable[[str], ValueSpec | None], advice: str
) -> tuple[ValueSpec, ...]:
    def read_one(node: yaml.Node, path: str) -> ValueSpec | None:
        value = read(node.value) if isinstance(node, yaml.ScalarNode) else None
        if value is None:
            file.problems.add(line_of(node), f"{path} is {shown(node)}; {advice}")
        return value

    return _each_once(one for one in _read_list(file, key, read_one, advice) if one is not None)


def _read_seeds(section: Section, key: str) -> tuple[ValueSpec, ...]:
    def read_one(node: yaml.Node, path: str) -> tuple[int, ...]:
        seeds = parse_seeds(node.value) if isinstance(node, yaml.ScalarNode) else ()
        if not seeds:
            section.problems.add(line_of(node), f"{path} is {shown(node)}; {_SEEDS_ADVICE}")
        return seeds

    found = _read_list(section, key, read_one, _SEEDS_ADVICE)
    return _each_once(seed_values(seed for each in found for seed in each))


def _read_workloads(file: Section) -> dict[str, ValueSpec]:
    """Read `workloads`: by name, what each changes of a scenario's own workload."""
    node = file.get("workloads")
    names = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    sample = "{reads: {mix: {get: 0.9, set: 0.1}}}"
    section = file.section("workloads", names, sample=sample)
    found = {}
    for name in names[:VALUES_MAX]:
        if not is_name(name):
            said = f"{join('workloads', name)} cannot be a name; {NAME_ADVICE} reads"
            file.problems.add(section.line_of(name), said)
        # Long enough for any `for`: a cell's scenario says whether there is time for it.
        spec = read_workload(section, name, TIME_US_MAX)
        given = section.get(name)
        pairs = given.value if isinstance(given, yaml.MappingNode) else ()
        keys = {key.value for key, _ in pairs}
        fields = {field for key, field, _ in WORKLOAD_FIELDS if key in keys}
        fields |= set(VERBS) if "mix" in keys else set()
        changes = {field: getattr(spec, field) for field in sorted(fields)}
        found[name] = ValueSpec(axis="workload", text=name, fields={}, workload=changes)
    return found


def _workload_advice(workloads: dict[str, ValueSpec]) -> str:
    return f"write one of {', '.join(workloads)}" if workloads else "write workloads: first"


def _each_once(values: Iterable[ValueSpec]) -> tuple[ValueSpec, ...]:
    return tuple({value.text: value for value in values}.values())


def _read_list(
    section: Section, key: str, read: Callable[[yaml.Node, str], _T], advice: str
) -> Sequence[_T]:
    """Read a list at `key`, where one value may stand for a list of one."""
    node = section.get(key)
    if node is None:
        return ()
    path = join(section.path, key)
    if not isinstance(node, yaml.SequenceNode):
        return [read(node, path)]
    if not node.value or len(node.value) > VALUES_MAX:
        section.wrong(key, advice, complaint=f" of {len(node.value)}")
    items = node.value[:VALUES_MAX]
    return [read(item, f"{path}[{index}]") for index, item in enumerate(items, start=1)]
