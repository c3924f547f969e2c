"""What all parts of a node share: its settings, table, clock, cluster map, links and routes.

It decides nothing: membership changes the map, the coordinator follows the routes.

Invariants:

1. `routes[r]` agrees with the map and with which links are up, at every moment outside `rebuild`.
2. `fence[r]` is the epoch at which range r last changed its replicas; a request routed by an older
   map is refused for it, because its sender does not know who must hear of it.
"""

from __future__ import annotations

from binascii import crc32
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvlab.kv.group import Route
from kvlab.kv.link import Link
from kvlab.kv.password import Attempts, Password
from kvlab.kv.version import EPOCH_US, STEP, Clock
from kvlab.ring.cluster_map import ClusterMap, Member
from kvlab.ring.slot import SLOT_COUNT, slot_of
from kvlab.storage.memory import Table, Value
from kvlab.storage.registers import Registers

Places = tuple[tuple[str, ...], tuple[str, ...] | None]
"""Who holds a range and who will, each in the order of ids."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One node's fixed properties, for one life of it."""

    id: str
    cluster: str
    address: str  # what peers dial, "host:port"
    client_address: str  # what clients dial
    boot: int  # tells this life from earlier ones: start time in microseconds
    replication: int = 3
    range_count: int = 256
    r: int = 2
    w: int = 2
    weight: float = 1.0
    rack: str = ""
    initial: tuple[tuple[str, str], ...] = ()  # (id, address) of every founding member
    first_map: ClusterMap | None = None  # what founders begin with, where it was made for them
    timeout_us: int = 1_000_000  # of one client operation
    dead_after_ticks: int = 0  # a member that is away so long is replaced; 0: never
    hint_bytes_max: int = (
        256 * 1024 * 1024
    )  # with so much for others this node stands in for nobody
    purge_after_us: int = 10_000_000  # tombstones that are younger are kept
    secret: bytes = field(default=b"", repr=False)  # that peers must know; b"": none has to
    password: Password | None = None  # that clients must tell


