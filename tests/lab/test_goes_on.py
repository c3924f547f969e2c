"""A cluster that goes on with its data: down and up, killed, with folders gone, and refused."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvlab.engine.jsonline import ask
from kvlab.errors import PortTakenError, SpecError, UsageError
from kvlab.lab.control import ControlClient
from kvlab.lab.daemonize import start_daemon, wipe_data
from kvlab.lab.kept import read_kept, written_us
from kvlab.lab.state import find_cluster, state_dir
from kvlab.lab.supervisor import Lab
from kvlab.live.blocking import BlockingClient
from kvlab.live.keeping import Folder
from kvlab.spec import parse_cluster
from kvlab.storage.journal import META
from tests.lab.lab_tools import ENGINE, FAST, spec_text

pytestmark = pytest.mark.live

KEYS = {f"key{number}": f"value{number}" for number in range(12)}
FILE = "cluster.yaml"
SPEC = "name: real\nnodes: {}\nready: {{timeout: 20s}}\nrestart: {{backoff: [10ms, 100ms]}}\n"


def call(path: Path, verb: str, **args: Any) -> dict[str, Any]:
    with ControlClient(find_cluster(path)) as client:
        return client.call(verb, args)


def up(path: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    """Start the cluster; return its status, and what was said but which node is ready."""
    said: list[str] = []
    status = start_daemon(path, on_progress=lambda one: said.append(one["text"]), **options)
    return status, [one for one in said if " is ready on " not in one]


def write(addresses: list[str]) -> None:
    with BlockingClient(addresses, timeout=10) as client:
        for key, value in KEYS.items():
            client.set(key, value)
            client.set(key, f"linear {value}", ns="linear")


def assert_there(status: dict[str, Any]) -> None:
    """Read all keys of both namespaces through every node."""
    for node in status["nodes"]:
        with BlockingClient([f"{node['host']}:{node['port']}"], timeout=10) as client:
            for key, value in KEYS.items():
                assert client.get(key) == value
                assert client.get(key, ns="linear") == f"linear {value}"


def addresses(status: dict[str, Any]) -> list[str]:
    return [f"{node['host']}:{node['port']}" for node in status["nodes"]]


def test_down_and_up_or_a_killed_supervisor_change_nothing_that_was_told(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(SPEC.format(3))
    status, said = up(path)
    assert (status["resumed"], said[0]) == (None, "starting 3 nodes")
    write(addresses(status))
    call(path, "add", id=None)
    call(path, "remove", id="server2")
    before = call(path, "status")
    down = call(path, "down")
    assert down == {"stopped": ["server1", "server3", "server4"], "keeps": True}

    try:
        status, said = up(path)

        assert re.fullmatch(
            r"going on with the data of \d{4}-\d\d-\d\d [\d:]{8} \(kvlab up --fresh begins anew\)",
            said[0],
        )
        assert said[1].startswith("note: server2 stays out")
        assert said[-1] == "24 keys held, as before"
        assert status["resumed"]["keys"] == 24
        assert addresses(status) == addresses(before)
        epochs = {node["node"]["epoch"] for node in (*before["nodes"], *status["nodes"])}
        assert len(epochs) == 1
        assert_there(status)
        os.kill(status["pid"], signal.SIGKILL)  # `up` waits for the end of what is dying yet

        status, _ = up(path)

        assert addresses(status) == addresses(before)
        assert_there(status)
    finally:
        call(path, "down", wipe=True)
    assert not list(tmp_path.glob(".kvlab/real/nodes/*/data"))
    assert not wipe_data(path)


def resumed(tmp_path: Path, break_it: Callable[[Path], None], more: str) -> list[str]:
    """Write keys, end the cluster, do something to its folders, and see that all is there again."""
    spec = parse_cluster(SPEC.format(3) + more)
    said: list[str] = []

    async def scene() -> None:
        async with Lab(spec, tmp_path / "state", file=FILE) as lab:
            places = [f"{host}:{port}" for host, port in lab.addresses.values()]
            await asyncio.to_thread(write, places)
        break_it(tmp_path / "state" / "nodes")
        lab = Lab(spec, tmp_path / "state", file=FILE, fresh=False)
        await lab.start(lambda one: said.append(one["text"]))
        try:
            await asyncio.to_thread(assert_there, await lab.status())
        finally:
            await lab.close()

    asyncio.run(scene())
    return said


def test_folders_that_are_gone_or_damaged_are_filled_again_also_after_a_power_cut(
    tmp_path: Path,
) -> None:
    def break_it(nodes: Path) -> None:
        shutil.rmtree(nodes / "server1" / "data")
        (log,) = (nodes / "server3" / "data").glob("log-*")
        data = bytearray(log.read_bytes())
        data[200:260] = bytes(60)
        log.write_bytes(data)
        # What is left was written before the machine went down.
        path = str(nodes / "server2" / "data")
        folder = Folder(path, cluster="real", node="server2", range_count=256)
        folder.recovery.log.append([[META, "machine", "another time of it"]])
        folder.recovery.log.sync_all()
        folder.recovery.log.close()
        folder.close()

    said = resumed(tmp_path, break_it, "storage: {sync: interval}\n")

    assert said[-2].endswith(
        "server1, server3; the others fill them, and what no other node held is lost"
    )
    assert said[-1] == "24 keys held"
    assert "damaged" in (tmp_path / "state/nodes/server3/log").read_text()


def test_who_was_leaving_goes_on_with_that(tmp_path: Path) -> None:
    spec = parse_cluster(SPEC.format(4))

    async def scene() -> None:
        async with Lab(spec, tmp_path / "state", file=FILE) as lab:
            places = [f"{host}:{port}" for host, port in lab.addresses.values()]
            await asyncio.to_thread(write, places)
            await lab.membership.remove("server2", wait=False)
        async with Lab(spec, tmp_path / "state", file=FILE, fresh=False) as lab:
            async with asyncio.timeout(20):
                while "server2" in lab.members:  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(0.02)
            assert await lab.engine.members(*lab.addresses["server1"]) == {
                "server1",
                "server3",
                "server4",
            }
            await asyncio.to_thread(assert_there, await lab.status())

    asyncio.run(scene())


def test_memory_begins_empty_and_leaves_what_is_there(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Lab(parse_cluster(SPEC.format(1)), tmp_path / "state", file=FILE) as lab:
            place = lab.addresses["server1"]
            assert await lab.engine.is_empty(*place)
            await ask(*place, {"type": "SET", "key": "k", "value": "v", "ns": "linear"})
            assert not await lab.engine.is_empty(*place)
        before = written_us(lab.directory)
        memory = parse_cluster(SPEC.format(1) + "storage: {sync: memory}\n")
        lab, said = Lab(memory, tmp_path / "state", file=FILE, fresh=False), []
        await lab.start(lambda one: said.append(one["text"]))
        status = await lab.status()
        await lab.close()
        assert said[0].startswith("note: storage.sync is memory: the data of ")
        assert status["nodes"][0]["node"]["keys"] == 0
        assert written_us(lab.directory) == before > 0

    asyncio.run(scene())


# -- with fakes that leave a file in their folder ---------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cluster.yaml whose cluster was up, and left data."""
    path = tmp_path / "cluster.yaml"
    path.write_text(spec_text("keeper1", "replaced2"))
    up(path, engine=ENGINE)
    call(path, "down")
    return path


