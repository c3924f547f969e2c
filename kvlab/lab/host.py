"""Where a node's process runs: on this machine, forked by a warm parent.

It is the only module that knows. It does not know what a node is: it starts programs, tells when
they end, and signals them.

Invariants:
1. A signal never reaches a stranger: it goes through the pidfd taken before the child was reaped.
2. `Child.exited` is set exactly once, also when the warm parent itself dies: the kernel then kills
   all of its children, and they count as killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec

import kvlab
from kvlab.engine.base import Program
from kvlab.errors import InfraError
from kvlab.lab import procs, zygote

# Marks every process of a cluster in /proc/<pid>/environ, so that `kvlab reap` finds it.
ENV_STATE = "KVLAB_STATE"
# "pid:start_time" of the process that embeds the laboratory, where there is no daemon.
ENV_OWNER = "KVLAB_OWNER"

# Open for appending only, so that a log that is rotated under a node does not tear.
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
SPAWN_TIMEOUT_S = 30.0
# A server may be several processes, or one behind a wrapper. To be asked to end is for the first of
# them; when that has died, the warm parent kills the rest.
GROUP_SIGNALS = (signal.SIGSTOP, signal.SIGCONT)
# A full socket holds dozens of requests; the warm parent forks one in about a millisecond.
SEND_RETRY_S = 0.001

# -P: a module in the current directory must not take the place of one of ours.
PYTHON = (sys.executable, "-P", "-m")

_report_decoder = msgspec.json.Decoder(zygote.Report)


def python_env() -> dict[str, str]:
    """Return the environment in which `python -m kvlab...` finds this very package."""
    here = str(Path(kvlab.__file__).parent.parent)
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    # Programs that are no part of kvlab get back what was there.
    before = os.environ.get(zygote.ENV_USER_PATH, os.environ.get("PYTHONPATH", ""))
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), zygote.ENV_USER_PATH: before}


@dataclass(frozen=True)
class Launch:
    """One process to start."""

    name: str
    program: Program
    listener: socket.socket | None
    """Handed to a program that inherits its port; others open it themselves."""
    log: Path
    open_files: int


class Child:
    """A started process and its group. It waits for `go` before it runs anything of its own."""

    def __init__(self, pid: int, pidfd: int, go_fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self.pid = pid
        self.started = procs.start_time(pid) or 0.0
        self.paused = False
        self.exited: asyncio.Future[int] = loop.create_future()
        self._pidfd = pidfd
        self._go_fd = go_fd

    def go(self) -> None:
        """Let the process run."""
        fd, self._go_fd = self._go_fd, -1
        if fd >= 0:
            try:
                os.write(fd, b"g")
            except BrokenPipeError:
                pass  # it was killed first; `exited` tells
            finally:
                os.close(fd)

    def send_signal(self, number: int) -> bool:
        """Signal the process; False when it has ended already."""
        if self.exited.done():
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        if number in GROUP_SIGNALS:
            # The process was there a moment ago, so the group is its own or, at its very start, none.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
        return True

    def end(self, code: int) -> None:
        """Record the end; negative codes are signals."""
        if self.exited.done():
            return
        self.exited.set_result(code)
        os.close(self._pidfd)
        if self._go_fd >= 0:
            os.close(self._go_fd)
            self._go_fd = -1


class LocalHost:
    """This machine. Several laboratories may share one and its warm parent."""

    def __init__(self, preload: tuple[str, ...], *, state: str = "") -> None:
        """`state` marks the processes with the state directory that they belong to."""
        self._preload = preload
        self._state = state
        self._control: socket.socket | None = None
        self._pid = 0
        self._popen: subprocess.Popen[bytes] | None = None
        self._children: dict[int, Child] = {}
        self._waiting: dict[int, tuple[asyncio.Future[Child], int]] = {}
        self._tokens = 0

    def adopt(self, pid: int, control: socket.socket) -> None:
        """Use a warm parent that this process forked before its event loop began."""
        self._pid, self._control = pid, control
        self._watch()

    async def start(self) -> None:
        """Start the warm parent; harmless when it runs. Its imports go on in the background."""
        if self._control is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The death signal is tied to the thread that forks: only the main thread lasts.
        in_main = threading.current_thread() is threading.main_thread()
        parent = os.getpid() if in_main else 0
        owner = f"{os.getpid()}:{procs.start_time(os.getpid())}"
        command = [*PYTHON, "kvlab.lab.zygote", str(theirs.fileno()), str(parent)]
        env = python_env() | {ENV_STATE: self._state, ENV_OWNER: owner}
        with theirs:
            self._popen = subprocess.Popen(  # noqa: ASYNC220 - returns once the child is forked
                [*command, *self._preload],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=env,
            )
        self._pid, self._control = self._popen.pid, ours
        self._watch()

    def _watch(self) -> None:
        assert self._control is not None
        # Not by a flag of recv_fds: Python 3.11 takes one and forgets it.
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._on_report)

    async def spawn(self, launch: Launch) -> Child:
        """Fork a process and return it before it runs; call `go` on it.

        The caller keeps `launch.listener` and must close it, so that a dead node refuses.
        Raises InfraError when the system grants no process.
        """
        await self.start()
        loop = asyncio.get_running_loop()
        self._tokens += 1
        token = self._tokens
        program = launch.program
        request = zygote.Spawn(
            token=token,
            name=launch.name,
            listens=launch.listener is not None,
            entry=program.entry,
            payload=program.payload,
            argv=list(program.argv),
            env=program.env,
            open_files=launch.open_files,
            cwd=program.cwd,
        )
        go_read, go_write = os.pipe2(os.O_CLOEXEC)
        log_fd = os.open(launch.log, LOG_FLAGS, 0o600)
        born: asyncio.Future[Child] = loop.create_future()
        self._waiting[token] = (born, go_write)
        try:
            fds = [log_fd, go_read]
            if launch.listener is not None:
                fds.append(launch.listener.fileno())
            await self._send(msgspec.json.encode(request), fds)
        except OSError as error:
            if self._waiting.pop(token, None):
                os.close(go_write)
            raise InfraError(f"cannot start {launch.name}: {error.strerror}") from error
        finally:
            os.close(log_fd)
            os.close(go_read)
        try:
            async with asyncio.timeout(SPAWN_TIMEOUT_S):
                return await born
        except TimeoutError as error:
            raise InfraError(
                f"cannot start {launch.name}: no fork after {SPAWN_TIMEOUT_S:g} s"
            ) from error
        except asyncio.CancelledError:
            # The answer may have come in the same turn of the loop; nobody will run this child.
            if born.done() and not born.cancelled() and born.exception() is None:
                born.result().send_signal(signal.SIGKILL)
            raise

    async def _send(self, message: bytes, fds: list[int]) -> None:
        """Send one message with descriptors; waits while the warm parent is behind."""
        while self._control is not None:
            try:
                socket.send_fds(self._control, [message], fds)
            except BlockingIOError:
                await asyncio.sleep(SEND_RETRY_S)
            else:
                return
        raise ConnectionResetError(errno.ECONNRESET, "the warm parent of the nodes died")

    def _on_report(self) -> None:
        """Take every report that is there; the end of the socket is the warm parent's death."""
        while self._control is not None:
            try:
                data, fds, _, _ = socket.recv_fds(self._control, zygote.MESSAGE_BYTES_MAX, 1)
            except BlockingIOError:
                return
            except ConnectionError:
                data, fds = b"", []
            if not data:
                self._lost()
                return
            self._take(_report_decoder.decode(data), fds)

    def _take(self, report: zygote.Report, fds: list[int]) -> None:
        match report:
            case zygote.Spawned(token=token, pid=pid):
                born, go_fd = self._waiting.pop(token)
                child = Child(pid, fds[0], go_fd, asyncio.get_running_loop())
                self._children[pid] = child
                if born.done():  # nobody waits any more
                    child.send_signal(signal.SIGKILL)
                else:
                    born.set_result(child)
            case zygote.Refused(token=token, error=error):
                born, go_fd = self._waiting.pop(token)
                os.close(go_fd)
                if not born.done():
                    born.set_exception(InfraError(f"cannot fork a process: {error}"))
            case zygote.Ended(pid=pid, code=code):
                self._children.pop(pid).end(code)
            case zygote.Halted(pid=pid, halted=halted):
                self._children[pid].paused = halted

    def _lost(self) -> None:
        """Account for a warm parent that is gone: the kernel killed its children with it."""
        self._detach()
        for child in self._children.values():
            child.end(-signal.SIGKILL)
        self._children.clear()
        for born, go_fd in self._waiting.values():
            os.close(go_fd)
            if not born.done():
                born.set_exception(InfraError("the warm parent of the nodes died"))
        self._waiting.clear()

    def _detach(self) -> None:
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        # It has closed its socket or is about to on seeing ours closed, so this wait is short.
        if self._popen is not None:
            self._popen.wait()
            self._popen = None
        elif self._pid:
            os.waitpid(self._pid, 0)
        self._pid = 0

    async def close(self) -> None:
        """End the warm parent and with it every process that it started."""
        self._lost()
