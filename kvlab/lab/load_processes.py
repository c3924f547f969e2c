"""Runs one plan in several worker processes and adds their results up.

It measures nothing itself. A worker (load_worker) reads its part of the plan from stdin, says when
it is ready, starts when all are, and stops when its stdin is closed, so it does not outlive its
parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from kvlab.errors import InfraError
from kvlab.lab.load_engine import US_PER_S, ProgressHook
from kvlab.lab.load_history import HistoryLog
from kvlab.lab.load_plan import LoadPlan
from kvlab.lab.load_result import LoadResult, Progress, merge_results

LINE_BYTES_MAX: Final = 1 << 28  # a result with every distinct latency of a run
START_S: Final = 60.0
GO: Final = b"go\n"


class Job(msgspec.Struct):
    """What a worker is told, as one JSON line."""

    plan: LoadPlan
    history: str | None = None


class Report(msgspec.Struct, omit_defaults=True):
    """What a worker says, one JSON line each: ready, progress, then result or error."""

    ready: bool = False
    progress: Progress | None = None
    result: LoadResult | None = None
    error: str = ""


class Worker:
    """One worker process, as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process, number: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.number = number
        self.process = process
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.progress = Progress(0, 0, 0)

    async def report(self) -> Report:
        """Read the next line. Raises InfraError when the worker failed or died."""
        line = await self.stdout.readline()
        if not line:
            code = await self.process.wait()
            raise InfraError(f"load worker {self.number} died (exit code {code})")
        report = msgspec.json.decode(line, type=Report)
        if report.error:
            raise InfraError(f"load worker {self.number}: {report.error}")
        return report

    async def result(self) -> LoadResult:
        """Read until the result, keeping the newest progress."""
        while True:
            report = await self.report()
            if report.progress is not None:
                self.progress = report.progress
            if report.result is not None:
                return report.result

    async def end(self) -> None:
        """Close the worker's stdin, wait for it, and kill it if it does not leave."""
        with contextlib.suppress(OSError, RuntimeError):
            self.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), START_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def run_processes(
    plan: LoadPlan,
    *,
    on_progress: ProgressHook | None,
    stop: asyncio.Event | None,
    log: HistoryLog | None,
) -> LoadResult:
    """Run `plan.processes` workers side by side. Raises InfraError when one of them fails."""
    epoch_ns = time.monotonic_ns() if log is None else log.epoch_ns
    with tempfile.TemporaryDirectory(prefix="kvlab-load-") as folder:
        parts = [Path(folder) / f"{number}.jsonl" for number in range(plan.processes)]
        workers: list[Worker] = []
        try:
            for number, part in enumerate(parts):
                history = None if log is None else str(part)
                workers.append(await _spawn(plan.share(number, epoch_ns), number, history))
            async with asyncio.timeout(START_S):
                await asyncio.gather(*(worker.report() for worker in workers))
            result = await _drive(workers, on_progress, stop)
        except TimeoutError:
            raise InfraError(f"load workers were not ready within {START_S:g} s") from None
        finally:
            await asyncio.gather(*(worker.end() for worker in workers))
        if log is not None:
            log.merge(parts)
    result.interrupted = stop is not None and stop.is_set()
    return result


async def _spawn(plan: LoadPlan, number: int, history: str | None) -> Worker:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kvlab.lab.load_worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        # Ctrl-C goes to the parent alone: it closes stdin, and the workers end their run in order.
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    worker = Worker(process, number)
    worker.stdin.write(msgspec.json.encode(Job(plan, history)) + b"\n")
    return worker


async def _drive(
    workers: list[Worker], on_progress: ProgressHook | None, stop: asyncio.Event | None
) -> LoadResult:
    """Start all workers at once, follow them, and add up what they measured."""
    started_ns = time.monotonic_ns()
    for worker in workers:
        worker.stdin.write(GO)
    helpers = []
    if stop is not None:
        helpers.append(asyncio.ensure_future(_close_on(stop, workers)))
    if on_progress is not None:
        helpers.append(asyncio.ensure_future(_show(workers, on_progress, started_ns)))
    try:
        return merge_results(await asyncio.gather(*(worker.result() for worker in workers)))
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)


async def _close_on(stop: asyncio.Event, workers: list[Worker]) -> None:
    await stop.wait()
    for worker in workers:
        worker.stdin.close()


async def _show(workers: list[Worker], on_progress: ProgressHook, started_ns: int) -> None:
    gap_s = 0.25
    while True:
        await asyncio.sleep(gap_s)
        elapsed_us = (time.monotonic_ns() - started_ns) * US_PER_S // 1_000_000_000
        answered = sum(worker.progress.answered for worker in workers)
        failed = sum(worker.progress.failed for worker in workers)
        on_progress(Progress(elapsed_us, answered, failed))
