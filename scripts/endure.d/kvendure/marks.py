"""Processes by a mark in their environment: whose they are cannot be lost by forking or daemonizing.

It finds and waits; the few that it ends carry the mark of this very campaign.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
import uuid
from pathlib import Path

import psutil

MARK = "KVLAB_ENDURE"
POLL_S = 0.01


def new_mark() -> str:
    """Return a text that no other process has."""
    return uuid.uuid4().hex


def environment(mark: str) -> dict[str, str]:
    """Return our environment with a mark for a child, which hands it on to all that it starts."""
    return {**os.environ, MARK: mark}


def marked(mark: str) -> dict[int, str]:
    """Return the processes that run and carry the mark: pid -> command line. Zombies do not run."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
            if wanted not in place.joinpath("environ").read_bytes().split(b"\0"):
                continue
            state = place.joinpath("stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX":
                command = place.joinpath("cmdline").read_bytes().replace(b"\0", b" ")
                name = place.joinpath("comm").read_text().strip()
                found[int(place.name)] = f"{name} ({command.decode(errors='replace').strip()})"
    return found


def is_of_another_trial(port: int) -> bool:
    """Whether nobody listens at a port any more, or only a process that carries a mark.

    Asked when all that carried the mark of a trial have ended.
    """
    for one in psutil.net_connections("tcp"):
        if one.status != psutil.CONN_LISTEN or one.laddr[1:] != (port,):
            continue
        if one.pid is None:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            if MARK not in psutil.Process(one.pid).environ():
                return False
    return True


def wait_for_none(mark: str, seconds: float) -> tuple[float, dict[int, str]]:
    """Wait until no process carries the mark; return how long that took, and who is left."""
    began = time.monotonic()
    while (left := marked(mark)) and time.monotonic() < began + seconds:
        time.sleep(POLL_S)
    return time.monotonic() - began, left


def end_all(mark: str) -> None:
    """Kill what is left of a trial that failed, so that the next ones do not suffer from it."""
    for pid in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def listens(host: str, port: int) -> bool:
    """Whether anybody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
