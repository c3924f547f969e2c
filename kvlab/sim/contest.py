"""Small scenarios that press on the linear namespace: few keys, many clients, proposers cut off.

They are what `stress` is for the eventual one: a share of the swarm's seeds, and where planted bugs
are looked for. Values only.
"""

from __future__ import annotations

from dataclasses import replace

from kvlab.rng import Rng
from kvlab.sim.stress import MS_US, START_US
from kvlab.spec.scenario import SECOND_US, FaultSpec, ScenarioSpec, WorkloadSpec

TIME_US = 8 * SECOND_US
FAULTS = 9
KINDS = ("kill", "pause", "partition", "apart", "half", "half", "slow", "reset")
LATE_US = 300 * MS_US


def contested(seed: int) -> ScenarioSpec:
    """Return a busy scenario where those who propose are cut off, stopped and restarted."""
    rng = Rng(seed, "contest")
    # Of five copies two are no majority yet: what a proposer and another one have is not chosen.
    nodes, copies = rng.choice(((3, 3), (5, 5), (5, 5)))
    names = tuple(f"server{number}" for number in range(1, nodes + 1))
    return ScenarioSpec(
        name=f"contested-{seed}",
        seed=seed,
        nodes=nodes,
        copies=copies,
        r=copies // 2 + 1,
        w=copies // 2 + 1,
        ranges=16,
        ns="linear",
        sync=rng.choice(("always", "os", "interval")),
        latency_us=rng.choice((300, 2000, 20_000)),
        jitter_us=rng.choice((200, 2000, 20_000)),
        workload=_work(rng),
        faults=_troubles(rng, names),
        time_us=TIME_US,
    )


def resettled(seed: int) -> ScenarioSpec:
    """Return a busy scenario where nodes come together and go, and one hears of it very late."""
    rng = Rng(seed, "contest/moves")
    names = ("server1", "server2", "server3")
    late = rng.choice(names)
    at_us = START_US + rng.randrange(SECOND_US)
    faults = [
        FaultSpec(
            kind="link",
            at_us=START_US,
            for_us=TIME_US - SECOND_US,
            source=f"not({late})",
            target=late,
            latency_us=rng.choice((300, 600, 900)) * MS_US,
        ),
        *(
            FaultSpec(kind="join", at_us=at_us + number * MS_US, targets=f"server{number}")
            for number in (4, 5, 6)
        ),
        FaultSpec(
            kind="leave",
            at_us=at_us + rng.randrange(3 * SECOND_US),
            targets=rng.choice([name for name in names if name != late]),
        ),
    ]
    troubles = [one for one in _troubles(rng, names) if one.kind in ("partition", "link", "reset")]
    faults += troubles[: rng.choice((0, 0, 3))]
    return replace(
        contested(seed),
        name=f"resettled-{seed}",
        nodes=3,
        copies=3,
        r=2,
        w=2,
        sync="always",
        latency_us=300,
        jitter_us=200,
        faults=tuple(sorted(faults, key=lambda one: one.at_us)),
    )


def atomic(seed: int) -> ScenarioSpec:
    """Return a busy scenario at the level `atomic`, where what is written is long on some ways.

    So one reader meets a new value early, and another might not after it.
    """
    rng, spec = Rng(seed, "contest/atomic"), contested(seed)
    names = [f"server{number}" for number in range(1, spec.nodes + 1)]
    ways = [(a, b) for a in names for b in names if a != b]
    slow = [
        FaultSpec(
            kind="link",
            at_us=START_US,
            for_us=TIME_US - SECOND_US,
            source=source,
            target=target,
            latency_us=rng.choice((1, 5, 100)) * MS_US,
        )
        for source, target in ways
    ]
    troubles = [one for one in spec.faults if one.kind in ("kill", "pause", "reset")]
    return replace(
        spec,
        name=f"atomic-{seed}",
        ns="eventual",
        workload=replace(
            spec.workload, get=0.6, set=0.35, delete=0.05, cas=0.0, append=0.0, level="atomic"
        ),
        faults=tuple(sorted((*slow, *troubles[:3]), key=lambda one: one.at_us)),
    )


def _work(rng: Rng) -> WorkloadSpec:
    """Draw who fights for what. Texts that grow show each operation, and how often it was done."""
    put, append = rng.choice(((0.1, 0.4), (0.2, 0.3)))
    return WorkloadSpec(
        operations=500,
        clients=8,
        keys=rng.choice((2, 4, 8)),
        span_us=TIME_US - SECOND_US,
        get=0.4,
        set=put,
        delete=0.0,
        cas=0.1,
        append=append,
        incr=0.0,
    )


def _troubles(rng: Rng, names: tuple[str, ...]) -> tuple[FaultSpec, ...]:
    """Draw short faults of one node or of two, mostly in the middle of what they do."""
    faults: list[FaultSpec] = []
    for number in range(FAULTS):
        at_us = START_US + number * 600 * MS_US + rng.randrange(300 * MS_US)
        for_us = rng.choice((50, 200, 400, 1000)) * MS_US
        name, other = rng.sample(names, 2)
        kind = rng.choice(KINDS)
        fault = FaultSpec(kind=kind, at_us=at_us, for_us=for_us)
        if kind == "partition":
            faults.append(_split(fault, name, names, mode=rng.choice(("hold", "reset"))))
        elif kind == "apart":  # both see all others, and neither knows what the other proposes
            cut = replace(fault, kind="link", cut=True, mode="reset")
            faults += [replace(cut, source=a, target=b) for a, b in ((name, other), (other, name))]
        elif kind == "half":  # what a node says has reached one other when it is cut off
            late = f"not({name},{other})"
            slow = replace(fault, kind="link", for_us=3 * LATE_US, latency_us=LATE_US)
            cut = replace(fault, at_us=at_us + 3 * LATE_US, for_us=1200 * MS_US)
            faults += [
                replace(slow, source=name, target=late),
                _split(cut, name, names, mode="reset"),
            ]
        elif kind == "slow":  # what a node says, or what it is told, takes its time
            ways = (name, f"not({name})")
            source, target = ways if rng.random() < 0.5 else ways[::-1]
            late_us = rng.choice((50, 200)) * MS_US
            faults.append(
                replace(fault, kind="link", source=source, target=target, latency_us=late_us)
            )
        elif kind == "reset":
            faults.append(replace(fault, for_us=0, source=name, target="all"))
        else:
            faults.append(replace(fault, targets=name))
    return tuple(sorted(faults, key=lambda one: one.at_us))


def _split(fault: FaultSpec, name: str, names: tuple[str, ...], *, mode: str) -> FaultSpec:
    groups = f"{name} | {','.join(one for one in names if one != name)}"
    return replace(fault, kind="partition", groups=groups, mode=mode)
