"""A scenario becomes an outcome: the world runs, the checkers judge. One call, no files.

It prints nothing and decides on no exit code.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvlab.check.fresh import check_fresh
from kvlab.check.linear import check_linear
from kvlab.check.lost import check_lost
from kvlab.check.reads import check_reads
from kvlab.check.verdict import Check, Verdict
from kvlab.experiment import (
    Judgement,
    Plan,
    Record,
    guards_of,
    judge,
    make_plan,
    with_weak_acknowledgements,
)
from kvlab.history import Event, decode_events, pair
from kvlab.sim.stream import Trace
from kvlab.sim.world import World
from kvlab.spec.scenario import ScenarioSpec

# What a node's clock may be off by besides its offset: the ticks that writes take in advance.
CLOCK_ERROR_US = 1_000


@dataclass(slots=True)
class Outcome:
    """What one simulated run came to."""

    spec: ScenarioSpec
    plan: Plan
    judgement: Judgement
    record: Record
    history: bytes  # history.jsonl
    sim_us: int  # how much time passed in there
    events: int  # things that happened

    @property
    def failed(self) -> list[str]:
        """Return the names of the checks that are not valid."""
        return [one.name for one in self.judgement.checks if one.verdict is Verdict.INVALID]


def run(spec: ScenarioSpec, *, trace: Trace | None = None) -> Outcome:
    """Run one scenario to its verdict. Raises UsageError if it names what does not exist."""
    plan = make_plan(spec)
    blocks: list[bytes] = []
    world = World(plan, blocks.append)
    world.network.trace = world.watch.trace = trace
    world.run()
    history = b"".join(blocks)
    events = decode_events(history)
    world.record.checks = [*world.watch.checks(), _converged(world), _serves(world)]
    world.record.coverage = dict(sorted(world.watch.reached.items()))
    checks = world.record.checks + [judge_promise(name, plan, events) for name in plan.promises]
    guards = guards_of(plan, events, world.record)
    return Outcome(
        spec,
        plan,
        judge(checks, guards),
        world.record,
        history,
        world.clock.now_us,
        world.clock.steps,
    )


def judge_promise(name: str, plan: Plan, events: list[Event]) -> Check:
    """Check one promise; where there was nothing to judge, there is nothing wrong."""
    if name == "lost":
        given = pair(with_weak_acknowledgements(plan, events))
        check = check_lost(given, clock_error_us=clock_error_us(plan))
    else:
        check = _CHECKERS[name](pair(events))
    if check.verdict is Verdict.UNKNOWN and not check.judged:
        return Check(name=name, verdict=Verdict.VALID, because=check.because)
    return check


_CHECKERS = {"reads": check_reads, "fresh": check_fresh, "linear": check_linear}


def clock_error_us(plan: Plan) -> int:
    """Return by how much the clocks of two nodes may differ in a plan, steps included."""
    offsets = [plan.spec.clocks.get(name, 0) for name in plan.founders] + [0]
    steps = sum(abs(fault.by_us) for fault in plan.faults if fault.kind == "skew")
    return max(offsets) - min(offsets) + steps + CLOCK_ERROR_US


def _converged(world: World) -> Check:
    """All nodes came to rest in time, with the replicas of every range equal."""
    verdict, because = (
        Verdict.VALID,
        "all nodes came to rest, and the replicas of all ranges are equal",
    )
    if world.settled_us < 0:
        because = f"after the last fault the nodes did not come to rest: {world.unsettled}"
        verdict = Verdict.INVALID
    ranges = world.plan.spec.ranges
    return Check(name="converged", verdict=verdict, because=because, judged=ranges)


def _serves(world: World) -> Check:
    """After the last fault every key can be read, and every client was answered."""
    found = [one for client in world.clients for one in client.failed_finals]
    found += [f"{client.name} still waits" for client in world.clients if not client.done]
    if world.settled_us < 0 and found:
        found = found[:1]
    if found:
        because = f"after the last fault a key could not be read: {found[0]}"
        return Check(name="serves", verdict=Verdict.INVALID, because=because, violations=len(found))
    return Check(name="serves", verdict=Verdict.VALID, because="every key could be read at the end")
