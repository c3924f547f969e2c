"""The laboratory with kvlab's own nodes and shims: the parts meet as they do for users."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kvlab.engine.jsonline import ask
from kvlab.errors import ClientError
from kvlab.lab.control import ControlClient
from kvlab.lab.daemonize import start_daemon
from kvlab.lab.kept import clear_data
from kvlab.lab.rolling import wait_whole
from kvlab.lab.state import find_cluster
from kvlab.lab.supervisor import Lab
from kvlab.spec import parse_cluster

pytestmark = pytest.mark.live

SPEC = "name: real\nnodes: 3\nready: {timeout: 10s}\nrestart: {backoff: [10ms, 100ms]}\n"


async def put(lab: Lab, node: str, key: str, value: str) -> None:
    host, port = lab.addresses[node]
    await ask(host, port, {"type": "SET", "key": key, "value": value, "w": 2})


async def get(lab: Lab, node: str, key: str) -> str:
    import json

    host, port = lab.addresses[node]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(json.dumps({"type": "GET", "key": key, "r": 2}).encode() + b"\n")
    answer = json.loads(await asyncio.wait_for(reader.readline(), 5))
    writer.close()
    assert answer["status"] == "SUCCESS", answer
    return str(answer["value"])


def test_real_nodes_serve_survive_faults_join_and_leave(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Lab(parse_cluster(SPEC), tmp_path / "state") as lab:
            keys = [f"key{number}" for number in range(40)]
            for number, key in enumerate(keys):
                await put(lab, f"server{number % 3 + 1}", key, f"value of {key}")
            await lab.act("kill", "server2")
            assert await get(lab, "server1", keys[0]) == f"value of {keys[0]}"
            assert (await lab.act("start", "server2"))[0].after == "running"
            added = await lab.membership.add()
            assert added["id"] == "server4"
            for key in keys:
                assert await get(lab, "server4", key) == f"value of {key}"
            await lab.membership.remove("server1")
            for key in keys:
                assert await get(lab, "server3", key) == f"value of {key}"

    asyncio.run(scene())


def test_a_founder_without_its_disk_asks_to_be_taken_in_when_the_other_founders_have_left(
    tmp_path: Path,
) -> None:
    # churn: the last of five founders was wiped, took itself for the whole cluster, and took writes.
    async def scene() -> None:
        spec = parse_cluster(SPEC.replace("nodes: 3", "nodes: 2"))
        async with Lab(spec, tmp_path / "state") as lab:
            await lab.membership.add()
            await put(lab, "server1", "k", "v")
            await lab.membership.remove("server1")
            member = lab.member("server2")
            started = lab.life.start_of(member)
            assert started.initial == ()
            assert started.join == (lab.member("server3").advertise,)

            await lab.nodes.kill(member)
            clear_data(lab.directory, member.id)
            await lab.nodes.start(member)
            await wait_whole(lab)

            assert await get(lab, "server2", "k") == "v"
            assert (await lab.engine.members(member.host, member.port)) == {"server2", "server3"}

    asyncio.run(scene())


def test_a_partition_of_real_nodes_bites_and_heals(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Lab(parse_cluster(SPEC), tmp_path / "state") as lab:
            nodes = tuple(lab.members)
            cut = await lab.network.partition(
                nodes, groups=[["server1"]], sources=None, targets=None, mode="hold"
            )
            assert set(cut) == {
                ("server1", "server2"),
                ("server2", "server1"),
                ("server1", "server3"),
                ("server3", "server1"),
            }
            with pytest.raises(ClientError):
                await put(lab, "server1", "alone", "x")
            await put(lab, "server2", "together", "y")
            fault = (await lab.network.report())["faults"][0]
            assert fault["kind"] == "partition"
            assert fault["evidence"]["held_bytes"] > 0
            assert (await lab.status())["faults"][0]["id"] == fault["id"]
            assert await lab.network.heal(nodes) == 1
            assert (await lab.network.report())["faults"] == []

            async def whole() -> None:
                while True:
                    try:
                        await put(lab, "server1", "again", "z")
                    except ClientError:
                        await asyncio.sleep(0.02)
                    else:
                        return

            await asyncio.wait_for(whole(), 10)

    asyncio.run(scene())


def test_a_slow_link_is_listed_with_its_delays(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Lab(parse_cluster(SPEC), tmp_path / "state") as lab:
            nodes = tuple(lab.members)
            links = await lab.network.link(
                nodes, "server1", "server2", both=True, rule={"latency_us": 30_000}
            )
            assert links == (("server1", "server2"), ("server2", "server1"))
            loop = asyncio.get_running_loop()
            began = loop.time()
            host, port = lab.addresses["server1"]
            await ask(host, port, {"type": "SET", "key": "k", "value": "v", "level": "all"})
            assert loop.time() - began >= 0.06
            fault = (await lab.network.report())["faults"][0]
            assert (fault["kind"], fault["evidence"]["delayed"] > 0) == ("link", True)
            await lab.network.link(nodes, "server1", "server2", both=True, rule={"reset": True})
            assert (await lab.network.report())["faults"] == []

    asyncio.run(scene())


def test_a_node_carries_nothing_of_the_laboratory(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("name: lean\nnodes: 1\nnetwork: {shims: false}\n")
    status = start_daemon(path)
    try:
        maps = Path(f"/proc/{status['nodes'][0]['pid']}/maps").read_text()
        assert "msgspec" in maps
        for library in ("psutil", "yaml", "numpy", "_pydantic"):
            assert library not in maps
    finally:
        with ControlClient(find_cluster(path)) as client:
            client.call("down")


def test_a_node_that_was_killed_goes_on_with_its_data_and_a_new_cluster_with_none(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with Lab(parse_cluster(SPEC), tmp_path / "state") as lab:
            await put(lab, "server1", "k", "v")
            await lab.act("kill", "all")
            await lab.act("start", "all")
            assert await get(lab, "server3", "k") == "v"
            status = await lab.engine.status(*lab.addresses["server1"], 5.0)
            assert status["epoch"] == 1, "all are the members that they were"
        async with Lab(parse_cluster(SPEC), tmp_path / "state") as lab:
            status = await lab.engine.status(*lab.addresses["server1"], 5.0)
            assert status["keys"] == 0

    asyncio.run(scene())


def test_a_node_that_is_away_for_too_long_is_replaced_and_begins_anew(tmp_path: Path) -> None:
    async def scene() -> None:
        spec = parse_cluster(SPEC.replace("nodes: 3", "nodes: 4") + "dead_after: 1s\n")
        async with Lab(spec, tmp_path / "state") as lab:
            for number in range(20):
                await put(lab, "server1", f"key{number}", "v")
            host, port = lab.addresses["server1"]
            await lab.act("kill", "server3")

            async def members() -> frozenset[str]:
                return await lab.engine.members(host, port)

            async with asyncio.timeout(20):
                while "server3" in await members():  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(0.05)
            assert await get(lab, "server2", "key1") == "v"

            # The life that was replaced ends, the supervisor starts the next, which is filled again.
            await lab.act("start", "server3")
            async with asyncio.timeout(20):
                while "server3" not in await members():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            log = lab.member("server3").log.read_text()
            assert "others took its place" in log

    asyncio.run(scene())
