"""Find and end what a cluster left behind whose daemon is gone, and only that.

Normally there is nothing: nodes die with their daemon. It never touches a living cluster, nor a
process that does not carry kvlab's mark.

How a process is judged. Every process of a cluster has KVLAB_STATE in its environment (the state
directory). One started inside another program (a test, a demo) also has KVLAB_OWNER, its pid and
start time. It is left over when that owner is gone or, without one, when nobody owns the state
directory's lock or the owner started later than the process did.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import psutil

from kvlab.lab import procs
from kvlab.lab.host import ENV_OWNER, ENV_STATE
from kvlab.lab.state import STATE_ROOT, StateDir, lock_owner

END_TIMEOUT_S = 5.0


class LeftProcess(msgspec.Struct, frozen=True):
    """A process of a cluster whose daemon is gone."""

    pid: int
    start_time: float
    name: str
    state: str


class Leftovers(msgspec.Struct, frozen=True):
    """What was found: processes, and files that only a living cluster should have."""

    processes: list[LeftProcess]
    files: list[str]

    def __bool__(self) -> bool:
        return bool(self.processes or self.files)


def find_leftovers(beside: Path | None = None) -> Leftovers:
    """Look for left processes everywhere, and for stale files of clusters.

    Files are looked for in the state directories of the processes found and, with `beside` (a
    cluster.yaml or its directory), in every state directory there.
    """
    processes = find_processes()
    directories = {Path(process.state) for process in processes if process.state}
    if beside is not None:
        root = beside if beside.is_dir() else beside.parent
        directories.update(path for path in (root / STATE_ROOT).glob("*") if path.is_dir())
    files = [str(path) for directory in sorted(directories) for path in _stale_files(directory)]
    return Leftovers(processes, files)


def reap(beside: Path | None = None) -> Leftovers:
    """End every left process and remove every stale file; returns what there was."""
    found = find_leftovers(beside)
    end_processes(found.processes)
    for file in found.files:
        # Looked at again: an `up` may have begun since, and these files are then its own.
        path = Path(file)
        if path in _stale_files(path.parent):
            path.unlink(missing_ok=True)
    return found


def find_processes(directory: Path | None = None) -> list[LeftProcess]:
    """Find left processes, of one state directory or of all.

    The caller of the former holds the lock of the directory, so whatever runs there is left over.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environ = process.environ()
            state = environ.get(ENV_STATE)
            if state is None or process.pid == os.getpid():
                continue
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if directory is not None:
                left = state == str(directory)
            else:
                left = _is_left(environ, state, process.create_time())
            if left:
                found.append(LeftProcess(process.pid, process.create_time(), process.name(), state))
    return found


def end_processes(processes: Iterable[LeftProcess]) -> None:
    """Kill these very processes and wait until they are gone."""
    victims = []
    for left in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim = psutil.Process(left.pid)
            if abs(victim.create_time() - left.start_time) <= procs.START_TIME_SLACK_S:
                victim.kill()  # psutil refuses when the pid was reused
                victims.append(victim)
    psutil.wait_procs(victims, END_TIMEOUT_S)


def _is_left(environ: dict[str, str], state: str, created: float) -> bool:
    owner = environ.get(ENV_OWNER)
    if owner:
        pid, _, started = owner.partition(":")
        return not procs.is_alive(int(pid), float(started))
    holder = lock_owner(StateDir(Path(state)))
    # A process older than the owner of its directory belongs to an owner before.
    return holder is None or created < holder.start_time - procs.START_TIME_SLACK_S


def _stale_files(directory: Path) -> list[Path]:
    state = StateDir(directory)
    if lock_owner(state) is not None:
        return []
    return [path for path in (state.control, state.supervisor, state.lock) if path.exists()]
