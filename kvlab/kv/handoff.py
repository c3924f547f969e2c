"""What a node holds of ranges that are not its own, handed to those whose they are. No I/O, no clock.

Hinted handoff as in Dynamo (DeCandia and others, 2007), for two kinds of records alike: those that a
node took in place of a replica that could not be reached (hints), and those of ranges that moved away.
Both lie in the table, where the log keeps them, so a hint outlives a restart and never expires. Nothing
here is about the linear namespace: its registers are settled by rounds.

The messages, as controls of the peer frames:

    ["offer", id, range, versions]   holder -> owner; (key, version)*
    ["want", id, keys]               owner -> holder: what it has not got, in that version or a newer

A holder puts what is wanted (["put", ...] of `donation`) and offers again, until nothing is.

Invariants:

1. A node forgets what is not its own only when as many owners have it, or something newer, as a write
   asks for, and no fewer than a majority; while the range moves, of the coming owners too.
2. An owner answers only for a range that it takes writes for, by its own map and as a member.
3. One chunk per range is under way at a time, OFFERS_MAX ranges at once: memory stays bounded. What is
   held is too: beyond `hint_bytes_max` a node takes nothing in the place of others, and loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvlab.kv.donation import CHUNK_RECORDS, EVENTUAL, chunk_of, lacks, version_of
from kvlab.kv.link import Link
from kvlab.kv.state import State
from kvlab.ring.cluster_map import ClusterMap, RangeState
from kvlab.wire.peer import FrameError, is_version

LOOK_TICKS = 5  # between two looks for what is to be handed over
PATIENCE_TICKS = 30  # a chunk that was not confirmed by then is given up, and offered anew
OFFERS_MAX = 8  # ranges at once


@dataclass(slots=True)
class Offer:
    """One range on its way to its owners, chunk by chunk."""

    index: int
    place: RangeState  # by which its owners are asked
    digest: int  # of the range when the first chunk was cut
    keys: list[bytes]
    position: int = 0
    chunk: list[Any] = field(default_factory=list)  # key, version; key, version; ...
    confirmed: set[str] = field(default_factory=set)  # owners who have all of the chunk
    lacking: dict[str, int] = field(default_factory=dict)  # owner -> how much it wanted last
    ticks: int = 0  # since the chunk was cut


class Handoff:
    """Both sides of one node: what it offers, and what it answers to others' offers."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._offers: dict[int, Offer] = {}  # by id
        self._id = 0
        self._ticks = 0
        self._map: ClusterMap | None = None  # of which `_foreign` was made
        self._foreign: list[int] = []  # ranges that this node takes no writes for

    @property
    def held(self) -> list[int]:
        """Return the ranges of which something is held here for others."""
        state, me = self.state, self.state.settings.id
        if state.map is None:
            return []
        if state.map is not self._map:
            self._map = state.map
            places = enumerate(state.map.ranges)
            self._foreign = [index for index, place in places if me not in place.writers]
        ranges = state.table.ranges
        return [index for index in self._foreign if ranges[index]]

    @property
    def record_count(self) -> int:
        """Return how many records are held here for others, tombstones included."""
        return sum(len(self.state.table.ranges[index]) for index in self.held)

    # -- the holder -----------------------------------------------------------------------------

    def tick(self) -> None:
        """TICK_US went by: begin what can be begun, give up what nobody confirms."""
        self._ticks += 1
        for one, offer in list(self._offers.items()):
            offer.ticks += 1
            if offer.ticks > PATIENCE_TICKS:
                del self._offers[one]
        if self._ticks % LOOK_TICKS == 0:
            self._look()

    def _look(self) -> None:
        self._weigh()
        under_way = {offer.index for offer in self._offers.values()}
        for index in self.held:
            if len(self._offers) >= OFFERS_MAX:
                return
            if index not in under_way:
                self._begin(index)

    def _weigh(self) -> None:
        """Stand in for others no longer where enough is held for them, and again when it is less."""
        state = self.state
        held = sum(state.table.sizes[index] for index in self.held)
        is_enough = held >= state.settings.hint_bytes_max
        if is_enough != state.has_hints_enough:
            state.has_hints_enough = is_enough
            state.log(
                f"this node stands in for {'nobody: it holds enough' if is_enough else 'others'}"
            )
            state.rebuild()

    def _begin(self, index: int) -> None:
        state = self.state
        assert state.map is not None
        place = state.map.ranges[index]
        if not self._is_enough(place, self._reach(place)):
            return
        self._cut(Offer(index, place, state.table.digest(index), state.table.snapshot(index)))

    def _reach(self, place: RangeState) -> set[str]:
        """Return the owners of a range that can be asked."""
        assert self.state.map is not None
        members = (self.state.map.member(one) for one in place.writers)
        return {one.id for one in members if one is not None and self.state.is_current(one)}

    def _is_enough(self, place: RangeState, owners: set[str]) -> bool:
        w = self.state.settings.w
        return all(
            sum(one in owners for one in each) >= min(max(w, len(each) // 2 + 1), len(each))
            for each in (place.replicas, place.target)
        )

    def _cut(self, offer: Offer) -> None:
        """Offer the next chunk to everybody whose it is.

        Under an id of its own: a late answer to the chunk before it says nothing of this one.
        """
        self._id += 1
        self._offers[self._id] = offer
        keys = offer.keys[offer.position : offer.position + CHUNK_RECORDS]
        offer.position += len(keys)
        offer.chunk = []
        for key in keys:
            version = version_of(self.state, EVENTUAL, offer.index, key)
            if version:
                offer.chunk += (key, version)
        offer.confirmed, offer.lacking, offer.ticks = set(), {}, 0
        for owner in sorted(self._reach(offer.place)):
            self._tell(self._id, offer, self.state.links[owner])

    def _tell(self, one: int, offer: Offer, link: Link) -> None:
        link.controls.append(["offer", one, offer.index, offer.chunk])

    def on_want(self, link: Link, one: int, keys: list[Any]) -> None:
        """An owner says what it lacks of a chunk."""
        offer = self._offers.get(one)
        if offer is None or link.id not in offer.place.writers:
            return
        if keys:
            if len(keys) >= offer.lacking.get(link.id, CHUNK_RECORDS + 1):
                return  # it takes nothing now: later
            offer.lacking[link.id] = len(keys)
            records, _, _ = chunk_of(self.state, EVENTUAL, offer.index, keys, full=True)
            self.state.counters["handed_over"] += len(records) // 3
            link.controls.append(["put", records])
            self._tell(one, offer, link)
            return
        offer.confirmed.add(link.id)
        if not self._is_enough(offer.place, offer.confirmed):
            return
        del self._offers[one]
        if offer.position < len(offer.keys):
            self._cut(offer)
        else:
            self._forget(offer)
            self._look()

    def _forget(self, offer: Offer) -> None:
        """Drop a range whose owners have all of it, unless something has come since."""
        state = self.state
        assert state.map is not None
        # Else what is there by now is offered anew, to those whose it is by now.
        is_same = state.table.digest(offer.index) == offer.digest
        if is_same and state.map.ranges[offer.index] == offer.place:
            state.table.drop(offer.index)

    # -- the owner ------------------------------------------------------------------------------

    def on_offer(self, link: Link, one: int, index: int, versions: list[Any]) -> None:
        """Say what of a chunk is missing here, if this node takes writes for its range."""
        state = self.state
        if not state.serving or state.map is None or state.refusal:
            return
        if state.settings.id not in state.map.ranges[index].writers:
            return
        wanted = []
        each = iter(versions)
        for key, version in zip(each, each, strict=True):
            if type(key) is not bytes or not is_version(version):
                raise FrameError(f"a malformed offer of {link.id}")
            if lacks(state, EVENTUAL, index, key, version):
                wanted.append(key)
        link.controls.append(["want", one, wanted])
