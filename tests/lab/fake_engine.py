"""A small server that is not kvlab's node: it speaks PING, STATUS, MAP, JOIN and LEAVE.

The supervisor must work with any server, so its tests do not need the real node. What a fake does
is in its id: crash* ends while starting, never* is never ready, slow* is ready late, stubborn*
ignores SIGTERM, dull* never sees its peers. keeper* writes a file into its folder; replaced* does so,
too, and ends once when it finds one, as a node whose place was taken does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvlab.engine.base import NodeStart, Program
from kvlab.engine.jsonline import ask
from kvlab.engine.kvlab import KvlabEngine
from kvlab.errors import ClientError

SLOW_S = 0.2


class FakeEngine(KvlabEngine):
    """Starts fakes in forks of the warm parent."""

    name = "fake"
    preload = ("tests.lab.fake_engine",)
    entry = "tests.lab.fake_engine:run_node"

    def program(self, start: NodeStart) -> Program:
        """Start it as ever: a fake keeps nothing that it could go on with."""
        return super().program(replace(start, is_resumed=False))

    async def held(self, host: str, port: int) -> dict[str, int]:
        return {}


class FakeCommandEngine(FakeEngine):
    """Starts the same fakes as commands."""

    name = "fake-command"
    preload = ()

    def program(self, start: Any) -> Any:
        program = super().program(start)
        script = "import sys, tests.lab.fake_engine as f; sys.exit(f.main(sys.argv))"
        argv = (sys.executable, "-c", script, json.dumps(program.payload), "{listen_fd}")
        return type(program)(argv=argv)


class FakeNode:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.id = options["id"]
        self.members = dict(options["initial"]) or {self.id: options["advertise"]}
        self.ready = False
        self.over = asyncio.Event()

    async def start(self) -> None:
        for address in self.options["join"]:
            mine = {"id": self.id, "advertise": self.options["advertise"]}
            self.members = await self.ask(address, {"type": "JOIN", **mine})
            break
        if self.id.startswith("slow"):
            await asyncio.sleep(SLOW_S)
        self.ready = not self.id.startswith("never")

    async def ask(self, address: str, request: dict[str, Any]) -> dict[str, Any]:
        host, _, port = address.rpartition(":")
        return await ask(host, int(port), request, 0.3)

    async def broadcast(self, request: dict[str, Any]) -> None:
        for node, address in list(self.members.items()):
            if node != self.id:
                with contextlib.suppress(ClientError):
                    await self.ask(address, request | {"relayed": True})

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["type"]:
            case "PING":
                return {"id": self.id, "ready": self.ready}
            case "STATUS":
                peers = {node: await self.sees(node) for node in self.members if node != self.id}
                return {"id": self.id, "epoch": len(self.members), "peers": peers, "moving": 0}
            case "MAP":
                return {"members": [{"id": node} for node in self.members]}
            case "JOIN":
                self.members[request["id"]] = request["advertise"]
                if not request.get("relayed"):
                    await self.broadcast(request)
                return self.members
            case "LEAVE":
                leaver = request["key"]
                if not request.get("relayed"):
                    await self.broadcast(request)
                self.members.pop(leaver, None)
                if leaver == self.id:
                    self.over.set()
                return {}
        raise AssertionError(request)

    async def sees(self, node: str) -> str:
        if self.id.startswith("dull"):
            return "down"
        try:
            await self.ask(self.members[node], {"type": "PING", "key": ""})
        except ClientError:
            return "down"
        return "up"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                info = await self.answer(json.loads(line))
                writer.write(json.dumps({"status": "SUCCESS", "info": info}).encode() + b"\n")
                await writer.drain()
        writer.close()


def main(argv: list[str]) -> int:
    return run_node(json.loads(argv[1]), int(argv[2]))


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def run_node(options: dict[str, Any], listen_fd: int) -> int:
    say(f"fake {options['id']} starts as {os.getpid()}")
    if options["id"].startswith("crash"):
        say("boom: the disk is on fire")
        return 3
    if options["id"].startswith(("keeper", "replaced")):
        file = Path(options["data"]) / "file"
        if options["id"].startswith("replaced") and file.exists():
            say("others took its place")
            file.unlink()
            return 5
        file.write_text(f"life {os.getpid()}")
    if options["id"].startswith("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return asyncio.run(_run(options, listen_fd))


async def _run(options: dict[str, Any], listen_fd: int) -> int:
    node = FakeNode(options)
    if not options["id"].startswith("stubborn"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, node.over.set)
    server = await asyncio.start_server(node.serve, sock=socket.socket(fileno=listen_fd))
    await node.start()
    await node.over.wait()
    server.close()
    return 0
