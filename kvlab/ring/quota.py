"""How many copies each member should hold, and the least number of copies that must move.

It does not say which ranges: that is `claim`.

Quota of a member = ranges x copies x its weight / all weights, at most one copy of a range, the
excess shared again by the others (water-filling). Where racks bind, a rack counts like a member
that may take `rack_limit` copies of each range. Targets are the quotas rounded down or up: up for
those who hold that much already, then by largest remainder, then for those who hold more.
Fractions keep ties exact, so every node computes the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from kvlab.ring.cluster_map import Member

Held = Sequence[tuple[str, ...]]  # per range, the ids of those who hold it now


def copies_of(replication: int, members: Sequence[Member]) -> int:
    """Return the copies of each range that are possible: one per member at most."""
    return min(replication, len(members))


def rack_keys(members: Sequence[Member]) -> dict[str, str]:
    """Return id -> rack. A member that names no rack stands in one of its own."""
    return {one.id: f"in {one.rack}" if one.rack else f"alone {one.id}" for one in members}


def rack_limit(replication: int, members: Sequence[Member]) -> int:
    """Return how many copies of one range a rack may hold.

    One when there are racks enough (strict); else the least number with which all copies find a
    place, which spreads them as evenly as the racks allow.
    """
    sizes = _sizes(rack_keys(members).values())
    copies = copies_of(replication, members)
    limit = 1
    while sum(min(limit, size) for size in sizes.values()) < copies:
        limit += 1
    return limit


def held_counts(members: Sequence[Member], held: Held) -> dict[str, int]:
    """Return id -> copies held now, for these members only."""
    counts = {one.id: 0 for one in members}
    for ids in held:
        for one in ids:
            if one in counts:
                counts[one] += 1
    return counts


def quotas(range_count: int, replication: int, members: Sequence[Member]) -> dict[str, Fraction]:
    """Return id -> the exact fair number of copies under the caps of members and racks."""
    racks: dict[str, list[str]] = {}
    keys = rack_keys(members)
    for member in members:
        racks.setdefault(keys[member.id], []).append(member.id)
    limit = rack_limit(replication, members)
    weights = {member.id: Fraction(member.weight) for member in members}
    left = Fraction(range_count * copies_of(replication, members))
    result: dict[str, Fraction] = {}
    free = dict(weights)
    while True:
        # Raising the level of the others never brings a full rack below its cap again.
        level = _fill(free, left, range_count)
        full = [
            ids
            for ids in racks.values()
            if len(ids) > limit
            and ids[0] in free
            and sum(level[one] for one in ids) > limit * range_count
        ]
        if not full:
            return {member.id: (result | level)[member.id] for member in members}
        for ids in full:
            inside = {one: weights[one] for one in ids}
            result |= _fill(inside, Fraction(limit * range_count), range_count)
            left -= limit * range_count
            for one in ids:
                del free[one]


def targets(
    range_count: int, replication: int, members: Sequence[Member], held: Held = ()
) -> dict[str, int]:
    """Return id -> copies to hold; they add up to ranges x copies."""
    if not members:
        return {}
    exact = quotas(range_count, replication, members)
    counts = held_counts(members, held)
    result = {one: int(share) for one, share in exact.items()}
    missing = range_count * copies_of(replication, members) - sum(result.values())
    keys = rack_keys(members)
    room = {key: rack_limit(replication, members) * range_count for key in keys.values()}
    for one, target in result.items():
        room[keys[one]] -= target

    def preference(one: str) -> tuple[bool, Fraction, int, str]:
        return counts[one] <= result[one], result[one] - exact[one], -counts[one], one

    for one in sorted(result, key=preference):
        if missing and result[one] < range_count and room[keys[one]] > 0 and exact[one] % 1:
            result[one] += 1
            room[keys[one]] -= 1
            missing -= 1
    return result


def minimum_moves(range_count: int, replication: int, members: Sequence[Member], held: Held) -> int:
    """Return the lower bound of copies to move: the sum of what each member is short of."""
    counts = held_counts(members, held)
    wanted = targets(range_count, replication, members, held)
    return sum(max(0, target - counts[one]) for one, target in wanted.items())


def _fill(weights: dict[str, Fraction], total: Fraction, cap: int) -> dict[str, Fraction]:
    """Share `total` by weight, at most `cap` each; there is room: total <= cap x members."""
    result: dict[str, Fraction] = {}
    free = dict(weights)
    while free:
        level = total / sum(free.values())
        full = [one for one, weight in free.items() if level * weight > cap]
        if not full:
            return result | {one: level * weight for one, weight in free.items()}
        for one in full:
            result[one] = Fraction(cap)
            total -= cap
            del free[one]
    return result


def _sizes(keys: Iterable[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for key in keys:
        sizes[key] = sizes.get(key, 0) + 1
    return sizes
