"""A scenario becomes a plan: who does what when, with all names resolved and all chance drawn.

It does nothing, and judges nothing.

Invariant: a plan depends on the scenario alone, its seed included: the same text, the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from kvlab.check import GROUPS, SUMMARIES
from kvlab.errors import UsageError
from kvlab.experiment.faults import founders_of, resolve_faults
from kvlab.experiment.operations import draw_operations
from kvlab.fault.fault import LASTING, Fault, loses_data
from kvlab.rng import Rng
from kvlab.spec.scenario import OperationSpec, ScenarioSpec


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a run that can be known before it."""

    spec: ScenarioSpec
    founders: tuple[str, ...]
    joiners: tuple[str, ...]
    operations: dict[str, tuple[OperationSpec, ...]]  # by client, in order of time
    faults: tuple[Fault, ...]  # in order of time

    @property
    def phases(self) -> tuple[tuple[str, int, int], ...]:
        """Return the phases as (name, from, until); one for all, where the scenario has none."""
        found, begins_us = [], 0
        for phase in self.spec.phases:
            found.append((phase.name, begins_us, begins_us + phase.span_us))
            begins_us += phase.span_us
        return tuple(found) or (("run", 0, self.spec.time_us),)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return every key that a client touches, in the order of names."""
        return tuple(sorted({one.key for each in self.operations.values() for one in each}))

    @property
    def loses_data(self) -> bool:
        """Whether some node is to lose what it holds."""
        return any(loses_data(fault.kind, self.spec.sync) for fault in self.faults)

    @property
    def _lives_lost(self) -> int:
        """How often a node is to lose what it holds."""
        return sum(
            len(fault.nodes) for fault in self.faults if loses_data(fault.kind, self.spec.sync)
        )

    @property
    def moves(self) -> bool:
        """Whether ranges change hands."""
        changes = any(fault.kind in ("join", "leave") for fault in self.faults)
        return self.loses_data or changes or self.spec.dead_after_us > 0

    @property
    def checks(self) -> tuple[str, ...]:
        """Return the checks of the history: those of the scenario, or what the setting promises."""
        return checks_of(self.spec.checks) or self.promises

    @property
    def promises(self) -> tuple[str, ...]:
        """Return the checks of the history whose guarantee the store gives in this setting.

        `reads` and `lost` always; `fresh` where read and write quorums meet; `linear` where one
        copy serves each key, stays where it is and is never out of reach (others would stand in), and
        in the linear namespace or at the level `atomic` as long as no two copies of a key are lost.
        """
        spec = self.spec
        if spec.ns == "linear":
            return ("linear",) if self._lives_lost <= (spec.copies > 2) else ()
        found = ["reads", "lost"]
        if spec.r + spec.w > spec.copies:
            found.append("fresh")
        in_reach = spec.nodes == 1 or all(fault.kind == "skew" for fault in self.faults)
        alone = spec.copies == 1 and not self.moves and in_reach
        atomic = spec.workload.level == "atomic" and not spec.operations
        if alone or (atomic and self._lives_lost <= (spec.copies > 2)):
            found.append("linear")
        return tuple(found)

    def with_faults(self, lines: Iterable[Mapping[str, Any]]) -> Plan:
        """Return the plan with the faults of a journal, as they really were, in place of its own.

        Raises UsageError for lines without targets, as a simulated run writes them.
        """
        faults = []
        for line in lines:
            if not (line.get("nodes") or line.get("links")) or not isinstance(
                line.get("t_us"), int
            ):
                raise UsageError(
                    "the faults of this run do not say whom they hit: it was simulated",
                    hint="kvlab sim --scenario RUN/spec.yaml runs it again, to the byte",
                )
            until_us = self.spec.time_us
            if line["kind"] not in LASTING:
                until_us = min(until_us, int(line["until_us"]))
            faults.append(Fault.from_builtins(line, min(line["t_us"], until_us), until_us))
        return replace(self, faults=tuple(sorted(faults, key=lambda fault: fault.at_us)))

    def to_builtins(self) -> dict[str, Any]:
        """Give the plan as JSON shows it: the same scenario and seed, the same bytes."""
        return {
            "name": self.spec.name,
            "seed": self.spec.seed,
            "nodes": list(self.founders),
            "joiners": list(self.joiners),
            "phases": [
                {"name": name, "at_us": at_us, "until_us": until_us}
                for name, at_us, until_us in self.phases
            ],
            "faults": [
                {"at_us": one.at_us, "until_us": one.until_us, **one.to_builtins()}
                for one in self.faults
            ],
            "operations": [asdict(one) for given in self.operations.values() for one in given],
            "checks": list(self.checks),
        }


def make_plan(spec: ScenarioSpec) -> Plan:
    """Resolve names, draw what is left to chance. Raises UsageError on names that do not exist."""
    check_names(spec.checks)
    rng = Rng(spec.seed, "plan")
    founders = founders_of(spec.nodes)
    joiners = tuple(
        dict.fromkeys(
            fault.targets
            for fault in spec.faults
            if fault.kind == "join" and fault.targets not in founders
        )
    )
    faults = resolve_faults(spec, (*founders, *joiners), rng)
    operations = spec.operations or tuple(draw_operations(spec, founders, rng.child("operations")))
    by_client: dict[str, list[OperationSpec]] = {}
    for operation in sorted(operations, key=lambda one: one.at_us):
        by_client.setdefault(operation.client, []).append(operation)
    return Plan(
        spec,
        founders,
        joiners,
        {client: tuple(by_client[client]) for client in sorted(by_client)},
        faults,
    )


def check_names(names: tuple[str, ...]) -> None:
    """Raise UsageError for what is no check."""
    for name in names:
        if name not in SUMMARIES and name not in GROUPS:
            known = ", ".join([*SUMMARIES, *GROUPS])
            raise UsageError(f'there is no check "{name}"', hint=f"the checks are {known}")


def checks_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names with those of groups spelled out, in the order of the list."""
    wanted = {one for name in names for one in GROUPS.get(name, (name,))}
    return tuple(name for name in SUMMARIES if name in wanted)
