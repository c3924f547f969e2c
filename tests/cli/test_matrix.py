"""The verb matrix: a short one on real processes, one that is ended, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from kvlab.cli import main
from kvlab.cli.matrices import read_matrix, shipped_matrices
from kvlab.cli.scenarios import about
from kvlab.lab.reap import find_processes

SECONDS = 1_000_000
# Without a fault: whoever reads through another node than was written through reads what is old.
TWO = """
name: two
scenarios:
  - name: calm
    nodes: 3
    time: 300ms
    workload: {operations: 60, clients: 3}
  - name: stale
    nodes: 3
    replication: {n: 3, r: 1, w: 1}
    network: {latency: 50ms}
    time: 800ms
    workload: {operations: 200, clients: 6, keys: 1, mix: {get: 0.6, set: 0.4}}
    checks: [linear]
expect:
  - {scenario: stale, verdict: invalid}
"""


@pytest.mark.live
def test_a_matrix_is_run_and_an_expected_invalid_passes(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.yaml").write_text(TWO)

    assert main(["matrix", "-j", "2", "--out", "out", "--junit", "all.xml"]) == 0
    told = capsys.readouterr()

    assert "passed: 2 of 2 cells are as expected" in told.out
    assert "invalid (expected)" in told.out
    assert sorted(line.split()[3] for line in told.err.splitlines()[1:]) == ["1/2", "2/2"]
    document = json.loads((tmp_path / "out" / "matrix.json").read_text())
    assert [(one["cell"], one["verdict"], one["outcome"]) for one in document["cells"]] == [
        ("calm", "valid", "passed"),
        ("stale", "invalid", "passed"),
    ]
    xml = (tmp_path / "all.xml").read_text()
    assert (tmp_path / "out" / "junit.xml").read_text() == xml
    assert [case.get("name") for case in ET.fromstring(xml.encode()).iter("testcase")] == [
        "calm",
        "stale",
    ]
    for name in ("calm", "stale"):
        run = tmp_path / "out" / name
        assert not (run / "state").exists()
        suite = ET.fromstring((run / "junit.xml").read_bytes())[0]
        assert "linear" in {case.get("name") for case in suite} or name == "calm"
        assert suite.get("failures") == suite.get("errors") == "0"
        assert sorted(path.name for path in (run / "nodes").iterdir()) == [
            f"server{number}.log" for number in (1, 2, 3)
        ]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A matrix of two runs at once and one that waits, when clients of both have been answered."""
    (tmp_path / "long.yaml").write_text(
        "scenarios:\n"
        + "".join(
            f"  - {{name: {name}, nodes: 2, replication: {{n: 1}}, time: 1h,"
            " workload: {operations: 9000, for: 1m}}\n"
            for name in "abc"
        )
    )
    command = [sys.executable, "-m", "kvlab", "matrix", "long.yaml", "-j", "2", "--out", "out"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            for name in "ab":
                history = tmp_path / "out" / name / "history.jsonl"
                while not history.exists() or b'"type":"ok"' not in history.read_bytes():
                    assert process.poll() is None, process.communicate()
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            yield process
        finally:
            process.kill()


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_matrix_that_is_ended_leaves_nothing_that_runs(tmp_path, process, number) -> None:
    states = [tmp_path / "out" / name / "state" for name in "ab"]
    assert all(len(find_processes(state)) > 2 for state in states), "nodes and their parent"
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while any(find_processes(state) for state in states) or any(map(Path.exists, states)):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert all((tmp_path / "out" / name / "history.jsonl").stat().st_size for name in "ab")
    assert not (tmp_path / "out" / "c").exists()
    if number == signal.SIGKILL:
        return
    assert process.returncode == 130
    assert "0 of 3 cells are as expected, 2 interrupted, 1 not run" in said
    cells = json.loads((tmp_path / "out" / "matrix.json").read_text())["cells"]
    assert [one["outcome"] for one in cells] == ["interrupted", "interrupted", "not run"]


@pytest.mark.live
def test_a_run_that_takes_too_long_is_ended_and_no_more_are_begun(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text(
        "scenarios: [{name: a, nodes: 1, replication: {n: 1}, time: 1h}]\nseeds: 1-2\ntimeout: 1s\n"
    )

    assert main(["matrix", "m.yaml", "-j", "1", "--fail-fast", "--json"]) == 5
    told = json.loads(capsys.readouterr().out)

    assert [one["outcome"] for one in told["cells"]] == ["error", "not run"]
    assert told["cells"][0]["because"].startswith("ended after 1s, the timeout of the matrix")
    assert told["cells"][1]["reproduce"] == "kvlab matrix m.yaml -k a.s2"
    assert told["run"].startswith("runs/matrix/")
    assert (Path("runs") / "matrix" / "latest" / "junit.xml").read_text().count("<skipped") == 1


@pytest.mark.parametrize("name", shipped_matrices())
def test_a_matrix_of_the_package_says_what_it_is_and_can_be_planned(name: str, capsys) -> None:
    spec = read_matrix(name)

    assert spec.name == name
    assert about(shipped_matrices()[name])[-1] == "."
    assert len(spec.cells) > 7
    assert main(["matrix", name, "--dry-run", "--json", "-k", "linear"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert cells
    assert all("linear" in cell["cell"] for cell in cells)


def test_the_short_matrix_is_short_and_has_what_a_cluster_must_survive() -> None:
    cells = read_matrix("short").cells

    assert sum(cell.scenario.time_us for cell in cells) <= 30 * SECONDS
    kinds = {fault.kind for cell in cells for fault in cell.scenario.faults}
    assert {"kill", "pause", "partition"} <= kinds
    assert {cell.scenario.expect for cell in cells} == {"valid", "invalid"}
    assert {cell.scenario.ns for cell in cells} == {"eventual", "linear"}


def test_matrices_are_listed(capsys) -> None:
    assert main(["matrix", "--list"]) == 0
    assert "short" in capsys.readouterr().out
    assert main(["matrix", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["matrices"]
    assert [one["name"] for one in listed] == ["long", "short"]


def test_a_filter_names_a_cell_whole_or_in_part_and_a_path_is_from_the_matrix(
    tmp_path, capsys
) -> None:
    (tmp_path / "mine.yaml").write_text("nodes: 3")
    (tmp_path / "m.yaml").write_text("scenarios: [mine.yaml]\nseeds: 1-11")

    def cells(*filters: str) -> list[str]:
        assert main(["matrix", str(tmp_path / "m.yaml"), "--dry-run", "--json", *filters]) == 0
        return [one["cell"] for one in json.loads(capsys.readouterr().out)["cells"]]

    assert cells("-k", "mine.s1") == ["mine.s1"]
    assert cells("-k", "s1") == ["mine.s1", "mine.s10", "mine.s11"]
    assert cells("-k", "mine.s2", "-k", "s1", "--seeds", "2,10") == ["mine.s2", "mine.s10"]


def test_a_matrix_runs_on_the_cluster_of_ones_own(tmp_path, capsys) -> None:
    server = "{python} -m kvlab.examples.server --id {id} --addr {host}:{port} --peers {peers}"
    file = tmp_path / "cluster.yaml"
    file.write_text(f'name: mine\nnodes: 4\nengine:\n  command: "{server}"\n')

    matrix = tmp_path / "m.yaml"
    matrix.write_text("scenarios: [kill-one, {name: calm, nodes: 3, time: 1s}]")

    assert main(["matrix", str(matrix), "-f", str(file), "--dry-run", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)["cells"]
    assert {one["values"]["nodes"] for one in told} == {"4"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is no matrix matrix.yaml"),
        (["nope"], "there is no matrix nope"),
        (["short", "-k", "nope"], "no cell has 'nope' in its name"),
        (["short", "--seeds", "x"], '"x" are no seeds'),
        (["bad.yaml"], "bad.yaml:1: there is no scenario nope; write the path of a file, from ."),
        (["unreal.yaml"], "the cell power-cut cannot be: power-cut cannot be done here"),
        (["named.yaml"], 'the cell a cannot be: no node or selector is called "server9"'),
        (["ok.yaml", "--out", "full"], "full is not empty"),
        (["ok.yaml", "--junit", "no/such/folder/x.xml"], "cannot write no/such/folder/x.xml"),
        (["binary.yaml"], "is not text"),
        (["ok.yaml", "-f", "nope.yaml"], "nope.yaml"),
        (["sizes.yaml", "-f", "cluster.yaml"], "its cluster.yaml says how many nodes"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(
    arguments, said, capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("scenarios: [nope]")
    (tmp_path / "unreal.yaml").write_text("scenarios: [power-cut]")
    (tmp_path / "named.yaml").write_text(
        "scenarios: [{name: a, faults: [{at: 1s, for: 1s, kind: kill, targets: server9}]}]"
    )
    (tmp_path / "ok.yaml").write_text("scenarios: [kill-one]")
    (tmp_path / "sizes.yaml").write_text("scenarios: [kill-one]\nnodes: [3, 5]")
    (tmp_path / "cluster.yaml").write_text("name: mine\nnodes: 4")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()

    assert main(["matrix", *arguments]) in (2, 5)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
