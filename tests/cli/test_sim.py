from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvlab.cli import main

SCENARIO = """version: 1
name: small
seed: 5
nodes: 3
time: 4s
workload: {operations: 40, clients: 2, keys: 4, for: 3s}
faults:
  - {at: 1s, for: 1s, kind: pause, targets: server2}
"""


def sim(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    assert main(["sim", *args]) == code
    return capsys.readouterr().out


def test_seeds_are_added_up(capsys) -> None:
    told = json.loads(sim(capsys, "--seeds", "1-3", "--operations", "30", "--jobs", "1", "--json"))

    assert (told["verdict"], told["runs"], told["verdicts"]) == ("valid", 3, {"valid": 3})
    assert told["operations"] == 90
    assert told["reached"]["reply: set ok"] > 0


def test_processes_change_nothing(capsys) -> None:
    one, two = (
        json.loads(sim(capsys, "--seeds", "1-9", "--operations", "20", "-j", jobs, "--json"))
        for jobs in ("1", "2")
    )

    assert one | {"took_us": 0} == two | {"took_us": 0}


def test_a_run_leaves_its_files_and_can_be_repeated(capsys, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    said = sim(capsys, "--seed", "1", "--operations", "30", "--out", str(first))
    sim(capsys, "--scenario", str(first / "spec.yaml"), "--out", str(again))

    assert "verdict: valid" in said
    assert (first / "history.jsonl").read_bytes() == (again / "history.jsonl").read_bytes()
    verdict = json.loads((first / "verdict.json").read_text())
    assert verdict["schema"] == 1
    assert verdict["reproduce"] == "kvlab sim --seed 1 --operations 30"
    assert {"lost", "reads", "converged"} <= set(verdict["checks"])


def test_a_scenario_is_run_from_its_file(capsys, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)

    said = sim(capsys, "--scenario", str(path))

    assert "small: 3 nodes, 3 copies (r 2, w 2), 40 operations" in said
    assert "pause server2" in said


def test_a_planted_bug_ends_with_one_and_the_command_to_repeat(capsys) -> None:
    args = ("--seeds", "1-8", "--mutant", "no-second-round", "--json")
    told = json.loads(sim(capsys, *args, code=1))

    [first, *_] = told["failures"]
    assert first["verdict"] == "invalid"
    assert first["reproduce"] == f"kvlab sim --seed {first['seed']} --mutant no-second-round"


def test_a_trace_shows_messages_in_lanes(capsys) -> None:
    lines = sim(capsys, "--seed", "3", "--operations", "5", "--trace").splitlines()

    assert any("hello server1" in line for line in lines)
    assert any("SET k" in line or "GET k" in line for line in lines)
    assert lines[-1].startswith("verdict: valid")


def test_mutants_are_listed(capsys) -> None:
    told = json.loads(sim(capsys, "--mutants", "--json"))

    assert len(told["mutants"]) >= 12
    assert all(one["sin"] and one["caught_by"] for one in told["mutants"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--seeds", "9-1"), "are no seeds"),
        (("--seeds", "x"), "are no seeds"),
        (("--seed", "1", "--seeds", "1-2"), "say two things"),
        (("--seeds", "1-2", "--trace"), "look at one run"),
        (("--swarm", "--scenario", "x.yaml"), "give one of them"),
        (("--nodes", "99"), "--nodes is a number"),
        (("--mutant", "none"), "none"),
        (("--time", "5"), "unit"),
    ],
)
def test_wrong_arguments_say_what_to_write(capsys, args, said: str) -> None:
    assert main(["sim", *args]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_file_is_said(capsys) -> None:
    assert main(["sim", "--scenario", "nowhere.yaml"]) == 2
    assert "there is no scenario nowhere.yaml" in capsys.readouterr().err
