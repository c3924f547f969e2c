"""Who is in the cluster and which map a node serves by; the changes of both. No I/O, no clock.

How a map is agreed on: one member drives all changes, the reachable one with the lowest number, and
only while it reaches a majority of the members. Behind a cut two members may both believe to drive;
`agreement` lets one of them have its way. Everybody adopts the map with the higher epoch. The rest of
the node only calls `adopt` and reads `state.map`.

The life of a node: it founds the cluster (its id is among the initial members and a majority of them
was met, none of whom had seen it before), or it asks to join until a map names this very life of it.
A life that is kept on disk (`restore`) goes on after any number of restarts.

Invariants:

1. The epoch of the map never falls.
2. A life that lost its table is never counted as a replica before it was refilled: it comes back
   through `ring.change.restart`, which takes it out of the replicas first.
3. A member that is not in the majority part of a split changes no map.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from kvlab.errors import UsageError
from kvlab.kv.agreement import Agreement
from kvlab.kv.driver import Driver
from kvlab.kv.joining import parse_wish
from kvlab.kv.link import Link
from kvlab.kv.state import State
from kvlab.kv.suspicion import Suspicion
from kvlab.ring import change
from kvlab.ring.cluster_map import ClusterMap
from kvlab.wire.peer import Hello, encode_raw

CHANGES_MAX = 1000  # remembered changes of the map
HOPS_MAX = 2  # of a join or leave on its way to the driver
ORPHAN_TICKS = 50  # so long a returning node waits for anybody who serves


class Membership:
    """The cluster map of one node and the part it plays in changing it."""

    def __init__(
        self, state: State, on_map: Callable[[ClusterMap | None, ClusterMap], None]
    ) -> None:
        self.state = state
        self.changes: deque[dict[str, Any]] = deque(maxlen=CHANGES_MAX)
        self.refused = ""  # why the cluster will not have this node
        self.is_replaced = False  # ... but another life of it, which begins without data
        self._on_map = on_map
        self.digest = ""  # of the present map
        self._met: set[str] = set()  # founding members met in this life
        self._returning = False
        self._alone = False
        self._restored = False  # this life began before this process
        self._orphan_ticks = 0
        self._driver = Driver(state.log_line)
        self.suspicion = Suspicion(state)
        self.agreement = Agreement(state, self._chosen)

    # -- this node's own way in -----------------------------------------------------------------

    @property
    def is_member(self) -> bool:
        """Whether the map names this life of this node."""
        me = self.state.me
        if me is None:
            return False
        if me.incarnation == self.state.settings.boot:
            return True
        if me.incarnation != 1:
            return False
        return self._restored or (not self._returning and self._met_majority)

    @property
    def _met_majority(self) -> bool:
        """Whether a majority of the founders was met, this node counted."""
        settings = self.state.settings
        founders = [one for one, _ in settings.initial]
        if self._alone:
            founders = [settings.id]
        met = len(self._met.intersection(founders)) + 1
        return settings.id in founders and met * 2 > len(founders)

    @property
    def is_ready(self) -> bool:
        """Whether this node serves as it should: a member that knows of every other one how it is.

        A peer with a link that has not declared itself yet is about to; writing before that would be
        writing to fewer replicas than there are.
        """
        state = self.state
        if state.map is None or not self.is_member or state.ending:
            return False
        for member in state.map.members:
            if member.id == state.settings.id:
                continue
            link = state.link(member.id)
            if not link.tried or (link.up and not state.is_current(member)):
                return False
        return True

    def restore(self, saved: Any, now_us: int) -> None:
        """Go on as the member that an earlier process of this life was, if it was one."""
        self._restored, body = saved
        if self._restored:
            self.adopt(ClusterMap.from_builtins(body), now_us)

    def alone(self, now_us: int) -> None:
        """Found a cluster of one, when no other member is named anywhere."""
        if self.state.map is not None:
            return
        settings = self.state.settings
        if not settings.initial or [one for one, _ in settings.initial] == [settings.id]:
            self._alone = True
            self._found(now_us)

    def met(self, link: Link, hello: Hello, now_us: int) -> None:
        """Take note of a peer's handshake: it may tell that this node was here before."""
        state = self.state
        settings = state.settings
        me = state.me
        if me is not None and me.incarnation == settings.boot:
            return  # taken in for this very life
        if hello.known_boot not in (0, settings.boot):
            # Whatever this life believes, its table began empty: it must be refilled first.
            self._returning = True
        elif self.is_member:
            return
        elif hello.epoch > 1:
            self._returning = True
        self._met.add(link.id)
        if not self._returning and state.map is None and settings.initial and self._met_majority:
            self._found(now_us)
        state.serving = self.is_member

    def _found(self, now_us: int) -> None:
        settings = self.state.settings
        founders = settings.initial or ((settings.id, settings.address),)
        first = settings.first_map or change.first_map(
            settings.cluster, founders, settings.replication, settings.range_count
        )
        self.adopt(first, now_us)

    def starting(self) -> str:
        """Say in words what this node waits for before it can serve."""
        settings = self.state.settings
        if self.refused:
            return self.refused
        if self.state.ending:
            return "this node is ending; ask another one"
        if settings.initial and not self._returning:
            return (
                f"this node is starting: it has met {len(self._met) + 1} of "
                f"{len(settings.initial)} founding members and needs a majority"
            )
        return "this node is starting: it waits to be taken into the cluster"

    # -- maps -----------------------------------------------------------------------------------

    def adopt(self, new: ClusterMap, now_us: int) -> bool:
        """Serve by `new` from now on, if it is newer than the present map."""
        state = self.state
        old = state.map
        settings = state.settings
        if new.cluster != settings.cluster or new.range_count != settings.range_count:
            state.log(f"a map of another cluster was ignored: {new.cluster!r}")
            return False
        digest = new.digest()
        if old is not None and (new.epoch, digest) <= (old.epoch, self.digest):
            return False
        was_member = self.is_member
        self.digest = digest
        for index, place in enumerate(new.ranges):
            if old is None or place != old.ranges[index]:
                state.fence[index] = new.epoch
        state.map = new
        # Its own old name in the map makes no member of a life that only asks to join.
        state.remember("map", [self.is_member, new.to_builtins()])
        me = state.me
        if me is not None:
            state.clock.number = me.number
            if me.incarnation > max(settings.boot, 1):
                self.refused = f"a newer life of {settings.id} has taken its place"
                state.remember("life", 0)
        elif was_member:  # in this life: an earlier one that left is nothing to this one
            state.remember("life", 0)
            before = old.member(settings.id) if old is not None else None
            if before is not None and (
                not settings.dead_after_ticks or (before.leaving and not before.dead)
            ):
                state.left = True
            else:
                self.refused = f"{settings.id} was away for so long that others took its place"
                self.is_replaced = True
        for member in new.members:
            if member.id != settings.id:
                state.link(member.id)
        if old is not None:
            self._remember(old, new, now_us)
        state.serving = self.is_member
        self._on_map(old, new)
        return True

    def _remember(self, old: ClusterMap, new: ClusterMap, now_us: int) -> None:
        told = change.describe(old, new)
        if told.kind == "commit":
            return  # the end of what an earlier change began
        self.changes.append(
            {
                "epoch": new.epoch,
                "change": told.kind,
                "subject": told.subject,
                "at_us": now_us,
                "moved_copies": told.moved_copies,
                "minimum_copies": told.minimum_copies,
                "members_before": len(old.members),
                "members_after": len(new.members),
            }
        )
        self.state.log(f"map {new.epoch}: {told.kind} {told.subject}".rstrip())

    def _chosen(self, new: ClusterMap, now_us: int) -> None:
        """Make `new`, on which a majority has agreed, the cluster's map."""
        if self.adopt(new, now_us):
            self.spread()

    def spread(self) -> None:
        """Tell the map to every peer that is not known to have it."""
        state = self.state
        if state.map is None:
            return
        epoch, told = state.map.epoch, None
        for link in state.up.values():
            if link.epoch < epoch and link.told < epoch:
                if told is None:
                    told = ["map", epoch, self.digest, encode_raw(state.map.to_builtins())]
                link.controls.append(told)
                link.told = epoch

    # -- messages -------------------------------------------------------------------------------

    def on_map(self, epoch: int, digest: str, body: Any, now_us: int) -> None:
        """Take a peer's map, if it is newer; raises ValueError if it is none.

        `epoch` and `digest` spare the look into maps that are known already: in a large cluster
        every peer sends one.
        """
        if (epoch, digest) > (self.state.epoch, self.digest):
            self.adopt(ClusterMap.from_builtins(body), now_us)

    def on_join(self, link: Link, info: Any, hops: int) -> None:
        """A node asks to be taken in, itself or through another member; ValueError if it is none."""
        wish = parse_wish(info)
        state = self.state
        known = state.map.member(wish.id) if state.map is not None else None
        if state.map is None or (known is not None and known.incarnation == wish.incarnation):
            return
        other = state.links.get(wish.id)
        if other is not None and other.up and other.boot != wish.incarnation:
            reason = f"{wish.id} is already running at {known.address if known else '?'}"
            state.log(f"{wish.address} was not taken in: {reason}")
            if not hops:  # else the link is that of a member, which only passed the wish on
                link.controls.append(["refused", reason])
            return
        self._to_driver(["join", info, hops + 1], hops, lambda: self._driver.ask_join(wish))

    def ask_leave(self, member: str, hops: int = 0) -> None:
        """Begin to hand over all that a member holds; it leaves when that is done.

        Who was replaced as dead is waited for no longer. Raises UsageError if there is no such member,
        or it is the last one.
        """
        current = self.state.map
        if current is not None and member in current.missing:
            control = ["leave", member, hops + 1]
            self._to_driver(control, hops, lambda: self._driver.ask_leave(member))
            return
        if current is None or current.member(member) is None:
            raise UsageError(f"{member} is not a member of the cluster")
        if sum(1 for one in current.members if not one.leaving) < 2:
            raise UsageError(f"{member} is the last member; the data would have nowhere to go")
        heirs = [one for one in current.members if not one.leaving and one.id != member]
        me = self.state.settings.id
        away = [one.id for one in heirs if one.id != me and not self.state.is_current(one)]
        if away and not hops:
            raise UsageError(
                f"{', '.join(away)} cannot be reached and would have to take over a part of the"
                f" data of {member}; start what is down, or let it leave first"
            )
        self._to_driver(["leave", member, hops + 1], hops, lambda: self._driver.ask_leave(member))

    def on_ready(self, member: str, incarnation: int, ranges: list[int]) -> None:
        """A member has the data of these ranges, which are moving to it."""
        if self.state.map is not None:
            self._driver.note_ready(self.state.map, member, incarnation, ranges)

    def report_ready(self, ranges: list[int]) -> None:
        """Tell the driver that this node has the data of these ranges."""
        settings = self.state.settings
        me = self.state.me
        if me is None:
            return
        self._to_driver(
            ["ready", settings.id, me.incarnation, ranges],
            0,
            lambda: self.on_ready(settings.id, me.incarnation, ranges),
        )

    def _to_driver(self, control: list[Any], hops: int, here: Callable[[], object]) -> None:
        driver = self.driver()
        if driver == self.state.settings.id:
            here()
        elif driver and hops < HOPS_MAX:
            self.state.links[driver].controls.append(control)

    def driver(self) -> str:
        """Return the member that changes the map: the lowest number that serves; "" if none."""
        state = self.state
        if state.map is None:
            return ""
        lowest = None
        for member in state.map.members:
            if lowest is not None and member.number > lowest.number:
                continue
            mine = member.id == state.settings.id
            if self.is_member if mine else state.is_current(member):
                lowest = member
        return lowest.id if lowest is not None else ""

    # -- time -----------------------------------------------------------------------------------

    def tick(self, now_us: int) -> None:
        """Do what is due: ask to join, or drive the changes that were asked for."""
        state = self.state
        self.spread()
        self.agreement.tick(now_us)
        if state.left or self.is_replaced:
            return
        if not self.is_member:
            if state.settings.initial and not self._returning:
                me = state.me
                if state.map is None or (me is not None and me.incarnation == 1):
                    return  # a founder waits for a majority of founders, not for a place
            self._ask_to_join()
            self._found_anew(now_us)
            return
        driver = self.driver()
        self.suspicion.tick(driver)
        if state.map is None or driver != state.settings.id:
            return
        reach = sum(
            1 for one in state.map.members if one.id in state.up or one.id == state.settings.id
        )
        if reach * 2 > len(state.map.members) and self.agreement.is_idle:
            for name in self.suspicion.dead(state.map):
                state.log(f"{name} was away for too long: others take its place")
                self._driver.ask_leave(name, dead=True)
            for name in self.suspicion.back(state.map):
                self._driver.ask_back(name)
            new = self._driver.next_map(state.map, {*state.up, state.settings.id})
            if new is not state.map:
                self.agreement.propose(new, now_us)

    def _found_anew(self, now_us: int) -> None:
        """Begin again when all lives that could have taken this one in are gone.

        In memory their data is gone too; waiting for ever would help nobody.
        """
        state = self.state
        nobody = all(link.epoch == 0 for link in state.up.values())
        here = {link.id for link in state.up.values()} | {state.settings.id}
        founders = [one for one, _ in state.settings.initial]
        met = sum(1 for one in founders if one in here)
        waiting = state.settings.id in founders and nobody and met * 2 > len(founders)
        self._orphan_ticks = self._orphan_ticks + 1 if waiting else 0
        if self._orphan_ticks >= ORPHAN_TICKS:
            state.log("no member of the old cluster is left: founding it anew, without data")
            self._returning = False
            state.map = None
            self._found(now_us)

    def _ask_to_join(self) -> None:
        settings = self.state.settings
        info = {
            "id": settings.id,
            "address": settings.address,
            "client_address": settings.client_address,
            "incarnation": settings.boot,
            "weight": settings.weight,
            "rack": settings.rack,
        }
        # Any link will do, but one that serves knows whom to ask.
        for link in sorted(self.state.up.values(), key=lambda one: one.epoch == 0)[:1]:
            link.controls.append(["join", info, 0])
