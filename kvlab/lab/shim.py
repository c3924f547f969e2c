"""The shim process: one per cluster, it carries every connection between the nodes.

    python -m kvlab.lab.shim --control-fd N [--parent PID]

It is not started by people: `shims.Shims` is its only caller, over an inherited socket pair. One
JSON document a line each way: {"id":7,"verb":"cut","links":[["a","b"]],"mode":"hold"} is answered
by {"id":7,"ok":true,"result":null} or by {"id":7,"ok":false,"error":{"kind","message","hint"}}.
The answer leaves after the change is complete and what was written before has left the process.
It ends when the control socket closes, on SIGTERM, and when its parent dies.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

from kvlab.errors import KvlabError, UsageError
from kvlab.fault.link import LinkRule
from kvlab.lab import shim_relay
from kvlab.lab.shim_relay import Relay
from kvlab.rng import Rng

LINE_BYTES_MAX: Final = 4 << 20
"""A longer request is refused; 1000 nodes have a million links, but nobody cuts them one by one."""
PORT_MAX: Final = 65_535
_PR_SET_PDEATHSIG: Final = 1
_DESCRIPTORS_PER_CONNECTION: Final = 2
_GC_ALLOCATIONS: Final = 50_000


class Control(asyncio.Protocol):
    """The control socket: reads requests in order, does each, answers."""

    def __init__(self, relay: Relay, done: asyncio.Event) -> None:
        self._relay = relay
        self._done = done
        self._transport: asyncio.WriteTransport | None = None
        self._partial = b""
        self._skipping = False
        self._requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to work on requests."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._worker = asyncio.get_running_loop().create_task(self._work())
        self._worker.add_done_callback(lambda _: self._done.set())

    def data_received(self, data: bytes) -> None:
        """Collect lines; a line over the limit is dropped as a whole and answered once."""
        *lines, rest = (self._partial + data).split(b"\n")
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif line.strip():
                self._requests.put_nowait(line)
        self._partial = rest
        if len(rest) > LINE_BYTES_MAX:
            self._partial = b""
            if not self._skipping:
                self._skipping = True
                self._requests.put_nowait(None)
        elif self._skipping:
            self._partial = b""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """End the process: nobody can command it any more."""
        if self._worker is not None:
            self._worker.cancel()
        self._done.set()

    async def _work(self) -> None:
        while True:
            line = await self._requests.get()
            answer = await self._answer(line)
            await asyncio.sleep(0)  # uvloop writes what is queued at the end of its turn
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(msgspec.json.encode(answer) + b"\n")

    async def _answer(self, line: bytes | None) -> dict[str, Any]:
        number: Any = None
        try:
            if line is None:
                raise UsageError(f"a request has at most {LINE_BYTES_MAX} bytes")
            request = msgspec.json.decode(line)
            if not isinstance(request, dict):
                raise UsageError("a request is a JSON object")
            number = request.get("id")
            return {"id": number, "ok": True, "result": await self._do(request)}
        except (msgspec.DecodeError, RecursionError) as error:
            return _refusal(number, "UsageError", f"this is no JSON: {error}", "")
        except KvlabError as error:
            return _refusal(number, type(error).__name__, error.message, error.hint)

    async def _do(self, request: dict[str, Any]) -> Any:
        relay, verb = self._relay, request.get("verb")
        match verb:
            case "add":
                listen = _address(request.get("listen", ["127.0.0.1", 0]))
                return await relay.add(_node(request), _address(request.get("upstream")), listen)
            case "remove":
                return relay.remove(_node(request))
            case "set_pid":
                return relay.set_pid(_node(request), _pid(request.get("pid")))
            case "cut":
                return relay.cut(_links(request), request.get("mode", "hold"))
            case "set_rule":
                return relay.set_rule(
                    _links(request), LinkRule.from_builtins(request.get("rule", {}))
                )
            case "replace_rule":
                return relay.replace_rule(
                    _links(request), LinkRule.from_builtins(request.get("rule", {}))
                )
            case "reset":
                return relay.reset(_links(request))
            case "heal":
                return relay.heal()
            case "snapshot":
                return relay.snapshot()
            case _:
                raise UsageError(f"the shim has no verb {verb!r}")


def _refusal(number: Any, kind: str, message: str, hint: str) -> dict[str, Any]:
    error = {"kind": kind, "message": message, "hint": hint}
    return {"id": number, "ok": False, "error": error}


def _node(request: dict[str, Any]) -> str:
    node = request.get("node")
    if not isinstance(node, str):
        raise UsageError(f"a node is a text, not {node!r}")
    return node


def _pid(raw: Any) -> int | None:
    if raw is None or (isinstance(raw, int) and not isinstance(raw, bool) and raw > 0):
        return raw
    raise UsageError(f"a pid is a whole number above 0 or null, not {raw!r}")


def _address(raw: Any) -> tuple[str, int]:
    match raw:
        case [str(host), int(port)] if 0 <= port <= PORT_MAX:
            return host, port
        case _:
            raise UsageError(f"an address is [host, port from 0 to {PORT_MAX}], not {raw!r}")


def _links(request: dict[str, Any]) -> list[tuple[str, str]]:
    links = request.get("links")
    if not isinstance(links, list):
        raise UsageError(f"links are a list of pairs, not {links!r}")
    pairs: list[tuple[str, str]] = []
    for link in links:
        match link:
            case [str(source), str(target)]:
                pairs.append((source, target))
            case _:
                raise UsageError(f"a link is a pair of nodes, not {link!r}")
    return pairs


def die_with_parent(parent: int | None) -> None:
    """Ask the kernel to kill this process when its parent dies; end now if it died already."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        raise SystemExit(0)


def raise_descriptor_limit(connections_max: int) -> int:
    """Open as many descriptors as the hard limit allows; return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_max * _DESCRIPTORS_PER_CONNECTION + shim_relay.BACKLOG
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            soft = limit
    spare = soft // 8  # for listeners, and for what connections are being dialled or closed
    fits = (soft - spare) // _DESCRIPTORS_PER_CONNECTION
    return connections_max if soft == resource.RLIM_INFINITY else min(connections_max, fits)


async def serve(options: argparse.Namespace) -> None:
    """Carry connections until the control socket closes."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    relay = Relay(
        loop,
        rng=Rng(options.seed, "shim"),
        buffer_bytes=options.buffer_bytes,
        total_bytes=options.total_bytes,
        connections_max=raise_descriptor_limit(options.connections_max),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    control = socket.socket(fileno=options.control_fd)
    control.setblocking(False)
    await loop.create_connection(lambda: Control(relay, done), sock=control)
    gc.collect()
    gc.freeze()  # what is alive now stays: the collector need not look at it again
    gc.set_threshold(_GC_ALLOCATIONS, 20, 50)
    await done.wait()
    await relay.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shim process; return its exit code."""
    parser = argparse.ArgumentParser(prog="kvlab.lab.shim", description="internal to kvlab")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--buffer-bytes", type=int, default=shim_relay.BUFFER_BYTES)
    parser.add_argument("--total-bytes", type=int, default=shim_relay.BUFFER_TOTAL_BYTES)
    parser.add_argument("--connections-max", type=int, default=shim_relay.CONNECTIONS_MAX)
    options = parser.parse_args(arguments)
    die_with_parent(options.parent)
    try:
        import uvloop  # where it has no wheel, plain asyncio serves
    except ImportError:
        asyncio.run(serve(options))
    else:
        uvloop.run(serve(options))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
