"""A stage for live tests of the shim: one node behind it, and this process as its caller."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import socket
import struct
import sys
import time
from contextlib import asynccontextmanager

import pytest

from kvlab.lab.shims import Shims

AB, BA = ("a", "b"), ("b", "a")
PATIENCE_S = 10.0
NOBODY = ("127.0.0.1", 1)


def live(test):
    """Run an async test to its end, or fail it."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    return run


async def until(condition, what: str):
    """Wait until the condition holds; it may be a function or a coroutine function."""
    end = time.monotonic() + PATIENCE_S
    while True:
        answer = condition()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {PATIENCE_S} s for: {what}"
        await asyncio.sleep(0.005)


class Node:
    """A server that hands every connection it accepts to the test."""

    def __init__(self):
        self.accepted: asyncio.Queue = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self):
        self.server = await asyncio.start_server(self._on_connect, "127.0.0.1", 0, limit=1 << 24)
        self.address = self.server.sockets[0].getsockname()

    async def _on_connect(self, reader, writer):
        self.writers.append(writer)
        await self.accepted.put((reader, writer))

    def stop(self):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()


class Stage:
    """Node b behind its shim; this process is node a, so what it dials is the link a -> b."""

    def __init__(self, shims: Shims, node: Node, address):
        self.shims, self.node, self.address = shims, node, address
        self.clients: list[asyncio.StreamWriter] = []

    async def dial(self):
        reader, writer = await asyncio.open_connection(*self.address, limit=1 << 24)
        self.clients.append(writer)
        return reader, writer

    async def connect(self):
        """Give (reader, writer) of the caller and of the node."""
        client = await self.dial()
        return client, await asyncio.wait_for(self.node.accepted.get(), PATIENCE_S)

    async def link(self, ends) -> dict:
        rows = [row for row in await self.shims.snapshot() if (row["from"], row["to"]) == ends]
        return rows[0]


@asynccontextmanager
async def stage(**options):
    shims, node = Shims(**options), Node()
    await node.start()
    await shims.start()
    try:
        await shims.add("a", NOBODY)
        address = await shims.add("b", node.address)
        await shims.set_pid("a", os.getpid())
        made = Stage(shims, node, address)
        yield made
        for writer in made.clients:
            writer.transport.abort()
    finally:
        node.stop()
        await shims.close()


async def nothing_comes(reader, seconds=0.15):
    """Prove silence: no byte, no end, no error within the time."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), seconds)


async def is_reset(reader):
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), PATIENCE_S)


async def dial_is_reset(s: Stage):
    """The reset may come while the connect still runs, or just after."""
    with pytest.raises(ConnectionResetError):  # noqa: PT012 - either of the two may say it
        reader, _ = await s.dial()
        await asyncio.wait_for(reader.read(), PATIENCE_S)


async def send_all(writer, data: bytes, rng: random.Random):
    at = 0
    while at < len(data):
        size = rng.choice([1, 100, 5_000, 300_000])
        writer.write(data[at : at + size])
        await writer.drain()
        at += size
    writer.write_eof()


async def closed(s: Stage) -> bool:
    return (await s.link(AB))["connections"] == 0


def reset(writer):
    """Close with a TCP reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def held(s: Stage, at_least: int) -> bool:
    return (await s.link(AB))["held_bytes"] >= at_least


async def hung(s: Stage, count: int) -> bool:
    return (await s.link(AB))["connects_hung"] == count


CALLER = """
import socket, sys
kept = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for line in sys.stdin:
    kept.sendall(line.encode())
"""


@asynccontextmanager
async def caller(s: Stage):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CALLER, *map(str, s.address), stdin=asyncio.subprocess.PIPE
    )
    try:
        reader, _ = await asyncio.wait_for(s.node.accepted.get(), PATIENCE_S)
        yield process, reader
    finally:
        process.stdin.close()
        await process.wait()


def is_running(pid: int) -> bool:
    """Say if the process lives; a zombie that its adoptive parent does not reap is dead."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
