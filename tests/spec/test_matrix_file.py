"""Matrix files: which cells they make, and what a person reads where they are wrong."""

from __future__ import annotations

from contextlib import suppress
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlab.errors import SpecError, UsageError
from kvlab.spec.matrix import AXES, MatrixSpec
from kvlab.spec.matrix_file import CELLS_MAX, parse_matrix
from kvlab.spec.matrix_items import parse_seeds
from kvlab.spec.scenario import ScenarioSpec, WorkloadSpec
from kvlab.spec.scenario_file import parse_scenario, render_scenario

S = 1_000_000
KNOWN = {
    "kill": ScenarioSpec(name="kill", nodes=5, seed=9),
    "mine/split.yaml": ScenarioSpec(name="other", nodes=3),
    "counters": ScenarioSpec(name="counters", ns="linear", workload=WorkloadSpec(set=0.3, cas=0.1)),
}


def find(name: str) -> ScenarioSpec:
    if name == "broken.yaml":
        return parse_scenario("nodes: 0\nnods: 3", source=name)
    if name not in KNOWN:
        raise UsageError(f"there is no scenario {name}", hint="write one that is there")
    return KNOWN[name]


def read(text: str, **more) -> MatrixSpec:
    return parse_matrix(dedent(text), find=find, **more)


def names(text: str, **more) -> list[str]:
    return [cell.name for cell in read(text, **more).cells]


def problems(text: str, **more) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read(text, **more)
    return [problem.removeprefix("matrix.yaml:") for problem in caught.value.problems]


def test_a_scenario_alone_is_one_cell_as_it_is() -> None:
    matrix = read("scenarios: kill")

    (cell,) = matrix.cells
    assert matrix.name == "matrix"
    assert matrix.timeout_of(cell) == cell.scenario.time_us + cell.scenario.settle_us + 300 * S
    assert (cell.name, dict(cell.values)) == ("kill", {"scenario": "kill"})
    assert cell.scenario == KNOWN["kill"]
    assert [cell.value(axis) for axis in AXES] == ["kill", "eventual", "5", "3", "", "9"]


def test_axes_multiply_in_the_order_of_the_file() -> None:
    matrix = read(
        """
        name: mine
        scenarios: [kill, mine/split.yaml]
        ns: [eventual, linear]
        nodes: [3, 7]
        copies: 1
        workloads:
          own: {}
          reads: {keys: 2, mix: {get: 0.9, set: 0.1}}
        seeds: [1-2, 5]
        timeout: 1m
        """
    )

    assert len(matrix.cells) == 2 * 2 * 2 * 2 * 3
    assert [cell.name for cell in matrix.cells[:4]] == [
        "kill.eventual.n3.c1.own.s1",
        "kill.eventual.n3.c1.own.s2",
        "kill.eventual.n3.c1.own.s5",
        "kill.eventual.n3.c1.reads.s1",
    ]
    last = matrix.cells[-1]
    assert last.name == "split.linear.n7.c1.reads.s5"
    scenario = last.scenario
    assert (scenario.name, scenario.ns, scenario.nodes, scenario.seed) == ("other", "linear", 7, 5)
    assert (scenario.copies, scenario.r, scenario.w) == (1, 1, 1)
    work = scenario.workload
    assert (work.keys, work.get, work.set, work.delete) == (2, 0.9, 0.1, 0.0)
    assert work.operations == KNOWN["kill"].workload.operations, "what is not said stays"
    assert matrix.timeout_of(last) == 60 * S


def test_a_scenario_may_be_written_out_and_seeds_be_given_from_outside() -> None:
    text = """
    scenarios:
      - {name: here, nodes: 3, time: 2s, workload: {operations: 7}}
    include:
      - {scenario: here, ns: linear, seed: 8}
      - {scenario: here, nodes: 4}
    """

    assert names(text) == ["here", "here.linear.s8", "here.n4"]
    assert names(text, seeds=(1, 2)) == [
        *("here.s1", "here.s2", "here.linear.s8"),
        *("here.n4.s1", "here.n4.s2"),
    ]
    assert read(text).cells[1].scenario.workload.operations == 7


