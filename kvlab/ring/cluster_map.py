"""The cluster map: who the members are, and which of them hold each range, at one epoch.

It does not decide who should hold what (`claim`) and does not change itself (`change`).

Invariants, kept by `ClusterMap.__post_init__`:

1. `range_count` is a power of two that divides SLOT_COUNT; ranges are equal and in slot order.
2. Member ids are distinct, their numbers too; every number is below `next_number`.
3. The replicas of a range are distinct members, at least one, at most `replication`; so are the
   members of `next`, and `next` is another set than `replicas`.
4. A leaving member stands in no `next`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from kvlab.ring.slot import SLOT_COUNT

# Member numbers ever given in a cluster's life. Versions carry them in 12 bits; 4095 is nobody's, so
# that there are versions between those of any two writes.
NUMBER_LIMIT = 4095
EPOCH_LIMIT = 2**63  # epochs; what a signed 64-bit field of a frame holds


@dataclass(frozen=True, slots=True)
class Member:
    """One node as the map knows it; `address` ("host:port") is what its peers dial.

    `number` is unique among all members that ever were, and goes into versions. `incarnation`
    grows when the node comes back without its data. `dead`: it did not ask to leave; others take its
    place because it was away for too long.
    """

    id: str
    number: int
    address: str
    client_address: str = ""
    incarnation: int = 1
    weight: float = 1.0
    rack: str = ""
    leaving: bool = False
    dead: bool = False

    def to_builtins(self) -> dict[str, Any]:
        """Return the member as a dict of str, int, float and bool."""
        return {name: getattr(self, name) for name in _MEMBER_FIELDS}


_MEMBER_FIELDS: dict[str, type] = {
    "id": str,
    "number": int,
    "address": str,
    "client_address": str,
    "incarnation": int,
    "weight": float,
    "rack": str,
    "leaving": bool,
    "dead": bool,
}
_MEMBER_REQUIRED = ("id", "number", "address")


@dataclass(frozen=True, slots=True)
class RangeState:
    """Who holds one range: stable when `next` is None, else joint between `replicas` and `next`.

    Both are preference lists: the first place does the sticky work.
    """

    replicas: tuple[str, ...]
    next: tuple[str, ...] | None = None

    @property
    def is_joint(self) -> bool:
        """Tell whether the range is on its way to another set of replicas."""
        return self.next is not None

    @property
    def must_report(self) -> tuple[str, ...]:
        """Return who must say, before `next` takes over, that it has what a majority had.

        Whoever comes; and where the set only shrinks, whoever stays: those who go may hold alone what
        was acknowledged.
        """
        if self.next is None:
            return ()
        shrinks = len(self.next) < len(self.replicas)
        return tuple(one for one in self.next if shrinks or one not in self.replicas)

    @property
    def target(self) -> tuple[str, ...]:
        """The set where the range is going, or stays."""
        return self.replicas if self.next is None else self.next

    @property
    def writers(self) -> tuple[str, ...]:
        """Everyone who takes writes: replicas, then the members of next that are not replicas."""
        if self.next is None:
            return self.replicas
        return self.replicas + tuple(one for one in self.next if one not in self.replicas)


@dataclass(frozen=True, slots=True)
class ClusterMap:
    """One version of the truth about a cluster. Raises ValueError when it could not be one.

    `missing` are the ids of former members that others replaced as dead and that have not come back:
    they may still hold what they alone were told.
    """

    cluster: str
    epoch: int
    replication: int
    members: tuple[Member, ...]
    ranges: tuple[RangeState, ...]
    next_number: int
    missing: tuple[str, ...] = ()
    slot_shift: int = field(init=False, repr=False, compare=False)  # range = slot >> slot_shift
    _by_id: dict[str, Member] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_header(self)
        _check_members(self)
        by_id = {one.id: one for one in self.members}
        _check_ranges(self, by_id)
        for name in self.missing:
            if name in by_id:
                raise ValueError(f"{name!r} is a member and missing")
        slots_per_range = SLOT_COUNT // len(self.ranges)
        object.__setattr__(self, "slot_shift", slots_per_range.bit_length() - 1)
        object.__setattr__(self, "_by_id", by_id)

    @property
    def range_count(self) -> int:
        """Number of ranges, fixed for the cluster's life."""
        return len(self.ranges)

    @property
    def member_ids(self) -> tuple[str, ...]:
        """Ids of all members, leaving ones too, in the order of the map."""
        return tuple(one.id for one in self.members)

    def member(self, member_id: str) -> Member | None:
        """Return the member of that id, or None."""
        return self._by_id.get(member_id)

    def range_of_slot(self, slot: int) -> int:
        """Return the index of the range that holds `slot`."""
        return slot >> self.slot_shift

    def slots_of_range(self, index: int) -> range:
        """Return the slots of range `index`."""
        return range(index << self.slot_shift, (index + 1) << self.slot_shift)

    def held_by(self, member_id: str) -> tuple[int, ...]:
        """Return the ranges in whose replicas or next the member stands."""
        return tuple(
            index
            for index, state in enumerate(self.ranges)
            if member_id in state.replicas or (state.next is not None and member_id in state.next)
        )

    def joint_ranges(self) -> tuple[int, ...]:
        """Return the ranges that are moving."""
        return tuple(index for index, state in enumerate(self.ranges) if state.next is not None)

    def targets(self) -> tuple[tuple[str, ...], ...]:
        """Return, per range, the preference list where it is going or stays."""
        return tuple(state.target for state in self.ranges)

    def to_builtins(self) -> dict[str, Any]:
        """Return the map as dicts, lists, str and numbers, fit for JSON and msgpack."""
        return {
            "cluster": self.cluster,
            "epoch": self.epoch,
            "replication": self.replication,
            "members": [one.to_builtins() for one in self.members],
            "ranges": [
                {
                    "replicas": list(one.replicas),
                    "next": None if one.next is None else list(one.next),
                }
                for one in self.ranges
            ],
            "next_number": self.next_number,
            "missing": list(self.missing),
        }

    @classmethod
    def from_builtins(cls, obj: object) -> ClusterMap:
        """Build a map from what `to_builtins` gave; raises ValueError with a sentence."""
        top = _fields(obj, "the cluster map")
        members = [
            _member(one, f"member {at}") for at, one in enumerate(_list(top, "members", "the map"))
        ]
        ranges = [
            _range(one, f"range {at}") for at, one in enumerate(_list(top, "ranges", "the map"))
        ]
        return cls(
            cluster=_value(top, "cluster", str, "the map"),
            epoch=_value(top, "epoch", int, "the map"),
            replication=_value(top, "replication", int, "the map"),
            members=tuple(members),
            ranges=tuple(ranges),
            next_number=_value(top, "next_number", int, "the map"),
            missing=_ids(top, "missing", "the map") if "missing" in top else (),
        )

    def digest(self) -> str:
        """Return 16 hex digits of the content: the same for equal maps, so it breaks ties."""
        text = json.dumps(self.to_builtins(), sort_keys=True, separators=(",", ":"))
        return blake2b(text.encode(), digest_size=8).hexdigest()


