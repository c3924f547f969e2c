"""What happened becomes a verdict: the history is judged, and what the run lacked to prove anything.

It runs nothing and asks no world. A simulated and a real run are judged alike.

Invariants:

1. The first sentence that a verdict gives is the worst one.
2. A run that did not hurt, or in which too little succeeded, is at best `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kvlab.check import CHECKERS, EXTRA
from kvlab.check.verdict import Check, Verdict, worst
from kvlab.experiment.phases import count_phases
from kvlab.experiment.plan import Plan
from kvlab.history import Event, pair

# What a node's clock may be off by besides its offset: the ticks that writes take in advance.
CLOCK_ERROR_US = 1_000


@dataclass(slots=True)
class Record:
    """What a run left besides its history."""

    faults: list[dict[str, Any]] = field(default_factory=list)  # the lines of faults.jsonl
    checks: list[Check] = field(default_factory=list)  # that the world made by itself
    guards: dict[str, str] = field(default_factory=dict)  # that the world knows of, as in Judgement
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
    counts = count_phases(plan, events)
    ok, total = counts.ok, counts.operations
    guards = {"operations": "", "final reads": "", "faults": _what_did_not_bite(plan, record)}
    if total and ok < plan.spec.guards.ok_share * total:
        guards["operations"] = f"{ok} of {total} operations succeeded"
    for phase in counts.phases if plan.spec.phases else ():
        if phase.ok < plan.spec.guards.phase_ok and not guards["operations"]:
            least = f"{phase.ok} operations succeeded in phase {phase.name}"
            guards["operations"] = f"{least}, fewer than {plan.spec.guards.phase_ok}"
    if plan.keys and not counts.finals:
        guards["final reads"] = "no key could be read at the end"
    return guards | record.guards


def _what_did_not_bite(plan: Plan, record: Record) -> str:
    bite, bit = plan.spec.guards.bite, [line for line in record.faults if line.get("bit")]
    if not plan.faults or bite == "none":
        return ""
    if not bit:
        return f"none of {len(plan.faults)} faults had an effect"
    missing = next((line for line in record.faults if not line.get("bit")), None)
    if bite == "all" and missing is not None:
        return (
            f"{missing.get('title', 'a fault')} had no effect: {missing.get('why') or 'not felt'}"
        )
    return ""


def with_weak_acknowledgements(plan: Plan, events: Iterable[Event]) -> list[Event]:
    """Return the events as the promise of durability reads them.

    Where memory is lost, a write that fewer than a quorum of copies acknowledged may go with a copy:
    the reply said so (`degraded`). Such an acknowledgement becomes `info`.
    """
    given = list(events)
    if not plan.loses_data:
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


def judge_history(plan: Plan, events: list[Event], *, healed_us: int | None = None) -> list[Check]:
    """Run the checks of a plan that a history can answer; the worlds make `converged` themselves."""
    return [
        judge_promise(name, plan, events, healed_us=healed_us)
        for name in plan.checks
        if name in CHECKERS or (name in EXTRA and name != "converged")
    ]


def judge_promise(
    name: str, plan: Plan, events: list[Event], *, healed_us: int | None = None
) -> Check:
    """Check one promise; where there was nothing to judge, there is nothing wrong."""
    options: dict[str, Any] = {}
    if name in ("lost", "set", "cart"):
        events = with_weak_acknowledgements(plan, events)
    if name == "lost":
        options["clock_error_us"] = clock_error_us(plan)
    elif name in ("availability", "liveness"):
        options["healed_us"] = healed_us
    check = (CHECKERS | EXTRA)[name](pair(events), **options)
    if check.verdict is Verdict.UNKNOWN and not check.judged:
        return Check(name=name, verdict=Verdict.VALID, because=check.because)
    return check


def clock_error_us(plan: Plan) -> int:
    """Return by how much the clocks of two nodes may differ in a plan, steps included."""
    offsets = [plan.spec.clocks.get(name, 0) for name in plan.founders] + [0]
    steps = sum(abs(fault.by_us) for fault in plan.faults if fault.kind == "skew")
    return max(offsets) - min(offsets) + steps + CLOCK_ERROR_US


def is_as_expected(verdict: Verdict, expect: str) -> bool:
    """Say whether a verdict is the one that a scenario expects; `any` is not `unknown`."""
    return verdict is not Verdict.UNKNOWN and expect in ("any", verdict.value)
