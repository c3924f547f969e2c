"""Everything that a benchmark starts: processes and folders, all of which end with it.

It knows no server. Processes are ended by their pids; the kernel kills them should we be killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

END_S = 3.0  # what a process may take to end before it is killed
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class NotAvailable(Exception):  # noqa: N818 - it is no error: a peer is missing
    """A peer cannot be measured here; the message says why."""


class Stage:
    """Own processes and folders. Use it in `with`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kvlab-bench-"))
        self._living: dict[int, subprocess.Popen[bytes]] = {}
        self.guests: set[int] = set()
        """Processes that others of our libraries started; counted as ours, ended by them."""
        cores = sorted(os.sched_getaffinity(0))
        self.pinned = len(cores) >= 2
        self.server_core = {cores[0]} if self.pinned else set(cores)
        self.client_core = {cores[1]} if self.pinned else set(cores)
        self.all_cores = set(cores)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self) -> list[int]:
        """Return the pids of our living processes."""
        return [*self._living, *self.guests]

    def new_folder(self, name: str, *, inside: Path | None = None) -> Path:
        """Make a new empty folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=inside or self.folder))

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        cores: set[int] | None = None,
        pass_fds: Sequence[int] = (),
        stdout: int | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process on these cores (default: all); it lives until `end`."""
        wanted = cores or self.all_cores
        parent = os.getpid()

        def settle() -> None:
            os.sched_setaffinity(0, wanted)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        with (self.folder / "processes.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                cwd=cwd or self.folder,
                pass_fds=pass_fds,
                preexec_fn=settle,  # noqa: PLW1509 - this process has one thread
                start_new_session=True,  # Ctrl-C is for us; we end the others
            )
        self._living[process.pid] = process
        return process

    def end(self, *processes: subprocess.Popen[bytes]) -> None:
        """End processes, all at once; return when they are gone."""
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        until_s = time.monotonic() + END_S
        for process in processes:
            try:
                process.wait(max(0.01, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._living.pop(process.pid, None)
            if process.stdout is not None:
                process.stdout.close()

    def end_all(self) -> None:
        """End every process that is left."""
        self.end(*self._living.values())

    def run(self, argv: Sequence[str | Path], *, cores: set[int], timeout_s: float = 60.0) -> bytes:
        """Run a client to its end on these cores and return what it printed.

        Raises RuntimeError with the end of the log when it fails.
        """
        process = self.start(argv, cores=cores, stdout=subprocess.PIPE)
        try:
            printed, _ = process.communicate(timeout=timeout_s)
        except BaseException:
            self.end(process)
            raise
        self._living.pop(process.pid, None)
        if process.returncode:
            raise RuntimeError(f"{argv[0]} failed with {process.returncode}: {self.log_tail()}")
        return printed

    def log_tail(self) -> str:
        """Return the last lines that our processes complained with."""
        text = (self.folder / "processes.log").read_text(errors="replace")
        return " | ".join(text.splitlines()[-4:])


def free_port() -> int:
    """Return a port that was free just now, for programs that cannot choose or be given one."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until(what: str, probe: object, timeout_s: float = 15.0, gap_s: float = 0.01) -> None:
    """Call `probe` until it returns true. Raises RuntimeError when the time is over."""
    assert callable(probe)
    until_s = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError, ValueError):
            if probe():
                return
        if time.monotonic() > until_s:
            raise RuntimeError(f"{what}: not within {timeout_s:g} s")
        time.sleep(gap_s)
