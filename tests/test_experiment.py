from __future__ import annotations

import json

import pytest

from kvlab.check.verdict import Check, Verdict
from kvlab.errors import UsageError
from kvlab.experiment import (
    Record,
    count_phases,
    guards_of,
    is_as_expected,
    judge,
    make_plan,
    with_weak_acknowledgements,
)
from kvlab.experiment.lateness import LATE, lateness_of
from kvlab.fault.fault import Fault
from kvlab.history import Event
from kvlab.spec.scenario import (
    CHECKED_KINDS,
    KINDS,
    SECOND_US,
    FaultSpec,
    GuardsSpec,
    OperationSpec,
    PhaseSpec,
    ScenarioSpec,
    WorkloadSpec,
)

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


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_workload_by_name_is_drawn_from_the_seed_with_values_of_their_own(kind) -> None:
    ns = "linear" if kind in ("counter", "append") else "eventual"
    work = WorkloadSpec(kind=kind, operations=300, clients=3, keys=9, span_us=SECOND_US)
    plan = make_plan(spec(workload=work, ns=ns))

    each = [one for given in plan.operations.values() for one in given]
    written = [one for one in each if one.verb != "get"]
    values = [one.value for one in written if one.verb != "incr"]
    assert len(values) == len(set(values))
    assert written
    assert len(each) >= 300
    assert plan == make_plan(spec(workload=work, ns=ns))
    assert all(0 < one.at_us < SECOND_US for one in each)
    if kind == "set":
        assert len({one.key for one in written}) == len(written), "each key is written once"
    assert (kind in plan.checks) is (kind in CHECKED_KINDS)
    assert make_plan(spec(workload=work, ns=ns, checks=("lost",))).checks[0] == "lost"


def test_ycsb_writes_every_key_before_it_begins_and_mixes_as_it_should() -> None:
    def shares(kind: str) -> tuple[float, int]:
        work = WorkloadSpec(kind=kind, operations=2_000, keys=50, span_us=SECOND_US)
        each = [
            one for given in make_plan(spec(workload=work)).operations.values() for one in given
        ]
        each.sort(key=lambda one: one.at_us)
        assert {one.key for one in each[:50]} == {f"user{number}" for number in range(50)}
        rest = each[50:]
        return sum(one.verb == "get" for one in rest) / len(rest), len(rest)

    assert shares("ycsb-a")[0] == pytest.approx(0.5, abs=0.05)
    assert shares("ycsb-b")[0] == pytest.approx(0.95, abs=0.02)
    assert shares("ycsb-c") == (1.0, 2_000)
    assert shares("ycsb-e")[1] > 15_000, "a scan is ten gets"
    assert shares("ycsb-f")[0] == pytest.approx(2 / 3, abs=0.05), "a read before each write"


def test_how_late_operations_were_begun_is_told() -> None:
    def event(t_us: int, due_us: int, kind: str = "invoke", **fields) -> Event:
        return Event(
            t_us=t_us,
            client="c",
            op=t_us,
            type=kind,
            f="get",
            key="k",
            intended_us=due_us,
            **fields,
        )

    events = [event(100 + late, 100) for late in range(100)]
    events += [event(900, 0, "fail", error=LATE), event(950, 0, final=True)]
    assert lateness_of(events) == {
        "operations": 100,
        "not_sent": 1,
        "late_us_p50": 50,
        "late_us_p99": 99,
        "late_us_max": 99,
    }
    assert lateness_of([])["late_us_max"] == 0


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


