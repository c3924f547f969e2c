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
from kvlab.experiment.faults import resolve_faults
from kvlab.experiment.operations import draw_operations
from kvlab.fault.fault import LASTING, Fault, loses_data
from kvlab.rng import Rng
from kvlab.spec.scenario import CHECKED_KINDS, VERBS, OperationSpec, ScenarioSpec

VERSIONED = ("fresh", "monotonic-writes", "writes-follow-reads")
"""Checks that see nothing where no versions are told."""
RESP_VERBS = ("incr", "append")
"""What a server that speaks RESP is taken to know beside GET, SET and DEL."""


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
        return self.spec.phase_times

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
        """Return the checks of the history: those of the scenario, or what the setting promises.

        The check of the workload's own kind is among them where anything is promised.
        """
        found = checks_of(self.spec.checks) or self.promises
        kind = self.spec.workload.kind
        is_checked = kind in CHECKED_KINDS and not self.spec.operations and self.promises
        if is_checked and kind not in found:
            found = (*found, kind)
        if not self.spec.is_of_others:
            return found
        return tuple(name for name in found if name not in VERSIONED)

    @property
    def promises(self) -> tuple[str, ...]:
        """Return the checks of the history whose guarantee the store gives in this setting.

        `reads` and `lost` always; `fresh` where read and write quorums meet; `linear` where one
        copy serves each key, stays where it is and is never out of reach (others would stand in), and
        in the linear namespace or at the level `atomic` as long as no two copies of a key are lost.
        Servers by others promise `reads` and `lost`, or with `ns: linear` that they are linear,
        whatever happens to them.
        """
        spec = self.spec
        if (
            spec.is_of_others
        ):  # nobody knows their quorums: clients see whether they keep their word
            return ("linear",) if spec.ns == "linear" else ("reads", "lost")
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
    _check_others(spec)
    rng = Rng(spec.seed, "plan")
    founders = spec.founders
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


def _check_others(spec: ScenarioSpec) -> None:
    """Raise UsageError for what servers by others cannot be asked."""
    if not spec.is_of_others or spec.cluster is None:
        return
    asked = checks_of(spec.checks)
    if asked and not set(asked) - set(VERSIONED):
        raise UsageError(
            f"{asked[0]} compares versions, which servers by others do not tell",
            hint="the checks lost, reads, linear and staleness need none",
        )
    work = spec.workload
    verbs = {"cas"} if work.kind == "cart" and spec.ns == "linear" else set(work.verbs)
    if spec.operations:
        verbs = {one.verb for one in spec.operations}
    missing = sorted(verbs - set(verbs_of(spec)))
    if missing:
        name = missing[0].upper()
        raise UsageError(
            f"these servers are not said to know {name}",
            hint=f"write knows: [{name}] into engine of cluster.yaml, or leave {missing[0]} out",
        )
    if spec.workload.level or any(one.level for one in spec.operations):
        raise UsageError("level is for kvlab's own nodes: servers by others know none")


def verbs_of(spec: ScenarioSpec) -> tuple[str, ...]:
    """Return the verbs that clients may use on the servers of a scenario."""
    if spec.cluster is None or not spec.is_of_others:
        return VERBS
    engine = spec.cluster.engine
    known = RESP_VERBS if engine.protocol == "resp" else ()
    return (*VERBS[:3], *known, *(one.lower() for one in engine.knows if one.lower() in VERBS))


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
