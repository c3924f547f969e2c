"""The daemon as the command line meets it: up, down, twice, killed, stale, and bad requests."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from kvlab.errors import InfraError, NotRunningError, PortTakenError, SpecError, UsageError
from kvlab.lab import reap
from kvlab.lab.control import ControlClient
from kvlab.lab.daemonize import start_daemon
from kvlab.lab.state import (
    Running,
    StateDir,
    connect_control,
    find_cluster,
    read_running,
    state_dir,
    write_running,
)
from tests.lab.lab_tools import ENGINE, is_gone, spec_text

pytestmark = pytest.mark.live


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Path]:
    """A cluster.yaml of two nodes; whatever was started from it is ended."""
    path = tmp_path / "cluster.yaml"
    path.write_text(spec_text("server1", "server2"))
    yield path
    try:
        running = find_cluster(path)
    except NotRunningError:
        return
    os.kill(running.pid, signal.SIGKILL)
    wait(lambda: not marked(tmp_path))


def up(path: Path, **options: Any) -> dict[str, Any]:
    return start_daemon(path, engine=ENGINE, **options)


def call(path: Path, verb: str, **args: Any) -> dict[str, Any]:
    with ControlClient(find_cluster(path)) as client:
        return client.call(verb, args)


def wait(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def marked(directory: Path) -> list[int]:
    """All processes that carry the mark of a state directory below `directory`."""
    pids = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get("KVLAB_STATE", "")
            if mark.startswith(str(directory)) and process.status() != psutil.STATUS_ZOMBIE:
                pids.append(process.pid)
        except psutil.Error:
            continue
    return pids


def state_files(path: Path) -> list[str]:
    return sorted(entry.name for entry in (path.parent / ".kvlab" / "lab").iterdir())


def test_up_tells_its_progress_and_down_leaves_nothing(cluster: Path) -> None:
    said: list[dict[str, Any]] = []
    status = up(cluster, on_progress=said.append)
    assert status["already"] is False
    assert [node["state"] for node in status["nodes"]] == ["running", "running"]
    assert {one.get("node") for one in said} == {None, "server1", "server2"}
    running = find_cluster(cluster)
    assert running.pid == status["pid"]
    assert running.nodes["server1"].pid == status["nodes"][0]["pid"]
    mode = Path(running.control).stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    assert len(marked(cluster.parent)) == 4  # daemon, warm parent, two nodes
    assert call(cluster, "down")["stopped"] == ["server1", "server2"]
    assert marked(cluster.parent) == []
    assert state_files(cluster) == ["cluster.json", "daemon.log", "events.jsonl", "nodes"]
    assert (cluster.parent / ".kvlab" / "lab" / "daemon.log").read_text() == ""


def test_up_twice_says_already_and_down_twice_says_not_running(cluster: Path) -> None:
    first = up(cluster)
    second = up(cluster)
    assert (second["already"], second["pid"]) == (True, first["pid"])
    call(cluster, "down")
    with pytest.raises(NotRunningError, match=r"no cluster of .*cluster\.yaml is running"):
        call(cluster, "down")


def test_two_up_at_once_start_one_cluster(cluster: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: up(cluster), range(4)))
    assert sorted(one["already"] for one in results) == [False, True, True, True]
    assert len({one["pid"] for one in results}) == 1
    call(cluster, "down")


def test_a_failed_up_shows_the_log_and_leaves_nothing(cluster: Path) -> None:
    cluster.write_text(spec_text("server1", "crash2"))
    with pytest.raises(InfraError, match=r"(?s)crash2 ended while it started.*on fire"):
        up(cluster)
    wait(lambda: not marked(cluster.parent))
    assert state_files(cluster) == ["cluster.json", "daemon.log", "events.jsonl", "nodes"]
    with pytest.raises(NotRunningError):
        find_cluster(cluster)


def test_a_taken_port_fails_the_up_with_the_owner(cluster: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cluster.write_text(spec_text("server1").replace("localhost:0", f"localhost:{port}"))
        with pytest.raises(
            PortTakenError, match=f"{port} of server1 is taken by process {os.getpid()}"
        ):
            up(cluster)


def test_wrong_files_and_engines_are_named(cluster: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        up(tmp_path / "absent.yaml")
    with pytest.raises(UsageError, match="nosuch"):
        start_daemon(cluster, engine="nosuch")
    cluster.write_text("nodes: lots\n")
    with pytest.raises(SpecError):
        up(cluster)


def test_another_file_with_the_same_name_is_refused(cluster: Path) -> None:
    up(cluster)
    other = cluster.with_name("other.yaml")
    other.write_text(cluster.read_text())
    with pytest.raises(UsageError, match=r"called lab already runs here, from .*cluster\.yaml"):
        up(other)
    call(cluster, "down")


def test_kill_9_of_the_daemon_leaves_no_process_and_up_starts_anew(cluster: Path) -> None:
    first = up(cluster)
    pids = marked(cluster.parent)
    os.kill(first["pid"], signal.SIGKILL)
    wait(lambda: all(is_gone(pid) for pid in pids))
    with pytest.raises(NotRunningError, match="lab is not running: its daemon ended without"):
        find_cluster(cluster)
    with pytest.raises(NotRunningError):
        connect_control(state_dir(cluster, "lab").control)
    assert up(cluster)["already"] is False
    call(cluster, "down")


def test_a_term_signal_ends_the_cluster_cleanly(cluster: Path) -> None:
    status = up(cluster)
    os.kill(status["pid"], signal.SIGTERM)
    wait(lambda: not marked(cluster.parent))
    assert state_files(cluster) == ["cluster.json", "daemon.log", "events.jsonl", "nodes"]


def test_an_interrupted_up_ends_what_it_began(cluster: Path) -> None:
    cluster.write_text(spec_text("server1", "never2", more="ready: {timeout: 60s}\n"))
    code = (
        f"from kvlab.lab.daemonize import start_daemon as s; s({str(cluster)!r}, engine={ENGINE!r})"
    )
    command = [sys.executable, "-c", code, str(cluster), ENGINE]
    caller = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    log = cluster.parent / ".kvlab" / "lab" / "nodes" / "never2" / "log"
    wait(lambda: log.exists() and "starts" in log.read_text())
    caller.send_signal(signal.SIGINT)
    caller.wait()
    wait(lambda: not marked(cluster.parent))
    assert state_files(cluster) == ["cluster.json", "daemon.log", "events.jsonl", "nodes"]


def test_a_reused_pid_is_not_taken_for_the_daemon(cluster: Path) -> None:
    directory = state_dir(cluster, "lab")
    directory.create()
    write_running(
        Running(
            name="lab",
            pid=os.getpid(),
            start_time=psutil.Process().create_time() - 3600,
            spec=str(cluster),
            control=str(directory.control),
        )
    )
    with pytest.raises(NotRunningError, match="its daemon ended"):
        find_cluster(cluster)
    assert up(cluster)["already"] is False
    call(cluster, "down")


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', "[]"])
def test_a_broken_record_is_no_cluster(cluster: Path, text: str) -> None:
    directory = state_dir(cluster, "lab")
    directory.create()
    directory.supervisor.write_text(text)
    assert read_running(directory) is None
    with pytest.raises(NotRunningError):
        find_cluster(cluster)


def test_a_very_long_path_has_a_working_control_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    path = deep / "cluster.yaml"
    path.write_text(spec_text("server1"))
    up(path)
    assert len(find_cluster(path).control) > 200
    assert call(path, "status")["name"] == "lab"
    call(path, "down")


def exchange(path: Path, raw: bytes) -> list[dict[str, Any]]:
    """Send bytes as they are and read the answers until the daemon has no more to say."""
    with connect_control(Path(find_cluster(path).control), 10.0) as sock:
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    return [json.loads(line) for line in answer.splitlines()]


def test_bad_requests_get_clear_errors_and_harm_nobody(cluster: Path) -> None:
    up(cluster)
    good = b'{"verb": "status"}\n'
    for raw, part in [
        (b"garbage\n", "this is no request"),
        (b"\xff\xfe\n", "this is no request"),
        (b'{"verb": 1}\n', "this is no request"),
        (b'{"verb": "explode"}\n', "no verb 'explode'"),
        (b'{"verb": "kill"}\n', "targets"),
        (b'{"verb": "kill", "args": {"targets": "server7"}}\n', "server7"),
        (b'{"verb": "kill", "args": {"targets": "one", "sead": 1}}\n', "sead"),
        (b'{"verb": "remove", "args": {"id": "server7"}}\n', "server7"),
        (b'{"verb": "add", "args": {"weight": -1}}\n', "weight"),
        (b'{"verb": "add", "args": {"id": "../up"}}\n', "cannot name"),
        (b'{"verb": "partition", "args": {}}\n', "groups"),
        (b"x" * 10_000_000 + b"\n", "at most 1048576 bytes"),
    ]:
        bad, fine = exchange(cluster, raw + good)
        assert bad["ok"] is False
        assert bad["error"]["kind"] == "UsageError"
        assert part in bad["error"]["message"]
        assert fine["ok"] is True
    assert [node["restarts"] for node in call(cluster, "status")["nodes"]] == [0, 0]
    call(cluster, "down")


def test_verbs_work_over_the_socket_and_errors_keep_their_class(cluster: Path) -> None:
    up(cluster)
    proof = call(cluster, "kill", targets="one", seed=3)
    assert [one["id"] for one in proof["proof"]] == proof["targets"]
    (target,) = proof["targets"]
    assert read_running(StateDir(cluster.parent / ".kvlab" / "lab")).nodes[target].pid is None  # type: ignore[union-attr]
    assert call(cluster, "start", targets=target, seed=None)["proof"][0]["after"] == "running"
    said: list[dict[str, Any]] = []
    with ControlClient(find_cluster(cluster)) as client:
        added = client.call("add", {"id": None, "wait": True}, said.append)
        assert (added["id"], said[0]["node"]) == ("server3", "server3")
        assert client.call("remove", {"id": "server3", "wait": True})["id"] == "server3"
        with pytest.raises(UsageError, match="server9") as caught:
            client.call("pause", {"targets": "server9"})
        assert caught.value.exit_code == 2
        assert client.call("faults") == {"faults": [], "links": []}
    call(cluster, "down")


def test_reap_finds_nothing_while_a_cluster_lives_and_ends_what_is_left(cluster: Path) -> None:
    status = up(cluster)
    ours = {status["pid"], *(node["pid"] for node in status["nodes"])}
    assert not ours & {left.pid for left in reap.find_processes()}
    assert reap.find_leftovers(cluster).files == []
    os.kill(status["pid"], signal.SIGKILL)
    wait(lambda: not marked(cluster.parent))
    # What a defect would leave: a process with our mark that no daemon owns.
    directory = cluster.parent / ".kvlab" / "lab"
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env=os.environ | {"KVLAB_STATE": str(directory)},
    )
    try:
        wait(lambda: orphan.pid in {left.pid for left in reap.find_processes()})
        assert {Path(name).name for name in reap.find_leftovers(cluster).files} == {
            "control.sock",
            "supervisor.json",
            "lock",
        }
        reap.end_processes(reap.find_processes(directory))
        assert is_gone(orphan.pid)
        assert not reap.find_processes(directory)
    finally:
        orphan.kill()
        orphan.wait()
