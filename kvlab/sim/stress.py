"""Small scenarios that press on one thing: moves, clocks, splits, or lost messages. Values only.

The swarm (`draw`) leaves nothing out, so it meets what takes three things at once only rarely. A
share of its seeds are these, and a planted bug is looked for here, so that a test of it takes a second.
"""

from __future__ import annotations

from dataclasses import replace

from kvlab.rng import Rng
from kvlab.spec.scenario import SECOND_US, FaultSpec, ScenarioSpec, WorkloadSpec

MS_US = 1_000
SKEW_US_MAX = 200 * MS_US  # below what a node follows (kv/version.py)
TIME_US = 6 * SECOND_US
START_US = SECOND_US // 2


def dense(seed: int) -> ScenarioSpec:
    """Return a busy scenario: few keys, many clients, slow links, no fault."""
    rng = Rng(seed, "stress")
    nodes = rng.choice((3, 4, 5))
    return ScenarioSpec(
        name=f"dense-{seed}",
        seed=seed,
        nodes=nodes,
        ranges=16,
        latency_us=rng.choice((300, 1000, 5000)),
        jitter_us=rng.choice((200, 1000, 4000)),
        workload=WorkloadSpec(
            operations=400,
            clients=8,
            keys=rng.choice((1, 2, 4)),
            span_us=TIME_US - START_US,
            get=0.5,
            set=0.35,
            delete=0.15,
        ),
        time_us=TIME_US,
    )


def skewed(seed: int) -> ScenarioSpec:
    """Return a busy scenario where every node's clock is off, mostly with one copy of each key."""
    spec, rng = dense(seed), Rng(seed, "stress/clocks")
    # Also so far off that no node follows another's clock.
    most_us = rng.choice((SKEW_US_MAX, SKEW_US_MAX, 2 * SECOND_US))
    clocks = {name: rng.randint(-most_us, most_us) for name in _names(spec)}
    copies, majority = rng.choice(((1, 1), (1, 1), (3, 2)))
    return replace(
        spec, name=f"skewed-{seed}", clocks=clocks, copies=copies, r=majority, w=majority
    )


def moving(seed: int) -> ScenarioSpec:
    """Return a busy scenario where nodes come and go, and some hear of it late."""
    spec, rng = dense(seed), Rng(seed, "stress/moves")
    names = _names(spec)
    faults = [
        FaultSpec(kind="join", at_us=_some_time(rng), targets=f"server{spec.nodes + number}")
        for number in (1, 2, 3)
    ]
    faults.append(FaultSpec(kind="leave", at_us=_some_time(rng), targets=rng.choice(names)))
    faults += [
        FaultSpec(
            kind="link",
            at_us=START_US,
            for_us=TIME_US - SECOND_US,
            source=f"not({late})",
            target=late,
            latency_us=rng.choice((50, 200, 600)) * MS_US,
        )
        for late in rng.sample(names, 2)
    ]
    work = replace(spec.workload, keys=rng.choice((4, 16, 48)))
    copies, majority = rng.choice(((1, 1), (1, 1), (3, 2), (3, 2)))
    return replace(
        spec,
        name=f"moving-{seed}",
        copies=copies,
        r=majority,
        w=majority,
        workload=work,
        faults=_in_order(faults),
    )


def lossy(seed: int) -> ScenarioSpec:
    """Return a busy scenario of three nodes: one misses writes while another loses its memory."""
    rng = Rng(seed, "stress/losses")
    spec = replace(dense(seed), nodes=3)
    faults = []
    for number in range(3):
        at_us = START_US + number * 3 * SECOND_US
        writer, loser, misser = rng.sample(_names(spec), 3)
        # Almost until silence would be noticed: what was held at the cut arrives when it heals.
        faults.append(_cut(writer, misser, at_us, 1400 * MS_US))
        lost_us = at_us + rng.randint(200, 700) * MS_US
        kind = rng.choice(("kill", "kill", "power-cut"))
        faults.append(FaultSpec(kind=kind, at_us=lost_us, for_us=50 * MS_US, targets=loser))
    time_us = 10 * SECOND_US
    work = replace(spec.workload, operations=800, span_us=time_us - START_US)
    return replace(
        spec, name=f"lossy-{seed}", faults=_in_order(faults), workload=work, time_us=time_us
    )


