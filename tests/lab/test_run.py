"""Runs on real processes: one with many kinds of fault, and the ways in which a run can end early."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvlab.check.verdict import Verdict
from kvlab.errors import SpecError, UsageError
from kvlab.experiment import make_plan
from kvlab.experiment.faults import replicas_of
from kvlab.fault.fault import LASTING
from kvlab.history import decode_events
from kvlab.lab.reap import find_processes
from kvlab.lab.run import Run, cluster_of
from kvlab.lab.run_judge import judge_run
from kvlab.rundir import Journal, RunDir
from kvlab.spec import LinkSpec
from kvlab.spec.scenario import FaultSpec, ScenarioSpec
from kvlab.spec.scenario_file import parse_scenario, render_scenario

MS = 1_000
SCENARIO = """
name: short
nodes: 4
sync: always
clocks: {server4: 50ms}
workload: {operations: 900, clients: 6, keys: 12, timeout: 500ms, mix: {get: 0.4, set: 0.6}}
phases:
  - name: trouble
    for: 2s
    faults:
      - {at: 100ms, for: 500ms, kind: kill, targets: server1}
      - {at: 200ms, for: 400ms, kind: pause, targets: server2}
      - {at: 300ms, for: 500ms, kind: link, from: server3, to: all, latency: 10ms}
      - {at: 300ms, for: 500ms, kind: partition, from: server4, to: server3}
      - {at: 900ms, for: 200ms, kind: bit-flip, targets: server1}
      - {at: 1200ms, for: 600ms, kind: slow, targets: server2, cpu: 0.2}
      - {at: 1200ms, for: 700ms, kind: disk-full, targets: server3}
      - {at: 1200ms, kind: join, targets: server5}
      - {at: 1500ms, kind: reset, from: server4, to: all}
  - {name: after, for: 500ms}
