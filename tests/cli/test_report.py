"""The verbs report and compare on the files of a run; nothing is started but a view of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from kvlab.cli import main
from kvlab.cli.live import Progress
from kvlab.rundir import Journal, RunDir, find_run, new_run
from tests.report.run_files import FAULTS, SPEC, files_of, tiny_events


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The files of a run in runs/tiny/latest, beside the working directory."""
    monkeypatch.chdir(tmp_path)
    return files_of(new_run("tiny", "1").path)


def test_a_run_becomes_a_page_and_is_said_in_short(run, capsys) -> None:
    assert main(["report", "tiny"]) == 0
    said = capsys.readouterr().out

    assert "PHASE" in said
    assert "verdict: invalid - lost: k1 is lost" in said
    assert "page: runs/tiny/latest/report.html" in said
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_a_page_can_go_elsewhere_and_json_is_all_that_is_printed(run, capsys) -> None:
    assert main(["report", str(run), "--out", "page.html", "--json"]) == 0
    printed = capsys.readouterr()
    told = json.loads(printed.out)

    assert printed.err == ""
    assert (told["schema"], told["verdict"], told["page"]) == (1, "invalid", "page.html")
    assert [one["name"] for one in told["phases"]] == ["calm", "trouble"]
    assert told["phases"][0]["latency"]["max_us"] == 4000
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("missing", ["verdict.json", "spec.yaml", "faults.jsonl"])
def test_what_a_run_lacks_is_no_error(run, missing, capsys) -> None:
    (run / missing).unlink()

    assert main(["report", "tiny"]) == 0
    if missing == "verdict.json":
        assert "verdict: unknown - the run was interrupted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "nothing"], "hint: name the folder of a run, or one of: tiny"),
        (["report", "tiny", "--out", "no/such/page.html"], "cannot write no/such/page.html"),
        (["compare", "tiny", "nothing"], "nothing is not the folder of a run"),
    ],
)
def test_wrong_input_is_refused_with_what_to_write(run, arguments, said, capsys) -> None:
    assert main(arguments) in (2, 5)
    assert said in capsys.readouterr().err


def test_two_runs_are_compared_whatever_their_verdicts(run, tmp_path, capsys) -> None:
    files_of(tmp_path / "other", word="valid")

    assert main(["compare", "tiny", "other"]) == 0
    said = capsys.readouterr().out
    assert "A: runs/tiny/latest: invalid - lost: k1 is lost" in said
    assert "checks that differ" in said
    assert main(["compare", "tiny", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdicts"] == ["invalid", "valid"]


def test_a_run_is_found_by_its_folder_before_its_name(run, tmp_path) -> None:
    files_of(tmp_path / "tiny")

    assert find_run("tiny").path.resolve() == tmp_path / "tiny"
    assert find_run("runs/tiny").path.resolve() == run.resolve()


def test_a_new_run_in_a_folder_takes_the_page_of_the_old_one_away(run) -> None:
    main(["report", str(run)])
    with Journal(RunDir.create(run), SPEC):
        assert not (run / "report.html").exists()


# -- the view of a run that goes on ---------------------------------------------------------------


def test_in_a_pipe_lines_are_said_as_they_are(run, capsys) -> None:
    with Progress(run, quiet=False) as progress:
        progress.say("phase calm")
    with Progress(run, quiet=True) as progress:
        progress.say("nothing")

    assert capsys.readouterr().err == "[  0.0 s] phase calm\n"


def test_on_a_terminal_the_run_is_drawn_from_its_files_as_they_grow(run) -> None:
    (run / "history.jsonl").write_bytes(b"")
    (run / "state").mkdir()
    (run / "state" / "events.jsonl").write_text('{"kind":"ready","node":"server2","detail":""}\n')
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "kvlab.cli.live", str(run)]
    environ = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=theirs, env=environ) as viewer:
        os.close(theirs)
        assert viewer.stdin is not None
        viewer.stdin.write(b"phase calm\n")
        viewer.stdin.flush()
        shown = _read_until(ours, b"server2 ")
        assert b"phase calm" in shown
        with (run / "history.jsonl").open("ab") as history:
            lines = [json.dumps(_line(event)) for event in tiny_events()]
            history.write("\n".join([*lines, '{"cut": ']).encode())
        shown = _read_until(ours, b"5 operations") + _read_until(ours, b"server2 ")  # to its end
        viewer.stdin.close()
        assert viewer.wait(30) == 0
    os.close(ours)

    assert b"WRONG" not in shown
    assert str(FAULTS[0]["kind"]).encode() in shown


def _line(event):
    """Return an event as a line of a history."""
    import msgspec

    return msgspec.to_builtins(event)


def _read_until(terminal, wanted):
    """Read what a terminal is written to until something has come; it ends with its process."""
    shown = b""
    while wanted not in shown:
        shown += os.read(terminal, 65536)
    return shown
