"""Facts about processes, read from the system with psutil.

It does not start or signal anything. A process is always named by pid *and* start time, because a
pid alone may have been given to a stranger since.

psutil is imported on first use: reading `supervisor.json` should not cost the command line 20 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

from kvlab.errors import InfraError

if TYPE_CHECKING:
    import psutil

# Two processes can only share a pid if the first ended; the start times then differ by far more
# than the clock corrections that shift the value psutil reports for one and the same process.
START_TIME_SLACK_S = 1.0

# How often a process is looked at while its proof of a fault is awaited.
PROOF_POLL_S = 0.0005

GONE = "gone"
PAUSED = "paused"
RUNNING = "running"


class Usage(NamedTuple):
    """What a process uses: CPU percent since the last question, resident bytes."""

    cpu_percent: float
    rss_bytes: int


def start_time(pid: int) -> float | None:
    """Return the wall-clock second at which `pid` started, or None when there is none."""
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def is_alive(pid: int, started: float) -> bool:
    """Tell whether the very process (pid, start time) still runs; a zombie does not run."""
    return observe(pid, started) != GONE


def observe(pid: int, started: float) -> str:
    """Return GONE, PAUSED or RUNNING for the very process (pid, start time)."""
    import psutil

    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - started) > START_TIME_SLACK_S:
            return GONE
        status = process.status()
    except psutil.NoSuchProcess:
        return GONE
    if status in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
        return GONE
    return PAUSED if status in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP} else RUNNING


async def prove(pid: int, started: float, wanted: str, timeout_s: float) -> str:
    """Wait until the system shows `wanted` for the process, and return what was seen last.

    Raises InfraError when the process does not get there in `timeout_s` seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while (seen := observe(pid, started)) != wanted:
        if loop.time() > deadline:
            raise InfraError(f"process {pid} is {seen}, not {wanted}, after {timeout_s:g} s")
        await asyncio.sleep(PROOF_POLL_S)
    return seen


class UsageMeter:
    """Remembers psutil's handles, because CPU percent is counted between two questions."""

    def __init__(self) -> None:
        self._handles: dict[int, psutil.Process] = {}

    def read(self, pid: int) -> Usage:
        """Measure one process; zeros when it is gone."""
        import psutil

        try:
            handle = self._handles.get(pid)
            if handle is None:
                handle = self._handles[pid] = psutil.Process(pid)
            with handle.oneshot():
                return Usage(handle.cpu_percent(), handle.memory_info().rss)
        except psutil.NoSuchProcess:
            self._handles.pop(pid, None)
            return Usage(0.0, 0)

    def keep_only(self, pids: set[int]) -> None:
        """Forget every process that is not in `pids`."""
        for pid in self._handles.keys() - pids:
            del self._handles[pid]


def listener_of(port: int) -> str:
    """Describe who listens on TCP `port` of this machine, as far as it can be seen; "": nobody."""
    import psutil

    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN or tuple(connection.laddr)[1:] != (port,):
            continue
        if connection.pid is None:
            return "a process of another user"
        try:
            process = psutil.Process(connection.pid)
            command = " ".join(process.cmdline()) or process.name()
        except psutil.Error:
            return f"process {connection.pid}"
        return f"process {connection.pid}: {command}"
    return ""


def listening_at(pid: int) -> list[str]:
    """Return where a process and its children listen, as host:port; what cannot be seen is left out."""
    import psutil

    places: set[str] = set()
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            for connection in one.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    host, port = tuple(connection.laddr)
                    places.add(f"{host}:{port}")
    return sorted(places)
