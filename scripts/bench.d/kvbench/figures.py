"""Samples, the lines of the table that they become, and whether a target is reached.

It measures nothing. A ratio is kvlab over peer within one round, and a line shows the median of the
ratios of all rounds with the least and the greatest: never a ratio of medians.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Sample:
    """What one short run gave. CPU is in microseconds per operation, foreign in cores."""

    rate: float = 0.0
    p50_us: float | None = None
    p99_us: float | None = None
    server_cpu_us: float | None = None
    client_cpu_us: float | None = None
    foreign: float = 0.0
    ops: int = 0
    errors: int = 0

    def figure(self, name: str) -> float:
        """Return one figure by its name; raises ValueError when it was not measured."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"{name} was not measured")
        return float(value)


@dataclass(frozen=True)
class Target:
    """What is to be reached: `of` is "ratio", or "kvlab" for its own figure."""

    sign: str
    value: float
    of: str = "ratio"
    note: str = ""

    def reached(self, figure: float) -> bool:
        """Tell whether a figure is on the right side."""
        return figure >= self.value if self.sign == ">=" else figure <= self.value

    def text(self) -> str:
        """Return for example `>= 0.8`."""
        return f"{self.sign} {self.value:g}" + (f" {self.note}" if self.note else "")


def at_least(value: float, of: str = "ratio", note: str = "") -> Target:
    """Return a target from below."""
    return Target(">=", value, of, note)


def at_most(value: float, of: str = "ratio", note: str = "") -> Target:
    """Return a target from above."""
    return Target("<=", value, of, note)


@dataclass
class Line:
    """One line of the table: one figure of kvlab beside one peer. Without a peer: kvlab alone."""

    row: str
    what: str
    unit: str
    kvlab: list[float]
    peer: str = ""
    peers: list[float] = field(default_factory=list)
    kvlab_cpu_us: float | None = None
    peer_cpu_us: float | None = None
    target: Target | None = None
    note: str = ""
    foreign: float = 0.0
    inverse: bool = False
    """The ratio is peer over kvlab: how many times shorter kvlab takes."""

    @property
    def ratios(self) -> list[float]:
        """The ratio of each round."""
        pairs = zip(self.kvlab, self.peers, strict=False)
        if self.inverse:
            return [peer / ours for ours, peer in pairs if ours]
        return [ours / peer for ours, peer in pairs if peer]

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without a target or without figures."""
        if self.target is None:
            return None
        figures = self.ratios if self.target.of == "ratio" else self.kvlab
        return self.target.reached(median(figures)) if figures else None

    def to_builtins(self) -> dict[str, Any]:
        """Return the line for --json."""
        ratios = self.ratios
        return {
            "row": self.row,
            "what": self.what,
            "unit": self.unit,
            "kvlab": median(self.kvlab),
            "kvlab_rounds": self.kvlab,
            "peer": self.peer or None,
            "peer_value": median(self.peers) if self.peers else None,
            "peer_rounds": self.peers,
            "ratio": median(ratios) if ratios else None,
            "ratio_min": min(ratios, default=None),
            "ratio_max": max(ratios, default=None),
            "ratio_is": "peer/kvlab" if self.inverse else "kvlab/peer",
            "kvlab_cpu_us": self.kvlab_cpu_us,
            "peer_cpu_us": self.peer_cpu_us,
            "target": self.target.text() if self.target else None,
            "target_of": self.target.of if self.target else None,
            "reached": self.reached,
            "foreign_cores": round(self.foreign, 3),
            "note": self.note,
        }


def compare(
    row: str,
    what: str,
    unit: str,
    samples: dict[str, list[Sample]],
    *,
    ours: str,
    peer: str = "",
    figure: str = "rate",
    cpu: str = "server_cpu_us",
    target: Target | None = None,
    note: str = "",
) -> Line:
    """Make a line of the samples of two candidates, taken in the same rounds."""
    mine, theirs = samples[ours], samples[peer] if peer else []
    return Line(
        row,
        what,
        unit,
        [one.figure(figure) for one in mine],
        peer,
        [one.figure(figure) for one in theirs],
        _median([getattr(one, cpu) for one in mine]),
        _median([getattr(one, cpu) for one in theirs]),
        target,
        note,
        median(one.foreign for one in mine + theirs),
    )


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
