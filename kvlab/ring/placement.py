"""Ways to place keys on nodes, side by side on one question, who holds a key.

Only `claim` serves a cluster; the others are here to compare it with, and to teach.

    claim        ranges of slots, fewest moves                   weights, racks
    tokens       random virtual nodes, the textbook ring         weights
    crc32        CRC32 ring, 10 virtual nodes per address        -
    jump         jump hash (Lamping and Veach 2014)              -
    rendezvous   highest random weight (Thaler, Ravishankar)     weights

All but `claim` are functions of the members alone; `claim` also looks at what was held before.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from kvlab.errors import UsageError
from kvlab.ring.claim import claim
from kvlab.ring.cluster_map import Member, is_range_count
from kvlab.ring.movement import Assignment
from kvlab.ring.quota import copies_of
from kvlab.ring.slot import SLOT_COUNT, slot_of

TOKENS_PER_NODE = 256  # virtual nodes of weight 1 in `tokens`
CRC32_POINTS = 10  # virtual nodes of each server in `crc32`
_JUMP_TRIES = 64  # draws per copy before `jump` takes the next bucket that is free
_BITS_64 = 2**64 - 1


class Placement(Protocol):
    """Answers who holds a key."""

    def replicas(self, key: bytes) -> tuple[str, ...]:
        """Return the preference list of `key`: distinct ids, the owner first."""
        ...


Builder = Callable[[Sequence[Member], int, int, Assignment], Placement]


@dataclass(frozen=True, slots=True)
class PlacementKind:
    """One entry of the registry. `build` takes members, replication, range count, held before."""

    name: str
    summary: str
    build: Builder


def hash64(data: bytes) -> int:
    """Return an even 64-bit hash, the same on every machine."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def mix64(value: int) -> int:
    """Scramble 64 bits (the finaliser of SplitMix64, Steele and others 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _BITS_64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _BITS_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _BITS_64
    return value ^ (value >> 31)


class ClaimPlacement:
    """Slots in equal ranges; `assignment` is the preference list of each."""

    def __init__(self, assignment: Assignment) -> None:
        if not is_range_count(len(assignment)):
            raise UsageError(
                f"{len(assignment)} ranges are not possible;"
                f" choose a power of two from 1 to {SLOT_COUNT}"
            )
        self.assignment = tuple(assignment)
        self._slots_per_range = SLOT_COUNT // len(assignment)

    def replicas(self, key: bytes) -> tuple[str, ...]:
        """Look the key's range up."""
        return self.assignment[slot_of(key) // self._slots_per_range]


class PointRing:
    """A ring of points: a key belongs to the first point at or after it, copies to the next nodes.

    `points` are (position, id) in any order; two nodes may share a position.
    """

    def __init__(
        self, points: Sequence[tuple[int, str]], copies: int, hash_key: Callable[[bytes], int]
    ) -> None:
        ordered = sorted(points)
        self._positions = [position for position, _ in ordered]
        self._owners = [owner for _, owner in ordered]
        self._copies = copies
        self._hash = hash_key
        self._walks: dict[int, tuple[str, ...]] = {}

    def replicas(self, key: bytes) -> tuple[str, ...]:
        """Walk the ring clockwise from the key and take distinct nodes."""
        start = bisect_left(self._positions, self._hash(key))
        if start == len(self._positions):
            start = 0
        walk = self._walks.get(start)
        if walk is None:
            walk = self._walks[start] = self._walk(start)
        return walk

    def _walk(self, start: int) -> tuple[str, ...]:
        found: list[str] = []
        for step in range(len(self._owners)):
            owner = self._owners[(start + step) % len(self._owners)]
            if owner not in found:
                found.append(owner)
                if len(found) == self._copies:
                    break
        return tuple(found)


class JumpPlacement:
    """Jump hash over the members in their order; further copies by drawing again."""

    def __init__(self, ids: Sequence[str], copies: int) -> None:
        self._ids = tuple(ids)
        self._copies = copies

    def replicas(self, key: bytes) -> tuple[str, ...]:
        """Draw buckets until there are enough distinct ones."""
        value = hash64(key)
        buckets = [jump_bucket(value, len(self._ids))]
        while len(buckets) < self._copies:
            tries, bucket = 0, buckets[0]
            while bucket in buckets:
                value = mix64(value)
                tries += 1
                if tries <= _JUMP_TRIES:
                    bucket = jump_bucket(value, len(self._ids))
                else:
                    bucket = (bucket + 1) % len(self._ids)
            buckets.append(bucket)
        return tuple(self._ids[bucket] for bucket in buckets)


def jump_bucket(value: int, buckets: int) -> int:
    """Return the bucket of a 64-bit hash (Lamping and Veach, "A Fast, Minimal Memory ...")."""
    bucket, following = -1, 0
    while following < buckets:
        bucket = following
        value = (value * 2862933555777941757 + 1) & _BITS_64
        following = int((bucket + 1) * (2.0**31 / ((value >> 33) + 1)))
    return bucket


class RendezvousPlacement:
    """Every node draws a score for every key; the highest hold it."""

    def __init__(self, members: Sequence[Member], copies: int) -> None:
        self._seeds = [(hash64(one.id.encode()), one.weight, one.id) for one in members]
        self._copies = copies

    def replicas(self, key: bytes) -> tuple[str, ...]:
        """Take the best scores, weight / -ln(u), with u even in (0, 1)."""
        value = hash64(key)
        scores = sorted(
            (math.log((mix64(value ^ seed) + 0.5) / 2.0**64) / weight, one)
            for seed, weight, one in self._seeds
        )
        return tuple(one for _, one in scores[: -self._copies - 1 : -1])


def _build_claim(
    members: Sequence[Member], replication: int, range_count: int, before: Assignment
) -> Placement:
    return ClaimPlacement(claim(range_count, replication, members, before))


def _build_tokens(
    members: Sequence[Member], replication: int, range_count: int, before: Assignment
) -> Placement:
    del range_count, before
    points = [
        (hash64(f"{one.id}:{number}".encode()), one.id)
        for one in members
        for number in range(max(1, round(TOKENS_PER_NODE * one.weight)))
    ]
    return PointRing(points, copies_of(replication, members), hash64)


def _build_crc32(
    members: Sequence[Member], replication: int, range_count: int, before: Assignment
) -> Placement:
    del range_count, before
    points = [
        (zlib.crc32(f"{one.address}:{number}".encode()), one.id)
        for one in members
        for number in range(CRC32_POINTS)
    ]
    return PointRing(points, copies_of(replication, members), zlib.crc32)


def _build_jump(
    members: Sequence[Member], replication: int, range_count: int, before: Assignment
) -> Placement:
    del range_count, before
    return JumpPlacement([one.id for one in members], copies_of(replication, members))


def _build_rendezvous(
    members: Sequence[Member], replication: int, range_count: int, before: Assignment
) -> Placement:
    del range_count, before
    return RendezvousPlacement(members, copies_of(replication, members))


PLACEMENTS: Mapping[str, PlacementKind] = {
    "claim": PlacementKind("claim", "equal ranges, fewest moves (serves clusters)", _build_claim),
    "tokens": PlacementKind("tokens", "256 random virtual nodes per node", _build_tokens),
    "crc32": PlacementKind("crc32", "CRC32, 10 virtual nodes per address", _build_crc32),
    "jump": PlacementKind("jump", "jump hash over the list of nodes", _build_jump),
    "rendezvous": PlacementKind("rendezvous", "highest random weight", _build_rendezvous),
}


def build_placement(
    name: str,
    members: Sequence[Member],
    *,
    replication: int,
    range_count: int,
    before: Assignment = (),
) -> Placement:
    """Build the placement of that name. `before` is what `claim` starts from. Raises UsageError."""
    kind = PLACEMENTS.get(name)
    if kind is None:
        raise UsageError(
            f"there is no placement {name!r}", hint=f"choose one of {', '.join(PLACEMENTS)}"
        )
    check_ring(members, replication=replication, range_count=range_count)
    return kind.build(members, replication, range_count, before)


def check_ring(members: Sequence[Member], *, replication: int, range_count: int) -> None:
    """Raise UsageError for a ring that nothing can be placed on."""
    if not members:
        raise UsageError("a placement needs at least one node")
    if replication < 1 or not is_range_count(range_count):
        raise UsageError(
            f"replication {replication} on {range_count} ranges is not possible; choose 1 or more"
            f" copies and a power of two of ranges, at most {SLOT_COUNT}"
        )