def test_cells_are_excluded_and_expected_by_their_values_written_or_not() -> None:
    matrix = read(
        """
        scenarios: [kill, mine/split.yaml, counters]
        ns: [eventual, linear]
        exclude:
          - {scenario: counters, ns: eventual}
          - {nodes: 3, ns: linear}
        expect:
          - {ns: linear, verdict: any}
          - {scenario: mine/split.yaml, verdict: invalid}
        """
    )

    assert {cell.name: cell.scenario.expect for cell in matrix.cells} == {
        "kill.eventual": "valid",
        "kill.linear": "any",
        "split.eventual": "invalid",
        "counters.linear": "any",
    }


WRONG = """\
version: 2
name: my matrix
scenarios:
  - kill
  - nowhere
  - broken.yaml
  - {nodes: 3}
  - [kill]
ns: [eventual, strict]
nodes: [3, many]
copies: []
workloads:
  "a b": {}
  bad: {mix: {get: 0.9}, opertions: 5}
seeds: [3-1]
include:
  - {nodes: 3}
  - {scenario: kill, workload: none, nodes: 0, expect: maybe}
exclude:
  - {}
  - {scenario: other}
  - kill
expect:
  - {scenario: kill}
timeout: 5
sceanrios: []
"""


def test_all_problems_are_told_at_once_each_with_its_line_and_what_to_write() -> None:
    assert problems(WRONG) == [
        "1: version is 2; write 1",
        "2: name is my matrix; write letters, digits, - and _, at most 40, such as ring5",
        "5: there is no scenario nowhere; write one that is there",
        "6: the scenario is wrong: broken.yaml:1: nodes is 0; write a whole number from 1 to 100",
        "6: the scenario is wrong: broken.yaml:2: nods is not a key here; did you mean nodes?",
        (
            "7: scenarios[4].name is missing; write letters, digits, - and _, at most 40, such as"
            " kill-two"
        ),
        (
            "8: scenarios[5] is a list; write names of kvlab run --list, paths of files, or whole"
            " scenarios with a name, such as [kill-one, mine.yaml]"
        ),
        "9: ns[2] is strict; write eventual or linear, or [eventual, linear]",
        "10: nodes[2] is many; write counts up to 100: [3, 5]",
        "11: copies is a list of 0; write counts up to 16: [1, 3]",
        (
            "13: workloads.a b cannot be a name; write letters, digits, - and _, at most 40, such as"
            " reads"
        ),
        "14: workloads.bad.opertions is not a key here; did you mean operations?",
        (
            "14: workloads.bad.mix is a mapping whose shares add up to 0.9; write shares that add up to"
            " 1, such as {get: 0.5, set: 0.4, delete: 0.1}"
        ),
        "15: seeds[1] is 3-1; write seeds such as 1-3 or [1, 7], from 0 to 9223372036854775807",
        "17: include[1].scenario is missing; write a name or a path",
        "18: include[2].nodes is 0; write a count from 1 to 100",
        "18: include[2].workload is none; write one of a b, bad",
        "18: include[2].expect is maybe; write valid, invalid or any",
        (
            "20: exclude[1] fits everything; write at least one of scenario, ns, nodes, copies,"
            " workload, seed"
        ),
        (
            "21: exclude[2] fits no cell; a pattern is such as {scenario: kill, ns: eventual, nodes: 3,"
            " workload: a b}"
        ),
        "22: exclude[3] is kill; write {scenario: kill-all, ns: linear}",
        "24: expect[1].verdict is missing; write valid, invalid or any",
        "25: timeout is 5, which has no unit; write 5ms or 5s (units: us, ms, s, m, h)",
        "26: sceanrios is not a key here; did you mean scenarios?",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "scenarios: [kill]\nnodes: [2, 5]",
            (
                "1: the cell kill.n2 cannot be: 3 copies of a key need more than 2 nodes;"
                " leave it out: exclude: [{scenario: kill, nodes: 2}]"
            ),
        ),
        (
            "scenarios: [counters]\nns: eventual\nseeds: 1-3",
            (
                "1: the cell counters.eventual.s1 cannot be: cas needs ns: linear;"
                " leave it out: exclude: [{scenario: counters, ns: eventual}]"
            ),
        ),
        (
            "scenarios:\n  - {name: a, time: 1s}\nworkloads: {slow: {for: 2s}}",
            (
                "2: the cell a.slow cannot be: its workload goes on for 2s, its scenario for 1s;"
                " leave it out: exclude: [{scenario: a, workload: slow}]"
            ),
        ),
        (
            (
                "scenarios:\n  - {name: a, operations: [{at: 1ms, client: c, do: get k}]}\n"
                "workloads: {slow: {keys: 2}}"
            ),
            (
                "2: the cell a.slow cannot be: the scenario lists its operations, so a workload changes"
                " nothing; leave it out: exclude: [{scenario: a, workload: slow}]"
            ),
        ),
        (
            "scenarios: [kill]\ninclude:\n  - {scenario: kill}",
            (
                "3: the cell kill is there twice (first on line 1); leave one out, or name it"
                " differently"
            ),
        ),
        (
            "scenarios: [kill]\nseeds: 1-999\nnodes: [5, 6]",
            "1: the axes make 1998 cells; write fewer values: at most 1000 cells",
        ),
        (
            "scenarios: [kill]\nseeds: 1-600\ninclude:\n  - {scenario: kill, nodes: 7}",
            "4: with include there are 1200 cells; write at most 1000",
        ),
        (
            "name: empty",
            (
                "1: the matrix has no cells; write names of kvlab run --list, or paths:"
                " scenarios: [kill-one, mine.yaml]"
            ),
        ),
        ("- kill", "1: the file is a list; write keys and values, such as scenarios: [kill-one]"),
        ("scenarios: [&a kill, *a]", "1: anchors and aliases (here a) are not used in this file;"),
    ],
)
def test_a_cell_that_cannot_be_is_named_with_what_leaves_it_out(text: str, said: str) -> None:
    (found,) = problems(text)
    assert found.startswith(said)


