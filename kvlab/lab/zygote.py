"""The warm parent of all nodes: it has everything imported and forks on request.

It decides nothing: the daemon says what to start and is told at once what ended. One thread, one
blocking poll, no event loop, because a fork copies whatever its parent is in the middle of.

Invariants:
1. When the daemon goes, by any death, the zygote sees the end of its socket, kills every process
   group that it started, and ends. When the zygote goes, the kernel kills every node (PDEATHSIG).
2. A node runs nothing of its own before its "go" byte: the daemon knows its pid first.
3. Every child is waited for here, so a pid is not reused before its end has been reported.
4. A node holds its listening socket, its log and nothing else that was open here.
5. What a node's process started dies with it, unless it left the process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

import msgspec

from kvlab.engine.base import LISTEN_FD

MESSAGE_BYTES_MAX = 1 << 18
FDS_MAX = 8
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
TASK_NAME_BYTES = 15
EXIT_BROKEN = 70  # EX_SOFTWARE of sysexits.h: the program of a child raised
EXIT_NOT_RUN = 126  # as a shell says that it found a program and could not run it
ENV_USER_PATH = "KVLAB_PYTHONPATH"

_libc = ctypes.CDLL(None, use_errno=True)


class Spawn(msgspec.Struct, tag="spawn"):
    """Fork a child. Its descriptors come along: log, go and, if `listens`, a listening socket.

    `entry` is "module:function", called with (payload, listen_fd or -1) and returning the exit
    status; without it `argv` is executed in the folder `cwd`, with "{listen_fd}" replaced by the
    socket's number, and with the PYTHONPATH of whoever started the laboratory.
    """

    token: int
    name: str
    listens: bool
    entry: str
    payload: dict[str, Any]
    argv: list[str]
    env: dict[str, str]
    open_files: int
    cwd: str = ""


class Spawned(msgspec.Struct, tag="spawned"):
    """The child exists; its pidfd comes along."""

    token: int
    pid: int


class Refused(msgspec.Struct, tag="refused"):
    """The fork did not succeed."""

    token: int
    error: str


class Ended(msgspec.Struct, tag="ended"):
    """A child ended with this status; negative: killed by that signal."""

    pid: int
    code: int


class Halted(msgspec.Struct, tag="halted"):
    """A child was stopped (SIGSTOP) or, with `halted` false, continued."""

    pid: int
    halted: bool


Report = Spawned | Refused | Ended | Halted
_spawn_decoder = msgspec.json.Decoder(Spawn)


class Zygote:
    """The loop of the warm parent over its socket to the daemon."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: set[int] = set()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> NoReturn:
        """Fork and report until the daemon is gone, then kill what is left and end."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, _wake_only)
        signal.signal(signal.SIGTERM, _wake_only)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        wanted = True
        while wanted:
            for fd, _ in poll.poll():
                if fd == self._wake_read:
                    wanted = wanted and signal.SIGTERM not in os.read(self._wake_read, 512)
                    self._reap()
                else:
                    wanted = wanted and self._receive()
        self._kill_all()
        os._exit(0)

    def _receive(self) -> bool:
        """Serve one request; False when the daemon is gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES_MAX, FDS_MAX)
        except ConnectionError:
            return False
        if not data:
            return False
        request = _spawn_decoder.decode(data)
        try:
            pid = self._fork(request, fds)
        except OSError as error:
            self._report(Refused(request.token, str(error)))
            return True
        finally:
            for fd in fds:
                os.close(fd)
        self._children.add(pid)
        pidfd = os.pidfd_open(pid)
        self._report(Spawned(request.token, pid), pidfd)
        os.close(pidfd)
        return True

    def _fork(self, request: Spawn, fds: list[int]) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = EXIT_BROKEN
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            for fd in (self._control.detach(), self._wake_read, self._wake_write):
                os.close(fd)
            code = _run_child(request, fds, parent)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:  # noqa: BLE001 - the last frame of the child: nothing may escape into the loop
            traceback.print_exc()
        finally:
            _flush()
            os._exit(code & 0xFF)

    def _reap(self) -> None:
        options = os.WNOHANG | os.WUNTRACED | os.WCONTINUED
        while True:
            try:
                pid, status = os.waitpid(-1, options)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self._report(Halted(pid, halted=True))
            elif os.WIFCONTINUED(status):
                self._report(Halted(pid, halted=False))
            else:
                self._children.discard(pid)
                # What it started and left must not hold its port, nor outlive it. The number of
                # a group is not given to others while anybody is in it.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                self._report(Ended(pid, os.waitstatus_to_exitcode(status)))

    def _report(self, report: Report, fd: int = -1) -> None:
        # Nobody there: the next poll sees the end of the socket.
        with contextlib.suppress(ConnectionError):
            socket.send_fds(self._control, [msgspec.json.encode(report)], [fd] if fd >= 0 else [])

    def _kill_all(self) -> None:
        for pid in self._children:
            for kill in (os.killpg, os.kill):  # the group is there once the child called setsid
                try:
                    kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue


