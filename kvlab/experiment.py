"""One run without I/O: a scenario becomes a plan, what happens becomes a record, a record a verdict.

It starts no node, sends nothing and reads no clock. A world that is simulated or real carries the
plan out and tells what came back; the same plan and judgement serve both.

Invariants:

1. A plan depends on the scenario alone, its seed included: the same text, the same plan.
2. The first sentence that a verdict gives is the worst one.
3. A run that did not hurt, or in which too little succeeded, is at best `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from kvlab.check.verdict import Check, Verdict, worst
from kvlab.errors import UsageError
from kvlab.fault.fault import DISK_KINDS, Fault, loses_data
from kvlab.fault.link import Connect, CutMode, LinkRule
from kvlab.fault.partition import Link, parse_groups
from kvlab.fault.selector import resolve as select
from kvlab.history import Event
from kvlab.rng import Rng
from kvlab.spec.scenario import VERBS, FaultSpec, OperationSpec, ScenarioSpec, WorkloadSpec

ANSWERS = ("NOT_FOUND", "CONFLICT")  # errors that a working store gives
MADE_SHARE = 0.5  # of reads and deletes are of counters and growing texts, where there are any
EXPECTS_SHARE = 0.8  # of compare-and-sets expect a value
MADE_PER_KEY = 20  # operations of any kind for each key of counters and of texts
AGAIN_SHARE = 0.5  # of operations are asked again where their end is unknown
OK_SHARE_MIN = 0.2  # of all operations must succeed, or the run proved little


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a run that can be known before it."""

    spec: ScenarioSpec
    founders: tuple[str, ...]
    joiners: tuple[str, ...]
    operations: dict[str, tuple[OperationSpec, ...]]  # by client, in order of time
    faults: tuple[Fault, ...]  # in order of time

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
    def promises(self) -> tuple[str, ...]:
        """Return the checks of the history whose guarantee the store gives in this setting.

        `reads` and `lost` always; `fresh` where read and write quorums meet; `linear` where one
        copy serves each key and stays where it is, and in the linear namespace or at the level
        `atomic` as long as no two copies of a key are lost.
        """
        spec = self.spec
        if spec.ns == "linear":
            return ("linear",) if self._lives_lost <= (spec.copies > 2) else ()
        found = ["reads", "lost"]
        if spec.r + spec.w > spec.copies:
            found.append("fresh")
        alone = spec.copies == 1 and not self.moves
        atomic = spec.workload.level == "atomic" and not spec.operations
        if alone or (atomic and self._lives_lost <= (spec.copies > 2)):
            found.append("linear")
        return tuple(found)


# -- a scenario becomes a plan ------------------------------------------------------------------


def make_plan(spec: ScenarioSpec) -> Plan:
    """Resolve names, draw what is left to chance. Raises UsageError on names that do not exist."""
    _check_disks(spec)
    rng = Rng(spec.seed, "plan")
    founders = tuple(f"server{number}" for number in range(1, spec.nodes + 1))
    joiners = tuple(
        dict.fromkeys(
            fault.targets
            for fault in spec.faults
            if fault.kind == "join" and fault.targets not in founders
        )
    )
    nodes = (*founders, *joiners)
    faults = [
        _fault(spec, one, nodes, rng.child(f"fault{at}")) for at, one in enumerate(spec.faults)
    ]
    operations = spec.operations or tuple(_draw_operations(spec, founders, rng.child("operations")))
    by_client: dict[str, list[OperationSpec]] = {}
    for operation in sorted(operations, key=lambda one: one.at_us):
        by_client.setdefault(operation.client, []).append(operation)
    return Plan(
        spec,
        founders,
        joiners,
        {client: tuple(by_client[client]) for client in sorted(by_client)},
        tuple(sorted(faults, key=lambda fault: fault.at_us)),
    )


def _check_disks(spec: ScenarioSpec) -> None:
    """Refuse faults of disks that no node has, or whose promise they would take away."""
    kinds = {fault.kind for fault in spec.faults}
    disk_kinds = [kind for kind in DISK_KINDS if kind in kinds]
    if disk_kinds and spec.sync == "memory":
        raise UsageError(
            f"{disk_kinds[0]} needs nodes that keep their data on disk",
            hint="write sync: always (or interval, or os)",
        )
    if "sync-fail" in kinds and spec.sync != "always":
        raise UsageError(
            f"sync-fail takes what was acknowledged with it where nodes sync: {spec.sync}",
            hint="write sync: always, where a node waits for its disk",
        )


