"""What this machine lacks, or does slowly, of what clusters need: one finding per question.

It starts no node and changes nothing but a file of its own in the folder that it is given, which it
removes. A limit here is advice; the parts that need what is missing say so themselves.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec
import psutil

from kvlab.lab.reap import find_processes
from kvlab.units import format_duration, format_size

State = Literal["ok", "slow", "missing"]
OPEN_FILES_MIN: Final = 1024
SYNC_US_MAX: Final = 20_000
TIMER_US_MAX: Final = 2_000
LOOPBACK_US_MAX: Final = 1_000
MEMORY_BYTES_MIN: Final = 512 << 20
DISK_BYTES_MIN: Final = 1 << 30
ROUNDS: Final = 21
SYNC_BYTES: Final = 4096
PR_GET_PDEATHSIG: Final = 2


class Finding(msgspec.Struct, frozen=True):
    """The answer to one question."""

    name: str
    state: State
    said: str
    advice: str = ""


def examine(folder: Path) -> list[Finding]:
    """Answer every question about this machine; `folder` is where clusters would keep their state."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _processes,
        _proc,
        _open_files,
        _loopback,
        _timer,
        lambda: _disk(folder),
        _room,
        _leftovers,
    )
    return [check() for check in checks]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{sys.implementation.name} {version} on {sys.platform}")


def _processes() -> Finding:
    """Nodes must end with their supervisor, and be signalled without being mistaken."""
    if not hasattr(os, "pidfd_open"):
        advice = "use Linux 5.3 or later: without it nodes may outlive a supervisor that is killed"
        return Finding("processes", "missing", "there are no process descriptors (pidfd)", advice)
    try:
        os.close(os.pidfd_open(os.getpid()))
        refused = ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(ctypes.c_int()), 0, 0, 0)
    except (OSError, AttributeError) as error:
        return Finding("processes", "missing", f"pidfd or prctl is refused: {error}", _SANDBOX)
    if refused:
        return Finding("processes", "missing", "death signals (prctl) are refused", _SANDBOX)
    return Finding("processes", "ok", "pidfd and death signals work")


_SANDBOX = "the sandbox or container must allow it"


def _proc() -> Finding:
    """The states and connections of nodes are read there: proof of effect, and whose a call is."""
    try:
        psutil.Process().status()
        os.listdir(f"/proc/{os.getpid()}/fd")
    except (OSError, psutil.Error) as error:
        return Finding("proc", "missing", f"/proc cannot be read: {error}", _SANDBOX)
    return Finding("proc", "ok", "/proc tells states and open files")


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = f"{soft:,} open files, {hard:,} at most"
    if soft < OPEN_FILES_MIN:
        advice = f"ulimit -n {OPEN_FILES_MIN}, or a smaller limits.open_files in cluster.yaml"
        return Finding("open files", "missing", said, advice)
    return Finding("open files", "ok", said)


def _loopback() -> Finding:
    """Connect, and send a byte there and back."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            one = socket.create_connection(listener.getsockname(), timeout=2)
            other, _ = listener.accept()
            with one, other:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                median_us = _median_us(lambda: _there_and_back(one, other))
    except OSError as error:
        advice = "clusters live on loopback: it must be up, and not be filtered"
        return Finding("loopback", "missing", f"127.0.0.1 cannot be used: {error}", advice)
    said = f"a byte there and back takes {format_duration(round(median_us))}"
    state: State = "ok" if median_us <= LOOPBACK_US_MAX else "slow"
    return Finding("loopback", state, said, "" if state == "ok" else _BUSY)


_BUSY = "the machine is busy: time-outs may come early, and figures of bench mean little"


def _there_and_back(one: socket.socket, other: socket.socket) -> None:
    one.sendall(b"x")
    other.sendall(other.recv(1))
    one.recv(1)


def _timer() -> Finding:
    """How late a wait of a millisecond ends: delays of links are as exact as this."""
    late_us = _median_us(lambda: select.select([], [], [], 0.001)) - 1000
    said = f"a wait of 1 ms ends {format_duration(max(0, round(late_us)))} late"
    state: State = "ok" if late_us <= TIMER_US_MAX else "slow"
    return Finding("timer", state, said, "" if state == "ok" else _BUSY)


def _disk(folder: Path) -> Finding:
    """How long the disk takes to keep what it is told, and how much room it has."""
    folder = folder if folder.is_dir() else folder.parent
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="doctor-") as file:
            median_us = _median_us(lambda: _sync(file.fileno()))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "missing", f"cannot write in {folder}: {error.strerror}", _FOLDER)
    took = format_duration(round(median_us))
    said = f"a sync takes {took}; {format_size(free)} are free in {folder}"
    if free < DISK_BYTES_MIN:
        return Finding("disk", "slow", said, "make room: a full disk makes nodes refuse writes")
    if median_us > SYNC_US_MAX:
        advice = "storage: {sync: interval} or memory in cluster.yaml does not wait for it"
        return Finding("disk", "slow", said, advice)
    return Finding("disk", "ok", said)


_FOLDER = "clusters keep their state in .kvlab beside cluster.yaml: use a folder of your own"


def _sync(number: int) -> None:
    os.pwrite(number, bytes(SYNC_BYTES), 0)
    os.fsync(number)


def _room() -> Finding:
    free, cores = psutil.virtual_memory().available, os.cpu_count() or 1
    said = f"{cores} cores, {format_size(free)} of memory free; a node takes about 24mb"
    if free < MEMORY_BYTES_MIN:
        return Finding("memory", "slow", said, "end what is not needed, or use fewer nodes")
    return Finding("memory", "ok", said)


def _leftovers() -> Finding:
    left = find_processes()
    if left:
        pids = ", ".join(str(one.pid) for one in left[:5])
        said = f"{len(left)} processes of a supervisor that is gone: {pids}"
        return Finding("leftovers", "slow", said, "kvlab reap ends them")
    return Finding("leftovers", "ok", "nothing was left behind")


def _median_us(work: Callable[[], object]) -> float:
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        work()
        took.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(took)
