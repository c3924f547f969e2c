from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvlab.cli import defect_text, error_text, main, take_flag
from kvlab.cli.app import build, help_text
from kvlab.cli.registry import VERBS, overview
from kvlab.errors import NotRunningError, SpecError

ROOT = Path(__file__).parents[2]
ENV = os.environ | {"PYTHONPATH": str(ROOT)}
OWN_VERBS = [name for name, verb in VERBS.items() if verb.module]


def run(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvlab", *args],
        cwd=cwd,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_overview_lists_every_verb_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    shown = capsys.readouterr().out
    for name, verb in VERBS.items():
        assert f"  {name} " in shown
        assert verb.summary in shown
        assert f"{verb.group}:" in shown


def test_without_a_verb_the_overview_is_shown_as_wrong_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    assert overview() in capsys.readouterr().out


@pytest.mark.parametrize("verb", OWN_VERBS)
def test_the_help_of_a_verb_begins_as_the_overview_says_and_has_examples(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0

    shown = capsys.readouterr().out
    assert VERBS[verb].summary in " ".join(shown.split())
    assert "Examples:" in shown
    assert f"    kvlab {verb}" in shown


def test_the_help_of_a_subcommand_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring", "plan", "--help"]) == 0
    assert "    kvlab ring plan --add 1" in capsys.readouterr().out


def test_help_in_a_pipe_has_no_boxes(tmp_path: Path) -> None:
    shown = run("kill", "--help", cwd=tmp_path).stdout

    assert "╭" not in shown
    assert "\x1b" not in shown


def test_the_app_has_every_verb_in_its_group() -> None:
    app = build()
    groups = {str(one.name): one.rich_help_panel for one in app.registered_commands}
    groups |= {str(one.name): one.rich_help_panel for one in app.registered_groups}

    assert groups == {name: verb.group for name, verb in VERBS.items()}


def test_an_unknown_verb_is_wrong_usage_with_a_suggestion(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["satus"]) == 2
    assert "Did you mean 'status'" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["kill"], ["link", "a"], ["status", "--nonsense"], ["keys"]])
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2

    captured = capsys.readouterr()
    assert "Error: " in captured.err
    assert not captured.out


def test_a_known_error_is_a_line_and_a_hint() -> None:
    error = NotRunningError("no cluster is running", hint="kvlab up")

    assert error_text(error) == "error: no cluster is running\nhint: kvlab up"


def test_every_problem_of_a_file_is_printed() -> None:
    error = SpecError("cluster.yaml has 2 problems", problems=("line 1: a", "line 2: b"))

    assert error_text(error).splitlines()[1:] == ["  line 1: a", "  line 2: b"]


def test_a_defect_is_told_from_a_known_error() -> None:
    assert "RuntimeError: boom" in defect_text(RuntimeError("boom\nmore"))
    assert "--debug" in defect_text(RuntimeError("boom"))


def test_debug_is_taken_wherever_it_stands_before_a_double_dash() -> None:
    args = ["set", "--debug", "key", "--", "--debug"]

    assert take_flag(args, "--debug")
    assert args == ["set", "key", "--", "--debug"]
    assert not take_flag(args, "--debug")


def test_debug_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    result = run("status", "--debug", "-f", str(tmp_path / "none.yaml"), cwd=tmp_path)

    assert "Traceback" in result.stderr
    assert "NotRunningError" in result.stderr


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kvlab 0.")


def test_examples_keep_their_lines() -> None:
    assert help_text("One.\n\n    Examples:\n      a\n") == "One.\n\n\b\nExamples:\n  a"


def test_a_reader_that_leaves_gets_no_traceback(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kvlab", "ring", "plan", "--nodes", "50", "--add", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=ENV,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        said = process.stderr.read()
        process.wait(timeout=30)

    assert said == b""
    assert process.returncode == 141


def test_light_verbs_do_not_load_what_they_do_not_need(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from kvlab.cli import main\n"
        "main(sys.argv[1:])\n"
        "print(sorted({'rich', 'numpy', 'yaml', 'prompt_toolkit', 'typer'} & set(sys.modules)))"
    )

    def loaded(*args: str) -> str:
        result = subprocess.run(
            [sys.executable, "-c", code, *args],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=ENV,
            check=True,
        )
        return result.stdout.splitlines()[-1]

    assert loaded("--help") == "[]"
    assert loaded("status") == "['typer']"
    assert loaded("ring", "plan", "--nodes", "3", "--add", "1") == "['typer']"


def test_node_speaks_the_flags_of_go_programs(tmp_path: Path) -> None:
    result = run("node", "-id", "server1", "-addr", "nonsense", cwd=tmp_path)

    assert result.returncode == 2
    assert "nonsense" in result.stderr
    assert "Traceback" not in result.stderr
