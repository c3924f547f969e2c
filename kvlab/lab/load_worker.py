"""One worker process of a load run: `python -m kvlab.lab.load_worker`, started by load_processes.

It is not for people: it speaks JSON lines on stdin and stdout, and ends when stdin is closed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import IO

import msgspec

from kvlab.errors import KvlabError
from kvlab.lab.load import run_load
from kvlab.lab.load_history import HistoryLog
from kvlab.lab.load_loop import run_fresh
from kvlab.lab.load_processes import Job, Report
from kvlab.lab.load_result import LoadResult

READ_BYTES = 4096


def main() -> int:
    """Read a job, run it, report; return the exit code."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    out = sys.stdout.buffer
    try:
        result = run_fresh(_work(job, out))
    except KvlabError as error:
        _say(out, Report(error=error.message))
        return error.exit_code
    _say(out, Report(result=result))
    return 0


async def _work(job: Job, out: IO[bytes]) -> LoadResult:
    stop, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), _heard, go, stop)

    async def gate() -> None:
        _say(out, Report(ready=True))
        await go.wait()

    log = None
    if job.history is not None:
        log = HistoryLog(Path(job.history), epoch_ns=job.plan.epoch_ns)
    try:
        return await run_load(
            job.plan,
            on_progress=lambda progress: _say(out, Report(progress=progress)),
            stop=stop,
            log=log,
            gate=gate,
        )
    finally:
        loop.remove_reader(sys.stdin.fileno())
        if log is not None:
            log.close()


def _heard(go: asyncio.Event, stop: asyncio.Event) -> None:
    """Take the word to start, or the closed pipe as the word to stop."""
    if not os.read(sys.stdin.fileno(), READ_BYTES):
        stop.set()
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    go.set()


def _say(out: IO[bytes], report: Report) -> None:
    out.write(msgspec.json.encode(report) + b"\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
