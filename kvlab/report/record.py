"""A finished run as a value: what its files say. It opens no file and judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvlab.check.columns import Columns
from kvlab.report.series import PhaseFigures, phase_figures, span_us
from kvlab.spec.scenario import ScenarioSpec

INTERRUPTED = "the run was interrupted before it could be judged: there is no verdict.json"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a report or a comparison is made from."""

    name: str
    path: str  # as the user named it
    columns: Columns
    notes: tuple[str, ...]  # on how the history was read
    verdict: Mapping[str, Any]  # verdict.json; empty where the run has none
    faults: Sequence[Mapping[str, Any]]  # lines of faults.jsonl
    spec: ScenarioSpec | None  # None where the run has no spec.yaml
    spec_text: str
    logs: int  # how many nodes left a log
    ring: Mapping[str, Any]  # ring.json; empty where the run has none

    @property
    def word(self) -> str:
        """The verdict: valid, invalid or unknown."""
        return str(self.verdict.get("verdict", "unknown"))

    @property
    def because(self) -> str:
        """One sentence why."""
        return str(self.verdict.get("because") or INTERRUPTED)

    @property
    def checks(self) -> Mapping[str, Mapping[str, Any]]:
        """Every check with what it found, by name."""
        found = self.verdict.get("checks")
        return found if isinstance(found, dict) else {}

    @property
    def environment(self) -> dict[str, str]:
        """What the run ran on."""
        found = self.verdict.get("environment")
        return {str(name): str(value) for name, value in found.items()} if found else {}

    @property
    def phases(self) -> tuple[tuple[str, int, int], ...]:
        """Phases as (name, from, until); one for all where the scenario has none."""
        if self.spec is not None:
            return self.spec.phase_times
        return (("run", 0, span_us(self.columns)),)

    @property
    def span_us(self) -> int:
        """How long clients worked."""
        return span_us(self.columns, self.phases)

    def figures(self) -> tuple[PhaseFigures, ...]:
        """What clients saw in each phase."""
        return phase_figures(self.columns, self.phases)

    def evidence(self) -> list[int]:
        """Return the places of operations that prove a check wrong, each once."""
        places = [
            place
            for check in self.checks.values()
            if check.get("verdict") == "invalid"
            for place in check.get("evidence") or ()
            if isinstance(place, int)
        ]
        return list(dict.fromkeys(places))
