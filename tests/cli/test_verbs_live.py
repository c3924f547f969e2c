"""The verbs against a real cluster, one for each test process; every test mends what it breaks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvlab.cli import main

pytestmark = pytest.mark.live

KEYS = 40
Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("cli") / "cluster.yaml"
    path.write_text("name: cli\nnodes: 3\n")
    assert main(["up", "-f", str(path)]) == 0
    for i in range(KEYS):
        assert main(["set", f"key{i}", f"value{i}", "-f", str(path)]) == 0
    yield path
    if (path.parent / ".kvlab/cli/supervisor.json").exists():
        main(["down", "-f", str(path)])


@pytest.fixture
def run(file: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_verb(*args: str, code: int = 0) -> list[str]:
        capsys.readouterr()
        assert main([*args, "-f", str(file)]) == code
        return capsys.readouterr().out.splitlines()

    return run_verb


def as_json(lines: list[str]) -> Any:
    return json.loads("\n".join(lines))


def column(lines: list[str], title: str) -> list[str]:
    """Return the cells under a heading of one word, left of all cells with blanks."""
    at = next(i for i, line in enumerate(lines) if title in line.split())
    place = lines[at].split().index(title)
    return [line.split()[place] for line in lines[at + 1 : at + 4]]


def address(run: Run) -> str:
    node = as_json(run("status", "--json"))["nodes"][0]
    return f"{node['host']}:{node['port']}"


def test_status_shows_every_node_and_what_is_next(run: Run) -> None:
    lines = run("status")

    assert lines[0].startswith("cli: 3 of 3 nodes running, epoch ")
    assert ", no faults, supervisor " in lines[0]
    assert column(lines, "STATE") == ["running"] * 3
    assert column(lines, "KEYS") == [str(KEYS)] * 3
    assert lines[-1] == "next: kvlab ring"


def test_up_again_changes_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = as_json(run("status", "--json"))["pid"]

    assert as_json(run("up", "--json"))["pid"] == before


@pytest.mark.parametrize(
    "verb", [["status"], ["ring"], ["moves"], ["faults"], ["keys", "key1"]], ids=" ".join
)
def test_json_is_one_document_and_nothing_else(verb: list[str], run: Run) -> None:
    assert isinstance(as_json(run(*verb, "--json")), dict)


@pytest.mark.parametrize("verb", [["status"], ["ring"], ["moves"], ["keys", "key1"]], ids=" ".join)
def test_a_node_address_is_enough_to_ask(verb: list[str], run: Run) -> None:
    supervised = run(*verb)
    asked = run(*verb, "--addr", address(run))

    assert len(asked) == len(supervised)
    assert asked[-1] == supervised[-1]


def test_the_ring_counts_slots_and_actual_keys(run: Run) -> None:
    report = as_json(run("ring", "--json"))

    assert [node["held"] for node in report["keys"]["nodes"]] == [KEYS] * 3
    assert sum(node["owned"] for node in report["keys"]["nodes"]) == KEYS
    assert sum(node["owned"] for node in report["slots"]["nodes"]) == 16384
    assert report["keys"]["max_over_mean"] == 1.0


def test_keys_are_found_on_their_owners(run: Run) -> None:
    fact = as_json(run("keys", "key1", "--json"))["keys"][0]

    assert [node["state"] for node in fact["nodes"]] == ["present"] * 3
    assert {node["bytes"] for node in fact["nodes"]} == {len("value1")}


def test_a_killed_node_is_proved_dead_and_comes_back(run: Run) -> None:
    killed = as_json(run("kill", "server2", "--json"))["proof"][0]
    assert killed["before"] == "running"
    assert killed["after"] == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(killed["pid"], 0)
    assert run("status")[-1] == "next: kvlab start server2 or kvlab logs server2"

    lines = run("start", "server2")
    assert lines[0].split() == ["NODE", "BEFORE", "AFTER", "PID", "TOOK", "NOTE"]
    assert lines[1].split()[:3] == ["server2", "stopped", "running"]


def test_a_paused_node_is_shown_and_resumed(run: Run) -> None:
    lines = run("pause", "one", "--seed", "3")
    node = lines[1].split()[0]
    assert lines[-1] == f"next: kvlab resume {node} or kvlab status"
    assert run("status")[-1] == f"next: kvlab resume {node}"

    assert run("resume", node)[1].split()[:3] == [node, "paused", "running"]


def test_a_partition_shows_in_faults_until_it_is_healed(run: Run) -> None:
    lines = run("partition", "server1 | server2,server3")
    assert lines[0] == "cut 4 links"

    faults = as_json(run("faults", "--json"))
    assert [fault["kind"] for fault in faults["faults"]] == ["partition"]
    assert run("faults")[-1] == "next: kvlab heal"
    assert run("heal")[0] == "healed 1 fault"
    assert run("faults")[0] == "no active faults"


def test_a_link_gets_a_rule_and_loses_it(run: Run) -> None:
    assert run("link", "server1", "server2", "--latency", "5ms", "--both")[0] == (
        "server1>server2, server2>server1: latency 5ms"
    )
    assert run("link", "server1", "server2", "--reset", "--both")[0].endswith("as the others again")
    assert as_json(run("faults", "--json"))["faults"] == []


def test_an_unknown_node_is_wrong_usage(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("kill", "server77", code=2)
    run("link", "server1", "server77", "--latency", "5ms", code=2)


def test_a_node_joins_with_the_planned_movement_and_leaves(run: Run) -> None:
    planned = as_json(run("ring", "plan", "--add", "1", "--placement", "claim", "--json"))
    assert run("add")[0].startswith("server4 serves at 127.0.0.1:")

    change = as_json(run("moves", "--json"))["changes"][-1]
    assert (change["change"], change["subject"]) == ("join", "server4")
    plan = planned["plans"][0]
    assert change["moved_copies"] == change["minimum_copies"] == plan["ranges"]["moved_copies"]
    assert change["copies_received"] <= change["moved_copies"]
    assert change["keys"] == plan["moved_keys"]

    assert run("remove", "server4")[0].startswith("server4 left")
    assert len(as_json(run("status", "--json"))["nodes"]) == 3


def test_logs_of_all_nodes_come_by_time_and_of_one_alone(run: Run) -> None:
    everyone = run("logs", "--tail", "1000")
    assert {line.split()[0] for line in everyone} >= {"server1", "server2", "server3"}

    # A node that nothing was done to has said no more than that it serves.
    (one,) = run("logs", "server1", "--tail", "1")
    assert one.startswith("server1 | ")
    run("logs", "server77", code=2)


def test_down_leaves_nothing_to_reap(run: Run, file: Path) -> None:
    lines = run("down")
    assert lines == [
        "stopped 3 nodes: server1, server2, server3",
        "next: kvlab up or kvlab down --wipe",
    ]

    left = as_json(run("reap", "--dry-run", "--json"))
    assert left["files"] == []
    assert not [one for one in left["processes"] if one["state"].startswith(str(file.parent))]
    run("status", code=5)
