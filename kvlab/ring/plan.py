"""What a change of members would do, before anybody makes it.

It changes no map; `change` does.

Every placement is judged on the same keys: a fixed sample, or for `claim` on a live cluster the
keys that its ranges really hold. `claim` is also judged on its ranges, where all is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvlab.errors import UsageError
from kvlab.ring.balance import Balance, balance
from kvlab.ring.change import DEFAULT_RANGE_COUNT, DEFAULT_REPLICATION, placeable
from kvlab.ring.claim import claim
from kvlab.ring.cluster_map import ClusterMap, Member
from kvlab.ring.movement import Assignment, Movement, movement
from kvlab.ring.placement import PLACEMENTS, ClaimPlacement, build_placement, check_ring

Source = ClusterMap | Sequence[str | Member]
Newcomers = int | Sequence[str | Member]

SAMPLE_KEYS = 10_000  # keys on which placements are compared when there are no real ones


@dataclass(frozen=True, slots=True)
class RangePlan:
    """The exact side of `claim`: balance and movement in copies of ranges."""

    before: Balance
    after: Balance
    movement: Movement


@dataclass(frozen=True, slots=True)
class Plan:
    """Before and after of a change of members under one placement.

    `keys` were judged; `sampled` tells whether they are the fixed sample. All `..._keys`,
    `between_survivors` and `k_over_n` are copies of keys. `minimum_keys` of `claim` is its exact
    bound in copies of ranges times the mean keys of a range, so `moved_keys` scatters about it;
    of the other placements it is what the newcomers are due, or the leavers hold.
    """

    placement: str
    replication: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    nodes_before: int
    nodes_after: int
    keys: int
    sampled: bool
    before: Balance
    after: Balance
    moved_keys: int
    minimum_keys: float
    between_survivors: int
    k_over_n: float
    ranges: RangePlan | None

    @property
    def moved_share(self) -> float:
        """Copies of keys moved, as a part of all that there are afterwards."""
        total = sum(one.held for one in self.after.nodes)
        return self.moved_keys / total if total else 0.0

    def to_builtins(self) -> dict[str, Any]:
        """Return the plan as dicts, lists, str and numbers, for --json."""
        result: dict[str, Any] = {
            "placement": self.placement,
            "replication": self.replication,
            "added": list(self.added),
            "removed": list(self.removed),
            "nodes_before": self.nodes_before,
            "nodes_after": self.nodes_after,
            "keys": self.keys,
            "sampled": self.sampled,
            "moved_keys": self.moved_keys,
            "minimum_keys": round(self.minimum_keys, 3),
            "moved_share": round(self.moved_share, 6),
            "between_survivors": self.between_survivors,
            "k_over_n": round(self.k_over_n, 3),
            "before": self.before.to_builtins(),
            "after": self.after.to_builtins(),
            "ranges": None,
        }
        if self.ranges is not None:
            result["ranges"] = {
                "moved_copies": self.ranges.movement.copies,
                "minimum_copies": self.ranges.movement.minimum_copies,
                "k_over_n": round(self.ranges.movement.k_over_n, 3),
                "before": self.ranges.before.to_builtins(),
                "after": self.ranges.after.to_builtins(),
            }
        return result


@dataclass(frozen=True, slots=True)
class _Question:
    """The change to judge, freed from where it came from."""

    before: tuple[Member, ...]
    after: tuple[Member, ...]
    replication: int
    range_count: int
    held: Assignment  # per range, what `claim` starts from; empty for a bare list of nodes
    key_counts: Sequence[int] | None

    @property
    def added(self) -> tuple[str, ...]:
        known = {one.id for one in self.before}
        return tuple(one.id for one in self.after if one.id not in known)

    @property
    def removed(self) -> tuple[str, ...]:
        left = {one.id for one in self.after}
        return tuple(one.id for one in self.before if one.id not in left)


def plan(
    source: Source,
    *,
    add: Newcomers = 0,
    remove: Sequence[str] = (),
    placement: str = "claim",
    replication: int | None = None,
    range_count: int | None = None,
    key_counts: Sequence[int] | None = None,
) -> Plan:
    """Say what adding and removing nodes would move under a placement.

    `source` is a live map, or the nodes of a cluster that need not exist (a bare id stands for
    its address too). `add` is a number of nodes of weight 1, or their ids, or Members.
    `key_counts` are the keys of each range of a live map. Raises UsageError.
    """
    question = _question(
        source,
        add=add,
        remove=remove,
        replication=replication,
        range_count=range_count,
        key_counts=key_counts,
    )
    if placement == "claim":
        return _plan_claim(question)
    return _plan_keys(question, placement)


def compare(
    source: Source,
    *,
    add: Newcomers = 0,
    remove: Sequence[str] = (),
    replication: int | None = None,
    range_count: int | None = None,
) -> tuple[Plan, ...]:
    """Return the plan of every placement for one change, all on the fixed sample of keys."""
    return tuple(
        plan(
            source,
            add=add,
            remove=remove,
            placement=name,
            replication=replication,
            range_count=range_count,
        )
        for name in PLACEMENTS
    )


def sample_keys(count: int = SAMPLE_KEYS) -> tuple[bytes, ...]:
    """Return the fixed sample: user:0, user:1, ..."""
    return tuple(b"user:%d" % number for number in range(count))


def _plan_claim(question: _Question) -> Plan:
    old = tuple(question.held) or claim(question.range_count, question.replication, question.before)
    new = claim(question.range_count, question.replication, question.after, old)
    exact = RangePlan(
        balance(question.before, old),
        balance(question.after, new),
        _movement(question, old, new, None),
    )
    if question.key_counts is None:
        keys = sample_keys()
        counts = [0] * question.range_count
        places = ClaimPlacement([(str(index),) for index in range(question.range_count)])
        for key in keys:
            counts[int(places.replicas(key)[0])] += 1
    else:
        counts = list(question.key_counts)
    return _result(question, "claim", old, new, counts=counts, exact=exact)


def _plan_keys(question: _Question, name: str) -> Plan:
    old, new = (
        build_placement(
            name,
            members,
            replication=question.replication,
            range_count=question.range_count,
        )
        for members in (question.before, question.after)
    )
    keys = sample_keys()
    was = [old.replicas(key) for key in keys]
    now = [new.replicas(key) for key in keys]
    return _result(question, name, was, now, counts=[1] * len(keys), exact=None)


def _result(
    question: _Question,
    name: str,
    old: Assignment,
    new: Assignment,
    *,
    counts: list[int],
    exact: RangePlan | None,
) -> Plan:
    moved = _movement(question, old, new, counts)
    before = balance(question.before, old, counts)
    keys = sum(counts)
    if exact is not None:
        minimum = exact.movement.minimum_copies * keys / question.range_count
    else:
        minimum = _due(question, before, moved.k_over_n)
    return Plan(
        placement=name,
        replication=question.replication,
        added=question.added,
        removed=question.removed,
        nodes_before=len(question.before),
        nodes_after=len(question.after),
        keys=keys,
        sampled=question.key_counts is None or exact is None,
        before=before,
        after=balance(question.after, new, counts),
        moved_keys=moved.moved,
        minimum_keys=minimum,
        between_survivors=moved.between_survivors,
        k_over_n=moved.k_over_n,
        ranges=exact,
    )


def _due(question: _Question, before: Balance, k_over_n: float) -> float:
    """Return what leavers hold, or else what newcomers are due, in copies of keys."""
    if question.added or len(question.after) < question.replication:
        return k_over_n
    return float(sum(one.held for one in before.nodes if one.id in question.removed))


def _movement(
    question: _Question, old: Assignment, new: Assignment, weights: Sequence[int] | None
) -> Movement:
    return movement(
        old,
        new,
        replication=question.replication,
        members_before=question.before,
        members_after=question.after,
        weights=weights,
    )


def _question(
    source: Source,
    *,
    add: Newcomers,
    remove: Sequence[str],
    replication: int | None,
    range_count: int | None,
    key_counts: Sequence[int] | None,
) -> _Question:
    held: Assignment = ()
    if isinstance(source, ClusterMap):
        if replication is not None or range_count is not None:
            raise UsageError("replication and ranges are those of the map; do not give others")
        before = placeable(source.members)
        replication, range_count = source.replication, source.range_count
        held = source.targets()
    else:
        before = _members(source)
    count = DEFAULT_RANGE_COUNT if range_count is None else range_count
    if key_counts is not None and len(key_counts) != count:
        raise UsageError(f"{len(key_counts)} counts of keys were given for {count} ranges")
    after = _after(before, add, remove)
    copies = DEFAULT_REPLICATION if replication is None else replication
    check_ring(before, replication=copies, range_count=count)
    return _Question(before, after, copies, count, held, key_counts)


def _after(
    before: tuple[Member, ...],
    add: Newcomers,
    remove: Sequence[str],
) -> tuple[Member, ...]:
    known = {one.id for one in before}
    for gone in remove:
        if gone not in known:
            raise UsageError(
                f"{gone} is not a member", hint=f"members are {', '.join(sorted(known))}"
            )
    newcomers = _members(_new_ids(known, add) if isinstance(add, int) else add)
    for one in newcomers:
        if one.id in known:
            raise UsageError(f"{one.id} is a member already; choose another id to add")
    after = tuple(one for one in before if one.id not in remove) + newcomers
    if not newcomers and not remove:
        raise UsageError("nothing to plan", hint="say how many nodes to add or which to remove")
    if not after:
        raise UsageError("no node would be left; keep at least one")
    return after


def _new_ids(known: set[str], count: int) -> list[str]:
    """Return the lowest server<number> that are free."""
    if count < 0:
        raise UsageError(f"cannot add {count} nodes; name the nodes to remove instead")
    ids: list[str] = []
    number = 1
    while len(ids) < count:
        if f"server{number}" not in known:
            ids.append(f"server{number}")
        number += 1
    return ids


def _members(nodes: Sequence[str | Member]) -> tuple[Member, ...]:
    members = tuple(
        one if isinstance(one, Member) else Member(id=one, number=place, address=one)
        for place, one in enumerate(nodes)
    )
    if len({one.id for one in members}) != len(members):
        raise UsageError("a node is listed twice; ids must differ")
    return members
