"""The runs of a matrix, several at once, each `kvlab run` in a process of its own. It prints nothing.

Invariants:

1. At the end of `run_cells` no process of any run is left, however it ends.
2. Every cell has a result, in the order of the cells. One that was not begun is `not run`.
3. An interrupt ends the runs under way as Ctrl-C ends a single one; a second does so at once.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from kvlab.errors import InvalidError, UnknownError, VacuousError
from kvlab.lab.host import PYTHON, python_env
from kvlab.report import matrix as outcomes
from kvlab.report.matrix import CellResult
from kvlab.rundir import MatrixDir, RunDir
from kvlab.spec.matrix import CellSpec
from kvlab.spec.scenario_file import render_scenario
from kvlab.units import format_duration

GRACE_S = 30.0  # for a run to undo all, once it was asked to end
LISTEN_S = 5.0  # for the last words of a run that has ended
LINES_KEPT = 20  # of what a run said last
READ_BYTES = 1 << 14
LINE_CHARS_MAX = 500
_TIME = re.compile(r"\[ *[\d.]+ s\] ")  # before a line of progress
_OF_EXIT_CODE = {
    0: outcomes.PASSED,
    InvalidError.exit_code: outcomes.FAILED,
    UnknownError.exit_code: outcomes.UNKNOWN,
    VacuousError.exit_code: outcomes.VACUOUS,
}


class Watcher(Protocol):
    """Whoever is told how it goes."""

    def begins(self, cell: CellSpec) -> None:
        """A run begins."""

    def says(self, cell: CellSpec, text: str) -> None:
        """A run says where it is."""

    def ends(self, result: CellResult) -> None:
        """A run has ended."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all runs have in common."""

    files: MatrixDir
    command: str  # that runs the matrix; a cell's own is this with its name
    timeout_us: Callable[[CellSpec], int]  # after which a run is ended
    jobs: int
    fail_fast: bool


def run_cells(job: Job, cells: Sequence[CellSpec], watcher: Watcher) -> list[CellResult]:
    """Run cells, and return what each came to. After an interrupt, those of some are `interrupted`."""
    return asyncio.run(_Pool(job, cells, watcher).run())


class _Pool:
    def __init__(self, job: Job, cells: Sequence[CellSpec], watcher: Watcher) -> None:
        self._job = job
        self._cells = cells
        self._watcher = watcher
        self._waiting = deque(cells)
        self._results: dict[str, CellResult] = {}
        self._running: set[asyncio.subprocess.Process] = set()
        self._interrupts = 0
        self._interrupted = asyncio.Event()

    async def run(self) -> list[CellResult]:
        with self._handling_signals():
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self._job.jobs, len(self._cells))):
                        group.create_task(self._work())
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        left = outcomes.NOT_RUN
        return [self._results.get(cell.name) or self._result(cell, left) for cell in self._cells]

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._interrupt)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        self._interrupts += 1
        self._interrupted.set()
        self._waiting.clear()
        if self._interrupts > 1:
            for process in self._running:
                _send(process, signal.SIGKILL)

    async def _work(self) -> None:
        """Run one cell after the other."""
        while self._waiting:
            result = await self._run(self._waiting.popleft())
            self._results[result.cell.name] = result
            if self._job.fail_fast and not result.passed:
                self._waiting.clear()
            self._watcher.ends(result)

    async def _run(self, cell: CellSpec) -> CellResult:
        began = time.monotonic()
        spec = self._job.files.begin(cell.name, render_scenario(cell.scenario))
        self._watcher.begins(cell)
        process = await asyncio.create_subprocess_exec(
            *(*PYTHON, "kvlab.cli.matrix_cell", str(os.getpid())),
            *("run", str(spec), "--out", str(spec.parent)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=python_env(),
            start_new_session=True,  # an interrupt at the terminal is for us; we pass it on
        )
        self._running.add(process)
        said: deque[str] = deque(maxlen=LINES_KEPT)
        reader = asyncio.create_task(self._listen(cell, process, said))
        try:
            in_time = await self._wait(process, self._job.timeout_us(cell) / 1e6)
        finally:
            _send(process, signal.SIGKILL)  # where it has not ended yet
            code = await process.wait()
            self._running.discard(process)
            await asyncio.wait({reader}, timeout=LISTEN_S)
            reader.cancel()
        took_us = round((time.monotonic() - began) * 1e6)
        return self._judged(cell, code, said, took_us, in_time=in_time)

    async def _listen(
        self, cell: CellSpec, process: asyncio.subprocess.Process, said: deque[str]
    ) -> None:
        assert process.stderr is not None
        async for line in _lines(process.stderr):
            said.append(_TIME.sub("", line))
            self._watcher.says(cell, said[-1])

    async def _wait(self, process: asyncio.subprocess.Process, timeout_s: float) -> bool:
        """Wait until a run has ended; end it if its time is over or we are interrupted."""
        ended = asyncio.ensure_future(process.wait())
        stopped = asyncio.ensure_future(self._interrupted.wait())
        try:
            await asyncio.wait(
                {ended, stopped}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if ended.done():
                return True
            _send(process, signal.SIGTERM)
            await asyncio.wait({ended}, timeout=GRACE_S)
            return stopped.done()
        finally:
            ended.cancel()
            stopped.cancel()

    # -- what it came to ------------------------------------------------------------------------

    def _judged(
        self, cell: CellSpec, code: int, said: Sequence[str], took_us: int, *, in_time: bool
    ) -> CellResult:
        told = RunDir(self._job.files.run(cell.name)).verdict()
        outcome = _OF_EXIT_CODE.get(code, outcomes.BROKEN)
        because = str(told.get("because", ""))
        if not told and outcome != outcomes.BROKEN:
            outcome, because = outcomes.BROKEN, f"it wrote no verdict, and ended with {code}"
        if outcome == outcomes.BROKEN:
            because = _last_words(said) or f"it ended with {code}"
            if not in_time:
                timeout = format_duration(self._job.timeout_us(cell))
                because = (
                    f"ended after {timeout}, the timeout of the matrix; it said last: {because}"
                )
            elif self._interrupts:
                outcome, because = outcomes.INTERRUPTED, ""
        result = self._result(cell, outcome)
        return CellResult(
            cell=cell,
            outcome=outcome,
            run=result.run,
            repeat=result.repeat,
            verdict=str(told.get("verdict", "")),
            because=because,
            took_us=took_us,
            last_lines=tuple(said) if outcome == outcomes.BROKEN else (),
        )

    def _result(self, cell: CellSpec, outcome: str) -> CellResult:
        run = str(self._job.files.run(cell.name))
        return CellResult(cell, outcome, run, f"{self._job.command} -k {cell.name}")


def _last_words(said: Sequence[str]) -> str:
    """Return the error that a run ended with, or what it said last."""
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    others = [line for line in said if not line.startswith("interrupted: ")]
    return (errors[:1] or others[-1:] or [""])[0]


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield lines, cut where they are too long."""
    rest = b""
    while block := await stream.read(READ_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        rest = rest[:READ_BYTES]
        for line in lines:
            yield line.decode(errors="replace")[:LINE_CHARS_MAX]
    if rest:
        yield rest.decode(errors="replace")[:LINE_CHARS_MAX]


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    if process.returncode is None:
        process.send_signal(number)