def test_a_fault_that_happens_again_has_targets_and_times_of_its_own() -> None:
    again = FaultSpec(
        kind="kill", at_us=SECOND_US, for_us=SECOND_US, targets="each", every_us=2 * SECOND_US
    )
    vary = FaultSpec(
        kind="pause",
        at_us=SECOND_US,
        for_us=SECOND_US,
        targets="one",
        every_us=2 * SECOND_US,
        times=8,
        vary_us=SECOND_US // 2,
    )
    plan = make_plan(spec(again, nodes=3, time_us=9 * SECOND_US))
    varied = make_plan(spec(vary, time_us=30 * SECOND_US)).faults

    assert [(one.at_us // SECOND_US, one.nodes) for one in plan.faults] == [
        (1, ("server1",)),
        (3, ("server2",)),
        (5, ("server3",)),
        (7, ("server1",)),
    ]
    assert len(varied) == 8
    assert len({one.nodes for one in varied}) > 1
    assert all(
        abs(one.at_us - (1 + 2 * place) * SECOND_US) <= SECOND_US // 2
        for place, one in enumerate(varied)
    )


def test_a_plan_can_be_written_down_and_its_faults_read_again() -> None:
    faults = (
        KILL,
        FaultSpec(kind="partition", at_us=7, shape="bridge", mode="reset"),
        FaultSpec(kind="partition", at_us=7, shape="isolate", targets="owner(k1)"),
        FaultSpec(kind="partition", at_us=7, source="server1", target="server2"),
        FaultSpec(kind="slow", at_us=8, for_us=9, targets="all", cpu=0.25),
        FaultSpec(kind="skew", at_us=8, for_us=9, targets="one", by_us=-5),
    )
    plan = make_plan(spec(*faults))
    told = json.loads(json.dumps(plan.to_builtins()))

    assert told == plan.to_builtins()
    read = [Fault.from_builtins(one, one["at_us"], one["until_us"]) for one in told["faults"]]
    assert tuple(read) == plan.faults


def test_the_faults_of_a_simulated_run_do_not_say_whom_they_hit() -> None:
    line = {"t_us": 5, "until_us": 9, "kind": "kill", "title": "kill server1"}
    with pytest.raises(UsageError, match="it was simulated"):
        make_plan(spec()).with_faults([line])
    [fault] = make_plan(spec()).with_faults([line | {"nodes": ["server1"]}]).faults
    assert (fault.at_us, fault.until_us, fault.nodes) == (5, 9, ("server1",))


def test_a_run_of_phases_needs_successes_in_each_and_can_ask_every_fault_to_bite() -> None:
    given = spec(
        KILL,
        KILL,
        phases=(PhaseSpec(name="a", span_us=5), PhaseSpec(name="b", span_us=5)),
        time_us=10 * SECOND_US,
        guards=GuardsSpec(phase_ok=1, bite="all"),
    )
    plan = make_plan(given)
    events = [
        Event(t_us=at, client="c", op=op, type=kind, f="set", key="k", value="v")
        for op, kind, at in ((1, "invoke", 1), (1, "ok", 6), (2, "invoke", 7), (2, "info", 8))
    ]
    counts = count_phases(plan, events)
    felt, dull = {"bit": True}, {"bit": False, "title": "kill server2", "why": "it is paused"}

    assert [(one.name, one.ok, one.unknown) for one in counts.phases] == [("a", 1, 0), ("b", 0, 1)]
    guards = guards_of(plan, events, Record(faults=[felt, dull]))
    assert guards["operations"] == "0 operations succeeded in phase b, fewer than 1"
    assert guards["faults"] == "kill server2 had no effect: it is paused"


@pytest.mark.parametrize(
    ("verdict", "expect", "met"),
    [
        (Verdict.VALID, "valid", True),
        (Verdict.INVALID, "valid", False),
        (Verdict.INVALID, "invalid", True),
        (Verdict.UNKNOWN, "any", False),
        (Verdict.INVALID, "any", True),
    ],
)
def test_a_scenario_says_what_it_expects(verdict, expect, met) -> None:
    assert is_as_expected(verdict, expect) is met


def test_a_check_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match='no check "nothing"'):
        make_plan(spec(checks=("lost", "nothing")))
    assert make_plan(spec(checks=("sessions", "lost"))).checks[0] == "lost"


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
