"""Many simulated runs at the command line: how it goes, every failure as it comes, the sum.

It runs nothing itself: `sim_pool` does. The verb is in `sim`.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterable
from typing import Any, Self

from kvlab import __version__
from kvlab.check.verdict import Verdict, worst
from kvlab.cli import out
from kvlab.cli.sim_pool import Failure, Job, Sum, run_many

FAILURES_SHOWN = 10
PROGRESS_SECONDS = 5.0


def run_campaign(
    job: Job, seeds: Iterable[int], *, jobs: int, until: float, file: str, as_json: bool
) -> Verdict:
    """Run seeds, show how it goes and what it came to; return the worst verdict."""
    began = time.monotonic()
    with _Progress(seeds, began, job, file, quiet=as_json) as progress:
        total = run_many(job, seeds, jobs=jobs, until=until, tell=progress)
    took_us = round((time.monotonic() - began) * 1e6)
    total.failures.sort(key=lambda failure: failure.seed)
    verdict = worst(Verdict(name) for name in total.verdicts)
    if as_json:
        out.show_json(_document(total, took_us, verdict, job, file))
    else:
        _show_sum(total, took_us, verdict, job, file)
    return verdict


def _show_sum(total: Sum, took_us: int, verdict: Verdict, job: Job, file: str) -> None:
    from kvlab.report.sim import campaign_table, coverage_line
    from kvlab.sim.coverage import STATES, missing

    out.show(
        campaign_table(
            runs=total.runs,
            verdicts=total.verdicts,
            operations=total.operations,
            events=total.events,
            sim_us=total.sim_us,
            took_us=took_us,
        )
    )
    absent = missing(total.reached)
    out.say(coverage_line(len(STATES) - len(absent), len(STATES), absent))
    out.say(f"verdict: {verdict.value}")
    first = total.failures[0].seed if total.failures else 1
    repeat = job.repeat(first, file)
    out.next_step(repeat, f"{repeat} --trace")


def _document(total: Sum, took_us: int, verdict: Verdict, job: Job, file: str) -> dict[str, Any]:
    from kvlab.sim.coverage import missing

    return {
        "schema": 1,
        "verdict": verdict.value,
        "runs": total.runs,
        "verdicts": dict(total.verdicts),
        "operations": total.operations,
        "events": total.events,
        "simulated_us": total.sim_us,
        "took_us": took_us,
        "reached": dict(sorted(total.reached.items())),
        "not_reached": missing(total.reached),
        "failures": [
            {
                "seed": one.seed,
                "verdict": one.verdict,
                "because": one.because,
                "reproduce": job.repeat(one.seed, file),
            }
            for one in total.failures
        ],
        "environment": environment(),
    }


class _Progress:
    """Says how far a campaign is, and every failure as it comes, on stderr."""

    def __init__(
        self, seeds: Iterable[int], began: float, job: Job, file: str, *, quiet: bool
    ) -> None:
        self._total = len(seeds) if isinstance(seeds, range) else None
        self._began = began
        self._job = job
        self._file = file
        self._said = began
        self._shown = 0
        self._bar: Any = None
        self._task: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=self._total)
        self._quiet = quiet

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, part: Sum, total: Sum) -> None:
        for failure in part.failures:
            self._fail(failure)
        now = time.monotonic()
        rate = total.runs / max(now - self._began, 1e-6)
        if self._bar is not None:
            self._bar.update(self._task, completed=total.runs, description=f"{rate:.1f} seeds/s")
        elif not self._quiet and now - self._said >= PROGRESS_SECONDS:
            self._said = now
            of = f" of {self._total:,}" if self._total is not None else ""
            out.progress(f"{total.runs:,}{of} seeds, {rate:.1f}/s, {len(total.failures)} not valid")

    def _fail(self, failure: Failure) -> None:
        self._shown += 1
        if self._quiet or self._shown > FAILURES_SHOWN:
            return
        repeat = self._job.repeat(failure.seed, self._file)
        text = f"seed {failure.seed} {failure.verdict}: {failure.because}; repeat: {repeat}"
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            out.progress(text)


def environment() -> dict[str, str]:
    """Return what a verdict says of where it was found."""
    return {"kvlab": __version__, "python": platform.python_version(), "world": "simulated"}