def dying(seed: int) -> ScenarioSpec:
    """Return a busy scenario of nodes that are away for so long that others take their place."""
    spec, rng = dense(seed), Rng(seed, "stress/deaths")
    spec = replace(spec, nodes=rng.choice((4, 5, 5, 6)))
    names, faults = _names(spec), []
    time_us = 14 * SECOND_US
    for number in range(3):
        at_us = START_US + number * 4 * SECOND_US + rng.randrange(SECOND_US)
        # Some come back just when their place is being taken, or before that.
        for_us = rng.choice((900, 1200, 1600, 2500, 4000)) * MS_US
        name = rng.choice(names)
        kind = rng.choice(("kill", "kill", "pause", "partition", "wipe"))
        if kind == "partition":
            groups = f"{name} | {','.join(one for one in names if one != name)}"
            faults.append(
                FaultSpec(kind=kind, at_us=at_us, for_us=for_us, groups=groups, mode="reset")
            )
        else:
            faults.append(FaultSpec(kind=kind, at_us=at_us, for_us=for_us, targets=name))
    work = replace(spec.workload, operations=800, span_us=time_us - START_US)
    return replace(
        spec,
        name=f"dying-{seed}",
        sync=rng.choice(("always", "always", "interval")),
        dead_after_us=rng.choice((500, 1000, 1500)) * MS_US,
        workload=replace(work, keys=rng.choice((4, 16, 64))),
        faults=_in_order(faults),
        time_us=time_us,
    )


def strangers(seed: int) -> ScenarioSpec:
    """Return a scenario like `lossy` on disks: one is wiped, and who knew its life is started again."""
    spec, rng = lossy(seed), Rng(seed, "stress/strangers")
    faults = []
    for fault in spec.faults:
        if fault.kind == "link":
            faults.append(fault)
            continue
        faults.append(replace(fault, kind="wipe"))
        for name in _names(spec):
            if name != fault.targets:
                at_us = fault.at_us + rng.randrange(20) * MS_US
                faults.append(FaultSpec(kind="kill", at_us=at_us, for_us=30 * MS_US, targets=name))
    return replace(spec, name=f"strangers-{seed}", sync="always", faults=_in_order(faults))


def split(seed: int) -> ScenarioSpec:
    """Return a busy scenario where nodes fall into two parts, and each is asked to take a node in."""
    spec, rng = dense(seed), Rng(seed, "stress/splits")
    names = _names(spec)
    side = rng.pick(names, rng.randint(1, len(names) - 1))
    here = [*side, f"server{spec.nodes + 1}"]
    there = [*(one for one in names if one not in side), f"server{spec.nodes + 2}"]
    faults = [
        FaultSpec(
            kind="partition",
            at_us=START_US,
            for_us=4 * SECOND_US,
            groups=f"{','.join(here)} | {','.join(there)}",
            mode=rng.choice(("hold", "reset")),
        )
    ]
    # Also before both sides have noticed: until then each takes itself for the majority.
    join_us = START_US + rng.randint(200, 3000) * MS_US
    faults += [FaultSpec(kind="join", at_us=join_us, targets=one[-1]) for one in (here, there)]
    return replace(spec, name=f"split-{seed}", faults=_in_order(faults))


def two_drivers(seed: int) -> ScenarioSpec:
    """Return a scenario where the two lowest members cannot see each other, and so both drive."""
    faults = [
        FaultSpec(
            kind="link", at_us=START_US, for_us=4 * SECOND_US, source=one, target=other, cut=True
        )
        for one, other in (("server1", "server2"), ("server2", "server1"))
    ]
    # At one time, so that both have something to change before they hear of each other's change.
    faults += [
        FaultSpec(kind="join", at_us=START_US + 2_500 * MS_US, targets=f"server{number}")
        for number in (6, 7, 8, 9)
    ]
    # Slow links: what one driver decides is long on its way to the other.
    return replace(
        dense(seed),
        name=f"two-drivers-{seed}",
        nodes=5,
        latency_us=20_000,
        jitter_us=10_000,
        faults=_in_order(faults),
    )


