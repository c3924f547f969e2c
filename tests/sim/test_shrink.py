from __future__ import annotations

from dataclasses import replace

import pytest

from kvlab.errors import UsageError
from kvlab.experiment import make_plan
from kvlab.kv.quorum import Quorum
from kvlab.sim.draw import draw
from kvlab.sim.run import run
from kvlab.sim.shrink import minimize, shrink, size_of, written_out
from kvlab.spec.scenario import SECOND_US, FaultSpec, OperationSpec, ScenarioSpec, WorkloadSpec
from kvlab.spec.scenario_file import parse_scenario, render_scenario

PAUSE = FaultSpec(kind="pause", at_us=1_000_000, for_us=800_000, targets="server2")
SPLIT = FaultSpec(
    kind="partition", at_us=2_000_000, for_us=100_000, groups="server1 | server2,server3"
)
JOIN = FaultSpec(kind="join", at_us=2_500_000, targets="server6")
DRAWN = ScenarioSpec(
    clocks={"server1": 50_000, "server5": -50_000},
    workload=WorkloadSpec(operations=100, clients=3, span_us=3 * SECOND_US),
    faults=(PAUSE, SPLIT, JOIN),
    time_us=4 * SECOND_US,
)


@pytest.mark.parametrize("wanted", [(), (0,), (99,), (3, 4), (0, 50, 99), tuple(range(0, 100, 9))])
def test_what_does_not_matter_is_left_out(wanted: tuple[int, ...]) -> None:
    asked = 0

    def take(some) -> bool:
        nonlocal asked
        asked += 1
        return set(wanted) <= set(some)

    assert minimize(range(100), take) == list(wanted)
    assert asked <= 20 + 25 * len(wanted)


def test_no_single_item_of_the_result_can_go() -> None:
    def is_enough(some) -> bool:  # not monotonous: an odd number of the small ones, and one large
        return sum(one < 20 for one in some) % 2 == 1 and any(one > 60 for one in some)

    found = minimize(range(90), is_enough)

    assert is_enough(found)
    assert not any(is_enough([one for one in found if one != gone]) for gone in found)


def test_a_written_out_scenario_has_the_same_plan() -> None:
    for seed in range(1, 40):
        spec = draw(seed, operations=50)
        spec = replace(
            spec, faults=(*spec.faults, FaultSpec(kind="pause", at_us=5, for_us=7, targets="one"))
        )
        plain = written_out(spec)
        before, after = make_plan(spec), make_plan(plain)

        assert (before.operations, before.founders) == (after.operations, after.founders)
        assert [(one.nodes, one.links) for one in before.faults] == [
            (one.nodes, one.links) for one in after.faults
        ]
        assert len(plain.operations) == 50
        assert all("one" not in one.targets for one in plain.faults)


def test_targets_that_were_drawn_stay_when_other_faults_go() -> None:
    faults = tuple(
        FaultSpec(kind="link", at_us=at, for_us=9, source="one", target="not(server1)", cut=True)
        for at in (30, 20, 10)
    )
    spec = ScenarioSpec(faults=faults, seed=5)
    planned = [fault.links for fault in make_plan(spec).faults]
    plain = written_out(spec)

    for at in range(3):
        [alone] = make_plan(replace(plain, faults=(plain.faults[at],))).faults
        assert alone.links == planned[at]


def test_a_scenario_becomes_as_small_as_what_makes_it_fail() -> None:
    key = written_out(DRAWN).operations[40].key

    def fails(spec: ScenarioSpec) -> bool:
        plan = make_plan(spec)
        return key in plan.keys and any(fault.kind == "pause" for fault in plan.faults)

    told: list[tuple[str, int, int]] = []
    shrunk = shrink(DRAWN, fails=fails, progress=lambda *what: told.append(what))
    spec = shrunk.spec

    assert shrunk.is_minimal
    assert (shrunk.before.operations, shrunk.before.faults) == (100, 3)
    assert shrunk.after == size_of(spec)
    assert [one.key for one in spec.operations] == [key]
    assert [(one.kind, one.targets) for one in spec.faults] == [("pause", "server2")]
    assert spec.faults[0].for_us < 4_000
    assert (spec.nodes, spec.clocks, spec.jitter_us) == (3, {}, 0)  # three copies need three nodes
    first_us, second_us = sorted((spec.operations[0].at_us, spec.faults[0].at_us))
    assert (first_us, second_us) == (500_000, 505_000)
    last_us = max(spec.operations[0].at_us, spec.faults[0].at_us + spec.faults[0].for_us)
    assert last_us <= spec.time_us < last_us + 1_000
    assert parse_scenario(render_scenario(spec)) == spec
    lefts, runs = [left for _, left, _ in told], [runs for *_, runs in told]
    assert (lefts, runs) == (sorted(lefts, reverse=True), sorted(runs))
    assert (lefts[0], lefts[-1]) == (103, 2)
    assert runs[-1] <= shrunk.runs < 80


