"""The plan of a run that is to happen once more: faults as they really were. It reads no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kvlab.errors import UsageError
from kvlab.experiment import Plan, make_plan
from kvlab.fault.fault import LASTING, Fault
from kvlab.spec.scenario import ScenarioSpec


def replayed(spec: ScenarioSpec, lines: Iterable[Mapping[str, Any]]) -> Plan:
    """Return the plan of a scenario with the faults of a journal: whom and when they really hit.

    Faults that could not be done are left out. Raises UsageError for lines without targets, as a
    simulated run writes them.
    """
    plan = make_plan(spec)
    faults = []
    for line in lines:
        if not line.get("done", True):
            continue
        told = line.get("nodes") or line.get("links")
        if not told or not isinstance(line.get("t_us"), int):
            raise UsageError(
                "the faults of this run do not say whom they hit: it was simulated",
                hint="kvlab sim --scenario RUN/spec.yaml runs it again, to the byte",
            )
        until_us = min(int(line["until_us"]), spec.time_us)
        at_us = min(int(line["t_us"]), until_us)
        if line["kind"] in LASTING:
            until_us = spec.time_us
        faults.append(Fault.from_builtins(line, at_us, until_us))
    return replace(plan, faults=tuple(sorted(faults, key=lambda fault: fault.at_us)))
