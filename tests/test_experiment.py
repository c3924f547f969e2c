from __future__ import annotations

import pytest

from kvlab.check.verdict import Check, Verdict
from kvlab.errors import UsageError
from kvlab.experiment import Record, guards_of, judge, make_plan, with_weak_acknowledgements
from kvlab.history import Event
from kvlab.spec.scenario import SECOND_US, FaultSpec, OperationSpec, ScenarioSpec, WorkloadSpec

KILL = FaultSpec(kind="kill", at_us=SECOND_US, for_us=SECOND_US, targets="server2")


def spec(*faults: FaultSpec, **changes) -> ScenarioSpec:
    return ScenarioSpec(faults=faults, **changes)


def check(name: str, verdict: Verdict) -> Check:
    return Check(name=name, verdict=verdict, because=f"{name} says so")


def test_the_same_scenario_is_the_same_plan() -> None:
    assert make_plan(spec(KILL)) == make_plan(spec(KILL))
    assert make_plan(spec(seed=2)).operations != make_plan(spec(seed=1)).operations


def test_a_workload_becomes_operations_in_order_of_time_with_values_of_their_own() -> None:
    work = WorkloadSpec(operations=300, clients=3, keys=5, span_us=SECOND_US)
    plan = make_plan(spec(workload=work))

    each = [one for given in plan.operations.values() for one in given]
    values = [one.value for one in each if one.verb == "set"]
    assert len(each) == 300
    assert len(values) == len(set(values)) > 50
    assert set(plan.keys) <= {f"k{number}" for number in range(5)}
    assert all(
        [one.at_us for one in given] == sorted(one.at_us for one in given)
        for given in plan.operations.values()
    )


def test_operations_that_are_written_out_take_the_place_of_the_workload() -> None:
    one = OperationSpec(at_us=5, client="c9", verb="get", key="k")

    assert make_plan(spec(operations=(one,))).operations == {"c9": (one,)}


def test_names_are_resolved_and_a_fault_without_an_end_lasts_to_the_end() -> None:
    plan = make_plan(
        spec(
            FaultSpec(kind="partition", at_us=7, groups="server1"),
            FaultSpec(kind="link", at_us=8, for_us=2, source="server1", target="all", cut=True),
            FaultSpec(kind="join", at_us=9, targets="server9"),
            nodes=3,
        )
    )
    partition, link, join = plan.faults

    assert (partition.until_us, link.until_us) == (plan.spec.time_us, 10)
    assert ("server1", "server2") in partition.links
    assert ("server2", "server1") in partition.links
    assert link.links == (("server1", "server2"), ("server1", "server3"), ("server1", "server9"))
    assert (join.nodes, plan.joiners) == (("server9",), ("server9",))


@pytest.mark.parametrize(
    "fault",
    [
        FaultSpec(kind="pause", at_us=1, targets="server8"),
        FaultSpec(kind="partition", at_us=1, groups="server8 | server1"),
        FaultSpec(kind="link", at_us=1, source="server1", target="server1", cut=True),
    ],
)
def test_what_does_not_exist_is_refused(fault: FaultSpec) -> None:
    with pytest.raises(UsageError, match=r"server[81]"):
        make_plan(spec(fault))


@pytest.mark.parametrize(
    ("given", "promised"),
    [
        (spec(), ("reads", "lost", "fresh")),
        (spec(r=1, w=1), ("reads", "lost")),
        (spec(copies=1, r=1, w=1), ("reads", "lost", "fresh", "linear")),
        (
            spec(FaultSpec(kind="join", at_us=1, targets="server6"), copies=1, r=1, w=1),
            ("reads", "lost", "fresh"),
        ),
    ],
)
def test_only_what_the_setting_promises_is_judged(given: ScenarioSpec, promised) -> None:
    assert make_plan(given).promises == promised


def test_the_worst_check_decides_and_a_broken_guard_is_at_best_unknown() -> None:
    fine, bad = check("reads", Verdict.VALID), check("lost", Verdict.INVALID)

    assert judge([fine], {"faults": ""}).verdict is Verdict.VALID
    assert judge([fine], {"faults": "none bit"}).because == "faults: none bit"
    assert judge([fine], {"faults": "none bit"}).verdict is Verdict.UNKNOWN
    assert judge([fine, bad], {"faults": "none bit"}).because == "lost: lost says so"


def test_a_run_in_which_little_succeeded_or_nothing_hurt_proves_nothing() -> None:
    plan = make_plan(
        spec(KILL, operations=(OperationSpec(at_us=1, client="c", verb="get", key="k"),))
    )
    asked = Event(t_us=1, client="c", op=1, type="invoke", f="get", key="k")
    failed = Event(t_us=2, client="c", op=1, type="fail", f="get", key="k")

    guards = guards_of(plan, [asked, failed], Record(faults=[{"bit": False}]))

    assert guards == {
        "operations": "0 of 1 operations succeeded",
        "final reads": "no key could be read at the end",
        "faults": "none of 1 faults had an effect",
    }


def test_where_memory_is_lost_a_weak_acknowledgement_promises_nothing() -> None:
    said = [
        Event(t_us=1, client="c", op=op, type="ok", f="set", key="k", degraded=op == 2)
        for op in (1, 2)
    ]

    def types(plan_spec: ScenarioSpec) -> list[str]:
        return [one.type for one in with_weak_acknowledgements(make_plan(plan_spec), said)]

    assert types(spec()) == ["ok", "ok"]
    assert types(spec(KILL)) == ["ok", "info"]
    assert types(spec(KILL, r=3, w=1)) == ["info", "info"]