def test_no_operation_means_none_and_not_a_workload() -> None:
    shrunk = shrink(DRAWN, fails=lambda spec: spec.nodes >= 2)

    assert make_plan(shrunk.spec).operations == {}
    assert shrunk.spec.faults == ()
    assert shrunk.after.operations == 0
    assert parse_scenario(render_scenario(shrunk.spec)) == shrunk.spec


def test_nodes_that_something_names_stay() -> None:
    asks = OperationSpec(at_us=5, client="c1", verb="get", key="k", node="server4")
    spec = replace(DRAWN, nodes=9, copies=2, faults=(), operations=(asks,))
    shrunk = shrink(spec, fails=lambda one: bool(make_plan(one).operations))
    clocked = shrink(DRAWN, fails=lambda one: "server5" in one.clocks and one.nodes > 1)

    assert shrunk.spec.nodes == 4
    assert clocked.spec.nodes == 5
    assert list(clocked.spec.clocks) == ["server5"]


def test_a_node_that_lost_its_memory_stays_away_for_longer_than_clocks_step() -> None:
    kill = FaultSpec(kind="kill", at_us=500_000, for_us=3_000_000, targets="server1")
    skew = FaultSpec(kind="skew", at_us=100_000, for_us=900_000, targets="server1", by_us=-200_000)
    with_both = shrink(replace(DRAWN, faults=(kill, skew)), fails=lambda one: len(one.faults) == 2)
    alone = shrink(replace(DRAWN, faults=(kill,)), fails=lambda one: len(one.faults) == 1)

    assert with_both.spec.faults[0].kind == "skew"
    assert 500_000 <= with_both.spec.faults[1].for_us < 1_000_000
    assert alone.spec.faults[0].for_us < 4_000


def test_the_budget_is_kept_and_the_result_still_fails() -> None:
    ran = 0

    def fails(spec: ScenarioSpec) -> bool:
        nonlocal ran
        ran += 1
        return sum(map(len, make_plan(spec).operations.values())) >= 31

    shrunk = shrink(DRAWN, fails=fails, budget_runs=12)

    assert ran == shrunk.runs == 12
    assert not shrunk.is_minimal
    assert 31 <= shrunk.after.operations < 100


def test_a_name_that_is_there_no_more_is_no_failure() -> None:
    def fails(spec: ScenarioSpec) -> bool:
        if not spec.faults:
            raise UsageError("no such node")
        return True

    assert len(shrink(DRAWN, fails=fails).spec.faults) == 1


def test_what_does_not_fail_is_not_shrunk() -> None:
    with pytest.raises(UsageError, match="does not fail"):
        shrink(replace(DRAWN, workload=WorkloadSpec(operations=5), faults=()))


def test_a_planted_bug_is_shown_by_a_few_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its second round a write through a slow clock is lost in silence."""
    operations = [
        OperationSpec(
            at_us=600_000 + 10_000 * turn + 100 * number,
            client=f"c{turn + 1}",
            verb="get" if turn == 2 else "set",
            key=f"k{number}",
            value=f"v{turn}.{number}",
            node=f"server{turn + 1}",
        )
        for turn in range(3)
        for number in range(16)
    ]
    spec = ScenarioSpec(
        nodes=4,
        copies=1,
        r=1,
        w=1,
        clocks={"server1": 200_000, "server2": -200_000, "server3": 100_000},
        operations=tuple(operations),
        faults=(PAUSE, replace(PAUSE, kind="reset", source="server1", target="server2")),
        time_us=3 * SECOND_US,
        checks=("linear",),
    )
    with monkeypatch.context() as patch:
        patch.setattr(Quorum, "_reissue", lambda _self, _group: None)
        shrunk, again = shrink(spec), shrink(spec)
        failed = run(shrunk.spec).failed

    assert "linear" in failed
    assert shrunk == again
    assert [one.node for one in shrunk.spec.operations] == ["server1", "server2"]
    assert len({one.key for one in shrunk.spec.operations}) == 1
    assert shrunk.spec.faults == ()
    assert len(shrunk.spec.clocks) <= 2
    assert parse_scenario(render_scenario(shrunk.spec)) == shrunk.spec
    assert run(shrunk.spec).failed == []
