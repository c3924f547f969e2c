"""Transitions of the cluster map: each takes a map and returns the next one, epoch + 1.

It does not agree on a map, fence or stream anything: `kv` does, and calls `commit` when it is done.

1. A change never alters the set of `replicas` of a range, except `commit` (next becomes replicas)
   and `restart` (an emptied copy no longer counts). So what is acknowledged stays readable. The
   order may change, to keep first places fair.
2. Claims are computed from the sets where the ranges are going, so that changes can overlap: a
   second join does not undo the first.
3. A member leaves `members` only when it stands in no range.
4. A range whose target is the set that it has is stable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kvlab.errors import UsageError
from kvlab.ring.claim import claim
from kvlab.ring.cluster_map import NUMBER_LIMIT, ClusterMap, Member, RangeState, is_range_count
from kvlab.ring.movement import Move, range_moves
from kvlab.ring.quota import Held, minimum_moves
from kvlab.ring.slot import SLOT_COUNT

DEFAULT_REPLICATION = 3  # copies of each range
DEFAULT_RANGE_COUNT = 256  # ranges on the ring; suits 1 to 60 nodes


@dataclass(frozen=True, slots=True)
class Change:
    """What the step from one map to the next means.

    `kind` is first, join, leave, restart, commit or abort; `subject` the members that it is about,
    joined by commas. `minimum_copies` is the lower bound for the sets where ranges were going;
    with other changes in flight `moved_copies` may be below it, since a copy that has not yet left
    need not be sent again.
    """

    kind: str
    subject: str
    moved_copies: int
    minimum_copies: int
    moves: tuple[Move, ...]


def first_map(
    cluster: str,
    members: Sequence[tuple[str, str]] | Sequence[Member],
    replication: int = DEFAULT_REPLICATION,
    range_count: int = DEFAULT_RANGE_COUNT,
) -> ClusterMap:
    """Return the map of a new cluster: epoch 1, all ranges stable.

    `members` are (id, address) or Members; numbers follow the order of ids, so every node that
    knows the same founders makes the same map. Raises UsageError.
    """
    founders = [
        one if isinstance(one, Member) else Member(id=one[0], number=0, address=one[1])
        for one in members
    ]
    if not founders:
        raise UsageError("a cluster needs at least one member")
    for one in founders:
        _check_new(one)
    if len({one.id for one in founders}) != len(founders):
        raise UsageError("a member is listed twice; ids must differ")
    if len(founders) > NUMBER_LIMIT:
        raise UsageError(f"{len(founders)} members; {NUMBER_LIMIT} are the most")
    if not is_range_count(range_count):
        raise UsageError(
            f"{range_count} ranges are not possible; choose a power of two from 1 to {SLOT_COUNT}"
        )
    if replication < 1:
        raise UsageError(f"replication {replication} is not possible; choose 1 or more")
    founders.sort(key=lambda one: one.id)
    numbered = tuple(replace(one, number=place) for place, one in enumerate(founders))
    try:
        ranges = tuple(RangeState(ids) for ids in claim(range_count, replication, numbered))
        return ClusterMap(cluster, 1, replication, numbered, ranges, len(numbered))
    except ValueError as problem:
        raise UsageError(f"this cluster is not possible: {problem}") from problem


def join(
    old: ClusterMap,
    member_id: str,
    address: str,
    *,
    client_address: str = "",
    weight: float = 1.0,
    rack: str = "",
) -> ClusterMap:
    """Return the map where a new member takes its share; its ranges become joint."""
    if old.member(member_id) is not None:
        raise UsageError(
            f"{member_id} is a member already",
            hint="a node that lost its memory comes back by `restart`; else choose another id",
        )
    newcomer = Member(
        id=member_id,
        number=_take_number(old),
        address=address,
        client_address=client_address,
        weight=weight,
        rack=rack,
    )
    _check_new(newcomer)
    members = (*old.members, newcomer)
    ranges = _aim(old.ranges, old.replication, members, old.targets())
    return _next(old, members, ranges, next_number=old.next_number + 1)


def leave(old: ClusterMap, member_id: str, *, dead: bool = False) -> ClusterMap:
    """Return the map where the member is leaving and others take its ranges.

    It holds them until `commit`. `dead`: others replace it, as it was away for too long.
    """
    member = _known(old, member_id)
    if member.leaving:
        raise UsageError(f"{member_id} is leaving already")
    members = _with(old.members, replace(member, leaving=True, dead=dead))
    if all(one.leaving for one in members):
        raise UsageError(
            f"{member_id} is the last member that stays; it cannot leave",
            hint="add another node first, or stop the cluster",
        )
    return _next(old, members, _aim(old.ranges, old.replication, members, old.targets()))


def at_once(old: ClusterMap, new: ClusterMap) -> ClusterMap:
    """Return `new`, to which joins and leaves led from `old`, with their moves aimed once for all.

    One after the other each would move the least, and together more: a newcomer can take just what
    a leaver gives. Where a member came back empty or is gone, or one step led there, `new` is as it
    was.
    """
    lives = {one.id: one.incarnation for one in new.members}
    if new.epoch < old.epoch + 2 or any(
        lives.get(one.id) != one.incarnation for one in old.members
    ):
        return new
    return replace(new, ranges=_aim(old.ranges, old.replication, new.members, old.targets()))


def restart(old: ClusterMap, member_id: str, address: str, client_address: str = "") -> ClusterMap:
    """Return the map where the member is back with an empty memory: a new incarnation.

    It gets a new number, so its versions never collide with those of its former life. It counts
    in no range until it is refilled. Ranges of which it was the only copy are lost, see
    `lost_ranges`; they start again empty. A leaving member stays listed until the next `commit`;
    one that was taken for dead does not leave any more, and is due its fair share.
    """
    member = _known(old, member_id)
    fresh = replace(
        member,
        incarnation=member.incarnation + 1,
        number=_take_number(old),
        address=address,
        client_address=client_address,
        leaving=member.leaving and not member.dead,
        dead=False,
    )
    members = _with(old.members, fresh)
    ranges = tuple(_without_copy(state, member_id) for state in old.ranges)
    if member.dead:
        ranges = _aim(ranges, old.replication, members, old.targets())
    return _next(old, members, ranges, next_number=old.next_number + 1, drop=False)


def commit(old: ClusterMap, ranges: Iterable[int]) -> ClusterMap:
    """Return the map where these joint ranges have arrived: next becomes replicas.

    Leaving members that no longer stand in any range are gone. No range at all is allowed when
    there is such a member to drop.
    """
    states = list(old.ranges)
    arrived = sorted(set(ranges))
    for index in arrived:
        if not 0 <= index < len(states):
            raise UsageError(f"there is no range {index}; ranges go from 0 to {len(states) - 1}")
        following = states[index].next
        if following is None:
            raise UsageError(f"range {index} is not moving; there is nothing to commit")
        states[index] = RangeState(following)
    new = _next(old, old.members, tuple(states))
    if not arrived and new.members == old.members:
        raise UsageError("no ranges were given to commit")
    return new


def abort(old: ClusterMap, member_id: str) -> ClusterMap:
    """Return the map where a join or a leave is taken back.

    A joining member stands in no next any more and is dropped unless it holds replicas already;
    then it leaves in the ordinary way. A leaving member stays: ranges that it has not given up
    are its own again, and it is due its fair share.
    """
    member = _known(old, member_id)
    held = _held_without_change(old, member)
    settled = any(member_id in state.replicas for state in old.ranges)
    if not member.leaving and settled and held == old.targets():
        raise UsageError(f"{member_id} is neither joining nor leaving; there is nothing to abort")
    members = _with(old.members, replace(member, leaving=not member.leaving, dead=False))
    if all(one.leaving for one in members):
        raise UsageError(f"{member_id} is the last member that stays; its join cannot be undone")
    return _next(old, members, _aim(old.ranges, old.replication, members, held))


def forget(old: ClusterMap, member_id: str) -> ClusterMap:
    """Return the map where a former member that was replaced as dead will not come back."""
    if member_id not in old.missing:
        raise UsageError(f"{member_id} is not missing")
    missing = tuple(one for one in old.missing if one != member_id)
    return replace(_next(old, old.members, old.ranges), missing=missing)


def lost_ranges(old: ClusterMap, new: ClusterMap) -> tuple[int, ...]:
    """Return the ranges whose every full copy in `old` came back empty in `new`."""
    emptied = {
        one.id
        for one in new.members
        if (before := old.member(one.id)) is not None and before.incarnation < one.incarnation
    }
    return tuple(
        index
        for index, state in enumerate(old.ranges)
        if all(one in emptied for one in state.replicas)
    )


def placeable(members: Iterable[Member]) -> tuple[Member, ...]:
    """Return the members that may hold ranges in the long run: all that are not leaving."""
    return tuple(one for one in members if not one.leaving)


def describe(old: ClusterMap | None, new: ClusterMap) -> Change:
    """Say what the step from `old` to `new` was, and which copies it sends where.

    `old` is None before the first map. Meant for one step; over several it names the first kind
    of join, abort, leave, restart, commit that it finds.
    """
    if old is None:
        return Change("first", ",".join(new.member_ids), 0, 0, ())
    kind, subjects = _kind(old, new)
    moves = _moves(old, new)
    if kind in {"join", "leave"}:
        least = _least(new, old.targets())
    elif kind == "abort":
        member = old.member(subjects[0])
        least = 0 if member is None else _least(new, _held_without_change(old, member))
    else:
        least = len(moves)
    return Change(kind, ",".join(subjects), len(moves), least, moves)


def _kind(old: ClusterMap, new: ClusterMap) -> tuple[str, list[str]]:
    before = {one.id: one for one in old.members}
    after = {one.id: one for one in new.members}
    both = [(before[one], after[one]) for one in after if one in before]
    gone = [one for one in old.members if one.id not in after]
    joined = [one for one in after if one not in before]
    back = [now.id for was, now in both if was.leaving and not now.leaving]
    leaving = [now.id for was, now in both if now.leaving and not was.leaving]
    emptied = [now.id for was, now in both if now.incarnation > was.incarnation]
    # A join that is undone makes its member vanish, or leave what it already got: the latter
    # is a leave in every respect. A member that vanishes without having left was never settled.
    undone = [one.id for one in gone if not one.leaving]
    for kind, subjects in (
        ("join", joined),
        ("abort", back + undone),
        ("leave", leaving),
        ("restart", emptied),
    ):
        if subjects:
            return kind, subjects
    return "commit", [one.id for one in gone]


def _least(new: ClusterMap, held: Held) -> int:
    return minimum_moves(new.range_count, new.replication, placeable(new.members), held)


def _moves(old: ClusterMap, new: ClusterMap) -> tuple[Move, ...]:
    """Return the copies that are to be sent in `new` and were not on their way in `old`."""
    moves: list[Move] = []
    for index, (was, now) in enumerate(zip(old.ranges, new.ranges, strict=True)):
        if was == now or now.next is None:
            continue
        pending = set(was.target).difference(was.replicas)
        found = range_moves(index, now.replicas, now.next)
        moves += [move for move in found if move.target not in pending]
    return tuple(moves)


def _aim(
    ranges: tuple[RangeState, ...], replication: int, members: tuple[Member, ...], held: Held
) -> tuple[RangeState, ...]:
    """Claim anew from `held`; ranges that need another set become joint, the others stable."""
    wanted = claim(len(ranges), replication, placeable(members), held)
    return tuple(
        RangeState(want) if set(want) == set(state.replicas) else RangeState(state.replicas, want)
        for state, want in zip(ranges, wanted, strict=True)
    )


def _held_without_change(old: ClusterMap, member: Member) -> tuple[tuple[str, ...], ...]:
    """Return where ranges go when the join or leave of `member` is taken out of them."""

    def concerned(state: RangeState) -> bool:
        if state.next is None:
            return False
        if member.leaving:
            return member.id in state.replicas
        return member.id in state.next and member.id not in state.replicas

    return tuple(state.replicas if concerned(state) else state.target for state in old.ranges)


def _without_copy(state: RangeState, member_id: str) -> RangeState:
    if member_id not in state.replicas:
        return state
    rest = tuple(one for one in state.replicas if one != member_id)
    if not rest or set(rest) == set(state.target):
        return RangeState(state.target)
    return RangeState(rest, state.target)


def _next(
    old: ClusterMap,
    members: tuple[Member, ...],
    ranges: tuple[RangeState, ...],
    *,
    next_number: int | None = None,
    drop: bool = True,
) -> ClusterMap:
    missing = set(old.missing)
    if drop:
        standing = {one for state in set(ranges) for one in state.writers}
        gone = [one for one in members if one.leaving and one.id not in standing]
        members = tuple(one for one in members if one not in gone)
        missing |= {one.id for one in gone if one.dead}
    missing -= {one.id for one in members}
    number = old.next_number if next_number is None else next_number
    try:
        return ClusterMap(
            old.cluster,
            old.epoch + 1,
            old.replication,
            members,
            ranges,
            number,
            tuple(sorted(missing)),
        )
    except ValueError as problem:
        raise UsageError(f"this change is not possible: {problem}") from problem


def _known(old: ClusterMap, member_id: str) -> Member:
    member = old.member(member_id)
    if member is None:
        raise UsageError(
            f"{member_id} is not a member",
            hint=f"members are {', '.join(old.member_ids)}",
        )
    return member


def _check_new(member: Member) -> None:
    if not member.id or not member.address:
        raise UsageError("a member needs an id and an address host:port")
    if not (math.isfinite(member.weight) and member.weight > 0):
        raise UsageError(f"weight {member.weight} of {member.id} is not a number above 0")


def _with(members: tuple[Member, ...], changed: Member) -> tuple[Member, ...]:
    return tuple(changed if one.id == changed.id else one for one in members)


def _take_number(old: ClusterMap) -> int:
    if old.next_number >= NUMBER_LIMIT:
        raise UsageError(
            f"this cluster has used up its {NUMBER_LIMIT} member numbers",
            hint="start a new cluster and copy the data over",
        )
    return old.next_number
