"""Waits until nobody else uses the machine, and repeats a measurement that others disturbed.

It does not know what is measured. Foreign CPU is what the system was busy with, less the CPU of our
own processes; it is given in cores: 0.1 is a tenth of one.

1. A gate never blocks for ever: all its waiting and repeating together has a budget.
2. A sample taken under foreign load says so; it is not dropped in silence.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

FOREIGN_MAX = 0.10  # of a core
TRIES = 4
LOOK_S = 0.25  # one look at the load; a tick of /proc/stat is 0.01 s
WAIT_MAX_S = 10.0  # before one run
BUDGET_S = 150.0  # for all waiting and repeating of a benchmark
_BUSY_FIELDS = (1, 2, 3, 6, 7, 8)  # user nice system irq softirq steal; idle and iowait are not


@dataclass(frozen=True)
class Reading:
    """Seconds of CPU since the start: of the system, of us; and the time of the reading."""

    system_s: float
    own_s: float
    at_s: float


def process_cpu_s(pid: int) -> float:
    """Return the CPU that all threads of a process used, exact to nanoseconds; 0 if it is gone."""
    clock = (~pid << 3) | 2  # clock_getcpuclockid(3) of Linux
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def system_busy_s() -> float:
    """Return the CPU seconds that the system spent on anything since it started."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    ticks = sum(int(fields[index]) for index in _BUSY_FIELDS)
    return ticks / os.sysconf("SC_CLK_TCK")


class Gate:
    """Runs measurements at quiet times; `pids` names our living processes at any moment."""

    def __init__(self, pids: Callable[[], list[int]], *, enabled: bool = True) -> None:
        self._pids = pids
        self._enabled = enabled
        self.budget_s = BUDGET_S
        self.waited_s = 0.0
        self.repeats = 0

    def run(self, work: Callable[[], T]) -> tuple[T, float]:
        """Do `work` undisturbed; return its result and the foreign CPU meanwhile, in cores.

        It is repeated while foreign CPU is too high; after the last try the least disturbed
        result counts.
        """
        best: tuple[T, float] | None = None
        tries = TRIES if self._enabled else 1
        for attempt in range(tries):
            began_s = time.monotonic()
            self.wait()
            before = self._read()
            result = work()
            foreign = self._foreign(before, self._read())
            if best is None or foreign < best[1]:
                best = (result, foreign)
            if foreign <= FOREIGN_MAX or self.budget_s <= 0:
                break
            if attempt + 1 < tries:
                self.repeats += 1
                self.budget_s -= time.monotonic() - began_s
        assert best is not None
        return best

    def wait(self) -> None:
        """Return when foreign load is low, or when the budget for waiting is spent."""
        if not self._enabled:
            return
        until_s = time.monotonic() + min(WAIT_MAX_S, max(self.budget_s, LOOK_S))
        while True:
            before = self._read()
            time.sleep(LOOK_S)
            quiet = self._foreign(before, self._read()) <= FOREIGN_MAX
            if quiet or time.monotonic() > until_s:
                return
            self.budget_s -= LOOK_S
            self.waited_s += LOOK_S

    def _read(self) -> Reading:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = time.process_time() + ended.ru_utime + ended.ru_stime
        own += sum(process_cpu_s(pid) for pid in self._pids())
        return Reading(system_busy_s(), own, time.monotonic())

    @staticmethod
    def _foreign(before: Reading, after: Reading) -> float:
        busy_s = (after.system_s - before.system_s) - (after.own_s - before.own_s)
        return max(0.0, busy_s / max(after.at_s - before.at_s, 0.001))
