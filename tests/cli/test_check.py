"""The verb check: what it reads, what it says, and with which code it ends."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from kvlab.check import CHECKERS, SUMMARIES
from kvlab.cli import main

GOLDEN = Path(__file__).parent.parent / "golden"
STALE = GOLDEN / "stale-read.linear.invalid.jsonl"


def check(capsys: pytest.CaptureFixture[str], *args: object, code: int = 0) -> str:
    assert main(["check", *map(str, args)]) == code
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    assert main(["check", *map(str, args)]) == 2
    return capsys.readouterr().err


def test_an_invalid_history_is_explained_by_its_operations(capsys) -> None:
    said = check(capsys, STALE, "--check", "linear", code=1)

    assert "linear: the operations that show it\n" in said
    assert "    2  c1      -     set x b    ok      0.003000s  0.004000s\n" in said
    assert "\nverdict: invalid - linear: key x: the get by c2 (op 3)" in said
    assert said.splitlines()[-1] == f"next: kvlab check {STALE} --json or kvlab check --list"


def test_unasked_it_judges_what_every_store_promises(capsys) -> None:
    said = check(capsys, STALE)

    assert "lost   unknown       0" in said
    assert "verdict: valid - 1 checks hold; lost had nothing to judge\n" in said


def test_what_was_asked_for_by_name_must_have_something_to_judge(capsys) -> None:
    check(capsys, STALE, "--check", "reads,lost", code=3)
    check(capsys, STALE, "--check", "lost", code=4)
    check(capsys, STALE, "--check", "logs", code=4)


def test_all_runs_every_check_once(capsys) -> None:
    told = json.loads(check(capsys, STALE, "--check", "all,linear", "--json", code=1))

    assert list(told["checks"]) == list(SUMMARIES)
    assert told["checks"]["staleness"]["figures"]["behind"] == 1


def test_json_is_the_contract_and_spells_the_evidence_out(capsys) -> None:
    told = json.loads(check(capsys, STALE, "--check", "linear", "--json", code=1))

    assert (told["schema"], told["verdict"]) == (1, "invalid")
    assert told["reproduce"] == f"kvlab check {STALE}"
    linear = told["checks"]["linear"]
    assert linear["evidence"] == [op["i"] for op in linear["operations"]] == [0, 2, 4]
    assert linear["operations"][1]["value"] == "b"
    assert told["history"]["operations"] == 3


def test_bounds_are_judged(capsys) -> None:
    check(capsys, STALE, "--check", "staleness")
    check(capsys, STALE, "--check", "staleness", "--max-versions", "0", code=1)
    check(capsys, STALE, "--check", "staleness", "--max-age", "1ms")
    check(capsys, STALE, "--check", "staleness", "--max-age", "999us", code=1)
    check(capsys, STALE, "--check", "availability", "--max-gap", "1ms")
    check(capsys, STALE, "--check", "availability", "--max-gap", "10us", code=1)
    check(
        capsys, GOLDEN / "split-brain.linear.invalid.jsonl", "--check=linear", "--budget=1", code=1
    )


def test_when_the_faults_were_over_can_be_told(capsys) -> None:
    ask = [STALE, "--check", "availability", "--healed", "4ms", "--max-heal"]
    check(capsys, *ask, "1ms")
    check(capsys, *ask, "999us", code=1)
    check(capsys, STALE, "--check", "liveness", "--healed", "9ms", code=4)


def test_clocks_may_be_told_to_be_off(capsys) -> None:
    lost = GOLDEN / "lost-write.lost.invalid.jsonl"
    check(capsys, lost, code=1)
    check(capsys, lost, "--clock-error", "1ms")
    check(capsys, lost, "--clock-error", "999us", code=1)


def test_standard_input_is_a_history_too(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(STALE.read_bytes()[:-20])))
    said = check(capsys, "-", "--check", "linear", code=4)

    assert said.startswith("standard input: 3 operations by 2 clients on 1 key\n")
    assert "note: line 6 was cut short and is left out\n" in said
    assert "note: 1 operation never completed" in said


def test_a_simulated_run_is_judged_by_what_it_promises(capsys, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["sim", "--seed", "3", "--operations", "50", "--out", str(run)]) == 0
    capsys.readouterr()
    told = json.loads(check(capsys, run, "--json"))
    first = json.loads((run / "verdict.json").read_text())

    assert told["reproduce"] == first["reproduce"]
    assert told["guards"] == first["guards"]
    assert set(told["checks"]) >= set(CHECKERS)
    for name, found in told["checks"].items():
        assert found["judged"] == first["checks"][name]["judged"]
    all_checks = json.loads(check(capsys, run, "--check", "all", "--json"))["checks"]
    assert "first_success_after_heal_us" in all_checks["availability"]["figures"]


def test_logs_of_a_run_are_judged(capsys, tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_bytes(STALE.read_bytes())
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "server1.log").write_bytes(b"up\nTraceback (most recent call last):\n")
    said = check(capsys, tmp_path, "--check", "logs", code=1)

    assert "the log of server1, line 2" in said


def test_wrong_files_and_arguments_are_refused(capsys, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"t_us": 1}\n{oops\n')

    said = refused(capsys, wrong)
    assert f"{wrong}, line 1: Object missing required field `client`" in said
    assert f"{wrong}, line 2: " in said
    assert "there is no" in refused(capsys, tmp_path / "nothing")
    assert "holds no history.jsonl" in refused(capsys, tmp_path)
    assert 'there is no check "nope"' in refused(capsys, STALE, "--check", "nope")
    assert "--max-age: " in refused(capsys, STALE, "--max-age", "5")
    assert "--budget is a number from 1 up" in refused(capsys, STALE, "--budget", "0")
    assert "add --healed 12s" in refused(capsys, STALE, "--max-heal", "1s")
    assert "name what to check" in refused(capsys)


def test_a_run_with_wrong_faults_is_refused(capsys, tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_bytes(STALE.read_bytes())
    (tmp_path / "faults.jsonl").write_text('{"t_us": 1, "until_us": 4000}\n{"t_us": 1}\n')

    assert "faults.jsonl, line 2: a fault needs until_us" in refused(capsys, tmp_path)


def test_an_empty_history_proves_nothing(capsys, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()

    assert "verdict: unknown - nothing could be judged" in check(capsys, empty, code=4)


def test_the_checks_are_listed(capsys) -> None:
    assert "monotonic-reads      no       no get is older" in check(capsys, "--list")
    told = json.loads(check(capsys, "--list", "--json"))
    assert [one["name"] for one in told["checks"]] == list(SUMMARIES)
