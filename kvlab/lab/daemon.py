"""The daemon of one cluster: the laboratory behind a control socket, on its own in the background.

It adds nothing to the laboratory but a socket, `supervisor.json` and its own death: a signal or the
verb `down` ends it. `daemonize` starts it; people never do.

The order of its start is for speed and safety: leave the terminal first, then import what nodes
need, then fork the warm parent (which shares those imports), and only then load the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from kvlab.engine.base import Engine
    from kvlab.errors import KvlabError
    from kvlab.lab.control_server import ControlServer
    from kvlab.lab.supervisor import Lab


def main() -> None:
    """Run as `python -m kvlab.lab SPEC --state DIR --engine NAME ...`, see `_options`."""
    options = _options()
    if os.fork():
        # The command line waits for this process; its child is nobody's child and no leader of a
        # session, so no terminal can reach it.
        os._exit(0)
    inherited = (options.lock_fd, options.status_fd)
    for fd in inherited:
        os.set_inheritable(fd, False)
    from kvlab.engine import load_engine
    from kvlab.errors import KvlabError
    from kvlab.lab.zygote import fork_zygote, name_task

    name_task("kvlab-daemon")
    said = Teller(socket.socket(fileno=options.status_fd))
    try:
        engine = load_engine(options.engine)
        zygote = fork_zygote(engine.preload, close=inherited)
    except KvlabError as error:
        from kvlab.lab.state import Lock

        Lock(options.state / "lock", options.lock_fd).release()
        said.fail(error)
        sys.exit(error.exit_code)

    import asyncio

    sys.exit(asyncio.run(_serve(options, engine, zygote, said)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kvlab.lab")
    parser.add_argument("spec", type=Path)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--lock-fd", type=int, required=True)
    parser.add_argument("--status-fd", type=int, required=True)
    parser.add_argument("--fresh", action="store_true")
    return parser.parse_args()


async def _serve(
    options: argparse.Namespace, engine: Engine, zygote: tuple[int, socket.socket], said: Teller
) -> int:
    """Start the cluster, tell the command line, and serve until it is over."""
    import asyncio

    from kvlab.errors import KvlabError
    from kvlab.lab.host import LocalHost
    from kvlab.lab.state import Lock, StateDir
    from kvlab.lab.supervisor import Lab
    from kvlab.spec import parse_cluster

    loop = asyncio.get_running_loop()
    directory = StateDir(options.state)
    lock = Lock(directory.lock, options.lock_fd)
    host = LocalHost(engine.preload, state=str(directory.path))
    host.adopt(*zygote)
    lab: Lab | None = None
    daemon: Daemon | None = None
    try:
        lock.sign()
        spec = parse_cluster(options.spec.read_text(), source=str(options.spec))
        lab = Lab(
            spec,
            directory,
            engine=engine,
            host=host,
            lock=lock,
            folder=options.spec.parent,
            file=options.spec.name,
            fresh=options.fresh,
        )
        daemon = Daemon(lab, options.spec)
        await daemon.start(said)
    except KvlabError as error:
        said.fail(error)
        return error.exit_code
    else:
        await daemon.over.wait()
        return 0
    finally:
        if lab is not None:
            await lab.close()
        if daemon is not None:
            await daemon.close()
        await host.close()
        lock.release()
        said.close(loop)


class Teller:
    """The way back to the command line that started the daemon: lines as on the control socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def watch(self, loop: asyncio.AbstractEventLoop, on_gone: Callable[[], object]) -> None:
        """Call `on_gone` when the command line ends before it has heard the outcome."""
        loop.add_reader(self._sock, on_gone)

    def progress(self, said: dict[str, Any]) -> None:
        """Tell how far the start is."""
        from kvlab.lab.control import Line

        self._write(Line(progress=said))

    def succeed(self, result: dict[str, Any]) -> None:
        """Tell that the cluster is up."""
        from kvlab.lab.control import Line

        self._write(Line(ok=True, result=result))

    def fail(self, error: KvlabError) -> None:
        """Tell why it is not."""
        from kvlab.lab.control import Line, to_fault

        self._write(Line(ok=False, error=to_fault(error)))

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the socket: there is no more to say."""
        if self._sock.fileno() >= 0:
            loop.remove_reader(self._sock)
            self._sock.close()

    def _write(self, line: Any) -> None:
        import msgspec

        # The command line may be gone; `watch` acts on that, here it is nothing.
        with contextlib.suppress(ConnectionError):
            self._sock.sendall(msgspec.json.encode(line) + b"\n")


class Daemon:
    """The laboratory together with its control socket and its `supervisor.json`."""

    def __init__(self, lab: Lab, spec_path: Path) -> None:
        import asyncio

        self.lab = lab
        self.over: asyncio.Event = asyncio.Event()
        self._spec_path = spec_path
        self._server: ControlServer | None = None
        self._published = False

    async def start(self, said: Teller) -> None:
        """Start the cluster; serve the control socket; tell the command line; go quiet."""
        import asyncio

        from kvlab.lab.control_server import ControlServer

        loop = asyncio.get_running_loop()
        starting = asyncio.ensure_future(self.lab.start(said.progress))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, starting)
        said.watch(loop, starting.cancel)
        try:
            await starting
        except asyncio.CancelledError:
            from kvlab.errors import InfraError

            raise InfraError("the start was interrupted") from None
        self._server = ControlServer(self.lab.directory.control, self._perform)
        await self._server.start()
        self.lab.life.on_change = self._publish
        self._published = True
        self._publish()
        status = await self._perform("status", {}, said.progress)
        said.succeed(status | {"resumed": self.lab.resumed})
        said.close(loop)

    async def _perform(self, verb: str, args: Any, say: Any) -> dict[str, Any]:
        from kvlab.errors import NotRunningError
        from kvlab.lab.verbs import perform

        if not self._published:
            raise NotRunningError("the cluster is going down")
        if verb == "down" and self._server is not None:
            self._published = False
            self._server.stop_listening()
        try:
            result = await perform(self.lab, verb, args, say)
        finally:
            if verb == "down":
                # The answer is written before the loop ends: `over` only wakes the main task.
                self.over.set()
        if verb == "status":
            result |= {"pid": os.getpid(), "spec": str(self._spec_path)}
        return result

    async def close(self) -> None:
        """End the control connections; every answer has been written."""
        if self._server is not None:
            await self._server.close()

    def _publish(self) -> None:
        """Write `supervisor.json`, unless the cluster is on its way down."""
        if not self._published:
            return
        from kvlab.lab import procs
        from kvlab.lab.state import Running, write_running

        write_running(
            Running(
                name=self.lab.spec.name,
                is_ours=self.lab.engine.is_ours,
                protocol=self.lab.engine.protocol,
                pid=os.getpid(),
                start_time=procs.start_time(os.getpid()) or 0.0,
                spec=str(self._spec_path),
                control=str(self.lab.directory.control),
                nodes=self.lab.records(),
                security=self.lab.security,
            )
        )

    def _on_signal(self, starting: asyncio.Future[None]) -> None:
        if not starting.done():
            starting.cancel()
        self._published = False
        self.over.set()
