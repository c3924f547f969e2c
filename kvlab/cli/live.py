"""The view of a run while it goes on, and the process of its own that draws it.

Drawing takes milliseconds of a processor each time, which clients in the same process would feel as
latency. So another process, with less priority, reads the files of the run as they grow. It is told
nothing but what to print above the view, and ends when its input does.

In a pipe there is no view: lines go to stderr as they are said.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kvlab.cli import out
from kvlab.rundir import FAULTS, HISTORY, SPEC, STATE

if TYPE_CHECKING:
    from kvlab.report.live import LiveRun

INTERVAL_S = 0.25
END_S = 5.0  # for the last picture, and the cursor
NICE = 5
SIDE_CELLS = 48  # of a line beside its columns: label, value, and what is active
COLUMNS_MIN, COLUMNS_MAX = 20, 100
BLOCK_BYTES = 1 << 20  # read of each file at a time
DIARY = "events.jsonl"


class Progress:
    """Says what a run does: above the live view on a terminal, as plain lines in a pipe."""

    def __init__(self, run: Path, *, quiet: bool) -> None:
        self._run = run
        self._quiet = quiet
        self._began = time.monotonic()
        self._viewer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._viewer = subprocess.Popen(
                [sys.executable, "-m", "kvlab.cli.live", str(self._run)], stdin=subprocess.PIPE
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Take the view away; plain lines are still said afterwards."""
        viewer, self._viewer = self._viewer, None
        if viewer is None or viewer.stdin is None:
            return
        with suppress(BrokenPipeError):
            viewer.stdin.close()
        try:
            viewer.wait(END_S)
        except subprocess.TimeoutExpired:
            viewer.kill()
            viewer.wait()

    def say(self, text: str) -> None:
        """Say a line, with the time since the beginning."""
        if self._quiet:
            return
        line = f"[{time.monotonic() - self._began:5.1f} s] {text}"
        if self._viewer is not None and self._viewer.stdin is not None:
            try:
                self._viewer.stdin.write(line.encode() + b"\n")
                self._viewer.stdin.flush()
            except BrokenPipeError:  # the viewer failed; the run does not
                self._viewer.wait()
                self._viewer = None
            else:
                return
        out.progress(line)


# -- the process that draws -----------------------------------------------------------------------


def main(run: Path) -> None:
    """Draw until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run ends us, once it has undone everything
    with suppress(OSError):
        os.nice(NICE)
    from rich.console import Console
    from rich.live import Live

    from kvlab.report.live import live_view

    console = Console(stderr=True, highlight=False)
    files: _Files | None = None
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for said in _lines_of_input():
            for line in said:
                console.print(line, markup=False)
            if files is None:
                files = _Files.open(run, console.width)
            if files is not None:
                live.update(live_view(files.view, files.read()), refresh=True)


def _lines_of_input() -> Iterator[list[str]]:
    """Yield the lines that came within each interval, until the input ends."""
    os.set_blocking(0, False)
    rest, due = b"", time.monotonic()
    while True:
        ready, _, _ = select.select([0], [], [], max(0.0, due - time.monotonic()))
        if ready:
            block = os.read(0, BLOCK_BYTES)
            if not block:
                return
            rest += block
        if time.monotonic() >= due:
            *whole, rest = rest.split(b"\n")
            yield [line.decode() for line in whole]
            due = time.monotonic() + INTERVAL_S


class _Files:
    """The files of a run as they grow."""

    def __init__(self, run: Path, view: LiveRun) -> None:
        from msgspec.json import Decoder

        from kvlab.history import Event

        self.view = view
        self._history = _Growing(run / HISTORY)
        self._faults = _Growing(run / FAULTS)
        self._diary = _Growing(run / STATE / DIARY)
        self._decode = Decoder(Event).decode_lines
        self._zero_s: float | None = None  # when the run's clock began, by ours

    @classmethod
    def open(cls, run: Path, width: int) -> _Files | None:
        """Return the files once the run has written what it is to do."""
        from kvlab.report.live import LiveRun
        from kvlab.spec.scenario_file import parse_scenario

        try:
            spec = parse_scenario((run / SPEC).read_text())
        except FileNotFoundError:
            return None
        view = LiveRun(
            name=spec.name,
            seed=spec.seed,
            time_us=spec.time_us,
            phases=spec.phase_times,
            columns=min(max(width - SIDE_CELLS, COLUMNS_MIN), COLUMNS_MAX),
        )
        return cls(run, view)

    def read(self) -> int:
        """Take in what is new; return the time of the run in microseconds."""
        latest_us = None
        for event in self._decode(self._history.lines()):
            self.view.event(event)
            latest_us = event.t_us
        for line in _documents(self._faults.lines()):
            self.view.fault(line)
        for line in _documents(self._diary.lines()):
            self.view.diary(line)
        now_s = time.monotonic()
        if latest_us is not None:
            zero_s = now_s - latest_us / 1e6
            self._zero_s = zero_s if self._zero_s is None else min(self._zero_s, zero_s)
        return round((now_s - self._zero_s) * 1e6) if self._zero_s is not None else 0


class _Growing:
    """Reads the whole lines that were added to a file since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def lines(self) -> bytes:
        """Return whole lines, at most BLOCK_BYTES of them; none where there is no file yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                whole, newline, _ = file.read(BLOCK_BYTES).rpartition(b"\n")
        except FileNotFoundError:
            return b""
        self._at += len(whole) + len(newline)
        return whole + newline


def _documents(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