def parted(seed: int) -> ScenarioSpec:
    """Return a busy scenario where nodes fall into two parts, twice, and stay members."""
    spec, rng = dense(seed), Rng(seed, "stress/parts")
    names, faults = _names(spec), []
    for at_us in (START_US, TIME_US // 2):
        side = rng.pick(names, rng.randint(1, len(names) - 1))
        groups = f"{','.join(side)} | {','.join(one for one in names if one not in side)}"
        faults.append(
            FaultSpec(
                kind="partition",
                at_us=at_us,
                for_us=rng.randint(1000, 2500) * MS_US,
                groups=groups,
                mode=rng.choice(("hold", "reset")),
            )
        )
    work = replace(spec.workload, keys=rng.choice((4, 16, 64)))
    return replace(spec, name=f"parted-{seed}", faults=tuple(faults), workload=work)


def hinted(seed: int) -> ScenarioSpec:
    """Return a busy scenario where nodes stand in for those behind a cut, and end or move meanwhile."""
    spec, rng = parted(seed), Rng(seed, "stress/hints")
    latency_us = rng.choice((300, 20_000))
    spec = replace(spec, nodes=rng.choice((5, 5, 6, 7)), sync="always", latency_us=latency_us)
    names, faults, newest = _names(spec), [], spec.nodes
    for part in spec.faults:
        side = rng.pick(names, rng.randint(2, len(names) - 2))
        groups = f"{','.join(side)} | {','.join(one for one in names if one not in side)}"
        # Over a bridge things are handed over while others still come in.
        whole, over = replace(part, groups=groups), replace(part, groups="", shape="bridge")
        faults.append(rng.choice((whole, over)))
        for kind in ("kill", "kill", rng.choice(("kill", "join", "leave"))):
            at_us = part.at_us + rng.randrange(part.for_us * 5 // 4)
            newest += kind == "join"
            who = f"server{newest}" if kind == "join" else rng.choice(names[1:])
            for_us = rng.choice((50, 600)) * MS_US if kind == "kill" else 0
            faults.append(FaultSpec(kind=kind, at_us=at_us, for_us=for_us, targets=who))
    work = replace(spec.workload, keys=rng.choice((16, 64)))
    return replace(spec, name=f"hinted-{seed}", faults=_in_order(faults), workload=work)


def falling(seed: int) -> ScenarioSpec:
    """Return a busy scenario of nodes that keep their data on slow disks and die, some at once."""
    spec, rng = dense(seed), Rng(seed, "stress/falls")
    copies, majority = rng.choice(((1, 1), (1, 1), (2, 2), (3, 2), (3, 2)))
    # Unless a node waits for its disk, a power cut takes what others must still have: see `lossy`.
    sync = rng.choice(("always", "always", "always", "interval", "os"))
    faults = []
    for _ in range(rng.choice((2, 4, 8))):
        at_us = _some_time(rng)
        for_us = min(rng.choice((30, 200, 1000)) * MS_US, TIME_US - at_us)
        # Of how many nodes: all of them too, as when a building loses its power.
        fallen = rng.sample(_names(spec), rng.choice((1, 2, spec.nodes)))
        kind = rng.choice(("kill", "power-cut", "power-cut")) if sync == "always" else "kill"
        faults += [
            FaultSpec(kind=kind, at_us=at_us, for_us=for_us, targets=name) for name in fallen
        ]
    if rng.random() < 0.3:
        faults.append(
            FaultSpec(kind="join", at_us=_some_time(rng), targets=f"server{spec.nodes + 1}")
        )
    if rng.random() < 0.3:
        faults.append(FaultSpec(kind="leave", at_us=_some_time(rng), targets="server2"))
    time_us = 9 * SECOND_US  # the last third is calm: where all fall often, little succeeds before
    work = replace(spec.workload, keys=rng.choice((4, 16, 64)), span_us=time_us - START_US)
    return replace(
        spec,
        name=f"falling-{seed}",
        copies=copies,
        r=majority,
        w=majority,
        sync=sync,
        fsync_us=rng.choice((0, 20, 60)) * MS_US,
        workload=work,
        faults=_in_order(faults),
        time_us=time_us,
    )


def voters(seed: int) -> ScenarioSpec:
    """Return a scenario where a driver is cut off as it is voted for, and its voters fall and rise."""
    rng = Rng(seed, "stress/votes")
    join_us = START_US + SECOND_US
    # By then it was mostly promised what it asked for, and has votes that nobody knows of. Its words
    # are long on their way, longest to the one that is to drive after it and must not vote.
    cut_us = join_us + rng.randrange(400, 800) * MS_US
    faults = [
        *(
            FaultSpec(
                kind="link",
                at_us=START_US,
                for_us=cut_us - START_US,
                source="server1",
                target=name,
                latency_us=latency * MS_US,
            )
            for name, latency in (
                ("server2", 600),
                ("server3", 130),
                ("server4", 130),
                ("server5", 130),
            )
        ),
        FaultSpec(kind="join", at_us=join_us, targets="server6"),
        FaultSpec(
            kind="partition",
            at_us=cut_us,
            for_us=3 * SECOND_US,
            groups="server1,server6 | server2,server3,server4,server5,server7",
            mode="reset",
        ),
        # Another newcomer, so that what the others agree on is another map.
        FaultSpec(kind="join", at_us=cut_us, targets="server7"),
    ]
    faults += [
        FaultSpec(
            kind="kill",
            at_us=cut_us + rng.randrange(30) * MS_US,
            for_us=rng.choice((30, 100)) * MS_US,
            targets=name,
        )
        for name in ("server3", "server4", "server5")
    ]
    return replace(
        dense(seed),
        name=f"voters-{seed}",
        nodes=5,
        latency_us=20_000,
        jitter_us=10_000,
        sync="always",
        fsync_us=rng.choice((0, 5, 20)) * MS_US,
        faults=_in_order(faults),
    )


def rotting(seed: int) -> ScenarioSpec:
    """Return a busy scenario of nodes whose disks fail: wiped, damaged, full, or not syncing."""
    spec, rng = falling(seed), Rng(seed, "stress/disks")
    copies, majority = rng.choice(((1, 1), (3, 2), (3, 2)))
    # With one copy nobody could give back what is lost; but what was read must stay.
    kinds: tuple[str, ...] = ("wipe", "bit-flip", "disk-full", "sync-fail")
    if copies == 1:
        spec, kinds = replace(spec, nodes=rng.choice((1, 3))), kinds[2:]
    names = _names(spec)
    faults = [
        FaultSpec(
            # A full disk may not be met, so that it must not be all there is.
            kind=rng.choice(kinds) if number else kinds[-1],
            at_us=START_US + number * 2 * SECOND_US + rng.randrange(SECOND_US),
            for_us=rng.choice((50, 400, 1600)) * MS_US,
            targets=rng.choice(names),
        )
        for number in range(4)
    ]
    time_us = 10 * SECOND_US
    work = replace(spec.workload, operations=1000, span_us=time_us - START_US)
    return replace(
        spec,
        name=f"rotting-{seed}",
        copies=copies,
        r=majority,
        w=majority,
        sync="always",
        workload=work,
        faults=_in_order(faults + [one for one in spec.faults[:2] if one.targets in names]),
        time_us=time_us,
    )


def _some_time(rng: Rng) -> int:
    return START_US + rng.randrange(TIME_US - SECOND_US)


def _cut(source: str, target: str, at_us: int, for_us: int) -> FaultSpec:
    return FaultSpec(
        kind="link", at_us=at_us, for_us=for_us, source=source, target=target, cut=True, mode="hold"
    )


def _names(spec: ScenarioSpec) -> tuple[str, ...]:
    return tuple(f"server{number}" for number in range(1, spec.nodes + 1))


def _in_order(faults: list[FaultSpec]) -> tuple[FaultSpec, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.at_us))
