"""The escape hatch: a Python function that decides while a run goes on what goes wrong next.

    async def nemesis(run):
        while run.seconds_left > 2:
            await run.fault("kind: kill, targets: one, for: 1s")     # in the words of a scenario
            await run.sleep(0.5)

It sees what a person sees (time, nodes, STATUS of each), and can do what a scenario can. Its faults are
in faults.jsonl like all others, so `kvlab replay` repeats them without the function.
"""

from __future__ import annotations

import asyncio
import inspect
import runpy
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlab.errors import UsageError
from kvlab.experiment import Plan
from kvlab.experiment.faults import resolve_fault
from kvlab.lab.run_faults import UNREAL, RunFaults
from kvlab.rng import Rng
from kvlab.spec.scenario_file import parse_scenario

if TYPE_CHECKING:
    from kvlab.lab.supervisor import Lab

GRACE_S = 5.0  # that a function may take to end once the time is over

NemesisFunction = Callable[["Nemesis"], Awaitable[None]]


def load_nemesis(path: Path) -> NemesisFunction:
    """Return the function `nemesis` of a Python file. Raises UsageError where there is none."""
    if not path.is_file():
        raise UsageError(f"there is no {path}", hint="name a file with: async def nemesis(run)")
    found = runpy.run_path(str(path)).get("nemesis")
    if not inspect.iscoroutinefunction(found):
        raise UsageError(f"{path} has no async def nemesis(run)")
    return found


class Nemesis:
    """What a nemesis function is given."""

    def __init__(
        self,
        lab: Lab,
        plan: Plan,
        faults: RunFaults,
        now_us: Callable[[], int],
        until: Callable[[int], Awaitable[None]],
    ) -> None:
        self.rng = Rng(plan.spec.seed, "nemesis")
        self._lab = lab
        self._plan = plan
        self._faults = faults
        self._now_us = now_us
        self._until = until
        self._turn = 0

    @property
    def seconds_left(self) -> float:
        """Seconds until all is undone."""
        return max(0.0, (self._plan.spec.time_us - self._now_us()) / 1e6)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that there are now, running or not."""
        return tuple(self._lab.members)

    async def status(self, node: str) -> dict[str, Any]:
        """Ask a node how it is. Raises ClientError when it does not answer."""
        member = self._lab.member(node)
        return await self._lab.engine.status(member.host, member.port, self._lab.ask_timeout_s)

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of the plan's time."""
        await self._until(min(self._plan.spec.time_us, self._now_us() + round(seconds * 1e6)))

    async def fault(self, words: str) -> dict[str, Any]:
        """Bring a fault about now, wait until it is undone, and return its line of faults.jsonl.

        `words` are those of a scenario without `at`. Raises SpecError or UsageError if they are wrong.
        """
        [given] = parse_scenario(
            f"time: 24h\nfaults: [{{at: 0s, {words}}}]", source="nemesis"
        ).faults
        if given.every_us or given.kind in UNREAL:
            raise UsageError(f"a nemesis cannot do this: {words}")
        self._turn += 1
        given = replace(given, at_us=min(self._now_us(), self._plan.spec.time_us))
        rng = self.rng.child(f"fault{self._turn}")
        nodes = dict.fromkeys((*self.nodes, *((given.targets,) if given.kind == "join" else ())))
        fault = resolve_fault(self._plan.spec, given, tuple(nodes), rng, self._turn - 1)
        return await self._faults.course(fault, self._until)

    async def run(self, function: NemesisFunction) -> None:
        """Run the function; it is ended when the plan's time is over."""
        task = asyncio.ensure_future(function(self))
        over = asyncio.ensure_future(self._until(self._plan.spec.time_us))
        try:
            await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
            # What it began ends with the plan's time, as all faults do.
            await asyncio.wait({task}, timeout=GRACE_S)
            if task.done():
                task.result()
        finally:
            task.cancel()
            over.cancel()
            await asyncio.gather(task, over, return_exceptions=True)
