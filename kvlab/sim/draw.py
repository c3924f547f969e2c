"""A seed becomes a scenario: cluster size, quorums, clocks, workload, and a mix of faults.

Swarm testing (Groce and others, 2012): each seed leaves most kinds of fault out, so that the few it
has can show what a blend of all would hide. A share of the seeds are scenarios that press on one thing
(`stress`). It draws values only; nothing runs here.

Invariant: what is drawn can be written down and read again (spec/scenario_file.py), and runs alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvlab.fault.fault import KILLS, loses_data
from kvlab.rng import Rng
from kvlab.sim.contest import contested, resettled
from kvlab.sim.stress import (
    MS_US,
    SKEW_US_MAX,
    dense,
    dying,
    falling,
    hinted,
    lossy,
    moving,
    parted,
    rotting,
    skewed,
    split,
    strangers,
    two_drivers,
    voters,
)
from kvlab.spec.scenario import SECOND_US, FaultSpec, ScenarioSpec, WorkloadSpec

FIRST_US = SECOND_US // 2  # the nodes have found each other by then
LINEAR_SHARE = 0.25  # of seeds ask in the linear namespace
CONTESTED_SHARE = 0.4  # of those press on that namespace
ATOMIC_SHARE = 0.15  # of the others ask at the level `atomic` alone
STRICT_FAULT_PART = 4  # a fault lasts at most this part of a run of these kinds
KEPT_SHARE = 0.8  # of those whose nodes would keep their data in memory alone keep it on disk
LINEAR_VALUE_BYTES_MAX = 1000
PRESSED_SHARE = 0.3  # of seeds press on one thing
_PRESSED = (
    *(dense, dying, falling, hinted, lossy, moving, parted, rotting, skewed, split, strangers),
    *(two_drivers, voters),
)
# How long a node that loses its memory is down at least where clocks step: longer than they do, so that
# the next life of a node is always the later one.
DOWN_US_MIN = SECOND_US // 2
DEATHS = ("kill", "power-cut")  # that need no disk
FULL_OPERATIONS_MIN = 400  # of a workload: with fewer, a disk that is full may not be met

Maker = Callable[[Rng, tuple[str, ...], int, int], FaultSpec]


def draw(seed: int, *, nodes: int = 0, operations: int = 0) -> ScenarioSpec:
    """Return the scenario of a seed; `nodes` and `operations` fix what else is drawn."""
    rng = Rng(seed, "swarm")
    spec = _blend(seed, rng, nodes)
    if rng.random() < PRESSED_SHARE and not nodes:
        spec = rng.choice(_PRESSED)(seed)
    chance = Rng(seed, "namespace")  # of its own: what else is drawn stays as it is
    if chance.random() < LINEAR_SHARE and not spec.operations:
        spec = _in_linear(spec, chance)
        if chance.random() < CONTESTED_SHARE and not nodes:
            spec = chance.choice((contested, resettled))(seed)
    elif spec.ns == "eventual" and chance.random() < ATOMIC_SHARE:
        spec = replace(_milder(spec), workload=replace(spec.workload, level="atomic"))
    if operations:
        spec = replace(spec, workload=replace(spec.workload, operations=operations))
    return spec


def _in_linear(spec: ScenarioSpec, rng: Rng) -> ScenarioSpec:
    """Return the scenario with clients that ask in the linear namespace.

    A memory that is lost is a vote that is lost: mostly nodes keep their data, so that much can be
    promised.
    """
    get, put, delete, cas, incr, append = rng.choice(_LINEAR_MIXES)
    workload = replace(
        spec.workload,
        get=get,
        set=put,
        delete=delete,
        cas=cas,
        incr=incr,
        append=append,
        value_bytes=min(spec.workload.value_bytes, LINEAR_VALUE_BYTES_MAX),
    )
    sync = "always" if spec.sync == "memory" and rng.random() < KEPT_SHARE else spec.sync
    spec = replace(spec, name=f"{spec.name}-linear", ns="linear", sync=sync, workload=workload)
    return _milder(spec)


def _milder(spec: ScenarioSpec) -> ScenarioSpec:
    """Return the scenario with no fault that lasts long.

    Where a key without a majority serves nobody, next to nothing would succeed, which proves nothing.
    """
    longest_us = spec.time_us // STRICT_FAULT_PART
    faults = tuple(replace(one, for_us=min(one.for_us, longest_us)) for one in spec.faults)
    return replace(spec, faults=faults)


def _blend(seed: int, rng: Rng, nodes: int) -> ScenarioSpec:
    """Draw a scenario of a few kinds of fault."""
    count = nodes or rng.choice((1, 2, 3, 3, 4, 5, 5, 5, 6, 7))
    names = tuple(f"server{number}" for number in range(1, count + 1))
    copies = min(count, rng.choice((1, 2, 3, 3, 3, 3, 3, 5)))
    r, w = _quorums(rng, copies)
    get, put, delete = rng.choice(_MIXES)
    time_us = rng.choice((6, 6, 8, 10, 12)) * SECOND_US
    # The last third is calm: a run in which next to nothing succeeded would prove nothing.
    span_us = time_us * 2 // 3 - FIRST_US
    sync = rng.choice(("memory", "memory", "memory", "always", "interval", "os"))
    operations = rng.choice((100, 200, 400, 1000))
    # Large ones, so that a range does not fit into one message; few, as each is written many times.
    value_bytes = rng.choice((16, 16, 16, 100_000)) if operations <= 200 else 16
    safe = _safe_kills(names, copies, sync)
    faults = _faults(
        rng.child("faults"),
        names,
        span_us,
        one_stops=max(r, w) == copies,
        safe=safe,
        disks=_disks(sync, operations),
    )
    return ScenarioSpec(
        name=f"swarm-{seed}",
        seed=seed,
        nodes=count,
        copies=copies,
        r=r,
        w=w,
        ranges=rng.choice((16, 16, 32, 64)),
        sync=sync,
        fsync_us=rng.choice((0, 0, 5, 40)) * MS_US if sync != "memory" else 0,
        dead_after_us=rng.choice((0, 0, 0, 1, 2)) * SECOND_US if copies > 2 else 0,
        latency_us=rng.choice((100, 300, 300, 1000, 5000)),
        jitter_us=rng.choice((50, 200, 200, 1000)),
        clocks=_clocks(rng.child("clocks"), names),
        workload=WorkloadSpec(
            operations=operations,
            clients=rng.choice((1, 2, 4, 8)),
            keys=rng.choice((1, 3, 8, 30, 200)),
            span_us=time_us - SECOND_US,
            get=get,
            set=put,
            delete=delete,
            value_bytes=value_bytes,
        ),
        faults=faults,
        time_us=time_us,
    )


# Shares of get, set, delete, cas, incr and append.
_LINEAR_MIXES = (
    (0.4, 0.2, 0.1, 0.1, 0.1, 0.1),
    (0.5, 0.3, 0.1, 0.1, 0.0, 0.0),
    (0.4, 0.1, 0.0, 0.0, 0.25, 0.25),
    (0.3, 0.1, 0.1, 0.5, 0.0, 0.0),
)
# Shares of get, set, delete.
_MIXES = ((0.5, 0.4, 0.1), (0.5, 0.5, 0.0), (0.2, 0.5, 0.3), (0.8, 0.15, 0.05))


def _quorums(rng: Rng, copies: int) -> tuple[int, int]:
    majority = copies // 2 + 1
    if rng.random() < 0.8:
        return majority, majority
    return rng.randint(1, copies), rng.randint(1, copies)


def _clocks(rng: Rng, names: tuple[str, ...]) -> dict[str, int]:
    """Draw how far each clock is off: mostly nothing, or a little, or much."""
    most_us = rng.choice((0, 0, 5 * MS_US, SKEW_US_MAX))
    if not most_us:
        return {}
    return {name: rng.randint(-most_us, most_us) for name in names}


def _disks(sync: str, operations: int) -> tuple[str, ...]:
    """Return the faults of disks that can be met: a full one only where enough is written."""
    if sync == "memory":
        return ()
    kinds = ["wipe", "bit-flip"]
    if sync == "always":  # else a failing sync takes what was acknowledged
        kinds.append("sync-fail")
    if operations >= FULL_OPERATIONS_MIN:
        kinds.append("disk-full")
    return tuple(kinds)


def _safe_kills(names: tuple[str, ...], copies: int, sync: str) -> tuple[str, ...]:
    """Return how a node may die: it loses nothing, or others have it (experiment.limits)."""
    kinds = KILLS if sync != "memory" else DEATHS
    if copies > 1 and len(names) > 2:
        return kinds
    return tuple(kind for kind in kinds if not loses_data(kind, sync))


def _faults(
    rng: Rng,
    names: tuple[str, ...],
    span_us: int,
    *,
    one_stops: bool,
    safe: tuple[str, ...],
    disks: tuple[str, ...],
) -> tuple[FaultSpec, ...]:
    kinds = [kind for kind in _MAKERS if rng.random() < 0.35]
    if len(names) == 1:  # there is no link, and nobody else to keep the data
        kinds = [kind for kind in kinds if kind in ("kill", "pause", "join", "disk")]
    if not safe:
        kinds = [kind for kind in kinds if kind not in ("kill", "skew")]
    if not disks:
        kinds = [kind for kind in kinds if kind != "disk"]
    if not kinds:
        return ()
    found: list[FaultSpec] = []
    leavers: set[str] = set()
    joined = len(names)
    # At least two: a single one may meet nothing, and then the run proves little. Few and short ones
    # where one node can stop a key: else next to nothing would succeed.
    most, for_us_max = (2, span_us // 4) if one_stops else (12, span_us)
    for _ in range(min(most, rng.choice((2, 2, 4, 8, 12)))):
        kind = rng.choice(kinds)
        fault = _MAKERS[kind](rng, names, joined, span_us)
        joined += fault.kind == "join"
        fault = replace(fault, for_us=min(fault.for_us, for_us_max))
        if kind == "disk":
            fault = replace(fault, kind=rng.choice(disks))
        if fault.kind in KILLS and fault.kind not in safe:
            fault = replace(fault, kind=safe[0])
        if fault.kind == "leave":
            leavers.add(fault.targets)
            if leavers >= set(names):  # clients know the founders only: one of them stays
                leavers.discard(fault.targets)
                continue
        found.append(fault)
    if any(fault.kind == "skew" for fault in found):
        found = [_down_for_long(fault) for fault in found]
    return tuple(sorted(found, key=lambda fault: fault.at_us))


def _times(rng: Rng, span_us: int) -> tuple[int, int]:
    """Draw when a fault begins and how long it lasts: mostly short, sometimes long.

    Longer than two heartbeats, so that there is something on every link to be hit.
    """
    for_us = rng.choice((500, 1000, 2000, 4000)) * MS_US
    for_us = min(rng.randint(for_us // 2, for_us), span_us)
    return FIRST_US + rng.randrange(max(1, span_us - for_us)), for_us


def _down_for_long(fault: FaultSpec) -> FaultSpec:
    if fault.kind not in KILLS or fault.for_us >= DOWN_US_MIN:
        return fault
    return replace(fault, for_us=DOWN_US_MIN)


def _everybody(names: tuple[str, ...], joined: int) -> tuple[str, ...]:
    """Return the founders and those who are to join."""
    return (*names, *(f"server{number}" for number in range(len(names) + 1, joined + 1)))


def _kill(rng: Rng, names: tuple[str, ...], _joined: int, span_us: int) -> FaultSpec:
    at_us, for_us = _times(rng, span_us)
    kind = rng.choice(("kill", "kill", "power-cut"))
    # Also so short that nobody has noticed before the next life is there.
    for_us = rng.choice((50 * MS_US, 200 * MS_US, for_us, for_us))
    return FaultSpec(kind=kind, at_us=at_us, for_us=for_us, targets=rng.choice(names))


def _disk(rng: Rng, names: tuple[str, ...], _joined: int, span_us: int) -> FaultSpec:
    """Something of a disk; what, is drawn among what can happen here."""
    at_us, for_us = _times(rng, span_us)
    return FaultSpec(kind="wipe", at_us=at_us, for_us=for_us, targets=rng.choice(names))


def _pause(rng: Rng, names: tuple[str, ...], _joined: int, span_us: int) -> FaultSpec:
    at_us, for_us = _times(rng, span_us)
    return FaultSpec(kind="pause", at_us=at_us, for_us=for_us, targets=rng.choice(names))


def _partition(rng: Rng, names: tuple[str, ...], joined: int, span_us: int) -> FaultSpec:
    at_us, for_us = _times(rng, span_us)
    names = _everybody(names, joined)
    side = rng.pick(names, rng.randint(1, len(names) - 1))
    groups = f"{','.join(side)} | {','.join(one for one in names if one not in side)}"
    mode = rng.choice(("hold", "hold", "reset"))
    return FaultSpec(kind="partition", at_us=at_us, for_us=for_us, groups=groups, mode=mode)


def _pair(rng: Rng, names: tuple[str, ...]) -> tuple[str, str]:
    source, target = rng.sample(names, 2)
    return rng.choice(((source, target), (source, f"not({source})"), (f"not({target})", target)))


def _cut(rng: Rng, names: tuple[str, ...], joined: int, span_us: int) -> FaultSpec:
    """One direction of one link, or of all links of one node."""
    at_us, for_us = _times(rng, span_us)
    source, target = _pair(rng, _everybody(names, joined))
    return FaultSpec(
        kind="link",
        at_us=at_us,
        for_us=for_us,
        source=source,
        target=target,
        cut=True,
        mode=rng.choice(("hold", "hold", "reset")),
    )


def _slow(rng: Rng, names: tuple[str, ...], joined: int, span_us: int) -> FaultSpec:
    at_us, for_us = _times(rng, span_us)
    source, target = _pair(rng, _everybody(names, joined))
    latency_us = rng.choice((5, 50, 300, 1500)) * MS_US
    return FaultSpec(
        kind="link",
        at_us=at_us,
        for_us=for_us,
        source=source,
        target=target,
        latency_us=latency_us,
        jitter_us=latency_us // 2,
        bandwidth_bps=rng.choice((0, 0, 100_000)),
    )


def _reset(rng: Rng, names: tuple[str, ...], joined: int, span_us: int) -> FaultSpec:
    source, target = _pair(rng, _everybody(names, joined))
    return FaultSpec(kind="reset", at_us=_times(rng, span_us)[0], source=source, target=target)


def _skew(rng: Rng, names: tuple[str, ...], _joined: int, span_us: int) -> FaultSpec:
    at_us, for_us = _times(rng, span_us)
    by_us = rng.randint(-SKEW_US_MAX, SKEW_US_MAX) or MS_US
    return FaultSpec(
        kind="skew", at_us=at_us, for_us=for_us, targets=rng.choice(names), by_us=by_us
    )


def _join(rng: Rng, _names: tuple[str, ...], joined: int, span_us: int) -> FaultSpec:
    return FaultSpec(kind="join", at_us=_times(rng, span_us)[0], targets=f"server{joined + 1}")


def _leave(rng: Rng, names: tuple[str, ...], joined: int, span_us: int) -> FaultSpec:
    leaver = rng.randint(1, max(joined, len(names)))
    return FaultSpec(kind="leave", at_us=_times(rng, span_us)[0], targets=f"server{leaver}")


_MAKERS: dict[str, Maker] = {
    "kill": _kill,
    "disk": _disk,
    "pause": _pause,
    "partition": _partition,
    "cut": _cut,
    "slow": _slow,
    "reset": _reset,
    "skew": _skew,
    "join": _join,
    "leave": _leave,
}
