"""How evenly an assignment spreads: the share of each node beside its fair one.

It judges an assignment that it is given, and makes none.

A ratio is what a node holds over its fair share, which is proportional to its weight; with equal
weights the fair share is the mean. Fair shares ignore caps: a node too heavy for one copy of every
range shows below 1, and the others above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvlab.ring.cluster_map import ClusterMap, Member
from kvlab.ring.movement import Assignment
from kvlab.ring.slot import SLOT_COUNT


@dataclass(frozen=True, slots=True)
class NodeShare:
    """What one node owns (first places) and holds (all copies), in the unit of the weights."""

    id: str
    weight: float
    owned: int
    held: int
    fair_owned: float
    fair_held: float

    @property
    def ratio(self) -> float:
        """Copies held over the fair number."""
        return self.held / self.fair_held if self.fair_held else 0.0

    @property
    def owned_ratio(self) -> float:
        """First places over the fair number."""
        return self.owned / self.fair_owned if self.fair_owned else 0.0

    def to_builtins(self) -> dict[str, Any]:
        """Return the share as a dict of str and numbers."""
        return {
            "id": self.id,
            "weight": self.weight,
            "owned": self.owned,
            "held": self.held,
            "fair_owned": round(self.fair_owned, 3),
            "fair_held": round(self.fair_held, 3),
        }


@dataclass(frozen=True, slots=True)
class Balance:
    """Shares of all nodes in the order of the members, and how far apart they are."""

    nodes: tuple[NodeShare, ...]

    @property
    def max_over_mean(self) -> float:
        """The fullest node's copies over its fair share; 1.0 is perfect."""
        return max((one.ratio for one in self.nodes), default=0.0)

    @property
    def min_over_mean(self) -> float:
        """The emptiest node's copies over its fair share."""
        return min((one.ratio for one in self.nodes), default=0.0)

    @property
    def owner_max_over_mean(self) -> float:
        """The same as `max_over_mean` for first places alone."""
        return max((one.owned_ratio for one in self.nodes), default=0.0)

    @property
    def variation(self) -> float:
        """Coefficient of variation of the ratios: standard deviation over mean."""
        ratios = [one.ratio for one in self.nodes]
        mean = math.fsum(ratios) / len(ratios) if ratios else 0.0
        if mean == 0.0:
            return 0.0
        return math.sqrt(math.fsum((one - mean) ** 2 for one in ratios) / len(ratios)) / mean

    def to_builtins(self) -> dict[str, Any]:
        """Return the balance as dicts, lists, str and numbers."""
        return {
            "nodes": [one.to_builtins() for one in self.nodes],
            "max_over_mean": round(self.max_over_mean, 4),
            "min_over_mean": round(self.min_over_mean, 4),
            "owner_max_over_mean": round(self.owner_max_over_mean, 4),
            "variation": round(self.variation, 4),
        }


def balance(
    members: Sequence[Member], assignment: Assignment, weights: Sequence[int] | None = None
) -> Balance:
    """Measure an assignment over `members`; `weights` are slots, keys or bytes per item (else 1).

    Copies on nodes that are not among `members` count for the totals and for nobody's share.
    """
    owned = dict.fromkeys((one.id for one in members), 0)
    held = dict(owned)
    total_owned = total_held = 0
    for index, ids in enumerate(assignment):
        amount = 1 if weights is None else weights[index]
        total_held += amount * len(ids)
        total_owned += amount if ids else 0
        for place, one in enumerate(ids):
            if one in held:
                held[one] += amount
                owned[one] += amount if place == 0 else 0
    all_weight = math.fsum(one.weight for one in members)
    return Balance(
        tuple(
            NodeShare(
                id=one.id,
                weight=one.weight,
                owned=owned[one.id],
                held=held[one.id],
                fair_owned=total_owned * one.weight / all_weight,
                fair_held=total_held * one.weight / all_weight,
            )
            for one in members
        )
    )


def slot_balance(cluster_map: ClusterMap) -> Balance:
    """Measure a map in slots, by the replicas that serve now; leaving members count too."""
    per_range = SLOT_COUNT // cluster_map.range_count
    serving = [state.replicas for state in cluster_map.ranges]
    return balance(cluster_map.members, serving, [per_range] * cluster_map.range_count)
