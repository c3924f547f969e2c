"""Every verb where there is no cluster, or a wrong file: one clear error and the right exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvlab.cli import main

ON_A_CLUSTER = [
    ["down"],
    ["status"],
    ["status", "--json"],
    ["add"],
    ["remove", "server1"],
    ["kill", "server1"],
    ["stop", "all"],
    ["start", "one"],
    ["restart", "server1"],
    ["restart", "--rolling"],
    ["pause", "server1"],
    ["resume", "server1"],
    ["partition", "server1 | server2"],
    ["link", "server1", "server2", "--latency", "5ms"],
    ["heal"],
    ["faults"],
    ["ring"],
    ["keys", "city"],
    ["moves"],
]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "cluster.yaml"
    file.write_text("nodes: 3\n")
    monkeypatch.chdir(tmp_path)
    return file


@pytest.mark.parametrize("args", ON_A_CLUSTER, ids=" ".join)
def test_without_a_daemon_a_verb_says_how_to_start_one(
    args: list[str], spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 5

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: no cluster")
    assert "running" in captured.err
    assert "kvlab up" in captured.err.splitlines()[-1]


@pytest.mark.parametrize("args", ON_A_CLUSTER, ids=" ".join)
def test_where_there_is_no_file_a_verb_says_so(
    args: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(args) == 5
    assert "there is no cluster.yaml" in capsys.readouterr().err


def test_up_without_a_file_says_how_to_write_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "-f", str(tmp_path / "cluster.yaml")]) == 2
    assert "nodes: 3" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["up"], ["ring", "plan", "--add", "1"], ["logs"]], ids=" ".join)
def test_every_problem_of_a_wrong_file_is_printed(
    verb: list[str], spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec.write_text("nodes: -1\nreplication: {n: many}\nwrong: yes\n")

    assert main(verb) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ("nodes", "replication", "wrong"))
    assert "Traceback" not in said


def test_a_plan_without_a_cluster_starts_from_the_file(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec.write_text("nodes: 4\nreplication: {n: 2}\n")

    assert main(["ring", "plan", "--remove", "server4"]) == 0
    assert capsys.readouterr().out.startswith("4 nodes -> 3 (-server4): 10,000 sample keys x 2")


def test_a_node_that_does_not_answer_is_said(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ring", "--addr", "127.0.0.1:1"]) == 5
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_logs_before_the_first_start_say_so(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs"]) == 2
    assert "there are no logs" in capsys.readouterr().err


def test_a_restart_of_nobody_asks_whom(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restart"]) == 2

    assert "say which nodes to restart" in capsys.readouterr().err
