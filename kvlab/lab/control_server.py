"""The daemon's end of the control socket: lines in, verbs done, lines out.

It decides nothing about the cluster. Invariants:
1. Every request gets exactly one final line, whatever it holds: garbage is answered, too.
2. A request longer than LINE_BYTES_MAX is thrown away while it is read, not kept.
3. A caller that goes away does not stop what it asked for.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from kvlab.errors import InfraError, KvlabError, UsageError
from kvlab.lab.control import Fault, Line, to_fault
from kvlab.lab.state import bind_control
from kvlab.lab.supervisor import Progress

LINE_BYTES_MAX = 1 << 20
READ_BYTES = 1 << 16
CONNECTIONS_MAX = 64

# (verb, args, progress) -> result
Perform = Callable[[str, Any, Progress], Awaitable[dict[str, Any]]]


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """One request line."""

    verb: str
    args: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(Request)


class ControlServer:
    """Serves one control socket."""

    def __init__(self, path: Path, perform: Perform) -> None:
        """Bind the socket at once, so that an error is known before anything else starts."""
        self._perform = perform
        self._sock: socket.socket = bind_control(path)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Begin to serve."""
        self._server = await asyncio.start_server(self._serve, sock=self._sock)

    async def close(self) -> None:
        """End every connection; what is still asked for is broken off."""
        self.stop_listening()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def stop_listening(self) -> None:
        """Take no new caller; those that are connected stay."""
        if self._server is not None:
            self._server.close()
        self._sock.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            if len(self._serving) > CONNECTIONS_MAX:
                busy = InfraError(f"more than {CONNECTIONS_MAX} connections to the daemon")
                _send(writer, Line(ok=False, error=to_fault(busy)))
                return
            async for raw in _lines(reader):
                _send(writer, await self._answer(raw, writer))
                await writer.drain()
        except ConnectionError:
            pass  # the caller is gone; what it asked for has been done
        except asyncio.CancelledError:
            pass  # by `close`; Python 3.11's streams report a cancelled handler as a defect
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer(self, raw: bytes | None, writer: asyncio.StreamWriter) -> Line:
        try:
            request = _decode(raw)
            result = await self._perform(
                request.verb, request.args, lambda said: _send(writer, Line(progress=said))
            )
            return Line(ok=True, result=result)
        except KvlabError as error:
            return Line(ok=False, error=to_fault(error))
        except Exception as error:  # noqa: BLE001 - a defect must reach the caller and the log, not end the daemon
            traceback.print_exc(file=sys.stderr)
            message = f"the daemon failed inside: {error!r}"
            return Line(ok=False, error=Fault("InfraError", message, "its log says where"))


def _decode(raw: bytes | None) -> Request:
    if raw is None:
        raise UsageError(f"a request is at most {LINE_BYTES_MAX} bytes long")
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"this is no request: {error}",
            hint='send one line such as {"verb": "status", "args": {}}',
        ) from error


def _send(writer: asyncio.StreamWriter, line: Line) -> None:
    if not writer.is_closing():
        writer.write(msgspec.json.encode(line) + b"\n")


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes | None]:
    """Yield each line, and None for each that is too long."""
    buffer = bytearray()
    skipping = False
    while chunk := await reader.read(READ_BYTES):
        buffer += chunk
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            too_long, skipping = skipping or len(line) > LINE_BYTES_MAX, False
            yield None if too_long else line
        if len(buffer) > LINE_BYTES_MAX:
            buffer.clear()
            skipping = True
