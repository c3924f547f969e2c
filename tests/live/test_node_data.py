"""Real nodes that keep their data on disk: killed at any moment, out of room, started again."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvlab.live.options import NodeOptions
from kvlab.live.server import Server

from .node_process import Cluster, NodeProcess, nodes, until

pytestmark = pytest.mark.live


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with nodes(tmp_path) as running:
        yield running


def _alone(cluster: Cluster, *flags: str) -> NodeProcess:
    folder = str(cluster.folder / "data")
    return cluster.start("server1", "--data", folder, *flags).wait_ready()


def _request(number: int) -> bytes:
    return b'{"type":"SET","key":"k%d","value":"v%d"}\n' % (number % 500, number)


def _load_until_killed(node: NodeProcess, chance: random.Random, first: int) -> int:
    """Send batches, kill the node in the middle of one; return how many writes were acknowledged."""
    batches, done = chance.randrange(20), first
    with node.wire() as wire:
        for _ in range(batches):
            wire.send(b"".join(_request(number) for number in range(done, done + 50)))
            for _ in range(50):
                assert wire.reply()["status"] == "SUCCESS"
                done += 1
        wire.send(b"".join(_request(number) for number in range(done, done + 2000)))
        for _ in range(chance.randrange(1000)):
            assert wire.reply()["status"] == "SUCCESS"
            done += 1
        node.kill()
        while b"SUCCESS" in wire.line():
            done += 1
    return done


@pytest.mark.parametrize("sync", ["always", "interval", "os"])
def test_a_node_that_is_killed_under_load_keeps_all_that_it_acknowledged(cluster, sync):
    chance = random.Random(f"kills/{sync}")
    acknowledged = 0
    for _ in range(6):
        node = _alone(cluster, "--sync", sync)
        with node.wire() as wire:
            for key in range(min(500, acknowledged)):
                wire.send(b'{"type":"GET","key":"k%d"}\n' % key)
            for key in range(min(500, acknowledged)):
                value = int(wire.reply()["value"][1:])
                # Writes that were sent and not answered may be there too.
                assert value % 500 == key
                assert value >= acknowledged - 500
        acknowledged = _load_until_killed(node, chance, acknowledged)

    assert acknowledged > 1000
    assert "serving" in node.log


def test_a_stopped_node_goes_on_where_it_ended_and_deletes_stay(cluster):
    node = _alone(cluster)
    node.ask(type="SET", key="a", value="1")
    node.ask(type="SET", key="b", value="2")
    node.ask(type="DELETE", key="a")
    first = node.status["incarnation"]
    node.signal(signal.SIGTERM)
    assert node.wait() == 0

    node = _alone(cluster)

    assert node.ask(type="GET", key="a")["error"] == "Key does not exist"
    assert node.ask(type="GET", key="b")["value"] == "2"
    assert node.status["incarnation"] == first
    assert "1 keys" in node.log


def test_a_whole_cluster_that_is_killed_at_once_comes_back_with_its_data(cluster):
    folder = cluster.folder
    names = ["server1", "server2", "server3"]
    found = cluster.found(3)
    for node in found:
        node.close()
    ports = {node.id: node.port for node in found}

    def start() -> None:
        begun = [
            cluster.begin(
                *(name, "--initial", cluster.initial, "--data", str(folder / f"data-{name}")),
                port=ports[name],
            )
            for name in names
        ]
        for node in begun:
            cluster.nodes[node.id] = node.wait_listening()
        for node in begun:
            node.wait_ready()

    start()
    data = {f"key{number}": f"value{number}" for number in range(200)}
    with cluster.nodes["server1"].wire() as wire:
        for key, value in data.items():
            assert wire.ask(type="SET", key=key, value=value)["status"] == "SUCCESS"
    for name in names:
        cluster.nodes[name].signal(signal.SIGKILL)
    for name in names:
        cluster.nodes[name].wait()

    start()

    with cluster.nodes["server2"].wire() as wire:
        for key, value in data.items():
            assert wire.ask(type="GET", key=key)["value"] == value
    assert all(cluster.nodes[name].status["epoch"] == 1 for name in names)


def test_without_room_a_node_answers_reads_and_refuses_writes_until_there_is_some(cluster):
    node = _alone(cluster)
    assert node.ask(type="SET", key="k", value="before")["status"] == "SUCCESS"
    _, most = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (4096, most))
    heavy = "x" * 100_000

    def refused() -> bool:
        with node.wire() as wire:
            wire.send(b'{"type":"SET","key":"big","value":"%s"}\n' % heavy.encode())
            line = wire.line()
        return b"READ_ONLY" in line

    until(refused, "the node to refuse writes")
    reply = node.ask(type="SET", key="k", value="refused")
    assert (reply["status"], reply["code"]) == ("ERROR", "READ_ONLY")
    assert "takes no writes" in reply["error"]
    assert node.ask(type="GET", key="k")["value"] == "before"

    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (most, most))
    until(
        lambda: node.ask(type="SET", key="k", value="after")["status"] == "SUCCESS",
        "the node to take writes again",
    )
    node.kill()
    assert _alone(cluster).ask(type="GET", key="k")["value"] == "after"


def test_a_folder_is_one_nodes(cluster):
    node = _alone(cluster)
    other = cluster.begin("server1", "--data", str(cluster.folder / "data"))
    assert other.wait() == 5
    assert "in use by another node" in other.log
    node.kill()

    stranger = cluster.begin("server9", "--data", str(cluster.folder / "data"))

    assert stranger.wait() == 5
    assert "belongs to another node" in stranger.log


def test_a_folder_that_cannot_be_made_is_a_clear_error(cluster):
    (cluster.folder / "file").write_text("")

    node = cluster.begin("server1", "--data", str(cluster.folder / "file" / "data"))

    assert node.wait() == 5
    assert "cannot use the folder" in node.log


def test_a_node_writes_snapshots_and_reads_them(cluster, tmp_path):
    node = _alone(cluster, "--sync", "os")
    value = "x" * 10_000
    with node.wire() as wire:
        for _ in range(20):  # 40 MB of the same 200 keys
            for key in range(200):
                wire.send(b'{"type":"SET","key":"k%d","value":"%s"}\n' % (key, value.encode()))
            for _ in range(200):
                assert wire.reply()["status"] == "SUCCESS"
    folder = tmp_path / "data"
    until(lambda: any(name.startswith("snapshot") for name in os.listdir(folder)), "a snapshot")
    node.kill()

    node = _alone(cluster)

    assert "200 keys" in node.log
    assert node.ask(type="GET", key="k7")["value"] == value


def test_what_happens_in_the_last_turn_of_a_node_that_ends_touches_its_folder_no_more(
    tmp_path: Path,
) -> None:
    async def end() -> list[dict[str, object]]:
        loop, troubles = asyncio.get_running_loop(), list[dict[str, object]]()
        loop.set_exception_handler(lambda _loop, trouble: troubles.append(trouble))
        options = NodeOptions(id="server1", data=str(tmp_path / "data"), sync="interval")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = Server(options, listener)
            await server.start()
            server.stopping.set()
            await server.run()
            server.node.state.table.put(0, b"k", 1, "v")  # as a frame of a peer that came late
            server.touch()
            server._tick()
            await asyncio.sleep(0)
        return troubles

    assert asyncio.run(end()) == []
