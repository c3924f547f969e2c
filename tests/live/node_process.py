"""Real nodes for tests: processes of `python -m kvlab.live` on ports that the kernel chose.

It waits for what nodes say, never for time to pass; every process is ended by its own pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

START_SECONDS_MAX = 20.0
WAIT_SECONDS_MAX = 20.0
END_SECONDS_MAX = 10.0
POLL_SECONDS = 0.01
PROGRAM = ("-m", "kvlab.live")


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS_MAX) -> Any:
    """Poll until `condition()` is true, and return it; AssertionError that names `what` if never."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(POLL_SECONDS)
    return value


class Wire:
    """A plain socket to a node: bytes out, whole lines in."""

    def __init__(self, port: int, *, seconds: float = WAIT_SECONDS_MAX) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._rest = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        """Return the next line without its end; b"" when the node closed the connection."""
        looked = 0
        while (end := self._rest.find(b"\n", looked)) < 0:
            looked = len(self._rest)
            data = self._receive()
            if not data:
                return self._take(looked)
            self._rest += data
        line = self._take(end + 1)
        return line[:-1]

    def reply(self) -> dict[str, Any]:
        line = self.line()
        assert line, "the node closed the connection without a reply"
        return json.loads(line)

    def ask(self, **request: Any) -> dict[str, Any]:
        self.send(json.dumps(request).encode() + b"\n")
        return self.reply()

    def rest(self) -> bytes:
        """Return everything until the node closes the connection."""
        while more := self._receive():
            self._rest += more
        return self._take(len(self._rest))

    def _take(self, size: int) -> bytes:
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return data

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(1 << 20)
        except ConnectionError:
            return b""  # closed with our bytes unread: a reset is as clean as it gets


class NodeProcess:
    """One node in a process of its own; `port` is where it listens."""

    def __init__(
        self,
        name: str,
        log: Path,
        *flags: str,
        port: int = 0,
        dash: str = "--",
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.id = name
        self.log_file = log
        read_end, write_end = os.pipe()
        addr = f"127.0.0.1:{port}"
        argv = [sys.executable, *program, f"{dash}id", name, f"{dash}addr", addr, *flags]
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*argv, "--ready-fd", str(write_end)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(write_end,),
            )
        os.close(write_end)
        self._ready_fd = read_end
        self.port = 0
        self.pid = self.process.pid

    def wait_listening(self) -> NodeProcess:
        """Wait for the node's own word that it listens."""
        ready, _, _ = select.select([self._ready_fd], [], [], START_SECONDS_MAX)
        line = os.read(self._ready_fd, 4096) if ready else b""
        assert line, f"{self.id} did not start:\n{self.log}"
        told = json.loads(line)
        assert (told["id"], told["pid"]) == (self.id, self.pid)
        self.port = told["port"]
        return self

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def wire(self, *, seconds: float = WAIT_SECONDS_MAX) -> Wire:
        return Wire(self.port, seconds=seconds)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Ask one request on a connection of its own."""
        with self.wire() as wire:
            return wire.ask(**request)

    @property
    def status(self) -> dict[str, Any]:
        return self.ask(type="STATUS")["info"]

    @property
    def counters(self) -> dict[str, int]:
        return self.status["counters"]

    def wait_ready(self) -> NodeProcess:
        until(lambda: self.status["ready"], f"{self.id} to be ready: {self.status['waits_for']}")
        return self

    @property
    def rss_bytes(self) -> int:
        """Return what the process holds in memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def peak_bytes(self) -> int:
        """Return the most that the process ever held in memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = END_SECONDS_MAX) -> int:
        """Return the exit status of a node that ends by itself."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        """End the process, whatever it does, and take its end."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._ready_fd)
        self._ready_fd = -1


class Cluster:
    """Nodes that are ended together."""

    def __init__(
        self, folder: Path, program: Callable[[str], Sequence[str]] = lambda _name: PROGRAM
    ) -> None:
        self.folder = folder
        self._program = program  # what runs as the node of a name
        self.nodes: dict[str, NodeProcess] = {}
        self._all: list[NodeProcess] = []
        self._held: list[socket.socket] = []  # the ports of founding members

    def begin(self, name: str, *flags: str, port: int = 0, dash: str = "--") -> NodeProcess:
        """Start a node and do not wait for it."""
        log, program = self.folder / f"{name}.log", self._program(name)
        node = NodeProcess(name, log, *flags, port=port, dash=dash, program=program)
        self._all.append(node)
        return node

    def start(self, name: str, *flags: str, port: int = 0, dash: str = "--") -> NodeProcess:
        """Start a node and wait until it listens."""
        node = self.nodes[name] = self.begin(name, *flags, port=port, dash=dash).wait_listening()
        return node

    def found(self, count: int, *flags: str) -> list[NodeProcess]:
        """Start the founding members of a cluster and wait until all are ready."""
        self._held += [reserve_port() for _ in range(count)]
        ports = [one.getsockname()[1] for one in self._held[-count:]]
        names = [f"server{number}" for number in range(1, count + 1)]
        self.initial = ",".join(
            f"{name}=127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)
        )
        begun = [
            self.begin(name, "--initial", self.initial, *flags, port=port)
            for name, port in zip(names, ports, strict=True)
        ]
        for node in begun:
            self.nodes[node.id] = node.wait_listening()
        for node in begun:
            node.wait_ready()
        for node in begun:
            until(
                lambda node=node: list(node.status["peers"].values()) == ["up"] * (count - 1),
                f"{node.id} to see all others",
            )
        return begun

    def close(self) -> None:
        for node in self._all:
            node.close()
        for held in self._held:
            held.close()


@contextlib.contextmanager
def nodes(folder: Path) -> Iterator[Cluster]:
    """A place to start nodes in; none outlives it."""
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.close()


def reserve_port() -> socket.socket:
    """Return a socket that holds a port: a node can listen there, and the kernel gives it to nobody.

    Two sockets that allow it may have one port while at most one of them listens; without a socket
    that holds it, another process may be given the port before the node has it.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held
