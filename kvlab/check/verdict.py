"""Verdicts: valid, invalid, unknown; and the result of one check.

They are not exit codes: cli knows those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import msgspec


class Verdict(Enum):
    """What is known: UNKNOWN is neither a pass nor a failure."""

    VALID = "valid"
    UNKNOWN = "unknown"
    INVALID = "invalid"


BADNESS = {Verdict.VALID: 0, Verdict.UNKNOWN: 1, Verdict.INVALID: 2}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check.

    `because` is one sentence for a person. `evidence` are the fewest operations that show it, each
    by the place of its invocation in the history (field `i`). `judged` counts what was looked at,
    `violations` how many of them were wrong (evidence shows the first). `figures` are what a check
    measured, by names that end with their unit: counts, shares (floats from 0 to 1), or lists of rows.
    """

    name: str
    verdict: Verdict
    because: str
    evidence: tuple[int, ...] = ()
    judged: int = 0
    violations: int = 0
    figures: Mapping[str, Any] = {}

    def to_builtins(self) -> dict[str, Any]:
        """Return the part of verdict.json that belongs to this check."""
        told: dict[str, Any] = {
            "verdict": self.verdict.value,
            "because": self.because,
            "evidence": list(self.evidence),
            "judged": self.judged,
            "violations": self.violations,
        }
        return told | ({"figures": dict(self.figures)} if self.figures else {})


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of them: invalid, then unknown; unknown when there are none."""
    return max(verdicts, key=BADNESS.__getitem__, default=Verdict.UNKNOWN)
