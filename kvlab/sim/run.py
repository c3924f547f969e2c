"""A scenario becomes an outcome: the world runs, the checkers judge. One call, no files.

It prints nothing and decides on no exit code.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvlab.check.verdict import Check, Verdict
from kvlab.experiment import (
    Judgement,
    Plan,
    Record,
    guards_of,
    judge,
    judge_history,
    make_plan,
)
from kvlab.history import decode_events
from kvlab.sim.stream import Trace
from kvlab.sim.world import World
from kvlab.spec.scenario import ScenarioSpec


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
    healed_us = max((line["until_us"] for line in world.record.faults), default=None)
    checks = world.record.checks + judge_history(plan, events, healed_us=healed_us)
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