@dataclass(slots=True)
class State:
    """The shared state of one node."""

    settings: Settings
    clock: Clock = field(default_factory=Clock)
    map: ClusterMap | None = None
    links: dict[str, Link] = field(default_factory=dict)
    up: dict[str, Link] = field(default_factory=dict)
    current_up: dict[str, Link] = field(default_factory=dict)  # those of lives that the map counts
    routes: list[Route] = field(default_factory=list)
    solo: bool = False  # this node alone holds every range
    fence: list[int] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    requests: int = 0  # of clients, in all
    attempts: Attempts = field(default_factory=Attempts)  # wrong passwords
    log: Callable[[str], None] = lambda _line: None
    _sets_of: ClusterMap | None = None  # the map of which `_sets` was made
    _sets: list[Places] = field(default_factory=list)  # per range
    table: Table = field(init=False)  # of the eventual namespace
    registers: Registers = field(init=False)  # of the linear namespace
    shift: int = field(init=False)  # slot >> shift = range
    serving: bool = False  # this life is a member: it may coordinate and be counted
    left: bool = False  # this member left for good
    settled: bool = False  # who is not met by now is away
    is_open: bool = False  # clients' requests are taken: there are routes, and it is not ending
    ending: bool = False  # this process is about to end: it takes no requests any more
    now_us: int = 0  # of the last frame or tick: never ahead of time
    refusal: str = ""  # why this node takes no writes, or ""
    has_hints_enough: bool = False  # it takes no writes in the place of others
    doubtful: frozenset[bytes] = frozenset()  # keys whose last value the disk may never have
    rest: Sequence[Any] = ()  # of the last requests, those not begun: see kv/coordinator.py

    def __post_init__(self) -> None:
        self.table = Table(self.settings.range_count)
        self.registers = Registers(self.settings.range_count)
        self.shift = (SLOT_COUNT // self.settings.range_count).bit_length() - 1
        self.fence = [0] * self.settings.range_count

    @property
    def epoch(self) -> int:
        """The epoch of the map that this node serves by; 0 before it has one."""
        return self.map.epoch if self.map is not None else 0

    @property
    def me(self) -> Member | None:
        """This node's entry in the map, if it is there in this life."""
        if self.map is None:
            return None
        for member in self.map.members:
            if member.id == self.settings.id:
                return member
        return None

    def address_of(self, peer: str) -> str:
        """Return where a member is reached; "?" if the map does not name it."""
        member = self.map.member(peer) if self.map is not None else None
        return member.address if member is not None else "?"

    def log_line(self, line: str) -> None:
        """Write a line to the log, wherever that goes by now."""
        self.log(line)

    def link(self, peer: str) -> Link:
        """Return the link to a peer, made on first use."""
        link = self.links.get(peer)
        if link is None:
            link = self.links[peer] = Link(peer)
        return link

    def refuse(self, why: str) -> None:
        """Take no writes from now on, or ("") take them again."""
        if why != self.refusal:
            self.log(f"this node takes no writes: {why}" if why else "this node takes writes again")
            self.refusal = why
            self.rebuild()

    def remember(self, name: str, value: Any) -> None:
        """See to it that a named value outlives this process, where anything does."""
        if self.table.journal is not None:
            self.table.journal.meta(name, value)

    def is_past(self, version: int) -> bool:
        """Whether a version was given before now, by this node's clock."""
        return 0 <= version < (self.now_us - EPOCH_US) * STEP

    def range_of(self, key: bytes) -> int:
        """Return the range of a key."""
        return slot_of(key) >> self.shift

    def holds(self, index: int) -> bool:
        """Whether the map names this node as a replica of a range."""
        return self.map is not None and self.settings.id in self.map.ranges[index].replicas

    def put_if_held(self, key: bytes, version: int, value: Value | None) -> None:
        """Apply one record from a peer, if this node takes writes for its range."""
        index = slot_of(key) >> self.shift
        if self.refusal or self.map is None:
            return
        if self.settings.id in self.map.ranges[index].writers:
            self.table.put(index, key, version, value)

    @property
    def declared_epoch(self) -> int:
        """The epoch that peers are told: 0 while this life is no member."""
        return self.epoch if self.serving else 0

    @property
    def why_closed(self) -> str:
        """The code of the error that clients get while this node takes no requests."""
        return "ENDING" if self.ending else "UNAVAILABLE"

    def end_service(self) -> None:
        """Take no more requests of clients. What was begun goes on, and what peers ask."""
        self.ending = True
        self.rebuild()

    def is_current(self, member: Member) -> bool:
        """Whether the life of a member that can be reached is the one that the map counts.

        A founder's first life has no mark of its own in the map, so it must have declared itself.
        """
        link = self.up.get(member.id)
        if link is None:
            return False
        first = member.incarnation == 1 and link.epoch > 0 and not link.reborn
        return first or member.incarnation == link.boot

    def rebuild(self) -> None:
        """Make the routes anew, after a change of the map or of a link."""
        if self.solo:
            self.table.forget_digests()  # a node alone writes past them
        self.solo = False
        self.is_open = False
        if self.map is None or not self.serving:
            self.routes, self.current_up = [], {}
            return
        up = {one.id: self.up[one.id] for one in self.map.members if self.is_current(one)}
        self.current_up = up
        if self._sets_of is not self.map:
            self._sets_of, self._sets = self.map, _sets(self.map)
        shared: dict[Places, Route] = {}
        routes = []
        for key in self._sets:
            route = shared.get(key)
            if route is None:
                route = shared[key] = self._route(key)
            routes.append(route)
        self.routes = routes
        self.is_open = not self.ending
        self.solo = self.is_open and not self.refusal and all(one.solo for one in shared.values())

    def _route(self, places: Places) -> Route:
        """Return the route to a set of replicas; others stand in where too few can be reached."""
        settings, up = self.settings, self.current_up
        options: dict[str, Any] = {"me": settings.id, "up": up, "r": settings.r, "w": settings.w}
        owners = Route(*places, **options)
        if not owners.degraded:
            return owners
        stand_ins = self._stand_ins(places, {*up, settings.id})
        route = Route(*places, stand_ins=stand_ins, **options)
        route.owners = owners
        return route

    def _stand_ins(self, places: Places, reach: set[str]) -> tuple[str, ...]:
        """Return who takes the places of the replicas that are away: the same wherever it is asked.

        But for this node itself, where it holds enough for others. Each set of replicas begins at
        another member, so that the load is spread. Nobody stands in while this node has yet to meet
        the others.
        """
        assert self.map is not None
        if not self.settled:
            return ()
        taken = {*places[0], *(places[1] or ())}
        free = [one.id for one in self.map.members if one.id in reach and not one.leaving]
        free = sorted(one for one in free if one not in taken)
        if self.has_hints_enough:
            free = [one for one in free if one != self.settings.id]
        away = sum(1 for one in places[0] if one not in reach)
        away = max(away, sum(1 for one in places[1] or () if one not in reach))
        begin = crc32(repr(places[0]).encode()) % max(len(free), 1)
        return tuple((free[begin:] + free[:begin])[:away])


def _sets(current: ClusterMap) -> list[Places]:
    """Return the places of every range. The order of replicas does not matter to a quorum."""
    return [
        (tuple(sorted(one.replicas)), None if one.next is None else tuple(sorted(one.next)))
        for one in current.ranges
    ]
