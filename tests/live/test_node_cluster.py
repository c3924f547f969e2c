"""Real nodes, each in a process of its own: founding, joining, leaving, dying and coming back."""

from __future__ import annotations

import datetime as dt
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .node_process import Cluster, NodeProcess, Wire, nodes, until

pytestmark = pytest.mark.live

SIX = ["type", "key", "value", "timestamp", "status", "error"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with nodes(tmp_path) as running:
        yield running


def _set(wire: Wire, data: dict[str, str]) -> None:
    for key, value in data.items():
        reply = wire.ask(type="SET", key=key, value=value)
        assert (reply["status"], reply.get("degraded")) == ("SUCCESS", None), reply


def _check(node: NodeProcess, data: dict[str, str]) -> None:
    with node.wire() as wire:
        for key, value in data.items():
            reply = wire.ask(type="GET", key=key)
            assert (reply["status"], reply["value"]) == ("SUCCESS", value), (node.id, reply)


def _is_still(node: NodeProcess) -> bool:
    """Whether no range moves, by what one node knows."""
    cluster_map = node.ask(type="MAP")["info"]
    return all(one["next"] is None for one in cluster_map["ranges"])


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvlab.live", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_founders_come_up_see_each_other_and_share_the_data(cluster):
    founders = cluster.found(3)

    for node in founders:
        status = node.status
        assert status["ready"]
        assert (status["epoch"], status["ranges"]) == (1, 256)
        others = {one.id for one in founders} - {node.id}
        assert status["peers"] == dict.fromkeys(others, "up")
    with founders[0].wire() as wire:
        _set(wire, {f"key{number}": f"value{number}" for number in range(50)})
    for node in founders:
        _check(node, {f"key{number}": f"value{number}" for number in range(50)})


def test_a_node_joins_with_flags_in_the_form_of_go_programs(cluster):
    founders = cluster.found(3)
    data = {f"key{number}": f"value{number}" for number in range(200)}
    with founders[1].wire() as wire:
        _set(wire, data)

    fourth = cluster.start("server4", "-join", founders[0].address, dash="-")
    fourth.wait_ready()
    everybody = [*founders, fourth]
    until(lambda: all(_is_still(node) for node in everybody), "the ranges to come to rest")

    assert fourth.status["peers"] == {"server1": "up", "server2": "up", "server3": "up"}
    for node in everybody:
        assert node.status["ranges"] == 256 * 3 // 4
        _check(node, data)
    changes = founders[0].ask(type="MOVES")["info"]["changes"]
    assert [(one["change"], one["subject"]) for one in changes] == [("join", "server4")]
    assert changes[0]["moved_copies"] == changes[0]["minimum_copies"] == 192


def test_a_node_that_leaves_hands_over_and_ends_with_0(cluster):
    everybody = cluster.found(4)
    data = {f"key{number}": f"value{number}" for number in range(200)}
    with everybody[3].wire() as wire:
        _set(wire, data)

    reply = everybody[1].ask(type="LEAVE", key="server4")

    assert (reply["status"], reply["info"]) == ("SUCCESS", {"id": "server4"})
    assert everybody[3].wait() == 0
    assert "has left the cluster" in everybody[3].log
    for node in everybody[:3]:
        assert "server4" not in node.status["peers"]
        _check(node, data)


def test_a_node_that_is_killed_comes_back_and_is_refilled(cluster):
    founders = cluster.found(3)
    data = {f"key{number}": f"value{number}" for number in range(200)}
    with founders[0].wire() as wire:
        _set(wire, data)
        port = founders[1].port
        founders[1].kill()
        until(lambda: founders[0].status["peers"]["server2"] == "down", "the death to be seen")
        late = {f"key{number}": f"late{number}" for number in range(0, 200, 2)}
        _set(wire, late)
        data |= late

    again = cluster.start("server2", "--initial", cluster.initial, port=port)
    again.wait_ready()
    everybody = [founders[0], again, founders[2]]
    until(lambda: all(_is_still(node) for node in everybody), "the ranges to come to rest")

    _check(again, data)
    with again.wire() as wire:
        for key, value in data.items():
            held = wire.ask(type="INSPECT", key=key)["info"]
            assert (held["present"], held["bytes"]) == (True, len(value))
    assert again.status["keys"] == 200


def test_what_is_under_way_at_sigterm_is_answered_and_the_node_ends_with_0(cluster):
    one, *others = cluster.found(3)
    with one.wire() as wire, one.wire() as watch:
        before = watch.ask(type="STATUS")["info"]["counters"]["requests"]
        for peer in others:
            peer.signal(signal.SIGSTOP)
        line = b'{"type":"SET","key":"k%d","value":"v","level":"all","timeout_ms":20000}\n'
        wire.send(b"".join(line % number for number in range(100)))
        until(
            lambda: watch.ask(type="STATUS")["info"]["counters"]["requests"] >= before + 100,
            "the requests to be taken",
        )
        one.signal(signal.SIGTERM)
        for peer in others:
            peer.signal(signal.SIGCONT)

        replies = [wire.reply() for _ in range(100)]
        assert wire.rest() == b""
    assert [reply["key"] for reply in replies] == [f"k{number}" for number in range(100)]
    assert {reply["status"] for reply in replies} == {"SUCCESS"}
    assert one.wait() == 0
    for peer in others:
        _check(peer, {f"k{number}": "v" for number in range(100)})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_node_ends_at_once_with_0(cluster, number):
    node = cluster.start("server1")
    with node.wire() as wire:
        assert wire.ask(type="PING")["info"]["ready"]
        node.signal(number)
        assert wire.rest() == b""
    assert node.wait() == 0
    assert "Traceback" not in node.log


def test_a_second_process_of_the_same_id_is_refused_and_harms_nobody(cluster):
    founders = cluster.found(3)
    data = {f"key{number}": "v" for number in range(20)}
    with founders[0].wire() as wire:
        _set(wire, data)

    doubles = [
        cluster.begin("server2", "--join", founders[0].address),
        cluster.begin("server2", "--join", founders[1].address),
    ]

    for double in doubles:
        assert double.wait() == 5
    said = f"server2 is already running at {founders[1].address}; give each node its own --id"
    assert said in doubles[0].log
    for node in founders:
        assert node.process.poll() is None
        assert node.status["epoch"] == 1
        assert set(node.status["peers"].values()) == {"up"}
        _check(node, data)


def test_a_node_of_another_cluster_is_refused(cluster):
    one = cluster.start("server1", "--cluster", "right")

    stranger = cluster.begin("server2", "--cluster", "wrong", "--join", one.address)

    assert stranger.wait() == 5
    assert "this is cluster 'right', not 'wrong'" in stranger.log
    assert "Traceback" not in stranger.log
    assert one.status["peers"] == {}


def test_a_node_with_another_number_of_ranges_is_refused(cluster):
    one = cluster.start("server1", "--ranges", "64")

    stranger = cluster.begin("server2", "--ranges", "128", "--join", one.address)

    assert stranger.wait() == 5
    assert "this cluster has 64 ranges" in stranger.log


def test_a_port_that_is_taken_is_told_in_one_line(cluster):
    one = cluster.start("server1")

    done = _run("--id", "server2", "--addr", one.address)

    assert done.returncode == 5
    assert done.stderr.splitlines() == [
        f"error: {one.address} is in use by another process",
        "hint: choose another --addr, or port 0",
    ]


def test_help_shows_examples():
    done = _run("--help")

    assert done.returncode == 0
    assert "kvlab node --id server2 --addr localhost:8082 --join localhost:8081" in done.stdout
    assert "-id server3 -addr localhost:8083 -join localhost:8081" in done.stdout


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--id"),
        (["--id", "a"], "--addr"),
        (["--id", "a", "--addr", "nowhere"], "localhost:8081"),
        (["--id", "a", "--addr", ":80"], "localhost:8081"),
        (["--id", "a", "--addr", "localhost:99999"], "localhost:8081"),
        (["--id", "a", "--addr", "localhost:8²"], "localhost:8081"),
        (["--id", "a", "--addr", "0.0.0.0:0"], "--password-file FILE"),
        (["--id", "a b", "--addr", "localhost:0"], "letters, digits"),
        (["--id", "", "--addr", "localhost:0"], "letters, digits"),
        (["--id", "a" * 65, "--addr", "localhost:0"], "letters, digits"),
        (["--id", "a", "--addr", "localhost:0", "--join", "b"], "localhost:8081"),
        (["--id", "a", "--addr", "localhost:0", "--initial", "b"], "id=host:port"),
        (["--id", "a", "--addr", "localhost:0", "--initial", "a=b"], "localhost:8081"),
        (["--id", "a", "--addr", "localhost:0", "--advertise", "b"], "localhost:8081"),
        (["--id", "a", "--addr", "localhost:0", "--replication", "0"], "from 1 to 16"),
        (["--id", "a", "--addr", "localhost:0", "--replication", "x"], "int"),
        (["--id", "a", "--addr", "localhost:0", "--ranges", "100"], "power of two"),
        (["--id", "a", "--addr", "localhost:0", "--r", "4"], "from 1 to 3"),
        (["--id", "a", "--addr", "localhost:0", "--w", "-1"], "from 1 to 3"),
        (["--id", "a", "--addr", "localhost:0", "--weight", "0"], "above 0"),
        (["--id", "a", "--addr", "localhost:0", "--weight", "nan"], "above 0"),
        (["--id", "a", "--addr", "localhost:0", "--log-level", "loud"], "warning"),
        (["--id", "a", "--addr", "localhost:0", "--colour", "red"], "--colour"),
        (["--id", "a", "--addr", "localhost:0", "--cluster", ""], "--cluster"),
        (["--id", "a", "--addr", "localhost:0", "--cluster", "c" * 300], "--cluster"),
        (["--id", "a", "--addr", "localhost:0", "--listen-fd", "99"], "--listen-fd"),
        (["--id", "a", "--addr", "localhost:0", "--listen-fd", "0"], "--listen-fd"),
        (["--id", "a", "--addr", "localhost:0", "--ready-fd", "-1"], "--ready-fd"),
        (["--id", "a", "--addr", "localhost:0", "--initial", "a=b:1,a=b:2"], "names a twice"),
        (["--id", "a", "--addr", "localhost:0", "--initial", "a/b=b:1"], "letters, digits"),
    ],
    ids=lambda part: " ".join(part)[-40:] if isinstance(part, list) else "",
)
def test_wrong_flags_say_what_to_write(argv, said):
    done = _run(*argv)

    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), (
        done.stderr
    )


