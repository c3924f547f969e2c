"""What a check says that found operations wrong: the first, and how many more. It judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvlab.check.origins import in_order
from kvlab.check.verdict import Check, Verdict
from kvlab.history import Op

Finding = tuple[str, list[Op]]
"""A sentence, and the operations that show it, the one that gave it away last."""


def invalid(name: str, wrong: Sequence[Finding], judged: int, figures: Mapping[str, Any]) -> Check:
    """Return the verdict on findings, of which there is one at least."""
    because, ops = min(wrong, key=lambda one: one[1][-1].start)
    return Check(
        name=name,
        verdict=Verdict.INVALID,
        because=because + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""),
        evidence=in_order(ops),
        judged=judged,
        violations=len(wrong),
        figures=figures,
    )
