"""The campaigns of scripts/endure, each run very small, and how they count."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvlab.spec.scenario_file import parse_scenario

FOLDER = Path(__file__).parent.parent / "scripts" / "endure.d"
SCENARIOS = sorted((FOLDER / "kvendure" / "scenarios").glob("*.yaml"))

Endure = Callable[..., int]


@pytest.fixture
def endure(monkeypatch) -> Iterator[Endure]:
    """The command line of scripts/endure, in this process."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PYTHONPATH", f"{FOLDER}:{FOLDER.parent.parent}")  # for what it starts
    from kvendure.__main__ import main

    before = signal.getsignal(signal.SIGTERM)
    yield lambda *arguments: main(list(arguments))
    signal.signal(signal.SIGTERM, before)


@pytest.mark.live
@pytest.mark.parametrize(
    "arguments",
    [
        ("starts", "--count", "1"),
        ("crashes", "--count", "1", "--sync", "os"),
        ("churn", "--count", "1"),
        ("alarms", "--count", "1", "calm"),
        ("bugs", "--count", "1", "replies-reversed"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_campaign_holds(endure: Endure, capsys, arguments: tuple[str, ...]) -> None:
    status = endure(*arguments, "--json")

    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (status, document["verdict"], document["failures"]) == (0, "holds", [])
    assert document["tried"] == document["asked"] == 1
    assert document["interval"][0] == 0.0 < document["interval"][1]


@pytest.mark.live
def test_links_are_measured(endure: Endure, capsys) -> None:
    status = endure("links", "latency", "partition", "--count", "20", "--cuts", "1", "--json")

    document = json.loads(capsys.readouterr().out)
    rows = {(row["what"], row["asked"]): row for row in document["facts"]["rows"]}
    # What is late here may be the machine; the bytes of a cut are nobody's but the shim's.
    assert status == (1 if document["failures"] else 3 if document["unknown"] else 0)
    assert not [one for one in document["failures"] if "partition" in one]
    assert document["tried"] + len(document["unknown"]) == document["asked"] == 7
    assert rows["latency (ms)", "200"]["median"] >= 199
    assert rows["partition hold (ms)", "0"]["samples"] == 1


def test_a_bug_that_is_missed_too_often_fails_the_campaign(endure: Endure, capsys, monkeypatch):
    from kvendure import bugs

    def judged(_command: object, _scenario: str, seed: int, _folder: Path) -> dict[str, Any]:
        bad = {"fresh": {"verdict": "invalid"}}
        return {"verdict": "invalid" if seed > 1 else "valid", "checks": bad if seed > 1 else {}}

    monkeypatch.setattr(bugs, "judged", judged)
    assert endure("bugs", "read-at-home", "--count", "20") == 0
    assert "19 of 20  95%" in capsys.readouterr().out
    assert endure("bugs", "read-at-home", "--count", "10") == 1
    said = capsys.readouterr().out.splitlines()
    assert "failed: read-at-home was caught in 9 of 10 runs of linear-bridge" in said
    assert said[-1].startswith("bugs: fails - a planted bug is caught in 95% of its runs: 1 of 1")


def test_an_alarm_fails_and_a_run_without_verdict_is_unknown(endure: Endure, capsys, monkeypatch):
    from kvendure import bugs

    verdicts = iter(["valid", "unknown", "valid", "invalid"])

    def judged(*_: object) -> dict[str, Any]:
        verdict = next(verdicts)
        return {"verdict": verdict, "because": "of a reason", "checks": {}}

    monkeypatch.setattr(bugs, "judged", judged)
    assert endure("alarms", "late", "--count", "2") == 3
    said = capsys.readouterr().out.splitlines()
    assert "unknown: late --seed 2: unknown: of a reason" in said
    assert endure("alarms", "late", "--count", "2") == 1
    assert "failed: late --seed 2: invalid: of a reason" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the following arguments are required: CAMPAIGN"),
        (("starts", "--count", "0"), "'0' is no whole number above 0"),
        (("bugs", "nothing"), "there are no bugs 'nothing'"),
        (("orphans", "cat"), "there are no victims 'cat'"),
        (("links", "light"), "there are no rows 'light'"),
    ],
)
def test_wrong_usage_is_explained(
    endure: Endure, capsys, arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        endure(*arguments)

    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_scenarios_of_bugs_are_scenarios(path: Path) -> None:
    assert parse_scenario(path.read_text(), source=path.name).name == path.stem


def test_the_page_of_what_is_caught_tells_every_bug(endure: Endure) -> None:
    from kvendure.bugs import BUGS

    page = (FOLDER.parent.parent / "docs" / "reference" / "detection.md").read_text()
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == [*BUGS]
