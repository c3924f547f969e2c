"""A process that gets a share of a processor: it is stopped and let run on, many times a second.

It limits time, not memory or disk. Needs no root, as a limit by the kernel (cgroups) would.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvlab.lab.member import Member

PERIOD_S = 0.05  # shorter ones would be a load of their own, longer ones a row of pauses


class Slowed:
    """A member that is slowed until `end`; its next process is, too, if this one ends."""

    def __init__(self, member: Member, cpu: float) -> None:
        self.member = member
        self.stops = 0
        self._cpu = cpu
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            child = self.member.child
            if child is not None and child.send_signal(signal.SIGSTOP):
                self.stops += 1
            await asyncio.sleep(PERIOD_S * (1 - self._cpu))
            self._let_run()
            await asyncio.sleep(PERIOD_S * self._cpu)

    def _let_run(self) -> None:
        if self.member.child is not None:
            self.member.child.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        """Give the whole processor back."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._let_run()
