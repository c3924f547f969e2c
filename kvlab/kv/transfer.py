"""Ranges on their way: a node pulls what moves to it, and catches up after a lost link. No I/O.

A newcomer of a range pulls it in full from one replica, then compares lists of (key, version) with the
others and fetches what it lacks. Copying from one replica alone would lose writes that were
acknowledged by the two others (reference: the fence and the fenced majority of `membership`).

The messages, as controls of the peer frames:

    ["pull", id, range, epoch, mode]       puller -> donor; mode "full" or "list"
    ["chunk", id, records, more]           donor -> puller; (key, version, value)* or (key, version)*
    ["more", id]                           puller -> donor
    ["fetch", id, range, keys]             puller -> donor, after a list: the records it lacks
    ["records", id, records, count]        donor -> puller, for the first `count` keys of the fetch
    ["wait", id]                           donor -> puller: its map is too old, ask again
    ["put", records]                       anybody -> replica: repair

Invariants:

1. A donor answers a pull only when its map is at least as new as the puller's and names this life of
   it as a replica: from then on it refuses writes that were routed without the newcomer, so nothing
   falls between copy and switch.
2. A range counts as ready when a majority of its replicas was compared, and nobody who can be reached
   is left out.
3. One chunk per pull is under way at a time, PULLS_MAX pulls at once: memory stays bounded.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from kvlab.kv.link import Link
from kvlab.kv.state import State
from kvlab.ring.cluster_map import ClusterMap
from kvlab.wire.peer import FrameError, is_version, records_of

PULLS_MAX = 8  # at once, per puller
DONATIONS_MAX = 256  # at once, per donor
CHUNK_RECORDS = 1000
CHUNK_BYTES = 256 * 1024
MOVES_MAX = 20_000  # remembered movements


@dataclass(slots=True)
class Pull:
    """One range on its way here, from one source after the other."""

    index: int
    epoch: int
    sources: list[str]
    catch_up: bool = False  # this node is a replica already and only compares
    done: set[str] = field(default_factory=set)
    source: str = ""  # asked at present
    mode: str = ""
    filled: bool = False  # it was copied from one source: from now on only compare
    keys: int = 0
    size: int = 0  # bytes of keys and values
    more: bool = False
    wanted: list[bytes] = field(default_factory=list)  # still to be fetched from this chunk


@dataclass(slots=True)
class Donation:
    """What a donor still has to send for one pull."""

    index: int
    mode: str
    keys: list[bytes]
    position: int = 0


class Transfers:
    """All pulls and donations of one node."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.moves: deque[dict[str, Any]] = deque(maxlen=MOVES_MAX)
        self._pulls: dict[int, Pull] = {}  # by range
        self._asked: dict[int, Pull] = {}  # by id of the question under way
        self._catch_up: deque[tuple[int, str]] = deque()
        self._donations: dict[tuple[str, int], Donation] = {}
        self._ready: set[int] = set()
        self._doomed: set[int] = set()  # ranges that moved away and are still held
        self._id = 0

    @property
    def moving(self) -> int:
        """How many ranges are still on their way here."""
        return sum(1 for pull in self._pulls.values() if not pull.catch_up)

    @property
    def comparing(self) -> int:
        """How many ranges are being compared with a peer that holds them too."""
        return sum(1 for pull in self._pulls.values() if pull.catch_up) + len(self._catch_up)

    @property
    def ready(self) -> list[int]:
        """Return the ranges that were pulled and are not yet this node's by the map."""
        return sorted(self._ready)

    @property
    def giving(self) -> int:
        """How many ranges are still held that moved away."""
        return len(self._doomed)

    def why_busy(self) -> str:
        """Say what is still to be moved, compared or dropped, or return ""."""
        for number, what in (
            (len(self._pulls), "ranges to pull or compare"),
            (len(self._catch_up), "ranges to compare"),
            (len(self._donations), "ranges to give"),
            (len(self._ready), "ranges that nobody has committed"),
            (len(self._doomed), "ranges that moved away"),
        ):
            if number:
                return f"has {number} {what}"
        return ""

    # -- the puller -----------------------------------------------------------------------------

    def on_map(self, old: ClusterMap | None, new: ClusterMap) -> None:
        """Begin the pulls that a new map asks for, and forget those that it ended."""
        me = self.state.settings.id
        for index, place in enumerate(new.ranges):
            if me in place.must_report:
                self._doomed.discard(index)  # what went away comes back
                pull = self._pulls.get(index)
                others = [one for one in place.replicas if one != me]
                if pull is not None and not pull.catch_up:
                    pull.sources = others
                elif index not in self._ready:
                    self._pulls[index] = Pull(index, new.epoch, others, filled=me in place.replicas)
                continue
            self._ready.discard(index)
            pull = self._pulls.get(index)
            if pull is not None and not pull.catch_up:
                del self._pulls[index]
            held = me in place.replicas
            if held:
                self._doomed.discard(index)
            elif (
                me in old.ranges[index].writers
                if old is not None
                else self.state.table.ranges[index]
            ):
                self._doomed.add(index)
        self._forget_replaced()

    def _forget_replaced(self) -> None:
        """Leave the answers to questions of pulls that others have taken the place of."""
        self._asked = {
            one: pull for one, pull in self._asked.items() if self._pulls.get(pull.index) is pull
        }

    def on_link_up(self, link: Link, *, was_known: bool) -> None:
        """Compare again with whoever may have been written to past this node.

        While there was no link, the peer could not send its writes here: what is moving here must be
        compared again, and what both hold must be if the link is not the first.
        """
        current = self.state.map
        if current is None:
            return
        me = self.state.settings.id
        for index in self._ready:
            others = [one for one in current.ranges[index].replicas if one != me]
            self._pulls[index] = Pull(index, current.epoch, others, filled=True)
        self._ready.clear()
        self._forget_replaced()
        for pull in self._pulls.values():
            if not pull.catch_up:
                pull.done.clear()
        if was_known:
            for index, place in enumerate(current.ranges):
                if me in place.replicas and link.id in place.replicas:
                    self._catch_up.append((index, link.id))

    def compare(self, index: int, peer: str) -> bool:
        """Fetch what a peer has newer in a range that both hold; False if that is under way."""
        if index in self._pulls or (index, peer) in self._catch_up:
            return False
        self._catch_up.append((index, peer))
        return True

    def on_link_down(self, link: Link) -> None:
        """Give up what was under way with a peer."""
        for one, pull in list(self._asked.items()):
            if pull.source == link.id:
                del self._asked[one]
                pull.source = ""
                if pull.catch_up:
                    del self._pulls[pull.index]
        self._catch_up = deque(item for item in self._catch_up if item[1] != link.id)
        for key in [key for key in self._donations if key[0] == link.id]:
            del self._donations[key]

    def advance(self) -> None:
        """Ask for what can be asked for now."""
        current = self.state.map
        if current is None or self.state.refusal:
            return
        for pull in list(self._pulls.values()):
            if len(self._asked) >= PULLS_MAX:
                return
            if not pull.source:
                self._ask(pull)
        for _ in range(len(self._catch_up)):
            if len(self._asked) >= PULLS_MAX:
                return
            index, peer = self._catch_up.popleft()
            if index in self._pulls:  # with another peer: this one has its turn after that
                self._catch_up.append((index, peer))
            elif peer in self.state.up and peer in current.ranges[index].replicas:
                pull = Pull(index, current.epoch, [peer], catch_up=True)
                self._pulls[index] = pull
                self._ask(pull)

    def _ask(self, pull: Pull) -> None:
        """Turn to the next source that can be reached, or see that all is done."""
        left = [one for one in pull.sources if one not in pull.done]
        up = [one for one in left if one in self.state.up]
        if not up:
            compared = len(pull.sources) - len(left)
            if pull.catch_up or compared * 2 > len(pull.sources):
                self._complete(pull)
            return
        pull.source = up[0]
        pull.mode = "list" if pull.filled or pull.catch_up else "full"
        pull.keys = pull.size = 0
        self._id += 1
        self._asked[self._id] = pull
        self.state.links[pull.source].controls.append(
            ["pull", self._id, pull.index, pull.epoch, pull.mode]
        )

    def _complete(self, pull: Pull) -> None:
        del self._pulls[pull.index]
        if not pull.catch_up:
            self._ready.add(pull.index)

    def on_chunk(
        self, link: Link, one: int, records: list[Any], now_us: int, *, more: bool
    ) -> None:
        """Take records, or a list of versions, for the question `one`."""
        pull = self._asked.get(one)
        if pull is None or pull.source != link.id:
            return
        pull.more = more
        if pull.mode == "full":
            self._store(pull, records)
            self._next(link, one, pull, now_us)
            return
        table, index = self.state.table, pull.index
        each = iter(records)
        pull.wanted = []
        for key, version in zip(each, each, strict=True):
            if type(key) is not bytes or not is_version(version):
                raise FrameError(f"a malformed list of {link.id}")
            held = table.get(index, key)
            if held is None or held[0] < version:
                pull.wanted.append(key)
        self._fetch(link, one, pull, now_us)

    def on_records(self, link: Link, one: int, records: list[Any], count: int, now_us: int) -> None:
        """Take the records that were fetched for the question `one`."""
        pull = self._asked.get(one)
        if pull is not None and pull.source == link.id:
            self._store(pull, records)
            del pull.wanted[: max(count, 1)]
            self._fetch(link, one, pull, now_us)

    def _fetch(self, link: Link, one: int, pull: Pull, now_us: int) -> None:
        if pull.wanted:
            link.controls.append(["fetch", one, pull.index, pull.wanted])
        else:
            self._next(link, one, pull, now_us)

    def _store(self, pull: Pull, records: list[Any]) -> None:
        for key, version, value in records_of(records):
            if self.state.table.put(pull.index, key, version, value):
                pull.keys += value is not None
                pull.size += len(key) + len(value or b"")
        if pull.catch_up:
            self.state.counters["catch_up_records"] += len(records) // 3

    def _next(self, link: Link, one: int, pull: Pull, now_us: int) -> None:
        if pull.more:
            link.controls.append(["more", one])
            return
        del self._asked[one]
        if not pull.catch_up and (pull.keys or pull.mode == "full"):
            self.moves.append(
                {
                    "epoch": pull.epoch,
                    "range": pull.index,
                    "from": pull.source,
                    "to": self.state.settings.id,
                    "keys": pull.keys,
                    "bytes": pull.size,
                    "at_us": now_us,
                }
            )
        pull.done.add(pull.source)
        pull.filled = True
        pull.source = ""
        self._ask(pull)
        self.advance()

    def on_wait(self, one: int) -> None:
        """The donor's map is older than ours: ask again on a later tick."""
        pull = self._asked.pop(one, None)
        if pull is not None:
            if pull.catch_up:
                del self._pulls[pull.index]
                self._catch_up.append((pull.index, pull.source))
            pull.source = ""

    # -- the donor ------------------------------------------------------------------------------

    def on_pull(self, link: Link, one: int, index: int, epoch: int, mode: str) -> None:
        """Begin to give a range away, or tell the puller to wait."""
        state = self.state
        # A life that began empty and is still to be filled has nothing that could be compared.
        holds = state.serving and state.holds(index)
        if state.epoch < epoch or not holds or len(self._donations) >= DONATIONS_MAX:
            link.controls.append(["wait", one])
            return
        keys = self.state.table.snapshot(index)
        self._donations[link.id, one] = Donation(index, mode, keys)
        self.on_more(link, one)

    def on_more(self, link: Link, one: int) -> None:
        """Send the next chunk of a donation."""
        donation = self._donations.get((link.id, one))
        if donation is None:
            return
        records: list[Any] = []
        size = 0
        table, keys = self.state.table, donation.keys
        position = donation.position
        end = min(len(keys), position + CHUNK_RECORDS)
        while position < end and size < CHUNK_BYTES:
            key = keys[position]
            position += 1
            record = table.get(donation.index, key)
            if record is None:
                continue
            size += len(key) + 16
            if donation.mode == "full":
                records += (key, record[0], record[1])
                size += len(record[1] or b"")
            else:
                records += (key, record[0])
        donation.position = position
        more = position < len(keys)
        if not more:
            del self._donations[link.id, one]
        link.controls.append(["chunk", one, records, more])

    def on_fetch(self, link: Link, one: int, index: int, keys: list[bytes]) -> None:
        """Send the records of these keys, as many as one chunk holds."""
        records: list[Any] = []
        size = count = 0
        for key in keys[:CHUNK_RECORDS]:
            count += 1
            record = self.state.table.get(index, key)
            if record is not None:
                records += (key, record[0], record[1])
                size += len(key) + len(record[1] or b"") + 16
            if size >= CHUNK_BYTES:
                break
        link.controls.append(["records", one, records, count])

    # -- what moved away ------------------------------------------------------------------------

    def drop_moved(self) -> None:
        """Forget the ranges that moved away, once all who hold them now know that they do."""
        state = self.state
        current = state.map
        if current is None or not self._doomed:
            return
        for index in sorted(self._doomed):
            holders = current.ranges[index].replicas
            if all(
                one in state.up and state.links[one].epoch >= state.fence[index] for one in holders
            ):
                state.table.drop(index)
                self._doomed.discard(index)
