"""Run one node in this process: socket, event loop, signals. The node itself is `live.server`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import logging
import os
import signal
import socket
import sys

from kvlab.errors import InfraError, KvlabError, PortTakenError, UsageError
from kvlab.live.options import NodeOptions
from kvlab.live.security import is_loopback
from kvlab.live.server import BACKLOG, Server

try:
    from uvloop import new_event_loop
except ImportError:  # no wheel for this platform: slower, otherwise the same
    from asyncio import new_event_loop  # type: ignore[assignment]

__all__ = ["NodeOptions", "run"]

# The node allocates few container objects per request and hardly any cycles; the default threshold
# of 700 would walk the young objects many times a second for nothing.
GC_THRESHOLDS = (50_000, 20, 100)


def run(options: NodeOptions) -> int:
    """Serve until SIGTERM, SIGINT or the end of the membership; return the exit status.

    Raises PortTakenError if the address is in use.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=options.log_level.upper(),
        format=f"%(asctime)s %(levelname)s {options.id} %(message)s",
        force=True,
    )
    listener = _listen(options)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(options, listener))


async def _serve(options: NodeOptions, listener: socket.socket) -> int:
    server = Server(options, listener)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stopping.set)
    await server.start()
    server.log.info("serving at %s; %s", server.address, _where(options, server))
    if server.security.asks:
        server.log.info("asked of others: %s", ", ".join(server.security.asks))
    elif not is_loopback(options.host):
        server.log.warning("whoever reaches %s can read and change everything", server.address)
    _tell_ready(options, listener)
    await server.run()
    if server.failure:
        server.log.error("%s", server.failure)
        return InfraError.exit_code
    return 0


def _where(options: NodeOptions, server: Server) -> str:
    """Say where the data is, and what was found there."""
    if not options.data:
        return "data is kept in memory only and ends with this process"
    recovery = server.recovery
    found = "nothing was there" if recovery.is_new else f"{server.node.state.table.key_count} keys"
    said = f"data is kept in {options.data} (sync {options.sync}): {found}"
    if recovery.torn_bytes:
        said += f"; {recovery.torn_bytes} bytes that a crash left unfinished were cut off"
    if recovery.damage:
        said += f"; damaged, to be filled again by others: {'; '.join(recovery.damage[:3])}"
    return said


def _listen(options: NodeOptions) -> socket.socket:
    """Return a listening socket: the one that was inherited, or a new one."""
    if options.listen_fd is not None:
        try:
            listener = socket.socket(fileno=options.listen_fd)
            listener.getsockname()
        except OSError as error:
            raise UsageError(
                f"--listen-fd {options.listen_fd} is no listening socket: {error.strerror}"
            ) from error
        listener.setblocking(False)
        return listener
    try:
        family, _, _, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        where = f"{options.host}:{options.port}"
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(
                f"{where} is in use by another process", hint="choose another --addr, or port 0"
            ) from error
        raise InfraError(f"cannot listen on {where}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _tell_ready(options: NodeOptions, listener: socket.socket) -> None:
    """Tell whoever started this node that it listens, and where."""
    if options.ready_fd is None:
        return
    port = listener.getsockname()[1]
    line = {"id": options.id, "host": options.host, "port": port, "pid": os.getpid()}
    with contextlib.suppress(OSError):
        os.write(options.ready_fd, json.dumps(line).encode() + b"\n")
        os.close(options.ready_fd)


def main(argv: list[str]) -> int:
    """Run a node from a command line; errors become one line and an exit code."""
    from kvlab.live.options import parse

    try:
        return run(parse(argv))
    except KvlabError as error:
        print(f"error: {error.message}", file=sys.stderr)  # noqa: T201
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        return 130