def _fault(spec: ScenarioSpec, given: FaultSpec, nodes: tuple[str, ...], rng: Rng) -> Fault:
    until_us = given.at_us + given.for_us if given.for_us else spec.time_us
    fault = Fault(given.kind, given.at_us, until_us, by_us=given.by_us, title=given.kind)
    if given.kind == "partition":
        cut = parse_groups(given.groups, nodes)
        rule = LinkRule(cut=True, mode=cast(CutMode, given.mode))
        return replace(
            fault, links=cut.links, rule=rule, title=f"partition {cut.title} ({given.mode})"
        )
    if given.kind in ("link", "reset"):
        links = _links(given, nodes, rng)
        rule = LinkRule(
            cut=given.cut,
            mode=cast(CutMode, given.mode),
            connect=cast(Connect, given.connect),
            latency_us=given.latency_us,
            jitter_us=given.jitter_us,
            bandwidth_bps=given.bandwidth_bps,
        )
        words = rule.text() if given.kind == "link" else ""
        title = f"{given.kind} {given.source} -> {given.target} {words}".rstrip()
        return replace(fault, links=links, rule=rule, title=title)
    chosen = select(given.targets, nodes, rng)
    return replace(fault, nodes=chosen, title=f"{given.kind} {','.join(chosen)}")


def _links(given: FaultSpec, nodes: tuple[str, ...], rng: Rng) -> tuple[Link, ...]:
    sources = select(given.source or "all", nodes, rng)
    targets = select(given.target or "all", nodes, rng)
    links = tuple((a, b) for a in sources for b in targets if a != b)
    if not links:
        raise UsageError(f"there is no link from {given.source} to {given.target}")
    return links


def _draw_operations(
    spec: ScenarioSpec, founders: tuple[str, ...], rng: Rng
) -> Iterable[OperationSpec]:
    """Draw the operations of a workload: evenly spread over time, values unique."""
    work = spec.workload
    styles = [_style(rng) for _ in range(work.clients)]
    for number in range(work.operations):
        client = rng.randrange(work.clients)
        level, meta = styles[client]
        draw = rng.random()
        verb = "get" if draw < work.get else "set" if draw < work.get + work.set else "delete"
        value = f"v{number}".ljust(work.value_bytes, ".") if verb == "set" else ""
        if work.level:
            level, meta = work.level, True
        elif level == "mixed":
            level = rng.choice(("", "", "one", "quorum", "all"))
        operation = OperationSpec(
            at_us=rng.randrange(1, work.span_us),
            client=f"c{client + 1}",
            verb=verb,
            key=f"k{rng.randrange(work.keys)}",
            value=value,
            node=rng.choice(founders) if rng.random() < 0.1 else "",
            level=level,
            meta=meta,
            timeout_us=work.timeout_us,
        )
        yield operation if spec.ns == "eventual" else _linear(operation, number, work, rng)


def _linear(one: OperationSpec, number: int, work: WorkloadSpec, rng: Rng) -> OperationSpec:
    """Make of a drawn operation one of the linear namespace, which has more verbs and no levels.

    Counters and growing texts have keys of their own: any of their values shows how often each
    operation was done. A cas expects one of the values that were written lately.
    """
    shares = {verb: getattr(work, verb) for verb in VERBS}
    [verb] = rng.choices(tuple(shares), tuple(shares.values()))
    made = [kind for kind in ("incr", "append") if shares[kind]]
    kind = verb if verb in made else ""
    if made and verb in ("get", "delete") and rng.random() < MADE_SHARE:
        kind = rng.choice(made)
    key = one.key
    if kind:  # many, as what many clients do to one key at once takes long to judge
        key = f"{kind}{rng.randrange(max(work.keys, work.operations // MADE_PER_KEY))}"
    value = expected = ""
    if verb in ("set", "cas"):
        value = f"v{number}".ljust(work.value_bytes, ".")
    elif verb == "append":
        value = f"{number},"
    if verb == "cas" and rng.random() < EXPECTS_SHARE:
        expected = f"v{max(0, number - rng.randint(1, 4))}".ljust(work.value_bytes, ".")
    return replace(
        one, verb=verb, key=key, value=value, expected=expected, level="", meta=False,
        again=rng.random() < AGAIN_SHARE,
    )  # fmt: skip


