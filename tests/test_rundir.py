from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvlab.errors import UsageError
from kvlab.rundir import Journal, RunDir, new_run


def test_a_run_that_goes_on_leaves_what_was_seen_so_far(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "r")
    with Journal(run, "nodes: 3\n") as journal:
        journal.history(b'{"t_us":1}\n')
        journal.fault({"id": 1, "until_us": 5, "bit": False})
        journal.fault({"id": 2, "until_us": 6, "bit": False})
        journal.fault({"id": 1, "until_us": 7, "bit": True})

        assert (run.path / "history.jsonl").read_text() == '{"t_us":1}\n'
        assert [line["until_us"] for line in run.faults()] == [7, 6]
    assert run.verdict() == {}

    run.finish([{"id": 1, "until_us": 7}], {"verdict": "valid"})
    assert run.verdict() == {"verdict": "valid"}
    assert [json.loads(one) for one in (run.path / "faults.jsonl").read_text().splitlines()] == [
        {"id": 1, "until_us": 7}
    ]


def test_logs_stay_and_the_state_of_the_cluster_goes(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path)
    (run.state / "nodes" / "server1" / "data").mkdir(parents=True)
    (run.state / "nodes" / "server1" / "log").write_text("hello\n")
    run.keep_logs()

    assert {name: path.read_text() for name, path in run.logs().items()} == {"server1": "hello\n"}
    assert not run.state.exists()
    assert RunDir.create(tmp_path).path == tmp_path, "a run may be written over"


def test_each_new_run_has_a_folder_of_its_own_and_latest_leads_to_it(tmp_path: Path) -> None:
    first = new_run("split", "20250101-120000", tmp_path)
    second = new_run("split", "20250101-120000", tmp_path)

    assert first.path != second.path
    assert (tmp_path / "split" / "latest").resolve() == second.path.resolve()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        RunDir.create(tmp_path)
