"""The verb run where nothing is started: lists, plans, refusals; and the scenarios of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from kvlab.check.verdict import Verdict
from kvlab.cli import main
from kvlab.cli.scenarios import about, drawn, read_scenario, shipped
from kvlab.experiment import make_plan
from kvlab.sim.run import run
from kvlab.spec.scenario_file import parse_scenario, render_scenario


def test_the_scenarios_of_the_package_are_listed(capsys) -> None:
    assert main(["run", "--list", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)["scenarios"]}

    assert len(listed) >= 12
    assert listed["power-cut"]["runs"] == ["sim"]
    assert listed["kill-minority"]["runs"] == ["run", "sim"]


@pytest.mark.parametrize("name", shipped())
def test_a_scenario_of_the_package_says_what_it_is_and_can_be_planned(name) -> None:
    spec = read_scenario(name)
    plan = make_plan(spec)

    assert spec.name == name
    assert about(shipped()[name])[-1] == "."
    assert parse_scenario(render_scenario(spec)) == spec
    assert len(spec.phases) > 1
    assert plan.faults
    last_us = max(fault.until_us for fault in plan.faults if fault.until_us < spec.time_us)
    assert last_us <= spec.time_us - spec.phases[-1].span_us, "the last phase is for the recovery"


@pytest.mark.parametrize("name", ["power-cut", "rolling-restart", "slow-replica"])
def test_a_scenario_of_the_package_runs_in_the_simulated_world_too(name) -> None:
    spec = read_scenario(name)
    few = replace(spec, workload=replace(spec.workload, operations=300))
    outcome = run(few)

    assert outcome.judgement.verdict is Verdict.VALID, outcome.judgement.because


def test_a_plan_is_the_same_to_the_byte_in_every_process() -> None:
    command = [sys.executable, "-m", "kvlab", "run", "everything-at-once", "--dry-run", "--json"]
    told = [
        subprocess.run(
            [*command, "--seed", "7"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]

    assert told[0] == told[1]
    plan = json.loads(told[0])
    assert len(plan["operations"]) == 1800
    assert plan["faults"] == sorted(plan["faults"], key=lambda one: one["at_us"])


def test_a_plan_is_shown_in_order_of_time(capsys) -> None:
    assert main(["run", "kill-one", "--dry-run"]) == 0
    shown = capsys.readouterr().out

    assert shown.index("phase  calm") < shown.index("kill server1") < shown.index("kill server2")
    assert "judged by reads, lost, fresh" in shown


def test_what_is_drawn_holds_nothing_that_no_real_machine_suffers(capsys) -> None:
    kinds = {fault.kind for seed in range(1, 60) for fault in drawn(seed).faults}
    assert not kinds & {"power-cut", "sync-fail"}
    assert {"kill", "disk-full", "partition", "skew"} <= kinds
    assert main(["run", "--swarm", "--seed", "3", "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("next: kvlab run --swarm --seed 3\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "name a scenario"),
        (["run", "no-such"], "there is no scenario no-such"),
        (["run", "kill-one", "--swarm"], "name a scenario"),
        (["run", "kill-one", "--ns", "strict"], "--ns is eventual or linear"),
        (["run", "contested-counters", "--ns", "eventual"], "need ns: linear"),
        (["run", "power-cut"], "kvlab sim --scenario"),
        (["replay", "nowhere"], "is not the folder of a run"),
    ],
)
def test_what_cannot_be_run_is_refused_with_what_to_write(
    arguments, said, capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