def is_range_count(count: int) -> bool:
    """Tell whether a ring can have `count` ranges: a power of two, at most SLOT_COUNT."""
    return 1 <= count <= SLOT_COUNT and SLOT_COUNT % count == 0


def _check_header(cluster_map: ClusterMap) -> None:
    if not cluster_map.cluster:
        raise ValueError("the map needs the name of its cluster")
    if not 1 <= cluster_map.epoch < EPOCH_LIMIT:
        raise ValueError(f"epoch {cluster_map.epoch} is not between 1 and {EPOCH_LIMIT - 1}")
    if cluster_map.replication < 1:
        raise ValueError(f"replication is {cluster_map.replication}; at least 1 copy is needed")
    if not is_range_count(len(cluster_map.ranges)):
        raise ValueError(
            f"{len(cluster_map.ranges)} ranges; a power of two from 1 to {SLOT_COUNT} is needed"
        )


def _check_members(cluster_map: ClusterMap) -> None:
    ids: set[str] = set()
    numbers: set[int] = set()
    if not cluster_map.members:
        raise ValueError("a map needs at least one member")
    if not 0 <= cluster_map.next_number <= NUMBER_LIMIT:
        raise ValueError(f"next_number {cluster_map.next_number} is not from 0 to {NUMBER_LIMIT}")
    for one in cluster_map.members:
        if not one.id:
            raise ValueError("a member has an empty id")
        if one.id in ids:
            raise ValueError(f"member {one.id!r} is listed twice")
        if one.number in numbers:
            raise ValueError(f"member {one.id!r} shares number {one.number} with another")
        if not 0 <= one.number < cluster_map.next_number:
            raise ValueError(
                f"member {one.id!r} has number {one.number},"
                f" which is not below next_number {cluster_map.next_number}"
            )
        if one.incarnation < 1:
            raise ValueError(f"member {one.id!r} has incarnation {one.incarnation}; the first is 1")
        if not (math.isfinite(one.weight) and one.weight > 0):
            raise ValueError(
                f"member {one.id!r} has weight {one.weight}; a number above 0 is needed"
            )
        if one.dead and not one.leaving:
            raise ValueError(f"member {one.id!r} is dead and does not leave")
        if not one.address:
            raise ValueError(f"member {one.id!r} has no address")
        ids.add(one.id)
        numbers.add(one.number)


