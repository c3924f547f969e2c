"""Spawns many single servers at once and asks each until all have answered.

kvlab's nodes are forked by the warm parent, redis by posix_spawn, the cheapest way that there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvbench.servers import HOST, redis_argv
from kvlab.engine.base import NodeStart, Place
from kvlab.engine.kvlab import KvlabEngine
from kvlab.lab.host import Child, Launch, LocalHost
from kvlab.lab.ports import Reservation

ANSWER_S = 20.0
GAP_S = 0.001
OPEN_FILES = 1024
KIB = 1024
PING_JSON = b'{"type":"PING","key":""}\n'
PING_RESP = b"PING\r\n"


@dataclass(frozen=True)
class Spawned:
    """How long it took until all answered, and the mean of their proportional memory."""

    took_ms: float
    pss_bytes: float


async def ping_json(address: tuple[str, int], request: bytes = PING_JSON) -> dict[str, Any]:
    """Ask a node until it answers; returns its reply."""
    reply: dict[str, Any] = json.loads(await _ask(address, request))
    return reply


async def _ask(address: tuple[str, int], request: bytes) -> bytes:
    """Connect, again and again if need be, ask once, and return a line."""
    async with asyncio.timeout(ANSWER_S):
        while True:
            try:
                reader, writer = await asyncio.open_connection(*address)
            except ConnectionRefusedError:
                await asyncio.sleep(GAP_S)
                continue
            try:
                writer.write(request)
                if line := await reader.readline():
                    return line
            finally:
                writer.close()


async def spawn_kvlab(host: LocalHost, count: int, folder: Path) -> Spawned:
    """Fork nodes, each a cluster of its own; kill them afterwards."""
    places = [Reservation(HOST, 0) for _ in range(count)]
    began = time.monotonic()
    children = await asyncio.gather(
        *(_fork(host, at, place, folder) for at, place in enumerate(places))
    )
    try:
        replies = await asyncio.gather(*(ping_json((HOST, place.port)) for place in places))
        took_ms = (time.monotonic() - began) * 1000
        if not all(reply["info"]["ready"] for reply in replies):
            raise RuntimeError("a node answered that it is not ready")
        return Spawned(took_ms, _mean_pss([child.pid for child in children]))
    finally:
        for child in children:
            child.send_signal(signal.SIGKILL)
        await asyncio.gather(*(child.exited for child in children))
        for place in places:
            place.close()


async def _fork(host: LocalHost, at: int, place: Reservation, folder: Path) -> Child:
    address = f"{HOST}:{place.port}"
    me = Place("server1", address, address, 1.0, "")
    start = NodeStart(
        id=me.id,
        index=1,
        cluster=f"single{at}",
        host=HOST,
        port=place.port,
        advertise=address,
        initial=(me,),
        join=(),
        members=(me,),
        replication=1,
        read_quorum=1,
        write_quorum=1,
        ranges=256,
        dead_after_us=0,
        weight=1.0,
        rack="",
        data_dir=str(folder),
        sync="memory",  # as the servers beside it
        log_level="warning",
    )
    with place.listen() as listener:
        launch = Launch(
            f"kv:{at}", KvlabEngine().program(start), listener, folder / f"{at}.log", OPEN_FILES
        )
        child = await host.spawn(launch)
    child.go()
    return child


async def spawn_redis(binary: Path, count: int, folder: Path) -> Spawned:
    """Spawn servers; end them afterwards."""
    ports = free_ports(count)
    silent = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pids: list[int] = []
    began = time.monotonic()
    try:
        # Into the list one by one: what was started before an error must be ended, too.
        pids.extend(_spawn(redis_argv(binary, port, folder), silent) for port in ports)
        replies = await asyncio.gather(*(_ask((HOST, port), PING_RESP) for port in ports))
        took_ms = (time.monotonic() - began) * 1000
        if not all(reply.startswith(b"+PONG") for reply in replies):
            raise RuntimeError("a server answered something else than PONG")
        return Spawned(took_ms, _mean_pss(pids))
    finally:
        os.close(silent)
        _kill(pids)


def _spawn(argv: list[str], log_fd: int) -> int:
    """Start a process that writes to `log_fd`; a Ctrl-C at the terminal does not reach it."""
    files = [(os.POSIX_SPAWN_DUP2, log_fd, 1), (os.POSIX_SPAWN_DUP2, log_fd, 2)]
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=files, setpgroup=0)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def free_ports(count: int) -> list[int]:
    """Return distinct ports that were free just now, for programs that cannot be given sockets."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind((HOST, 0))
        return [int(sock.getsockname()[1]) for sock in socks]


def _mean_pss(pids: list[int]) -> float:
    """Return the mean PSS in bytes: shared pages count in parts to all who share them."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        line = next(line for line in text.splitlines() if line.startswith("Pss:"))
        total += int(line.split()[1]) * KIB
    return total / len(pids)