def _run_child(request: Spawn, fds: list[int], parent: int) -> int:
    """Turn the fork into the node: own session, log, limits; then wait for "go" and run."""
    log, go = fds[0], fds[1]
    listen_fd = fds[2] if request.listens else -1
    os.setsid()
    die_with_parent(parent)
    name_task(request.name)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
    if request.open_files:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = request.open_files
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    os.environ.update(request.env)
    if not os.read(go, 1):
        return 0  # the daemon gave up before the node began
    os.close(go)
    if not request.entry:
        if listen_fd >= 0:
            os.set_inheritable(listen_fd, True)
        execute([part.replace(LISTEN_FD, str(listen_fd)) for part in request.argv], request.cwd)
    run = resolve(request.entry)
    return int(run(request.payload, listen_fd))


def execute(argv: list[str], cwd: str) -> NoReturn:
    """Replace this process by the command; the death signal stays set."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Ours leads to the packages of this very Python, which may not be the command's.
    path = os.environ.pop(ENV_USER_PATH, None)
    if path:
        os.environ["PYTHONPATH"] = path
    elif path is not None:
        os.environ.pop("PYTHONPATH", None)
    try:
        if cwd:
            os.chdir(cwd)
        os.execvp(argv[0], argv)  # noqa: S606 - a list of arguments, never a shell
    except OSError as error:
        print(f"cannot run {argv[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - its log
        _flush()
        os._exit(EXIT_NOT_RUN)


def resolve(entry: str) -> Any:
    """Import "module:function" and return the function."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Ask the kernel for a signal when the parent dies; end now if it already has."""
    if _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(0)


def name_task(name: str) -> None:
    """Set the name that ps and top show; it is cut to what the kernel holds."""
    _libc.prctl(PR_SET_NAME, name.encode()[:TASK_NAME_BYTES] + b"\0", 0, 0, 0)


def _wake_only(_number: int, _frame: object) -> None:
    """Do nothing: the signal's number has already been written to the wake-up pipe."""


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue


def serve(control: socket.socket, preload: tuple[str, ...]) -> NoReturn:
    """Become the zygote: import `preload`, freeze the heap for the forks, and serve."""
    name_task("kvlab-zygote")
    for module in preload:
        importlib.import_module(module)
    gc.collect()
    # Objects that live for ever are left out of collections, so their pages stay shared.
    gc.freeze()
    Zygote(control).serve()


def fork_zygote(
    preload: tuple[str, ...], *, close: tuple[int, ...] = ()
) -> tuple[int, socket.socket]:
    """Fork a zygote from this process, which must have one thread and no event loop yet.

    Returns its pid and the daemon's end of the socket. `close` are descriptors of the daemon that
    must not live on in the zygote (its lock above all). Importing `preload` before the fork shares
    the work and the pages with the caller.
    """
    for module in preload:
        importlib.import_module(module)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        ours.close()
        for fd in close:
            os.close(fd)
        os.setsid()
        die_with_parent(parent, signal.SIGTERM)
        serve(theirs, preload)
    finally:
        os._exit(EXIT_BROKEN)


def main(arguments: list[str]) -> NoReturn:
    """Run as `python -m kvlab.lab.zygote FD PARENT MODULE...`; PARENT 0: no death signal."""
    parent = int(arguments[1])
    if parent:
        die_with_parent(parent, signal.SIGTERM)
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    serve(control, tuple(arguments[2:]))


if __name__ == "__main__":
    main(sys.argv[1:])
