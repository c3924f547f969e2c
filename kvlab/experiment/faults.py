"""The faults of a scenario become faults with names and times: selectors, shapes and times resolved.

It does nothing to anybody. What a selector says of keys is true of the ring that a cluster starts
with: it is not looked up again once nodes have come or gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import cast

from kvlab.errors import UsageError
from kvlab.fault.fault import DISK_KINDS, Fault
from kvlab.fault.link import Connect, CutMode, LinkRule
from kvlab.fault.partition import Link, Partition, one_way, parse_groups, shape
from kvlab.fault.selector import Scene
from kvlab.fault.selector import resolve as select
from kvlab.ring.change import first_map
from kvlab.ring.cluster_map import Member
from kvlab.ring.slot import range_of
from kvlab.rng import Rng
from kvlab.spec.scenario import FaultSpec, ScenarioSpec

FAULTS_MAX = 2_000  # of one run, each time counted


def resolve_faults(spec: ScenarioSpec, nodes: tuple[str, ...], rng: Rng) -> tuple[Fault, ...]:
    """Return every fault of a run in order of time. Raises UsageError on names that do not exist."""
    check_disks(spec)
    count = sum(one.times_within(spec.time_us) for one in spec.faults)
    if count > FAULTS_MAX:
        raise UsageError(f"there are {count} faults in one run; at most {FAULTS_MAX} make sense")
    found = list[Fault]()
    for at, one in enumerate(spec.faults):
        found += _each_time(spec, one, nodes, rng.child(f"fault{at}"))
    return tuple(sorted(found, key=lambda fault: fault.at_us))


def check_disks(spec: ScenarioSpec) -> None:
    """Refuse faults of disks that no node has, or whose promise they would take away."""
    kinds = {fault.kind for fault in spec.faults}
    disk_kinds = [kind for kind in DISK_KINDS if kind in kinds]
    if spec.is_of_others:
        return  # what they promise of their disks is not known
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


def _each_time(
    spec: ScenarioSpec, given: FaultSpec, nodes: tuple[str, ...], rng: Rng
) -> Iterator[Fault]:
    """Resolve a fault anew for each time that it happens."""
    chance = rng.child("times")
    for turn in range(given.times_within(spec.time_us)):
        vary_us = chance.randint(-given.vary_us, given.vary_us) if given.vary_us else 0
        at_us = max(0, given.at_us + turn * given.every_us + vary_us)
        if at_us > spec.time_us:
            continue
        # The first time draws from the stream that a fault without repeats has.
        each = rng if turn == 0 else rng.child(f"{turn}")
        yield resolve_fault(spec, replace(given, at_us=at_us), nodes, each, turn)


def resolve_fault(
    spec: ScenarioSpec, given: FaultSpec, nodes: tuple[str, ...], rng: Rng, turn: int
) -> Fault:
    """Return one fault of a run, the `turn`-th time that it happens (from 0). Raises UsageError."""
    until_us = min(spec.time_us, given.at_us + given.for_us) if given.for_us else spec.time_us
    fault = Fault(
        given.kind, given.at_us, until_us, by_us=given.by_us, cpu=given.cpu, title=given.kind
    )

    def chosen(selector: str) -> tuple[str, ...]:
        scene = Scene(turn, lambda key: keepers_of(spec, key))
        return select(selector, nodes, rng, scene)

    if given.kind == "partition":
        cut = _partition(given, nodes, rng, chosen)
        rule = LinkRule(cut=True, mode=cast(CutMode, given.mode))
        return replace(
            fault, links=cut.links, rule=rule, title=f"partition {cut.title} ({given.mode})"
        )
    if given.kind in ("link", "reset"):
        links = _links(given, chosen(given.source or "all"), chosen(given.target or "all"))
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
    hit = chosen(given.targets)
    said = f" to {given.cpu:.0%} of a processor" if given.kind == "slow" else ""
    return replace(fault, nodes=hit, title=f"{given.kind} {','.join(hit)}{said}")


def _partition(
    given: FaultSpec,
    nodes: tuple[str, ...],
    rng: Rng,
    chosen: Callable[[str], tuple[str, ...]],
) -> Partition:
    if given.groups:
        return parse_groups(given.groups, nodes)
    if given.shape:
        subject = chosen(given.targets)[0] if given.targets else None
        return shape(given.shape, nodes, rng, subject=subject)
    return one_way(chosen(given.source), chosen(given.target), nodes)


def _links(
    given: FaultSpec, sources: tuple[str, ...], targets: tuple[str, ...]
) -> tuple[Link, ...]:
    links = tuple((a, b) for a in sources for b in targets if a != b)
    if not links:
        raise UsageError(f"there is no link from {given.source} to {given.target}")
    return links


def keepers_of(spec: ScenarioSpec, key: str) -> tuple[str, ...]:
    """Return who keeps a key when a scenario begins, the first one first. Raises UsageError."""
    if spec.is_of_others:
        raise UsageError(
            f"who keeps {key} is not known of servers by others",
            hint="name nodes, or write one, minority, majority, all, each or not(...)",
        )
    if spec.cluster is None:
        return replicas_of(spec.nodes, spec.copies, spec.ranges, key)
    members = tuple(
        Member(id=one.id, number=0, address=one.id, weight=one.weight, rack=one.rack or "")
        for one in spec.cluster.nodes
    )
    return _first_ranges(members, spec.copies, spec.ranges)[range_of(key.encode(), spec.ranges)]


@cache
def _first_ranges(
    members: tuple[Member, ...], copies: int, ranges: int
) -> tuple[tuple[str, ...], ...]:
    return tuple(place.replicas for place in first_map("plan", members, copies, ranges).ranges)


def replicas_of(nodes: int, copies: int, ranges: int, key: str) -> tuple[str, ...]:
    """Return who keeps a key in a new cluster of equal nodes, the first one first."""
    members = tuple(
        Member(id=name, number=0, address=name) for name in ScenarioSpec(nodes=nodes).founders
    )
    return _first_ranges(members, copies, ranges)[range_of(key.encode(), ranges)]
