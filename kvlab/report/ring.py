"""How slots and actual keys spread over nodes, against what would be fair.

It asks no node: it takes a cluster map and what each node says it holds (RANGES). What a change
would do is in plan.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvlab.report.table import Column, Table, bar, table
from kvlab.ring.balance import Balance, NodeShare, slot_balance
from kvlab.ring.change import placeable
from kvlab.ring.cluster_map import ClusterMap
from kvlab.ring.quota import copies_of, rack_keys, rack_limit
from kvlab.units import format_count, format_size

Held = Mapping[str, Mapping[int, tuple[int, int]]]
"""Node id -> range -> (keys, bytes), as measured; a node that did not answer is absent."""


@dataclass(frozen=True, slots=True)
class RingReport:
    """All that `kvlab ring` says: shares by the map (`slots`) and as measured (`keys`)."""

    cluster_map: ClusterMap
    slots: Balance
    keys: Balance
    data_bytes: Mapping[str, int]
    silent: tuple[str, ...]  # members that did not answer: their keys are not counted
    arriving: Mapping[str, int]  # ranges on their way to each node
    short_ranges: int  # ranges with fewer copies than the members could hold
    crowded_ranges: int  # ranges with more copies in one rack than the racks ask for
    racks: int

    def to_builtins(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return {
            "cluster": self.cluster_map.cluster,
            "epoch": self.cluster_map.epoch,
            "ranges": self.cluster_map.range_count,
            "replication": self.cluster_map.replication,
            "moving_ranges": len(self.cluster_map.joint_ranges()),
            "short_ranges": self.short_ranges,
            "crowded_ranges": self.crowded_ranges,
            "racks": self.racks,
            "silent": list(self.silent),
            "arriving": dict(self.arriving),
            "slots": self.slots.to_builtins(),
            "keys": self.keys.to_builtins(),
            "bytes": dict(self.data_bytes),
        }


def ring_report(cluster_map: ClusterMap, held: Held) -> RingReport:
    """Measure a cluster: its map, and the keys that its nodes say they hold."""
    arriving = Counter(
        node
        for state in cluster_map.ranges
        for node in state.next or ()
        if node not in state.replicas
    )
    members = placeable(cluster_map.members)
    copies = copies_of(cluster_map.replication, members)
    racks = rack_keys(cluster_map.members)
    limit = rack_limit(cluster_map.replication, members)
    targets = cluster_map.targets()
    return RingReport(
        cluster_map=cluster_map,
        slots=slot_balance(cluster_map),
        keys=key_balance(cluster_map, held),
        data_bytes={
            node: sum(size for _, size in ranges.values()) for node, ranges in held.items()
        },
        silent=tuple(one for one in cluster_map.member_ids if one not in held),
        arriving=dict(arriving),
        short_ranges=sum(len(ids) < copies for ids in targets),
        crowded_ranges=sum(
            max(Counter(racks[one] for one in ids).values()) > limit for ids in targets
        ),
        racks=len({one.rack for one in cluster_map.members if one.rack}),
    )


def key_balance(cluster_map: ClusterMap, held: Held) -> Balance:
    """Measure keys: `held` are all that a node holds, `owned` those of its first places."""
    first = [state.replicas[0] for state in cluster_map.ranges]
    all_held = {node: sum(keys for keys, _ in ranges.values()) for node, ranges in held.items()}
    owned: Counter[str] = Counter()
    for index, node in enumerate(first):
        owned[node] += held.get(node, {}).get(index, (0, 0))[0]
    weight = math.fsum(one.weight for one in cluster_map.members)
    return Balance(
        tuple(
            NodeShare(
                id=one.id,
                weight=one.weight,
                owned=owned[one.id],
                held=all_held.get(one.id, 0),
                fair_owned=sum(owned.values()) * one.weight / weight,
                fair_held=sum(all_held.values()) * one.weight / weight,
            )
            for one in cluster_map.members
        )
    )


def range_keys(cluster_map: ClusterMap, held: Held) -> list[int]:
    """Return the keys of each range: the most that any node holds of it."""
    return [
        max((ranges.get(index, (0, 0))[0] for ranges in held.values()), default=0)
        for index in range(cluster_map.range_count)
    ]


def ring_table(report: RingReport) -> Table:
    """Show each node's shares; OFF FAIR is its share of keys (of slots without keys) over fair."""
    slots_all = sum(one.held for one in report.slots.nodes)
    first_all = sum(one.owned for one in report.slots.nodes)
    keys_all = sum(one.held for one in report.keys.nodes)
    judged = report.keys if keys_all else report.slots
    full = max((one.held for one in judged.nodes), default=0)
    rows = []
    for slots, keys, load in zip(report.slots.nodes, report.keys.nodes, judged.nodes, strict=True):
        member = report.cluster_map.member(slots.id)
        assert member is not None
        answered = slots.id not in report.silent
        rows.append(
            (
                slots.id,
                "leaving" if member.leaving else "",
                member.rack,
                f"{member.weight:g}",
                percent(slots.fair_held, slots_all),
                percent(slots.held, slots_all),
                percent(slots.owned, first_all),
                format_count(len(report.cluster_map.held_by(slots.id))),
                format_count(report.arriving.get(slots.id, 0)),
                format_count(keys.held) if answered else "no answer",
                percent(keys.held, keys_all) if answered else "",
                off_fair(load) if answered or judged is report.slots else "",
                format_size(report.data_bytes[slots.id]) if answered else "",
                bar(load.held, full),
            )
        )
    return table(_headline(report), _COLUMNS, rows, *_notes(report))