def test_a_client_that_writes_go_names_reads_go_names(cluster):
    node = cluster.start("server1")
    with node.wire() as wire:
        asked = {
            "Type": "SET",
            "Key": "k",
            "Value": "v",
            "Timestamp": "",
            "Status": "",
            "Error": "",
        }
        stored = wire.ask(**asked)
        got = wire.ask(Type="GET", Key="k")
        missing = wire.ask(Type="GET", Key="nothing")
        wrong = wire.ask(Type="FLY", Key="k")
        lower = wire.ask(type="get", key="k")
        deleted = wire.ask(TYPE="delete", KEY="k")

    assert list(stored) == [name.capitalize() for name in SIX]
    assert (stored["Type"], stored["Key"], stored["Status"]) == ("RESPONSE", "k", "SUCCESS")
    assert (got["Value"], got["Error"]) == ("v", "")
    assert (missing["Status"], missing["Error"]) == ("ERROR", "Key does not exist")
    assert (wrong["Status"], wrong["Error"]) == ("ERROR", "Invalid request type")
    assert list(lower) == SIX
    assert (lower["type"], lower["value"]) == ("RESPONSE", "v")
    assert deleted["status"] == "SUCCESS"
    for reply in (stored, got, missing, wrong):
        when = reply["Timestamp"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", when)
        told = dt.datetime.fromisoformat(when)
        assert abs((dt.datetime.now(dt.UTC) - told).total_seconds()) < 60
