"""The files of a running cluster in `.kvlab/<name>/`: who runs it, where it answers, who may start.

It starts and stops nothing; it reads and writes small files and tells live ones from stale ones.

Invariants:
1. `supervisor.json` is replaced whole (written beside, then renamed): no reader sees half a file.
2. The owner of a directory holds an flock on `lock`. The kernel drops it when the last holder dies,
   so a stale lock file locks nobody out.
3. A daemon is named by pid and start time; a pid that was given to another process is not a daemon.
4. Socket paths of any length work: `sun_path` has 108 bytes, so we go through a directory handle.
"""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kvlab.errors import InfraError, NotRunningError
from kvlab.lab import procs
from kvlab.lab.security import LabSecurity

STATE_ROOT = ".kvlab"
SCHEMA = 1
PRIVATE_FILE_MODE = 0o600
PRIVATE_DIR_MODE = 0o700


class NodeRecord(msgspec.Struct):
    """One node in `supervisor.json`."""

    host: str
    port: int
    advertise: str
    pid: int | None = None


class Running(msgspec.Struct, kw_only=True):
    """The contents of `supervisor.json`: a daemon and the cluster that it owns."""

    schema: int = SCHEMA
    name: str
    pid: int
    start_time: float
    spec: str
    control: str
    is_ours: bool = True
    """Whether the nodes are kvlab's own."""
    protocol: str = "json"
    """What clients speak with the nodes."""
    nodes: dict[str, NodeRecord] = {}
    security: LabSecurity = LabSecurity()

    @property
    def directory(self) -> StateDir:
        """The state directory this record lies in."""
        return StateDir(Path(self.control).parent)


@dataclass(frozen=True)
class StateDir:
    """Names every file of one cluster's state directory."""

    path: Path

    @property
    def supervisor(self) -> Path:
        """Who runs the cluster."""
        return self.path / "supervisor.json"

    @property
    def kept(self) -> Path:
        """What outlasts the cluster: see `kept`."""
        return self.path / "cluster.json"

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.path / "control.sock"

    @property
    def lock(self) -> Path:
        """The file whose flock makes its holder the owner of the directory."""
        return self.path / "lock"

    @property
    def events(self) -> Path:
        """What happened, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def daemon_log(self) -> Path:
        """Standard error of the daemon and the zygote."""
        return self.path / "daemon.log"

    def node(self, node_id: str) -> Path:
        """Everything that belongs to one node."""
        return self.path / "nodes" / node_id

    def node_log(self, node_id: str) -> Path:
        """Return the file of the node's standard output and error, all its lives in a row."""
        return self.node(node_id) / "log"

    def node_data(self, node_id: str) -> Path:
        """Where the node keeps its data."""
        return self.node(node_id) / "data"

    def create(self) -> None:
        """Make the directory, readable by its user only."""
        try:
            self.path.mkdir(mode=PRIVATE_DIR_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise InfraError(
                f"cannot create {self.path}: {error.strerror}",
                hint="kvlab keeps the state of a cluster beside its cluster.yaml",
            ) from error

    def forget(self) -> None:
        """Remove what only a running cluster has; logs, events, data and its members stay."""
        for path in (self.control, self.supervisor):
            path.unlink(missing_ok=True)


def state_dir(spec_path: Path | str, name: str) -> StateDir:
    """Return the state directory of the cluster `name` described by the file `spec_path`."""
    return StateDir(Path(spec_path).resolve().parent / STATE_ROOT / name)


def write_running(running: Running) -> None:
    """Replace `supervisor.json`."""
    target = running.directory.supervisor
    beside = target.with_name(f"{target.name}.{os.getpid()}")
    beside.write_bytes(msgspec.json.encode(running) + b"\n")
    beside.chmod(PRIVATE_FILE_MODE)
    beside.replace(target)


def read_running(directory: StateDir) -> Running | None:
    """Read `supervisor.json`, or None when there is none that can be understood."""
    try:
        running = msgspec.json.decode(directory.supervisor.read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None
    # A moved or copied directory must not lead to the socket of the original.
    running.control = str(directory.control)
    return running


def is_live(running: Running) -> bool:
    """Tell whether the daemon in the record still runs."""
    return procs.is_alive(running.pid, running.start_time)


def find_cluster(spec_path: Path | str) -> Running:
    """Find the daemon that runs the cluster of this file, whatever the file says by now.

    Raises NotRunningError, which tells "never started" from "its daemon died".
    """
    spec = Path(spec_path).resolve()
    stale = ""
    for path in sorted((spec.parent / STATE_ROOT).glob("*/supervisor.json")):
        running = read_running(StateDir(path.parent))
        if running is None or running.spec != str(spec):
            continue
        if is_live(running):
            return running
        stale = running.name
    if stale:
        raise NotRunningError(
            f"cluster {stale} is not running: its daemon ended without a `kvlab down`",
            hint="kvlab up goes on with its data; kvlab reap removes what else was left behind",
        )
    raise NotRunningError(f"no cluster of {spec_path} is running", hint="start it with: kvlab up")


class Owner(msgspec.Struct):
    """The process that owns a state directory."""

    pid: int
    start_time: float


class Lock:
    """The flock of a state directory. It can be handed to a child as a file descriptor."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    @classmethod
    def acquire(cls, directory: StateDir) -> Lock | None:
        """Take the lock for this process, or return None when somebody else has it."""
        while True:
            fd = os.open(directory.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE_MODE)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            # The last holder may have removed the file between our open and our lock.
            if _same_file(fd, directory.lock):
                lock = cls(directory.lock, fd)
                lock.sign()
                return lock
            os.close(fd)

    def sign(self) -> None:
        """Write this process into the file as the owner."""
        pid = os.getpid()
        owner = Owner(pid, procs.start_time(pid) or 0.0)
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, msgspec.json.encode(owner) + b"\n", 0)

    def release(self) -> None:
        """Remove the file and let go of the lock."""
        if self.fd >= 0:
            # Not a file that somebody else made after ours had been removed.
            if _same_file(self.fd, self.path):
                self.path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Close our handle; a child that has the descriptor keeps the lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _same_file(fd: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)


def lock_owner(directory: StateDir) -> Owner | None:
    """Return the living owner of the directory, or None when nobody holds its lock."""
    try:
        fd = os.open(directory.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        owner = msgspec.json.decode(os.read(fd, 4096), type=Owner)
    except msgspec.DecodeError:
        return None
    finally:
        os.close(fd)
    return owner if procs.is_alive(owner.pid, owner.start_time) else None


def _through_handle(path: Path) -> tuple[int, str]:
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return handle, f"/proc/self/fd/{handle}/{path.name}"


def bind_control(path: Path) -> socket.socket:
    """Listen on the control socket, mode 0600; a file there is stale, for we own the lock."""
    path.unlink(missing_ok=True)
    handle, short = _through_handle(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the file the mode of the socket's inode: no moment with a wider mode.
        os.fchmod(sock.fileno(), PRIVATE_FILE_MODE)
        sock.bind(short)
        sock.listen(64)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise InfraError(f"cannot listen on {path}: {error.strerror}") from error
    finally:
        os.close(handle)
    return sock


def connect_control(path: Path, timeout_s: float | None = None) -> socket.socket:
    """Connect to the control socket of a running daemon.

    Raises NotRunningError when nobody answers there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        handle, short = _through_handle(path)
        try:
            sock.connect(short)
        finally:
            os.close(handle)
    except OSError as error:
        sock.close()
        raise NotRunningError(
            f"no daemon answers at {path}: {error.strerror}", hint="start it with: kvlab up"
        ) from error
    return sock