guards: {faults: all}
"""


def perform(spec: ScenarioSpec, folder: Path, nemesis=None):
    files = RunDir.create(folder)
    plan = make_plan(spec)

    async def run():
        with Journal(files, render_scenario(spec)) as journal:
            return await Run(plan, files.state, journal, lambda _said: None, nemesis).run()

    outcome = asyncio.run(run())
    files.keep_logs()
    return plan, files, outcome, judge_run(plan, outcome.record, outcome.healed_us, files)


@pytest.mark.live
def test_a_run_hurts_heals_and_is_judged(tmp_path: Path) -> None:
    plan, files, outcome, judged = perform(parse_scenario(SCENARIO), tmp_path)
    lines = files.faults()

    assert judged.judgement.verdict is Verdict.VALID, judged.judgement.because
    assert lines == outcome.record.faults, "the last line of each fault is what is known of it"
    assert [line["kind"] for line in lines if not line["bit"]] == []
    assert all(line["t_us"] >= line["planned_us"] for line in lines)
    by_kind = {line["kind"]: line for line in lines}
    assert by_kind["pause"]["evidence"] == {"server2": "paused"}
    assert "SIGKILL" in by_kind["kill"]["evidence"]["server1"]
    assert by_kind["partition"]["evidence"]["held_bytes"] > 0
    assert by_kind["link"]["evidence"]["delayed"] > 0
    assert "damaged, to be filled again" in (tmp_path / "nodes" / "server1.log").read_text()
    assert sorted(files.logs()) == [f"server{number}" for number in range(1, 6)]
    assert find_processes(files.state) == []
    assert not files.state.exists()

    links = [json.loads(line) for line in files.read("links.jsonl").splitlines()]
    undone = [line for line in lines if line["kind"] not in LASTING]
    assert {one["after"] for one in links} == {
        *(f"fault {line['id']} {line['title']}" for line in undone),
        *("phase trouble", "phase after", "final reads"),
    }
    split = next(line for line in lines if line["kind"] == "partition")
    [cut] = [one for one in links if one["after"] == f"fault {split['id']} {split['title']}"]
    assert (cut["from"], cut["to"]) == ("server4", "server3")
    assert cut["held_bytes"] >= split["evidence"]["held_bytes"]
    assert 0 < cut["chunks"] <= cut["bytes"]

    events = decode_events((tmp_path / "history.jsonl").read_bytes())
    finals = {(one.node, one.key) for one in events if one.final and one.type == "ok"}
    nodes = {f"server{number}" for number in range(1, 6)}
    assert finals == {(node, key) for node in nodes for key in (*plan.keys, "kvlab-last")}
    asked = [(one.client.partition(".")[0], one.key) for one in events if one.type == "invoke"]
    for client, operations in plan.operations.items():
        assert [key for name, key in asked if name == client] == [one.key for one in operations]

    again = plan.with_faults(lines)
    assert {one.title: one.at_us for one in again.faults} == {
        line["title"]: line["t_us"] for line in lines
    }
    assert {(one.title, one.nodes, one.links, one.rule) for one in again.faults} == {
        (one.title, one.nodes, one.links, one.rule) for one in plan.faults
    }


@pytest.mark.live
def test_selectors_by_key_mean_the_ring_that_the_cluster_starts_with(tmp_path: Path) -> None:
    from kvlab.engine.jsonline import ask
    from kvlab.lab.supervisor import Lab

    spec = ScenarioSpec(nodes=3, copies=2, r=1, w=2, ranges=64)

    async def owners() -> dict[str, list[str]]:
        async with Lab(cluster_of(spec), tmp_path) as lab:
            host, port = lab.addresses["server1"]
            told = [await ask(host, port, {"type": "INSPECT", "key": f"k{i}"}) for i in range(20)]
            return {f"k{i}": one["owners"] for i, one in enumerate(told)}

    for key, told in asyncio.run(owners()).items():
        assert list(replicas_of(spec.nodes, spec.copies, spec.ranges, key)) == told


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run from the command line whose clients have been answered."""
    (tmp_path / "s.yaml").write_text(
        "name: long\nnodes: 3\nsync: os\ntime: 1h\nworkload: {operations: 5000, for: 1m}\n"
    )
    command = [sys.executable, "-m", "kvlab", "run", "s.yaml", "--out", "r"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            history, deadline = tmp_path / "r" / "history.jsonl", time.monotonic() + 60
            while not history.exists() or b'"type":"ok"' not in history.read_bytes():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def until_gone(state: Path) -> None:
    deadline = time.monotonic() + 30
    while find_processes(state):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_its_history_and_nothing_that_runs(
    tmp_path, process, number
) -> None:
    assert len(find_processes(tmp_path / "r" / "state")) > 3, "nodes and their parent"
    os.kill(process.pid, number)
    process.communicate(timeout=30)
    until_gone(tmp_path / "r" / "state")

    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    lines = (tmp_path / "r" / "history.jsonl").read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    assert (tmp_path / "r" / "spec.yaml").exists()
    assert not (tmp_path / "r" / "verdict.json").exists()
    assert (tmp_path / "r" / "state").exists() == (number == signal.SIGKILL)


def test_what_cannot_be_done_to_a_real_machine_is_refused_before_anything_starts(tmp_path) -> None:
    cut = FaultSpec(kind="power-cut", at_us=MS, for_us=MS, targets="all")
    plan = make_plan(ScenarioSpec(faults=(cut,), sync="always"))

    with pytest.raises(UsageError, match="power-cut cannot be done here") as caught:
        Run(plan, tmp_path, None, print)
    assert "kvlab sim --scenario" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_links_are_as_the_machine_has_them_unless_a_scenario_says_otherwise() -> None:
    assert cluster_of(ScenarioSpec()).network.default == LinkSpec()
    slow = cluster_of(ScenarioSpec(latency_us=20 * MS))
    assert slow.network.default == LinkSpec(latency_us=20 * MS, jitter_us=200)


@pytest.mark.live
def test_a_nemesis_decides_while_a_run_goes_on_and_leaves_lines_like_all_faults(tmp_path) -> None:
    async def nemesis(run) -> None:
        assert run.nodes == ("server1", "server2", "server3")
        assert (await run.status("server1"))["ready"]
        line = await run.fault("kind: pause, targets: server2, for: 100ms")
        assert line["bit"]
        with pytest.raises(SpecError, match="1 problem"):
            await run.fault("kind: explode")
        await run.fault("kind: kill, targets: server3")
        assert run.seconds_left == 0, "without an end it lasts until all is undone"

    spec = parse_scenario("nodes: 3\nsync: os\ntime: 1s\nworkload: {operations: 100}")
    plan, _files, outcome, judged = perform(spec, tmp_path, nemesis)
    judged_plan = plan.with_faults(outcome.record.faults)

    assert [line["title"] for line in outcome.record.faults] == ["pause server2", "kill server3"]
    assert all(line["bit"] for line in outcome.record.faults)
    assert judged.judgement.verdict is Verdict.VALID, judged.judgement.because
    assert [fault.kind for fault in judged_plan.faults] == ["pause", "kill"]