def _style(rng: Rng) -> tuple[str, bool]:
    """Draw how a client asks: plainly, with versions told, or at levels of its own."""
    return rng.choice((("", False), ("", True), ("", True), ("mixed", True)))


# -- what happened becomes a verdict ------------------------------------------------------------


@dataclass(slots=True)
class Record:
    """What a run left besides its history."""

    faults: list[dict[str, Any]] = field(default_factory=list)  # the lines of faults.jsonl
    checks: list[Check] = field(default_factory=list)  # that the world made by itself
    coverage: dict[str, int] = field(default_factory=dict)  # states reached -> how often


@dataclass(slots=True)
class Judgement:
    """The verdict of one run."""

    verdict: Verdict
    because: str
    checks: list[Check]
    guards: dict[str, str]  # name -> "" where it holds, else what is missing

    def to_builtins(self, *, seed: int, reproduce: str, environment: Mapping[str, Any]) -> Any:
        """Return verdict.json as a dict."""
        return {
            "schema": 1,
            "verdict": self.verdict.value,
            "because": self.because,
            "checks": {check.name: check.to_builtins() for check in self.checks},
            "guards": {name: said or "holds" for name, said in self.guards.items()},
            "seed": seed,
            "reproduce": reproduce,
            "environment": dict(environment),
        }


def judge(checks: list[Check], guards: dict[str, str]) -> Judgement:
    """Put checks and guards together: the worst wins, and a broken guard is at best unknown."""
    verdict = worst(check.verdict for check in checks)
    missing = [f"{name}: {said}" for name, said in guards.items() if said]
    if missing and verdict is Verdict.VALID:
        verdict = Verdict.UNKNOWN
    bad = [f"{check.name}: {check.because}" for check in checks if check.verdict is verdict]
    if verdict is Verdict.VALID:
        because = f"{len(checks)} checks hold"
    else:
        because = (bad + missing)[0] if verdict is Verdict.INVALID or bad else missing[0]
    return Judgement(verdict, because, checks, guards)


def guards_of(plan: Plan, events: Iterable[Event], record: Record) -> dict[str, str]:
    """Say what a run lacks to prove anything: enough that succeeded, faults that bit."""
    ok = total = final = 0
    for event in events:
        if event.final:
            final += event.type == "ok"
        elif event.type == "invoke":
            total += 1
        elif event.type == "ok" or (event.type == "fail" and event.error in ANSWERS):
            ok += 1
    guards = {"operations": "", "final reads": "", "faults": ""}
    if total and ok < OK_SHARE_MIN * total:
        guards["operations"] = f"{ok} of {total} operations succeeded"
    if plan.keys and not final:
        guards["final reads"] = "no key could be read at the end"
    bit = [line for line in record.faults if line.get("bit")]
    if plan.faults and not bit:
        guards["faults"] = f"none of {len(plan.faults)} faults had an effect"
    return guards


def with_weak_acknowledgements(plan: Plan, events: Iterable[Event]) -> list[Event]:
    """Return the events as the promise of durability reads them.

    Where memory is lost or ranges move, a write that fewer than a quorum of copies acknowledged may go
    with a copy: the reply said so (`degraded`). Such an acknowledgement becomes `info`.
    """
    given = list(events)
    if not plan.moves:
        return given
    all_weak = plan.spec.w * 2 <= plan.spec.copies and plan.spec.copies > 1
    return [_weakened(one) if _is_weak(one, all_weak=all_weak) else one for one in given]


def _is_weak(event: Event, *, all_weak: bool) -> bool:
    is_write = event.type == "ok" and event.f in ("set", "delete")
    return is_write and (all_weak or event.degraded)


def _weakened(event: Event) -> Event:
    return Event(
        t_us=event.t_us, client=event.client, op=event.op, type="info", f=event.f, key=event.key
    )
