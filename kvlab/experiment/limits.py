"""What must not happen in a run, because no store promises to survive it. It stops nothing itself."""

from __future__ import annotations

from kvlab.fault.fault import Fault
from kvlab.spec.scenario import ScenarioSpec

MEMBERS_MIN = 3  # one that loses what it holds leaves a majority


def why_not_lose(spec: ScenarioSpec, fault: Fault, *, exposed: bool, members: int) -> str:
    """Say why a fault that takes what nodes hold cannot be done now, or return "".

    `exposed`: a node has lost what it held, and not all is whole again. `members`: of the cluster now.
    """
    if exposed:
        return "another node has lost its memory and not all is whole again"
    if len(fault.nodes) > 1:
        return "memory is lost on one node at a time"
    if spec.copies < 2:
        return "there is one copy of each key"
    if members < MEMBERS_MIN:
        return "the rest would be no majority"
    return ""
