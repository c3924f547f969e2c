"""The working state of a claim: who stands in each range, and what each member is still short of.

It does not choose; `claim` and `augment` do. Members are counted by their place in `ids` here.

Invariant: a range never holds a member twice, and never more of a rack than `rack_limit`.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvlab.ring.cluster_map import Member
from kvlab.ring.quota import Held, copies_of, rack_keys, rack_limit, targets


class Board:
    """A claim in the making. Mutable, used within one call of `claim` only."""

    def __init__(
        self, range_count: int, replication: int, members: Sequence[Member], held: Held
    ) -> None:
        self.range_count = range_count
        self.ids = sorted(one.id for one in members)
        self.size = len(self.ids)
        self.copies = copies_of(replication, members)
        wanted = targets(range_count, replication, members, held)
        self.short = [wanted[one] for one in self.ids]  # copies missing; below 0 is surplus
        self.target = list(self.short)
        self.at: list[set[int]] = [set() for _ in range(range_count)]
        self.ranges_of: list[set[int]] = [set() for _ in self.ids]
        # together[a][b]: ranges where both stand. Kept low, so that a later leave finds takers.
        self.together = [[0] * self.size for _ in self.ids]
        self._place_racks(members, rack_limit(replication, members))
        self.origin = self._keep(held)

    def _place_racks(self, members: Sequence[Member], limit: int) -> None:
        keys = rack_keys(members)
        order = {key: place for place, key in enumerate(sorted(set(keys.values())))}
        self.rack = [order[keys[one]] for one in self.ids]
        self.rack_limit = limit
        self.in_rack: list[list[int]] = [[] for _ in order]
        for member, rack in enumerate(self.rack):
            self.in_rack[rack].append(member)
        self.binding = [len(inside) > limit for inside in self.in_rack]
        self.racks_bind = any(self.binding)

    def _keep(self, held: Held) -> list[frozenset[int]]:
        """Stand everyone where the rules let them stay; return all that members hold already.

        `trimmed` tells whether somebody could not stay.
        """
        self.trimmed = False
        place = {one: index for index, one in enumerate(self.ids)}
        origin = [frozenset(place[one] for one in ids if one in place) for ids in held]
        origin += [frozenset()] * (self.range_count - len(origin))
        excess = [-short for short in self.short]
        for holders in origin:
            for member in holders:
                excess[member] += 1
        for index, holders in enumerate(origin):
            # Those with the least too many stay first, where not all can.
            for member in sorted(holders, key=lambda one: (excess[one], one)):
                if len(self.at[index]) < self.copies and self.rack_has_room(index, member):
                    self.add(index, member)
                else:
                    excess[member] -= 1
                    self.trimmed = True
        return origin

    def add(self, index: int, member: int) -> None:
        """Stand `member` in range `index`."""
        row = self.together[member]
        for other in self.at[index]:
            row[other] += 1
            self.together[other][member] += 1
        self.at[index].add(member)
        self.ranges_of[member].add(index)
        self.short[member] -= 1

    def drop(self, index: int, member: int) -> None:
        """Take `member` out of range `index`."""
        self.at[index].remove(member)
        self.ranges_of[member].remove(index)
        self.short[member] += 1
        row = self.together[member]
        for other in self.at[index]:
            row[other] -= 1
            self.together[other][member] -= 1

    def rack_has_room(self, index: int, member: int, leaving: int = -1) -> bool:
        """Tell whether the rack rule lets `member` into the range once `leaving` is out."""
        rack = self.rack[member]
        if not self.binding[rack]:
            return True
        inside = sum(1 for other in self.at[index] if other != leaving and self.rack[other] == rack)
        return inside < self.rack_limit

    def cost(self, index: int, member: int) -> int:
        """Return the copies that must be sent for `member` to stand in the range: 0 or 1."""
        return 0 if member in self.origin[index] else 1