_COLUMNS = (
    Column("NODE"),
    Column("MARK", style="yellow", quiet=""),
    Column("RACK", quiet=""),
    Column("WEIGHT", right=True, quiet="1"),
    Column("FAIR", right=True, style="dim"),
    Column("SLOTS", right=True),
    Column("FIRST", right=True, rank=5),
    Column("RANGES", right=True, rank=4),
    Column("ARRIVING", right=True, quiet="0"),
    Column("KEYS", right=True, styles={"no answer": "red"}),
    Column("KEY SHARE", right=True),
    Column("OFF FAIR", right=True),
    Column("DATA", right=True, rank=2),
    Column("", style="cyan", decoration=True, rank=3),
)


def spread_table(report: RingReport) -> Table:
    """Show how even the loads are: 1.000 and 0.0% are perfect."""
    loads = {"slots": report.slots, "keys": report.keys}
    rows = [
        (
            f"{name} held",
            f"{load.max_over_mean:.3f}",
            f"{load.min_over_mean:.3f}",
            f"{load.variation:.1%}",
            f"{load.owner_max_over_mean:.3f}",
        )
        for name, load in loads.items()
        if any(one.held for one in load.nodes)
    ]
    columns = (
        Column("LOAD"),
        Column("MAX/MEAN", right=True),
        Column("MIN/MEAN", right=True),
        Column("VARIATION", right=True),
        Column("FIRST MAX/MEAN", right=True),
    )
    return table("", columns, rows)


def percent(part: float, whole: float) -> str:
    """Say a share of `whole` with one decimal; "" when there is nothing to share."""
    return f"{part / whole:.1%}" if whole else ""


def off_fair(load: NodeShare) -> str:
    """Say how far a node is off its fair share, as +2.1%."""
    return f"{load.ratio - 1:+.1%}" if load.fair_held else ""


def _headline(report: RingReport) -> str:
    cluster_map = report.cluster_map
    members = len(cluster_map.members)
    copies = copies_of(cluster_map.replication, placeable(cluster_map.members))
    return (
        f"{cluster_map.cluster}: epoch {cluster_map.epoch}, {members} node{'s' * (members != 1)},"
        f" {cluster_map.range_count} ranges x {copies} cop{'ies' if copies != 1 else 'y'}"
    )


def _notes(report: RingReport) -> list[str]:
    cluster_map = report.cluster_map
    notes = []
    if report.short_ranges:
        notes.append(f"{report.short_ranges} ranges have fewer copies than the nodes could hold")
    else:
        notes.append("every range has all its copies on distinct nodes")
    if report.racks:
        notes.append(
            f"{report.crowded_ranges} ranges have copies crowded in one rack"
            if report.crowded_ranges
            else f"copies spread over {report.racks} racks as evenly as can be"
        )
    moving = len(cluster_map.joint_ranges())
    if moving:
        notes.append(f"{moving} ranges are moving")
    if report.silent:
        notes.append(f"no answer, keys not counted: {', '.join(report.silent)}")
    return notes