def _check_ranges(cluster_map: ClusterMap, by_id: dict[str, Member]) -> None:
    # The same few lists recur over many ranges, so each distinct one is checked once.
    good: set[tuple[str, ...]] = set()
    good_next: set[tuple[str, ...]] = set()
    for index, state in enumerate(cluster_map.ranges):
        if state.replicas not in good:
            _check_list(index, state.replicas, cluster_map.replication, by_id)
            good.add(state.replicas)
        if state.next is None:
            continue
        if state.next not in good_next:
            _check_list(index, state.next, cluster_map.replication, by_id)
            for one in state.next:
                if by_id[one].leaving:
                    raise ValueError(f"range {index} moves to {one!r}, which is leaving")
            good_next.add(state.next)
        if set(state.next) == set(state.replicas):
            raise ValueError(f"range {index} is moving to the members that it has")


def _check_list(
    index: int, ids: tuple[str, ...], replication: int, by_id: dict[str, Member]
) -> None:
    if not 1 <= len(ids) <= replication:
        raise ValueError(f"range {index} names {len(ids)} members; 1 to {replication} are possible")
    if len(set(ids)) != len(ids):
        raise ValueError(f"range {index} names a member twice: {', '.join(ids)}")
    for one in ids:
        if one not in by_id:
            raise ValueError(f"range {index} names {one!r}, which is not a member")


def _member(obj: object, where: str) -> Member:
    fields = _fields(obj, where)
    given: dict[str, Any] = {}
    for name, kind in _MEMBER_FIELDS.items():
        if name in fields or name in _MEMBER_REQUIRED:
            given[name] = _value(fields, name, kind, where)
    return Member(**given)


def _range(obj: object, where: str) -> RangeState:
    fields = _fields(obj, where)
    following = None if fields.get("next") is None else _ids(fields, "next", where)
    return RangeState(_ids(fields, "replicas", where), following)


def _ids(fields: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    ids = _list(fields, name, where)
    for one in ids:
        if not isinstance(one, str):
            raise ValueError(f"{where}: {name!r} must list member ids, not {one!r}")  # noqa: TRY004
    return tuple(ids)


def _fields(obj: object, where: str) -> dict[str, Any]:
    if not isinstance(obj, dict):
        raise ValueError(f"{where} must be an object, not {type(obj).__name__}")  # noqa: TRY004
    return obj


def _list(fields: dict[str, Any], name: str, where: str) -> list[Any] | tuple[Any, ...]:
    found = fields.get(name)
    if not isinstance(found, list | tuple):
        raise ValueError(f"{where}: {name!r} must be a list")  # noqa: TRY004
    return found


def _value(fields: dict[str, Any], name: str, kind: type, where: str) -> Any:
    if name not in fields:
        raise ValueError(f"{where}: {name!r} is missing")
    found = fields[name]
    if kind is float and type(found) is int:
        return float(found)
    if type(found) is not kind:  # a bool is an int to isinstance, and no number here
        raise ValueError(f"{where}: {name!r} must be of type {kind.__name__}, not {found!r}")
    return found
