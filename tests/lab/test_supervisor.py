"""The laboratory embedded in a program, with real processes (fakes of tests/lab/fake_engine.py)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from kvlab.errors import InfraError, PortTakenError, UsageError
from kvlab.lab import host as host_module
from kvlab.lab.supervisor import Lab
from kvlab.spec import parse_cluster
from tests.lab.fake_engine import FakeCommandEngine, FakeEngine
from tests.lab.lab_tools import eventually, is_gone, make_lab, refuses, spec_text

pytestmark = pytest.mark.live


def events(path: Path) -> list[dict[str, Any]]:
    text = (path / ".kvlab" / "lab" / "events.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_cluster_starts_answers_and_leaves_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        said: list[str] = []
        lab = make_lab(tmp_path)
        await lab.start(lambda progress: said.append(progress["text"]))
        status = await lab.status()
        pids = [node["pid"] for node in status["nodes"]]
        assert [node["state"] for node in status["nodes"]] == ["running"] * 3
        assert all(set(node["node"]["peers"].values()) == {"up"} for node in status["nodes"])
        assert all(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)
        assert len(said) == 5
        places = list(lab.addresses.values())
        assert await lab.close() == ["server1", "server2", "server3"]
        assert await lab.close() == []
        assert all(is_gone(pid) for pid in pids)
        assert all(refuses(*place) for place in places)
        left = sorted(os.listdir(tmp_path / ".kvlab" / "lab"))
        assert left == ["cluster.json", "events.jsonl", "nodes"]

    asyncio.run(scene())
    kinds = [event["kind"] for event in events(tmp_path)]
    assert (kinds.count("start"), kinds.count("ready"), kinds.count("stopped")) == (3, 3, 3)
    assert kinds[-1] == "down"


def test_a_command_is_started_as_well_as_a_fork(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path, engine=FakeCommandEngine()) as lab:
            child = lab.members["server1"].child
            assert child is not None
            assert psutil.Process(child.pid).cmdline()[1] == "-c"
            proof = await lab.act("kill", "server1")
            assert proof[0].after == "stopped"

    asyncio.run(scene())


def test_a_node_that_dies_while_it_starts_fails_the_start_with_its_log(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = make_lab(tmp_path, "server1", "crash2", "never3")
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(
            InfraError, match=r"(?s)crash2 ended while it started .status 3.*on fire"
        ):
            await lab.start()
        assert loop.time() - began < 4, "it waited for the node that is never ready"
        assert all(member.child is None for member in lab.members.values())
        assert not (tmp_path / ".kvlab" / "lab" / "lock").exists()

    asyncio.run(scene())


def test_a_node_that_is_never_ready_fails_the_start_in_time(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = make_lab(tmp_path, "server1", "never2", more="ready: {timeout: 300ms}\n")
        with pytest.raises(InfraError, match=r"never2 is not ready after 0\.3 s"):
            await lab.start()

    asyncio.run(scene())


def test_a_node_that_does_not_see_its_peers_fails_the_start(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = make_lab(tmp_path, "server1", "dull2", more="ready: {timeout: 300ms}\n")
        with pytest.raises(InfraError, match="dull2 does not see all other nodes"):
            await lab.start()

    asyncio.run(scene())


def test_a_taken_port_names_its_owner_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = spec_text("server1", "server2").replace("localhost:0", f"localhost:{port}", 1)

        async def scene() -> None:
            lab = Lab(parse_cluster(text), tmp_path / "state", engine=FakeEngine())
            with pytest.raises(PortTakenError, match=f"{port} of server1.*process {os.getpid()}:"):
                await lab.start()

        asyncio.run(scene())
    assert sorted(os.listdir(tmp_path / "state")) == ["events.jsonl", "nodes"]


def test_kill_is_proved_and_lasts_until_start(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path) as lab:
            member = lab.members["server2"]
            pid = member.pid
            assert pid is not None
            proof = (await lab.act("kill", "server2"))[0]
            assert (proof.before, proof.after, proof.pid) == ("running", "stopped", pid)
            assert is_gone(pid)
            assert refuses(member.host, member.port)
            assert member.last_exit == "killed by SIGKILL"
            again = (await lab.act("kill", "server2"))[0]
            assert (again.after, again.pid, again.note) == ("stopped", None, "it was not running")
            await asyncio.sleep(
                0.05
            )  # five back-offs: long enough for a restart that must not come
            assert member.state == "stopped"
            port = member.port
            started = (await lab.act("start", "server2"))[0]
            assert (started.before, started.after) == ("stopped", "running")
            assert member.port == port
            assert member.restarts == 0
            twice = (await lab.act("start", "server2"))[0]
            assert twice.note == "it runs already"

    asyncio.run(scene())


def test_pause_and_resume_are_proved(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path) as lab:
            pid = lab.members["server1"].pid
            assert pid is not None
            proof = (await lab.act("pause", "server1"))[0]
            assert (proof.before, proof.after) == ("running", "paused")
            assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
            status = (await lab.status())["nodes"][0]
            assert (status["state"], status["node"]) == ("paused", None)
            assert (await lab.act("pause", "server1"))[0].note == "it is paused already"
            assert (await lab.act("start", "server1"))[0].note.startswith("it is paused")
            assert (await lab.act("resume", "server1"))[0].after == "running"
            assert psutil.Process(pid).status() != psutil.STATUS_STOPPED
            assert (await lab.act("resume", "server1"))[0].note == "it was not paused"
            assert (await lab.act("pause", "all"))[2].after == "paused"
            stopped = (await lab.act("stop", "server1"))[0]
            assert (stopped.after, "resumed so that" in stopped.note) == ("stopped", True)
            assert lab.members["server1"].last_exit == "status 0"
            dead = (await lab.act("pause", "server1"))[0]
            assert "only a running node" in dead.note

    asyncio.run(scene())


def test_a_pause_from_outside_is_seen(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path, "server1") as lab:
            member = lab.members["server1"]
            assert member.pid is not None
            os.kill(member.pid, signal.SIGSTOP)
            await eventually(lambda: member.state == "paused")
            os.kill(member.pid, signal.SIGCONT)
            await eventually(lambda: member.state == "running")

    asyncio.run(scene())


def test_a_crash_is_restarted_and_too_many_are_not(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path, "server1", "server2") as lab:
            member = lab.members["server1"]
            for restarts in (1, 2, 3):
                assert member.pid is not None
                os.kill(member.pid, signal.SIGKILL)
                await eventually(
                    lambda count=restarts: (member.restarts, member.state) == (count, "running")
                )
            assert member.pid is not None
            os.kill(member.pid, signal.SIGKILL)
            await eventually(lambda: member.state == "failed")
            assert (await lab.act("start", "server1"))[0].after == "running"

    asyncio.run(scene())
    waits = [event["detail"] for event in events(tmp_path) if event["kind"] == "backoff"]
    assert waits == [f"restart in {us} us" for us in (10_000, 20_000, 40_000)]


def test_a_verb_calls_off_a_restart_that_waits(tmp_path: Path) -> None:
    async def scene() -> None:
        slow = "restart: {backoff: [1m, 1m]}\nready: {timeout: 5s}\n"
        async with make_lab(tmp_path, "server1", "server2", more=slow) as lab:
            for verb, after in (("kill", "stopped"), ("start", "running"), ("stop", "stopped")):
                member = lab.members["server1"]
                if member.child is None:
                    await lab.act("start", "server1")
                assert member.pid is not None
                os.kill(member.pid, signal.SIGKILL)
                await eventually(lambda: lab.members["server1"].state == "backoff")
                proof = (await lab.act(verb, "server1"))[0]
                assert (proof.before, proof.after) == ("backoff", after)

    asyncio.run(scene())


def test_a_node_that_ignores_the_signal_is_killed_after_its_grace(tmp_path: Path) -> None:
    async def scene() -> None:
        quick = "stop: {grace: 100ms}\nready: {timeout: 5s}\n"
        async with make_lab(tmp_path, "server1", "stubborn2", more=quick) as lab:
            proof = (await lab.act("stop", "stubborn2"))[0]
            assert proof.note == "it did not end within 0.1 s of SIGTERM: killed"
            assert lab.members["stubborn2"].last_exit == "killed by SIGKILL"

    asyncio.run(scene())


def test_restart_gives_a_new_process_on_the_same_address(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path, "server1", "server2") as lab:
            before = {node: (m.pid, m.port) for node, m in lab.members.items()}
            proofs = await lab.act("restart", "all")
            for proof in proofs:
                old_pid, port = before[proof.id]
                assert (proof.before, proof.after) == ("running", "running")
                assert proof.pid != old_pid
                assert lab.members[proof.id].port == port

    asyncio.run(scene())


def test_selectors_draw_from_the_seed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path, "a1", "a2", "a3", "a4", "a5") as lab:
            first = [proof.id for proof in await lab.act("pause", "minority", seed=7)]
            await lab.act("resume", "all")
            second = [proof.id for proof in await lab.act("pause", "minority", seed=7)]
            assert first == second
            assert len(first) == 2
            with pytest.raises(UsageError, match="server9"):
                await lab.act("kill", "server9")
            with pytest.raises(UsageError, match="explode"):
                await lab.act("explode", "all")

    asyncio.run(scene())


def test_nodes_join_and_leave_a_running_cluster(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path, "server1", "server3") as lab:
            added = await lab.membership.add(weight=2.0)
            assert added["id"] == "server2"
            assert added["epoch"] == 3
            assert lab.members["server2"].state == "running"
            with pytest.raises(UsageError, match="exists already"):
                await lab.membership.add("server2")
            with pytest.raises(UsageError, match="cannot name"):
                await lab.membership.add("all")
            with pytest.raises(InfraError, match=r"(?s)crash9 ended.*on fire"):
                await lab.membership.add("crash9")
            assert "crash9" not in lab.members
            place = lab.addresses["server1"]
            await lab.membership.remove("server1")
            assert sorted(lab.members) == ["server2", "server3"]
            assert refuses(*place)
            await lab.act("kill", "server3")
            with pytest.raises(UsageError, match="no other node runs"):
                await lab.membership.remove("server2")
            await lab.membership.remove("server3")
            assert list(lab.members) == ["server2"]

    asyncio.run(scene())


def test_the_death_of_the_warm_parent_is_survived(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path, "server1", "server2") as lab:
            pids = [member.pid for member in lab.members.values()]
            assert lab._host._popen is not None
            os.kill(lab._host._popen.pid, signal.SIGKILL)
            await eventually(
                lambda: all((m.restarts, m.state) == (1, "running") for m in lab.members.values())
            )
            assert all(is_gone(pid) for pid in pids if pid is not None)

    asyncio.run(scene())


def test_a_shared_warm_parent_serves_several_laboratories(tmp_path: Path) -> None:
    async def scene() -> None:
        engine = FakeEngine()
        host = host_module.LocalHost(engine.preload)
        try:
            for number in (1, 2):
                async with make_lab(tmp_path / str(number), engine=engine, host=host) as lab:
                    assert len(lab.members) == 3
        finally:
            await host.close()

    asyncio.run(scene())


def test_one_directory_has_one_owner(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path, "server1"):
            with pytest.raises(InfraError, match=f"belongs to .* process {os.getpid()}"):
                await make_lab(tmp_path, "server1").start()

    asyncio.run(scene())


def test_network_faults_need_shims(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path, "server1", "server2") as lab:
            with pytest.raises(UsageError, match="without shims"):
                await lab.network.partition(
                    tuple(lab.members),
                    groups=[["server1"]],
                    sources=None,
                    targets=None,
                    mode="hold",
                )
            assert await lab.network.heal(tuple(lab.members)) == 0

    asyncio.run(scene())


def test_a_node_gets_its_limits_session_and_nothing_else(tmp_path: Path) -> None:
    async def scene() -> None:
        async with make_lab(tmp_path, "server1", more="limits: {open_files: 333}\n") as lab:
            pid = lab.members["server1"].pid
            assert pid is not None
            process = psutil.Process(pid)
            assert process.rlimit(psutil.RLIMIT_NOFILE)[0] == 333
            assert os.getsid(pid) == pid
            assert process.name() == "kv:server1"
            links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
            assert not [link for link in links if link.endswith(("lock", "events.jsonl"))]
            assert len([link for link in links if link.endswith("/log")]) == 2

    asyncio.run(scene())
