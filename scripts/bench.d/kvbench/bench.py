"""What every row is given: the stage, the gate, how long and how often to measure.

It knows no row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from rich.console import Console

from kvbench.clients import Clients
from kvbench.figures import Line, Sample
from kvbench.gate import Gate
from kvbench.stage import Stage

RUN_S = 1.0  # one run under load
QUICK_S = 0.15
ROUNDS = 5


@dataclass
class Bench:
    """One benchmark."""

    stage: Stage
    gate: Gate
    clients: Clients
    rounds: int
    quick: bool
    console: Console
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def run_s(self) -> float:
        """How long one run under load takes."""
        return QUICK_S if self.quick else RUN_S

    def say(self, text: str) -> None:
        """Show progress."""
        self.console.print(f"[dim]{text}[/dim]", highlight=False)

    def note(self, text: str) -> None:
        """Keep a sentence for below the table; the same one only once."""
        if text not in self.notes:
            self.notes.append(text)

    def compare_rounds(
        self, title: str, candidates: dict[str, Callable[[], Sample]], *, rounds: int | None = None
    ) -> dict[str, list[Sample]]:
        """Run every candidate once per round, each time in another order, each run gated.

        Raises RuntimeError when a server answered with errors: that would not be comparable.
        """
        samples: dict[str, list[Sample]] = {name: [] for name in candidates}
        names = list(candidates)
        for number in range(rounds or self.rounds):
            self.say(f"{title}: round {number + 1}")
            start = number % len(names)
            for name in names[start:] + names[:start]:
                sample, foreign = self.gate.run(candidates[name])
                if sample.errors:
                    raise RuntimeError(f"{title}: {name} gave {sample.errors} error replies")
                samples[name].append(replace(sample, foreign=foreign))
        return samples