def test_what_who_calls_finds_wrong_with_a_cell_is_a_problem_like_others() -> None:
    def examine(scenario: ScenarioSpec) -> str:
        return "no node is called server4" if scenario.nodes < 4 else ""

    (found,) = problems("scenarios: [kill]\nnodes: [3, 5]", examine=examine)
    assert "the cell kill.n3 cannot be: no node is called server4" in found


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("1-3", (1, 2, 3)),
        ("7", (7,)),
        ("1, 5,7-8,5", (1, 5, 7, 8)),
        ("", ()),
        ("3-1", ()),
        ("-1", ()),
        ("1-1000000", ()),
        ("x", ()),
    ],
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from(["eventual", "linear"]), max_size=3),
    st.lists(st.integers(3, 100), max_size=4),
    st.lists(st.integers(1, 3), max_size=3),
    st.lists(st.integers(0, 2**63 - 1), max_size=4),
)
def test_each_combination_of_values_is_one_cell_that_reads_back(ns, nodes, copies, seeds) -> None:
    axes = {"ns": ns, "nodes": nodes, "copies": copies, "seeds": seeds}
    lines = [f"{axis}: {values}" for axis, values in axes.items() if values]
    cells = read("\n".join(["scenarios: [kill]", *lines])).cells

    count = 1
    for values in axes.values():
        count *= len(set(values)) or 1
    assert len({cell.name for cell in cells}) == len(cells) == count <= CELLS_MAX
    for cell in cells:
        assert parse_scenario(render_scenario(cell.scenario)) == cell.scenario


@given(st.text(max_size=200) | st.text("scenarion:[]{}, \n-1kl", max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    with suppress(SpecError):
        assert read(text).cells
