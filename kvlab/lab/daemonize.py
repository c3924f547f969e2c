"""`kvlab up`: start the daemon of a cluster in the background and wait until the cluster is ready.

It runs in the command line's process; what goes on in the daemon's is in `daemon`.

The lock of the state directory is taken here and handed to the daemon as a descriptor, so from the
first moment there is exactly one owner, and two `up` at once cannot both start.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from kvlab.errors import InfraError, KvlabError, NotRunningError, UsageError
from kvlab.lab.control import CONNECT_TIMEOUT_S, ControlClient, Progress, from_fault, line_decoder
from kvlab.lab.host import ENV_STATE, LOG_FLAGS, PYTHON, python_env
from kvlab.lab.kept import clear_all, written_us
from kvlab.lab.state import (
    Lock,
    Running,
    StateDir,
    connect_control,
    find_cluster,
    lock_owner,
    read_running,
    state_dir,
)
from kvlab.spec import ClusterSpec, parse_cluster

# How long a second `up` waits for the first one, beyond the time that nodes may take to be ready.
OTHER_START_SLACK_S: Final = 10.0
OTHER_START_POLL_S: Final = 0.02
LOG_TAIL_LINES: Final = 20
READ_BYTES: Final = 1 << 16


def start_daemon(
    spec_path: Path | str,
    *,
    engine: str | None = None,
    fresh: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Start the cluster of this file; return its status with "already": whether it ran before.

    It goes on with the data of the time before, unless it is to be `fresh`; "resumed" tells.
    `engine` overrides the engine of the file ("module:Class" for one outside of kvlab).
    Raises SpecError for a file that is wrong or does not fit the data, UsageError for a `fresh` start
    of what runs, PortTakenError or InfraError (with the end of the log of the node that failed) when
    the cluster does not come up; nothing is left behind then, and the data stays as it was.
    """
    path = Path(spec_path).resolve()
    spec = _read_spec(path)
    directory = state_dir(path, spec.name)
    found = _running(path) or _take_lock(path, spec, directory)
    if isinstance(found, Running):
        if fresh:
            raise UsageError(
                f"{found.name} runs, and cannot begin anew",
                hint="kvlab down, then kvlab up --fresh",
            )
        try:
            with ControlClient(found) as client:
                return client.call("status") | {"already": True}
        except NotRunningError:  # it was about to end: its lock is free in a moment
            found = _take_lock(path, spec, directory)
            if isinstance(found, Running):  # and somebody else was quicker
                raise
    _clear_stale(directory)
    more = ["--engine", engine or spec.engine.name, *(["--fresh"] if fresh else [])]
    result = _launch(path, directory, found, more, on_progress)
    return result | {"already": False}


def wipe_data(spec_path: Path | str) -> bool:
    """Remove the data of a cluster that does not run; return whether there was some.

    Raises InfraError if somebody starts it just now.
    """
    path = Path(spec_path).resolve()
    directory = state_dir(path, _read_spec(path).name)
    if not directory.path.exists():
        return False
    lock = Lock.acquire(directory)
    if lock is None:
        raise InfraError(
            f"{directory.path} belongs to a cluster that starts or ends just now",
            hint="try again, or look with kvlab status",
        )
    try:
        _clear_stale(directory)
        there = written_us(directory) > 0
        clear_all(directory)
        return there
    finally:
        lock.release()


def _read_spec(path: Path) -> ClusterSpec:
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", hint="kvlab up -f FILE names another file"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text: {error.reason}") from error
    return parse_cluster(text, source=str(path))


def _running(path: Path) -> Running | None:
    """Return the daemon that answers; one that is about to end has the lock yet, and no more to say."""
    try:
        running = find_cluster(path)
        connect_control(Path(running.control), CONNECT_TIMEOUT_S).close()
    except NotRunningError:
        return None
    return running


def _take_lock(path: Path, spec: ClusterSpec, directory: StateDir) -> Lock | Running:
    """Become the owner of the directory, or wait until another `up` has started the cluster."""
    directory.create()
    deadline = time.monotonic() + spec.ready.timeout_us / 1e6 + OTHER_START_SLACK_S
    while True:
        lock = Lock.acquire(directory)
        if lock is not None:
            return lock
        running = read_running(directory)
        if running is not None and running.spec != str(path):
            raise UsageError(
                f"a cluster called {spec.name} already runs here, from {running.spec}",
                hint="give this one another name: in its file",
            )
        found = _running(path)
        if found is not None:
            return found
        if time.monotonic() > deadline:
            owner = lock_owner(directory)
            who = f"process {owner.pid}" if owner else "another process"
            raise InfraError(
                f"{who} holds {directory.lock}, but its cluster does not come up",
                hint="wait for it, or end it and try again",
            )
        time.sleep(OTHER_START_POLL_S)


def _clear_stale(directory: StateDir) -> None:
    """Remove what a daemon left that died without `down`: we hold its lock, so it is dead."""
    if directory.supervisor.exists():
        from kvlab.lab.reap import end_processes, find_processes

        end_processes(find_processes(directory.path))
    directory.forget()


def _launch(
    path: Path, directory: StateDir, lock: Lock, more: list[str], on_progress: Progress | None
) -> dict[str, Any]:
    ours, theirs = socket.socketpair()
    log_fd = os.open(directory.daemon_log, LOG_FLAGS, 0o600)
    log_offset = os.fstat(log_fd).st_size
    command = [*PYTHON, "kvlab.lab", str(path), "--state", str(directory.path)]
    command += [*more, "--lock-fd", str(lock.fd), "--status-fd", str(theirs.fileno())]
    try:
        with theirs:
            parent = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                pass_fds=[lock.fd, theirs.fileno()],
                start_new_session=True,
                env=python_env() | {ENV_STATE: str(directory.path)},
            )
        parent.wait()  # it forks the daemon proper and ends
        with ours:
            result = _follow(ours, on_progress)
    finally:
        os.close(log_fd)
        # The daemon has the same lock through its own descriptor, and removes the file.
        lock.close()
    if result is None:
        tail = _tail(directory.daemon_log, log_offset)
        raise InfraError(
            f"the daemon ended while it started; its log ends:\n{tail}",
            hint=f"the whole log: {directory.daemon_log}",
        )
    return result


def _follow(sock: socket.socket, on_progress: Progress | None) -> dict[str, Any] | None:
    """Read what the daemon tells until it is up; None when it ends without a word.

    An error is raised only once the daemon has cleaned up and closed its end.
    """
    pending = b""
    failure: KvlabError | None = None
    while chunk := sock.recv(READ_BYTES):
        *lines, pending = (pending + chunk).split(b"\n")
        for raw in lines:
            try:
                line = line_decoder.decode(raw)
            except msgspec.DecodeError as error:
                raise InfraError(f"the daemon says what is no JSON: {error}") from error
            if line.error is not None:
                failure = from_fault(line.error)
            if line.ok:
                result: dict[str, Any] = line.result
                return result
            if on_progress is not None and line.progress is not None:
                on_progress(line.progress)
    if failure is not None:
        raise failure
    return None


def _tail(log: Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"
