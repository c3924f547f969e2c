"""A small key-value server for tests of clients: one dict, one asyncio loop, no kvlab code.

It speaks the JSON protocol of DESIGN 8 as an independent program would (stdlib json), mirrors the
casing of requests, or always writes as Go's encoding/json does, and misbehaves on demand.

    with serving(EchoStore()) as store:
        ... connect to store.address; store.behave(mute=True) ...
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

Document = dict[str, Any]
ZERO_TIME = "0001-01-01T00:00:00Z"  # what Go writes for a time that was never set


@dataclass(frozen=True)
class Behaviour:
    """What the server does with requests, from the next one on."""

    delay_s: float = 0.0
    mute: bool = False  # applies requests and never answers
    close_on_request: bool = False  # applies the request, then closes
    close_on_connect: bool = False
    cut_reply: bool = False  # sends half of a reply, then closes
    garbage: bytes = b""  # sent in place of a reply
    go_style: bool = False  # always `Type`, and <, >, & escaped
    deaf: bool = False  # reads nothing: the client's buffers fill
    chunk_bytes: int = 0  # sends replies in pieces of this size
    extra_reply: bool = False  # answers every request twice
    error: str = ""  # answers every SET and DELETE with this error ...
    code: str = ""  # ... and this code
    extras: dict[str, Any] = field(default_factory=dict)  # added to every reply


class EchoStore:
    """The server. All state may be read from the test's thread once a request was answered."""

    def __init__(self, **behaviour: Any) -> None:
        self.data: dict[str, str] = {}
        self.seen: list[dict[str, Any]] = []
        self.connections = 0
        self.port = 0
        self.behaviour = Behaviour(**behaviour)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed: asyncio.Event | None = None
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def types(self) -> list[str]:
        return [one["type"] for one in self.seen]

    def behave(self, **changes: Any) -> None:
        """Change the behaviour, from any thread; waiting replies look at it again."""
        self.behaviour = replace(self.behaviour, **changes)
        if self.loop is not None and self._changed is not None:
            self.loop.call_soon_threadsafe(self._changed.set)

    def drop_connections(self) -> None:
        """Close every connection, from any thread; listening goes on."""
        done = threading.Event()

        def drop() -> None:
            self.drop_now()
            done.set()

        assert self.loop is not None
        self.loop.call_soon_threadsafe(drop)
        assert done.wait(5)

    def drop_now(self) -> None:
        """Close every connection, from the server's own loop."""
        for writer in self._writers:
            writer.close()

    async def start(self, port: int = 0) -> None:
        self.loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 25)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.behaviour.close_on_connect:
                await self._dialogue(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the server stops
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _dialogue(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.behaviour.deaf:
            writer.transport.pause_reading()
        assert self._changed is not None
        while line := await reader.readline():
            request = json.loads(line)
            camel = "Type" in request
            request = {name.lower(): value for name, value in request.items()}
            self.seen.append(request)
            reply = self._apply(request)
            does = self.behaviour
            if does.delay_s:
                await asyncio.sleep(does.delay_s)
            if does.close_on_request:
                return
            if does.garbage:
                writer.write(does.garbage)
                continue
            while self.behaviour.mute:
                self._changed.clear()
                await self._changed.wait()
            text = self._encode(reply, camel or does.go_style)
            if does.cut_reply:
                writer.write(text[: len(text) // 2])
                await writer.drain()
                return
            await self._send(writer, text * (1 + does.extra_reply))

    async def _send(self, writer: asyncio.StreamWriter, text: bytes) -> None:
        size = self.behaviour.chunk_bytes or len(text)
        for at in range(0, len(text), size):
            writer.write(text[at : at + size])
            await writer.drain()
            if size < len(text):
                await asyncio.sleep(0)

    def _apply(self, request: dict[str, Any]) -> dict[str, Any]:
        kind, key = request["type"], request.get("key") or ""
        does = self.behaviour
        if does.error and kind in ("SET", "DELETE"):
            return self._reply(key, error=does.error, code=does.code)
        if kind == "SET":
            self.data[key] = request.get("value") or ""
            return self._reply(key)
        if kind in ("GET", "DELETE"):
            if key not in self.data:
                return self._reply(key, error="Key does not exist", code="NOT_FOUND")
            value = self.data[key] if kind == "GET" else self.data.pop(key)
            return self._reply(key, value if kind == "GET" else "")
        if kind == "PING":
            return self._reply("") | {"info": {"id": "echo", "ready": True}}
        if kind == "STATUS":
            return self._reply("") | {"info": {"id": "echo", "keys": len(self.data), "peers": {}}}
        return self._reply(key, error="Invalid request type")

    def _reply(
        self, key: str, value: str = "", *, error: str = "", code: str = ""
    ) -> dict[str, Any]:
        reply = {"type": "RESPONSE", "key": key, "value": value, "timestamp": ZERO_TIME}
        reply |= {"status": "ERROR" if error else "SUCCESS", "error": error}
        if code and not self.behaviour.go_style:
            reply["code"] = code
        return reply | self.behaviour.extras

    def _encode(self, reply: dict[str, Any], camel: bool) -> bytes:
        if camel:
            reply = {name.title().replace("_", ""): value for name, value in reply.items()}
        text = json.dumps(reply, separators=(",", ":"), ensure_ascii=False)
        if self.behaviour.go_style:
            for char in "<>&":
                text = text.replace(char, f"\\u{ord(char):04x}")
        return text.encode() + b"\n"


@contextlib.contextmanager
def serving(store: EchoStore) -> Iterator[EchoStore]:
    """Run the server in a thread of its own, so that blocking code may be its client."""
    started = threading.Event()
    stop = asyncio.Event()

    async def live() -> None:
        try:
            await store.start()
        finally:
            started.set()
        await stop.wait()
        await store.stop()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    assert started.wait(10)
    try:
        assert store.loop is not None, "the server did not start"
        yield store
    finally:
        if store.loop is not None:
            store.loop.call_soon_threadsafe(stop.set)
        thread.join(10)


async def main(arguments: argparse.Namespace) -> None:
    store = EchoStore(go_style=arguments.go_style, delay_s=arguments.delay)
    await store.start(arguments.port)
    sys.stdout.write(f"{store.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each reply")
    parser.add_argument("--go-style", action="store_true", help="write as Go's encoding/json does")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args(sys.argv[1:])))
