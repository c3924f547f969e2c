"""Says how far a matrix is, on stderr: a line per finished cell; on a terminal, those under way too."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from kvlab.cli import out
from kvlab.report.matrix import CellResult
from kvlab.spec.matrix import CellSpec
from kvlab.units import format_duration


class Progress:
    """A `matrix_pool.Watcher`. Use it in `with`."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total = total
        self._quiet = quiet
        self._began = time.monotonic()
        self._done = 0
        self._tasks: dict[str, Any] = {}
        self._live: Any = None
        if not quiet and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._live = progress.Progress(
                progress.SpinnerColumn(),
                progress.TextColumn("{task.description}", markup=False),
                progress.TimeElapsedColumn(),
                progress.TextColumn("{task.fields[said]}", markup=False, style="dim"),
                console=Console(stderr=True, highlight=False),
                transient=True,
            )
            self._all = self._live.add_task("all", total=total, said=f"0 of {total} cells")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def begins(self, cell: CellSpec) -> None:
        """A run begins."""
        if self._live is not None:
            self._tasks[cell.name] = self._live.add_task(cell.name, total=None, said="starting")

    def says(self, cell: CellSpec, text: str) -> None:
        """A run says where it is."""
        if self._live is not None:
            self._live.update(self._tasks[cell.name], said=text)

    def ends(self, result: CellResult) -> None:
        """A run has ended."""
        self._done += 1
        if self._live is not None:
            self._live.remove_task(self._tasks.pop(result.cell.name))
            said = f"{self._done} of {self._total} cells"
            self._live.update(self._all, completed=self._done, said=said)
        count = f"{self._done:{len(str(self._total))}}/{self._total}"
        because = f": {result.because}" if result.because and not result.passed else ""
        took = format_duration(result.took_us)
        self.tell(f"{count} {result.cell.name} {result.said}{because} ({took})")

    def tell(self, text: str) -> None:
        """Write one line."""
        if self._quiet:
            return
        line = f"[{time.monotonic() - self._began:5.1f} s] {text}"
        if self._live is not None:
            self._live.console.print(line, markup=False, soft_wrap=True)
        else:
            out.progress(line)
