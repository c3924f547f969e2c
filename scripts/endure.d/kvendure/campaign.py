"""What all campaigns share: trials, their progress, the last line, and the exit status.

It knows no cluster. A campaign runs trials, notes each, and ends with what it came to.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from kvlab.sim.rates import wilson

EXIT_FAILED = 1
EXIT_UNKNOWN = 3
EXIT_BROKEN = 5
EXIT_INTERRUPTED = 130
SHOWN_MAX = 10  # failures that are printed; all are in --json
SAY_S = 5.0  # from one line of progress to the next


@dataclass
class Campaign:
    """So many trials of one thing that must hold."""

    name: str
    holds: str  # what must hold, in a few words
    count: int
    as_json: bool = False
    tried: int = 0
    failures: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)  # trials that the machine spoiled
    facts: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False
    _began: float = field(default_factory=time.monotonic)
    _said: float = 0.0

    def note(self, failure: str = "") -> None:
        """Count a trial, which failed if there is a reason."""
        self.tried += 1
        if failure:
            self.failures.append(failure)
            self.say(f"FAILED: {failure}", at_once=True)
        self.say(f"{self.tried} of {self.count}, {len(self.failures)} failed")

    def doubt(self, why: str) -> None:
        """Note a trial that says nothing, because the machine was in its way."""
        self.doubts.append(why)
        self.say(f"unknown: {why}", at_once=True)

    def say(self, text: str, *, at_once: bool = False) -> None:
        """Show progress, on standard error and not too often."""
        now = time.monotonic()
        if at_once or now - self._said >= SAY_S:
            self._said = now if not at_once else self._said
            print(f"[{now - self._began:6.1f} s] {self.name}: {text}", file=sys.stderr, flush=True)

    @property
    def verdict(self) -> str:
        """Return what it came to: "holds", "fails", or "unknown" where trials said nothing."""
        if self.failures:
            return "fails"
        return "holds" if self.tried and not self.doubts else "unknown"

    def close(self) -> int:
        """Print what it came to; return the exit status."""
        took_s = time.monotonic() - self._began
        low, high = wilson(len(self.failures), self.tried)
        if self.as_json:
            print(json.dumps({
                "schema": 1, "campaign": self.name, "holds": self.holds, "verdict": self.verdict,
                "tried": self.tried, "asked": self.count, "failed": len(self.failures),
                "interval": [low, high], "took_s": round(took_s, 1), "facts": self.facts,
                "failures": self.failures, "unknown": self.doubts, "interrupted": self.interrupted,
            }, indent=1))  # fmt: skip
        else:
            for failure in self.failures[:SHOWN_MAX]:
                print(f"failed: {failure}")
            for doubt in self.doubts[:SHOWN_MAX]:
                print(f"unknown: {doubt}")
            for name, value in self.facts.items():
                print(f"{name}: {_text(value)}")
            print(
                f"{self.name}: {self.verdict} - {self.holds}: {len(self.failures)} of {self.tried}"
                f" failed (95 %: {low:.2%} to {high:.2%})"
                + (f", {len(self.doubts)} unknown" if self.doubts else "")
                + f", took {took_s:.0f} s"
                + (", interrupted" if self.interrupted else "")
            )
        if self.interrupted:
            return EXIT_INTERRUPTED
        if not self.tried and not self.doubts:
            return EXIT_BROKEN
        return {"holds": 0, "fails": EXIT_FAILED, "unknown": EXIT_UNKNOWN}[self.verdict]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def at_once(jobs: int, trials: Iterable[int], trial: Callable[[int], str], told: Campaign) -> None:
    """Run trials, so many at a time; each returns why it failed, or "". The first error ends all."""
    with ThreadPoolExecutor(jobs) as pool:
        running: set[Future[str]] = set()
        try:
            for number in trials:
                running.add(pool.submit(trial, number))
                if len(running) >= jobs:
                    running = _note_some(running, told)
            while running:
                running = _note_some(running, told)
        finally:
            for future in running:
                future.cancel()


def _note_some(running: set[Future[str]], told: Campaign) -> set[Future[str]]:
    done, left = wait(running, return_when="FIRST_COMPLETED")
    for future in done:
        told.note(future.result())
    return left


def spread(values: list[float]) -> dict[str, float]:
    """Return median, the 99th percentile and the most of some figures."""
    if not values:
        return {}
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"median": at(0.5), "p99": at(0.99), "most": ordered[-1]}
