"""Finds matrices: a file, or one of those that come with the package; and reads them whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import kvlab
from kvlab.cli.cluster import read_spec
from kvlab.cli.scenarios import read_scenario, shipped
from kvlab.errors import InfraError, UsageError
from kvlab.experiment import make_plan
from kvlab.spec.matrix import CellSpec, MatrixSpec
from kvlab.spec.matrix_file import parse_matrix
from kvlab.spec.scenario import ScenarioSpec, on_cluster

SHIPPED = Path(kvlab.__file__).parent / "matrices"
DEFAULT_FILE = "matrix.yaml"


def shipped_matrices() -> dict[str, Path]:
    """Return the matrices of the package by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def read_matrix(given: str, seeds: Sequence[int] = (), cluster: Path | None = None) -> MatrixSpec:
    """Read a matrix: the path of a file, or a name. Raises UsageError, SpecError, InfraError.

    Each cell can be run on real processes. `seeds` stand in for those of the file, and the cluster of
    the cluster.yaml `cluster` for what scenarios say of nodes.
    """
    path = Path(given)
    if not path.is_file():
        known = shipped_matrices()
        if given not in known:
            hint = f"name a file, or one of: {', '.join(known)}"
            raise UsageError(f"there is no matrix {given}", hint=hint)
        path = known[given]

    def find(name: str) -> ScenarioSpec:
        beside = path.parent / name
        if beside.is_file():
            return read_scenario(str(beside))
        if name not in shipped():
            hint = (
                f"write the path of a file, from {path.parent}, or one of: {', '.join(shipped())}"
            )
            raise UsageError(f"there is no scenario {name}", hint=hint)
        return read_scenario(str(shipped()[name]))

    try:
        text = path.read_text()
    except OSError as error:
        raise InfraError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text: {error.reason}") from error
    ours = read_spec(cluster) if cluster is not None else None

    def place(scenario: ScenarioSpec) -> ScenarioSpec:
        if ours is None or cluster is None:
            return scenario
        return on_cluster(scenario, ours, str(cluster.parent.absolute()))

    return parse_matrix(
        text, find=find, examine=why_not_real, place=place, seeds=seeds, source=given
    )


def why_not_real(scenario: ScenarioSpec) -> str:
    """Say why a scenario cannot be run on real processes; "" if it can."""
    from kvlab.lab.run_faults import check_real

    work = replace(scenario.workload, operations=0)  # whatever they are, their names are right
    try:
        check_real(make_plan(replace(scenario, workload=work)))
    except UsageError as error:
        return error.message
    return ""


def chosen(cells: Sequence[CellSpec], filters: Sequence[str]) -> list[CellSpec]:
    """Return the cells that one of the filters names whole or in part. Raises UsageError."""
    names = {cell.name for cell in cells}
    for one in filters:
        if not any(one in name for name in names):
            raise UsageError(f"no cell has {one!r} in its name", hint="--dry-run lists the cells")

    def fits(cell: CellSpec) -> bool:
        return any(one == cell.name or (one not in names and one in cell.name) for one in filters)

    return [cell for cell in cells if not filters or fits(cell)]
