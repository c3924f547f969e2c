from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvlab.cli import main, network
from kvlab.cli.network import link_rule, partition_args
from kvlab.errors import UsageError


class Supervisor:
    """Stands where the control socket is: keeps what was asked, answers what it was told."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, _file: Path, verb: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
        self.asked.append((verb, args or {}))
        return self.answer


def answering(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> Supervisor:
    supervisor = Supervisor(answer)
    monkeypatch.setattr(network, "call", supervisor.call)
    return supervisor


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("server1,server2 | server3", [["server1", "server2"], ["server3"]]),
        ("server1|server2 | server3", [["server1"], ["server2"], ["server3"]]),
        ("server1", [["server1"]]),
        ("a, b|c", [["a", "b"], ["c"]]),
    ],
)
def test_groups_are_read_with_or_without_blanks(text: str, groups: list[list[str]]) -> None:
    assert partition_args(text, "", "") == {"groups": groups, "from": None, "to": None}


def test_a_one_way_cut_names_both_ends() -> None:
    assert partition_args("", "a", "b,c") == {"groups": None, "from": ["a"], "to": ["b", "c"]}


@pytest.mark.parametrize(
    ("groups", "source", "target"),
    [("", "", ""), ("", "a", ""), ("a |", "", ""), ("a | b", "a", "b")],
)
def test_a_partition_that_says_too_little_or_too_much_is_refused_with_an_example(
    groups: str, source: str, target: str
) -> None:
    with pytest.raises(UsageError) as caught:
        partition_args(groups, source, target)

    assert "kvlab partition" in caught.value.hint


def test_a_link_rule_is_in_microseconds_and_bytes_per_second() -> None:
    rule = link_rule(latency="50ms", jitter="1.5ms", bandwidth="8mbit", reset=False)

    assert rule == {"latency_us": 50_000, "jitter_us": 1_500, "bandwidth_bps": 1_000_000}
    assert link_rule(latency="", jitter="", bandwidth="", reset=True) == {"reset": True}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({}, "no rule"),
        ({"latency": "50"}, "no unit"),
        ({"reset": True, "latency": "5ms"}, "exclude"),
    ],
)
def test_a_link_rule_that_says_nothing_or_nonsense_is_refused(
    rule: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        link_rule(**{"latency": "", "jitter": "", "bandwidth": "", "reset": False, **rule})


def test_partition_shows_what_was_cut_and_what_to_do_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = answering(monkeypatch, {"cut": [["server1", "server2"], ["server2", "server1"]]})

    assert main(["partition", "server1 | server2", "--mode", "reset"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "cut 2 links"
    assert shown[-1] == "next: kvlab faults or kvlab heal"
    assert supervisor.asked[0][1]["mode"] == "reset"


def test_link_asks_for_both_ways_when_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = answering(monkeypatch, {"links": [["a", "b"], ["b", "a"]]})

    assert main(["link", "a", "b", "--latency", "50ms", "--both"]) == 0
    assert supervisor.asked == [
        ("link", {"from": "a", "to": "b", "both": True, "latency_us": 50_000})
    ]
    assert capsys.readouterr().out.startswith("a>b, b>a: latency 50ms\n")


def test_an_unknown_mode_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["partition", "a | b", "--mode", "drop"]) == 2
    assert "hint: write --mode hold or --mode reset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("healed", "said"), [(0, "nothing was broken"), (1, "healed 1 fault"), (2, "healed 2 faults")]
)
def test_heal_says_how_much_was_broken(
    healed: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answering(monkeypatch, {"healed": healed})

    assert main(["heal"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == said
