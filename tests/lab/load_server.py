"""A tiny JSON server for the tests of the load generator, in the test's own event loop.

It is not a node: one dict, no replication. `Server.mode` makes it misbehave on purpose.
"""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Self


class Server:
    """Serves GET, SET and DELETE from `data`; use it in `async with`.

    mode "ok" answers, "silent" reads and never answers, "reset" drops the connection instead of
    answering, "error" answers with `code` and `text`, "garbage" answers with what is not JSON.
    `delay_s` holds every answer; `chunk` cuts answers into pieces of this many bytes.
    """

    def __init__(self, name: str = "server1") -> None:
        self.name = name
        self.data: dict[str, str] = {}
        self.requests: list[dict[str, object]] = []
        self.mode = "ok"
        self.code: str | None = "UNAVAILABLE"
        self.text = "not enough replicas"
        self.delay_s = 0.0
        self.chunk = 0
        self.spaced = False
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self.connected = 0

    @property
    def address(self) -> str:
        return f"{self.name}=127.0.0.1:{self.port}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=256, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        """Stop listening and reset every connection, as a killed process does."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.transport.abort()
        await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.die()

    def answer(self, request: dict[str, object]) -> dict[str, object]:
        self.requests.append(request)
        key = str(request["key"])
        reply: dict[str, object] = {"type": "RESPONSE", "key": key, "value": ""}
        reply |= {"timestamp": "2026-01-01T00:00:00Z", "status": "SUCCESS", "error": ""}
        if request.get("meta"):
            reply["node"] = self.name
        if self.mode == "error":
            reply |= {"status": "ERROR", "error": self.text}
            return reply | ({"code": self.code} if self.code else {})
        if request["type"] == "SET":
            self.data[key] = str(request["value"])
        elif key not in self.data:
            reply |= {"status": "ERROR", "error": "Key does not exist", "code": "NOT_FOUND"}
        elif request["type"] == "GET":
            reply["value"] = self.data[key]
        else:
            del self.data[key]
        return reply


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.server.connected += 1
        self.server._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        *lines, self.tail = (self.tail + data).split(b"\n")
        out = b""
        separators = None if self.server.spaced else (",", ":")
        for line in lines:
            if self.server.mode == "reset":
                self.server.requests.append(json.loads(line))
                self.transport.abort()
                return
            reply = self.server.answer(json.loads(line))
            if self.server.mode == "garbage":
                out += b"what?\n"
            elif self.server.mode != "silent":
                out += json.dumps(reply, separators=separators).encode() + b"\n"
        if self.server.delay_s:
            asyncio.get_running_loop().call_later(self.server.delay_s, self._write, out)
        elif self.server.chunk:
            for at in range(0, len(out), self.server.chunk):
                asyncio.get_running_loop().call_soon(self._write, out[at : at + self.server.chunk])
        else:
            self._write(out)

    def _write(self, data: bytes) -> None:
        if data and not self.transport.is_closing():
            self.transport.write(data)
