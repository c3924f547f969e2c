"""One node as the supervisor knows it: where it listens, whether it should run, how it ended.

It is a record with names for its states; `lifecycle` starts and ends the process behind it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from enum import StrEnum
from pathlib import Path

from kvlab.lab.host import Child
from kvlab.lab.kept import KeptNode
from kvlab.lab.ports import Reservation
from kvlab.spec import NodeSpec

LOG_TAIL_LINES = 20
LOG_TAIL_BYTES_MAX = 64 * 1024


class Phase(StrEnum):
    """What the supervisor does with a node; `paused` is seen from the process, not kept here."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    CRASHED = "crashed"
    BACKOFF = "backoff"
    FAILED = "failed"


PAUSED = "paused"


class Member:
    """A node of the cluster, running or not."""

    def __init__(
        self, spec: NodeSpec, log: Path, *, index: int, founder: bool, restarts_kept: int
    ) -> None:
        self.spec = spec
        self.id = spec.id
        self.index = index
        self.log = log
        self.founder = founder
        self.added = False
        """Whether it came by `kvlab add`; else it is one of the file."""
        self.shim_port = 0
        """Where that is to be, from an earlier time of the cluster; 0: anywhere."""
        self.reservation: Reservation | None = None
        self.shim: Reservation | None = None
        """The address at which others reach it, where links pass a shim."""
        self.bound_beside_us = False
        """Whether this life of it had to bind its port while the reservation held it."""
        self.advertise = ""
        self.clock_us = 0
        """How far its clock is to be off, from its next start on."""
        self.child: Child | None = None
        self.phase = Phase.STOPPED
        self.wanted = False
        """Whether somebody wants it to run; an end is a crash only then."""
        self.guarded = False
        """Whether the restart policy looks after it; not before it was ready once."""
        self.leaving = False
        self.restarts = 0
        self.restarts_us: deque[int] = deque(maxlen=restarts_kept)
        self.last_exit: str | None = None
        self.since_us = 0
        self.log_offset = 0
        self.lock = asyncio.Lock()
        """Held while a process is begun or ended, never while readiness is awaited."""

    @property
    def state(self) -> str:
        """The state that people see."""
        if self.child is not None and self.child.paused:
            return PAUSED
        return str(self.phase)

    @property
    def host(self) -> str:
        """The address that the node listens on."""
        return self.spec.host

    @property
    def port(self) -> int:
        """The port that the node listens on; the one of the spec until it is reserved."""
        return self.reservation.port if self.reservation is not None else self.spec.port

    @property
    def address(self) -> str:
        """Host and port as clients use them."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The pid of the running process."""
        return self.child.pid if self.child is not None else None

    @property
    def answers(self) -> bool:
        """Whether a question to the node can be answered at all."""
        return self.child is not None and not self.child.paused

    def begin(self, child: Child) -> None:
        """Take note of a new process."""
        self.child = child
        self.phase = Phase.STARTING
        self.since_us = now_us()

    def kept(self) -> KeptNode:
        """Return what the next start of the cluster must know of it."""
        return KeptNode(
            id=self.id,
            host=self.host,
            port=self.port,
            shim_port=self.shim_port,
            weight=self.spec.weight,
            rack=self.spec.rack,
            index=self.index,
            founder=self.founder,
            added=self.added,
            leaving=self.leaving,
        )

    def close(self) -> None:
        """Give its ports back."""
        for place in (self.reservation, self.shim):
            if place is not None:
                place.close()

    def log_tail(self) -> str:
        """Return the last lines that this life of the node wrote to its log."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(self.log_offset, size - LOG_TAIL_BYTES_MAX))
                text = file.read().decode(errors="replace")
        except OSError as error:
            return f"(no log: {error.strerror})"
        lines = text.splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(lines) if lines else "(it wrote nothing to its log)"


def describe_exit(code: int) -> str:
    """Say how a process ended: "status 3" or "killed by SIGKILL"."""
    if code >= 0:
        return f"status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def now_us() -> int:
    """Return the monotonic clock in microseconds."""
    return time.monotonic_ns() // 1000