def data_of(path: Path) -> str:
    return (state_dir(path, "lab").node_data("keeper1") / "file").read_text()


def test_a_port_that_is_taken_names_who_has_it_and_leaves_all_as_it_was(path: Path) -> None:
    state, before = state_dir(path, "lab"), data_of(path)
    there = read_kept(state)
    assert there is not None
    with socket.create_server(("127.0.0.1", there.nodes[1].port)):
        owner = f"of replaced2 is taken by process {os.getpid()}"
        with pytest.raises(PortTakenError, match=owner) as caught:
            up(path, engine=ENGINE)
        assert "kvlab up --fresh" in caught.value.hint
    assert (data_of(path), read_kept(state)) == (before, there)
    assert sorted(entry.name for entry in state.path.iterdir()) == [
        *("cluster.json", "daemon.log", "events.jsonl", "nodes")
    ]
    with socket.create_server(("127.0.0.1", there.nodes[1].port)):
        status, said = up(path, engine=ENGINE, fresh=True)
    assert said[0].startswith("note: the data of ")
    assert status["nodes"][1]["port"] != there.nodes[1].port
    assert data_of(path) != before
    with pytest.raises(UsageError, match="lab runs, and cannot begin anew"):
        up(path, engine=ENGINE, fresh=True)
    call(path, "down")


def test_a_file_that_does_not_fit_the_data_is_refused_and_loses_nothing(path: Path) -> None:
    before = data_of(path)
    for text, kind, match in [
        (spec_text("keeper1"), SpecError, "does not fit the data of lab"),
        (spec_text("keeper1", more="ranges: 16\n"), SpecError, r"2 problems"),
        (path.read_text().replace("name: lab", "name: new"), UsageError, "a cluster called lab"),
    ]:
        path.write_text(text)
        with pytest.raises(kind, match=match):
            up(path, engine=ENGINE)
        assert data_of(path) == before
    assert not state_dir(path, "new").lock.exists()

    _, said = up(path, engine=ENGINE, fresh=True)

    assert said[0] == "starting 2 nodes"
    assert data_of(path) == before, "a new name does not touch what is under the old one"
    call(path, "down")


def test_data_of_another_file_or_of_nobody_is_not_taken_over(path: Path) -> None:
    other = path.with_name("other.yaml")
    other.write_text(path.read_text())
    with pytest.raises(UsageError, match=r"it is that of cluster\.yaml, not of other\.yaml"):
        up(other, engine=ENGINE)
    path.unlink()
    status, said = up(other, engine=ENGINE)
    assert said[0].startswith("going on with"), "the file has another name now"
    assert "others took its place" in (state_dir(other, "lab").node_log("replaced2")).read_text()
    assert [node["state"] for node in status["nodes"]] == ["running"] * 2
    call(other, "down")

    state_dir(other, "lab").kept.unlink()

    with pytest.raises(UsageError, match=r"no cluster\.json that says which members"):
        up(other, engine=ENGINE)
    assert wipe_data(other)
    assert up(other, engine=ENGINE)[1][0] == "starting 2 nodes"
    call(other, "down")


def test_servers_by_others_find_their_folder_and_their_port_again(tmp_path: Path) -> None:
    server = Path(__file__).with_name("plain_server.py")
    lives = (
        f'sh -c "echo {{{{x}}}} >> {{data}}/lives; exec {{python}} -S {server} {{host}}:{{port}}"'
    )
    text = f"name: own\nnodes: 2\nengine:\n  command: '{lives}'\n{FAST}"

    async def scene(*, fresh: bool) -> dict[str, tuple[str, int]]:
        async with Lab(
            parse_cluster(text), tmp_path / "state", folder=tmp_path, file=FILE, fresh=fresh
        ) as lab:
            return lab.addresses

    first, second = asyncio.run(scene(fresh=False)), asyncio.run(scene(fresh=False))
    assert first == second
    file = tmp_path / "state" / "nodes" / "server2" / "data" / "lives"
    assert len(file.read_text().splitlines()) == 2
    asyncio.run(scene(fresh=True))
    assert len(file.read_text().splitlines()) == 1
