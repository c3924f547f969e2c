"""A seed becomes a scenario: cluster size, quorums, clocks, workload, and a mix of faults.

Swarm testing (Groce and others, 2012): each seed leaves most kinds of fault out, so that the few it
has can show what a blend of all would hide. It draws values only; nothing runs here.

Invariant: what is drawn can be written down and read again (spec/scenario_file.py), and runs alike.
"""

from __future__ import annotations

from collections.abc import Callable

from kvlab.rng import Rng
from kvlab.spec.scenario import SECOND_US, FaultSpec, ScenarioSpec, WorkloadSpec

MS_US = 1_000
TIME_US = 12 * SECOND_US
FIRST_US = SECOND_US // 2  # the nodes have found each other by then
SKEW_US_MAX = 200 * MS_US  # below what a node follows (kv/version.py)

Maker = Callable[[Rng, tuple[str, ...], int, int], FaultSpec]


def draw(seed: int, *, nodes: int = 0, time_us: int = TIME_US, operations: int = 0) -> ScenarioSpec:
    """Return the scenario of a seed; `nodes` and `operations` fix what else is drawn."""
    rng = Rng(seed, "swarm")
    count = nodes or rng.choice((1, 2, 3, 3, 4, 5, 5, 5, 6, 7))
    names = tuple(f"server{number}" for number in range(1, count + 1))
    copies = min(count, rng.choice((1, 2, 3, 3, 3, 3, 3, 5)))
    r, w = _quorums(rng, copies)
    get, put, delete = rng.choice(_MIXES)
    span_us = time_us - 2 * FIRST_US
    return ScenarioSpec(
        name=f"swarm-{seed}",
        seed=seed,
        nodes=count,
        copies=copies,
        r=r,
        w=w,
        ranges=rng.choice((16, 16, 32, 64)),
        latency_us=rng.choice((100, 300, 300, 1000, 5000)),
        jitter_us=rng.choice((50, 200, 200, 1000)),
        clocks=_clocks(rng.child("clocks"), names),
        workload=WorkloadSpec(
            operations=operations or rng.choice((100, 200, 400, 1000)),
            clients=rng.choice((1, 2, 4, 8)),
            keys=rng.choice((1, 3, 8, 30, 200)),
            span_us=time_us - SECOND_US,
            get=get,
            set=put,
            delete=delete,
        ),
        faults=_faults(rng.child("faults"), names, copies, span_us),
        time_us=time_us,
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


def _faults(rng: Rng, names: tuple[str, ...], copies: int, span_us: int) -> tuple[FaultSpec, ...]:
    kinds = [kind for kind in _MAKERS if rng.random() < 0.35]
    if len(names) == 1:  # there is no link, and nobody else to keep the data
        kinds = [kind for kind in kinds if kind in ("pause", "join")]
    if copies == 1 or len(names) < 3:  # see World._why_not_lose
        kinds = [kind for kind in kinds if kind not in ("kill", "skew")]
    if not kinds:
        return ()
    found = []
    joined = len(names)
    for _ in range(rng.choice((1, 2, 4, 8, 12))):
        kind = rng.choice(kinds)
        fault = _MAKERS[kind](rng, names, joined, span_us)
        joined += fault.kind == "join"
        found.append(fault)
    return tuple(sorted(found, key=lambda fault: fault.at_us))


def _times(rng: Rng, span_us: int) -> tuple[int, int]:
    """Draw when a fault begins and how long it lasts: mostly short, sometimes long.

    Longer than two heartbeats, so that there is something on every link to be hit.
    """
    for_us = rng.choice((500, 1000, 2000, 4000)) * MS_US
    for_us = rng.randint(for_us // 2, for_us)
    return FIRST_US + rng.randrange(max(1, span_us - for_us)), for_us


def _kill(rng: Rng, names: tuple[str, ...], _joined: int, span_us: int) -> FaultSpec:
    at_us, for_us = _times(rng, span_us)
    kind = rng.choice(("kill", "kill", "power-cut"))
    # Longer than clocks step, so that the next life of a node is always the later one.
    return FaultSpec(
        kind=kind, at_us=at_us, for_us=max(for_us, SECOND_US // 2), targets=rng.choice(names)
    )


def _pause(rng: Rng, names: tuple[str, ...], _joined: int, span_us: int) -> FaultSpec:
    at_us, for_us = _times(rng, span_us)
    return FaultSpec(kind="pause", at_us=at_us, for_us=for_us, targets=rng.choice(names))


def _partition(rng: Rng, names: tuple[str, ...], _joined: int, span_us: int) -> FaultSpec:
    at_us, for_us = _times(rng, span_us)
    side = rng.pick(names, rng.randint(1, len(names) - 1))
    groups = f"{','.join(side)} | {','.join(one for one in names if one not in side)}"
    mode = rng.choice(("hold", "hold", "reset"))
    return FaultSpec(kind="partition", at_us=at_us, for_us=for_us, groups=groups, mode=mode)


def _pair(rng: Rng, names: tuple[str, ...]) -> tuple[str, str]:
    source, target = rng.sample(names, 2)
    return source, rng.choice((target, f"not({source})"))


def _cut(rng: Rng, names: tuple[str, ...], _joined: int, span_us: int) -> FaultSpec:
    """One direction of one link, or of all links of one node."""
    at_us, for_us = _times(rng, span_us)
    source, target = _pair(rng, names)
    return FaultSpec(
        kind="link",
        at_us=at_us,
        for_us=for_us,
        source=source,
        target=target,
        cut=True,
        mode=rng.choice(("hold", "hold", "reset")),
    )


def _slow(rng: Rng, names: tuple[str, ...], _joined: int, span_us: int) -> FaultSpec:
    at_us, for_us = _times(rng, span_us)
    source, target = _pair(rng, names)
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


def _reset(rng: Rng, names: tuple[str, ...], _joined: int, span_us: int) -> FaultSpec:
    source, target = _pair(rng, names)
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
    "pause": _pause,
    "partition": _partition,
    "cut": _cut,
    "slow": _slow,
    "reset": _reset,
    "skew": _skew,
    "join": _join,
    "leave": _leave,
}
