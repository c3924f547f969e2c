"""How often the simulator finds a planted bug: counts, their interval, and the table of all mutants.

It writes no file and decides nothing: scripts/mutants prints what `table` returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil, log, sqrt

from kvlab.check.verdict import Verdict
from kvlab.sim.draw import draw
from kvlab.sim.mutants import MUTANTS, Mutant, mutant, planted
from kvlab.sim.run import run
from kvlab.spec.scenario import ScenarioSpec

Z_95 = 1.959964  # of a two-sided interval of 95 %
MISSED_MAX = 0.05  # how often the seeds that are said to suffice may miss a mutant


@dataclass(slots=True)
class Tally:
    """What came of a mutant in so many seeds of one kind of scenario."""

    tried: int = 0
    seeds: list[int] = field(default_factory=list)  # that found it
    checks: Counter[str] = field(default_factory=Counter)  # that found it -> in how many seeds

    @property
    def rate(self) -> float:
        """Return the share of seeds that found it."""
        return len(self.seeds) / self.tried if self.tried else 0.0

    @property
    def seeds_needed(self) -> int:
        """Return how many seeds find it with 95 % likelihood; 0: too many to say."""
        if not self.seeds:
            return 0
        return 1 if self.rate == 1 else ceil(log(MISSED_MAX) / log(1 - self.rate))


def tally(name: str, seeds: Iterable[int], scenario: Callable[[int], ScenarioSpec]) -> Tally:
    """Run the scenarios of some seeds with one mutant planted."""
    found = Tally()
    for seed in seeds:
        with planted(name):
            outcome = run(scenario(seed))
        found.tried += 1
        if outcome.judgement.verdict is Verdict.INVALID:
            found.seeds.append(seed)
            found.checks.update(outcome.failed)
    return found


def wilson(hits: int, tried: int) -> tuple[float, float]:
    """Return the interval of 95 % of a share (Wilson, 1927); it also holds near 0 and 1."""
    if not tried:
        return 0.0, 1.0
    share = hits / tried
    scale = 1 + Z_95**2 / tried
    middle = (share + Z_95**2 / (2 * tried)) / scale
    half = Z_95 / scale * sqrt(share * (1 - share) / tried + Z_95**2 / (4 * tried**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def table(seeds: int, names: Iterable[str] = tuple(MUTANTS)) -> str:
    """Return the mutants as Markdown, each tried with the seeds from 1 on."""
    lines = [
        "| name | sin | caught by | scenario | caught | rate | seeds for 95 % | swarm |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(mutant(name), range(1, seeds + 1)) for name in names]
    return "\n".join(lines) + "\n"


def _row(one: Mutant, seeds: range) -> str:
    own = tally(one.name, seeds, one.scenario)
    swarm = own if one.scenario is draw else tally(one.name, seeds, draw)
    checks = ", ".join(f"{name} {count}" for name, count in sorted(own.checks.items()))
    cells = (
        f"`{one.name}`",
        one.sin,
        checks or "nothing",
        one.scenario.__name__,
        f"{len(own.seeds)} of {own.tried}",
        _share(own),
        str(own.seeds_needed or "?"),
        f"{len(swarm.seeds)} of {swarm.tried}, {_share(swarm)}",
    )
    return f"| {' | '.join(cells)} |"


def _share(found: Tally) -> str:
    low, high = wilson(len(found.seeds), found.tried)
    return f"{found.rate:.0%} [{low:.0%}, {high:.0%}]"
