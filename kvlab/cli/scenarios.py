"""Finds scenarios: a file, or one of those that come with the package, by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import kvlab
from kvlab.errors import InfraError, UsageError
from kvlab.spec.scenario import ScenarioSpec
from kvlab.spec.scenario_file import parse_scenario

SHIPPED = Path(kvlab.__file__).parent / "scenarios"


def shipped() -> dict[str, Path]:
    """Return the scenarios of the package by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def read_scenario(given: str) -> ScenarioSpec:
    """Read a scenario: the path of a file, or a name. Raises UsageError, SpecError, InfraError."""
    path = Path(given)
    if not path.is_file():
        known = shipped()
        if given not in known:
            hint = f"name a file, or one of: {', '.join(known)}"
            raise UsageError(f"there is no scenario {given}", hint=hint)
        path = known[given]
    try:
        return parse_scenario(path.read_text(), source=given)
    except OSError as error:
        raise InfraError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text: {error.reason}") from error


def drawn(seed: int) -> ScenarioSpec:
    """Return what the simulator's swarm draws of a seed, without what no real machine suffers."""
    from kvlab.sim.draw import draw

    spec = draw(seed)
    faults = tuple(
        replace(fault, kind="kill") if fault.kind == "power-cut" else fault
        for fault in spec.faults
        if fault.kind != "sync-fail"
    )
    return replace(spec, faults=faults)


def about(path: Path) -> str:
    """Return the first line of a scenario's file, which says what it is."""
    return path.read_text().splitlines()[0].removeprefix("#").strip()
