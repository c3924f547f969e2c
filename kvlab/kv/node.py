"""The node: every event of its life in, what to send and to whom out. Pure; see `live` and `sim`.

A shell calls one method per event and then `take_frames`, and writes what it is given:

    receive     a client's requests came         -> Batch; write it when `pending` is 0
    link_up     a peer's handshake succeeded
    link_down   a connection to a peer ended
    frame       a peer's frame came
    tick        TICK_US went by
    take_frames what each peer must be sent now, once per loop turn
    finished    batches whose last operation ended since; write them in order per connection

It does not open, close or time anything itself. `drop_links` names peers that were silent too long.

Invariants:

1. Every input from outside is checked before it changes anything: a bad frame raises FrameError and
   ends one link, never the node.
2. Time is counted in ticks where a peer's silence is judged: a node that was stopped for a while has
   missed ticks, not frames, and must not call all others dead. One that is late counts fewer of them.
"""

from __future__ import annotations

from typing import Any

from kvlab.errors import UsageError
from kvlab.kv.admin import Admin
from kvlab.kv.answer import Batch
from kvlab.kv.coordinator import Coordinator
from kvlab.kv.exchange import Exchange
from kvlab.kv.linear import LINEAR_CONTROLS, Linear
from kvlab.kv.link import Link
from kvlab.kv.membership import Membership
from kvlab.kv.purge import Purge
from kvlab.kv.quorum import Quorum
from kvlab.kv.replica import apply_groups
from kvlab.kv.scan import Scans
from kvlab.kv.state import Settings, State
from kvlab.kv.transfer import Transfers
from kvlab.kv.version import STEP
from kvlab.ring.cluster_map import ClusterMap
from kvlab.storage.journal import Journal, Saved
from kvlab.wire.peer import HELLO, FrameError, Hello, parse_turn, records_of

TICK_US = 100_000
HEARTBEAT_TICKS = 3  # a peer hears from us at least so often
EXPIRIES_MAX = 1000  # values that are let go of per tick; others read as absent until they are
HANDING_TICKS_MAX = 300  # a life that was replaced waits so long for others to take what it has
MEETING_TICKS = 15  # a node that has begun takes nobody for away before that
SILENCE_TICKS = 15  # a peer that was not heard for so long is taken for gone


class Node:
    """One node of the store. With `saved` it keeps what it is told, and goes on where that ended."""

    def __init__(self, settings: Settings, now_us: int, saved: Saved | None = None) -> None:
        self.state = State(settings)
        if saved is not None:
            self.state.table, self.state.registers = saved.table, saved.registers
            saved.table.journal = saved.registers.journal = Journal()
        self.quorum = Quorum(self.state)
        self.linear = Linear(self.state)
        self.scans = Scans(self.state)
        self.transfers = Transfers(self.state, self.linear)
        self.exchange = Exchange(self.state, self.transfers)
        self.purge = Purge(self.state, self.quorum)
        self.membership = Membership(self.state, self._map_changed)
        self.admin = Admin(self.state, self.membership, self.transfers, now_us)
        self.coordinator = Coordinator(
            self.state, self.quorum, self.linear, self.admin.answer, self.membership.starting
        )
        self.receive = self.coordinator.receive
        self.receive_plain = self.coordinator.receive_plain
        self.serve_alone = self.coordinator.alone.serve
        self._ticks = self._handing_ticks = 0
        self._set_time(now_us)
        if saved is not None:
            self._restore(saved, now_us)

    # -- what the shell asks --------------------------------------------------------------------

    @property
    def finished(self) -> list[Batch]:
        """Return the batches that ended since the last call."""
        done, self.quorum.finished = self.quorum.finished, []
        return done

    @property
    def has_news(self) -> bool:
        """Whether `take_frames` or `finished` has something to give."""
        if self.quorum.has_turn or self.quorum.finished:
            return True
        # Asked per event: any(link.has_frame ...) takes three times as long.
        for link in self.state.up.values():
            if link.ack_due or link.groups or link.exceptions or link.controls:
                return True
        return False

    def take_frames(self) -> list[tuple[str, bytes]]:
        """Seal this loop turn; return (peer, bytes) for every peer that must be told something."""
        quorum, state = self.quorum, self.state
        while quorum.has_turn:  # sealing may end a delete's first round and begin its second
            quorum.seal()
        epoch, clock = state.declared_epoch, state.clock.last
        return [
            (link.id, link.take_frame(epoch, clock)) for link in state.up.values() if link.has_frame
        ]

    def hello(self, target: str) -> Hello:
        """Return this node's handshake for a peer (whose id may not be known yet: "")."""
        state, settings = self.state, self.state.settings
        link = state.links.get(target)
        known = link.boot if link is not None else 0
        return Hello(
            HELLO,
            settings.cluster,
            settings.id,
            settings.boot,
            state.declared_epoch,
            settings.range_count,
            target,
            known,
            settings.address,
        )

    def why_refuse(self, hello: Hello) -> tuple[str, str]:
        """Say why a peer that introduced itself cannot be talked to: (code, sentence) or ("", "")."""
        settings = self.state.settings
        if hello.cluster != settings.cluster:
            return "cluster", f"this is cluster {settings.cluster!r}, not {hello.cluster!r}"
        if hello.target not in ("", settings.id):
            return "target", f"this is {settings.id}, not {hello.target}"
        twin = f"{hello.node} is already running at {{}}; give each node its own --id"
        if hello.node == settings.id:
            code = "self" if hello.boot == settings.boot else "running"
            return code, twin.format(settings.address)
        if hello.range_count != settings.range_count:
            return "ranges", f"this cluster has {settings.range_count} ranges"
        known = self.state.links.get(hello.node)
        if known is not None and hello.boot < known.boot:
            return "old", f"a newer life of {hello.node} is known"
        if known is not None and known.up and hello.boot != known.boot:
            return "running", twin.format(self.state.address_of(hello.node))
        return "", ""

    @property
    def refused(self) -> str:
        """Why this process is to end, or "": a life that was replaced gives first what it holds."""
        waits = self.membership.is_replaced and self._handing_ticks < HANDING_TICKS_MAX
        return "" if waits and self.transfers.giving else self.membership.refused

    # -- events ---------------------------------------------------------------------------------

    def link_up(self, hello: Hello, now_us: int) -> Link:
        """A connection to a peer is open, and both sides have introduced themselves."""
        state = self.state
        link = state.link(hello.node)
        was_known = link.boot == hello.boot
        link.reborn = link.reborn or (link.boot != 0 and not was_known)
        if link.up:
            self.link_down(hello.node)
        link.reset()
        link.up, link.tried = True, True
        # The handshake may have left before this node began to serve: say at once that it does.
        link.ack_due = True
        link.boot, link.epoch = hello.boot, hello.epoch
        if not was_known:
            self._remember_lives()
        state.up[hello.node] = link
        self.membership.met(link, hello, now_us)
        state.rebuild()
        if hello.epoch:  # a founder makes its own first map; the next tick tells those who do not
            self.membership.spread()
        self.transfers.on_link_up(link, was_known=was_known)
        self.transfers.advance()
        if not self.membership.is_member:
            self.membership.tick(now_us)
        return link

    def link_down(self, peer: str) -> None:
        """The connection to a peer ended; what it owed is given up."""
        state = self.state
        link = state.up.pop(peer, None)
        if link is None:
            return
        link.up = False
        link.reset()
        state.rebuild()
        self.quorum.lost(link)
        self.linear.on_link_down(link)
        self.scans.on_link_down(link)
        self.transfers.on_link_down(link)
        self.exchange.on_link_down(link)
        self.purge.on_link_down(link)

    def tried(self, peer: str) -> None:
        """A connection to a peer was tried in vain."""
        self.state.link(peer).tried = True

    def frame(self, link: Link, body: bytes, now_us: int) -> None:
        """A frame of a peer came. Raises FrameError if it is none."""
        self._set_time(now_us)
        _, epoch, clock, groups, ack, exceptions, controls = parse_turn(body)
        link.heard = True
        try:
            if epoch != link.epoch:
                began = link.epoch == 0
                link.epoch = epoch
                if began:
                    self.state.rebuild()
            self.state.clock.observe(clock, now_us)
            for control in controls:
                if control[0] in LINEAR_CONTROLS:
                    self.linear.on_control(link, control, now_us)
                else:
                    self._control(link, control, now_us)
            if groups:
                apply_groups(self.state, link, epoch, groups)
            if ack or exceptions:
                self.quorum.answered(link, ack, exceptions)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise FrameError(f"a malformed frame of {link.id}: {error!r}") from error
        if self.quorum.retry:
            self.quorum.reroute(now_us)

    def tick(self, now_us: int, lag_us: int = 0) -> None:
        """TICK_US went by, and `lag_us` more, by which this node was held up."""
        self._set_time(now_us)
        health = self.membership.suspicion.health
        health.tick(lag_us)
        self.state.table.expire(now_us, EXPIRIES_MAX)
        self.quorum.expire(now_us)
        self.linear.tick(now_us)
        self.scans.tick(now_us)
        self.membership.tick(now_us)
        self._ticks += 1
        if not self.state.settled and (self.membership.is_ready or self._ticks >= MEETING_TICKS):
            self.state.settled = True
            self.state.rebuild()
        self.transfers.advance()
        self.transfers.drop_moved()
        self.transfers.handoff.tick()
        self.exchange.tick()
        if not health.score:
            self.purge.tick()
        ready = self.transfers.ready
        if ready:
            self.membership.report_ready(ready)
        self._handing_ticks = self._handing_ticks + 1 if self.membership.is_replaced else 0
        for link in self.state.up.values():
            link.misses = 0 if link.heard else link.misses + health.counts
            link.heard = False
            link.quiet_ticks += 1
            if link.quiet_ticks >= HEARTBEAT_TICKS:
                link.ack_due = True

    def drop_links(self) -> list[str]:
        """Return the peers that were silent for so long that their connections must be closed."""
        return [link.id for link in self.state.up.values() if link.misses >= SILENCE_TICKS]

    # -- inside ---------------------------------------------------------------------------------

    def _set_time(self, now_us: int) -> None:
        self._now_us = self.state.now_us = now_us
        self.quorum.now_us = self.linear.proposer.now_us = now_us

    def _restore(self, saved: Saved, now_us: int) -> None:
        """Go on with the life that an earlier process began, if `settings.boot` names it."""
        self.state.clock.last = saved.meta.get("clock", 0) // STEP * STEP
        self.state.clock.observe(saved.version, now_us)
        if "votes" in saved.meta:  # whatever its life, a member is held to what it voted for
            self.membership.agreement.restore(saved.meta["votes"])
        for peer, (boot, reborn) in saved.meta.get("lives", {}).items():
            link = self.state.link(peer)
            link.boot, link.reborn = boot, reborn
        if saved.meta.get("life") != self.state.settings.boot:
            self.state.remember("life", self.state.settings.boot)
            self.state.remember("map", [False, None])
        elif "map" in saved.meta:
            self.membership.restore(saved.meta["map"], now_us)

    def _remember_lives(self) -> None:
        """Keep which lives of peers were met: who begins again without its data must be told so."""
        links = self.state.links.values()
        lives = {link.id: [link.boot, link.reborn] for link in links if link.boot}
        self.state.remember("lives", lives)

    def _map_changed(self, old: ClusterMap | None, new: ClusterMap) -> None:
        self.state.rebuild()
        for link in self.state.up.values():
            link.ack_due = True  # tell the new epoch at once: others may wait for it
        self.quorum.reroute(self._now_us)
        self.linear.proposer.on_map()
        self.transfers.on_map(old, new)
        self.transfers.advance()

    def _control(self, link: Link, control: list[Any], now_us: int) -> None:
        """Dispatch one rare message of a peer."""
        membership = self.membership
        match control:
            case ["map", int(epoch), str(digest), body]:
                membership.on_map(epoch, digest, body, now_us)
            case ["join", info, int(hops)] if hops >= 0:
                membership.on_join(link, info, hops)
            case ["agree", *message]:
                membership.agreement.on_message(link, message, now_us)
            case ["leave", str(member), int(hops)] if hops >= 0:
                try:
                    membership.ask_leave(member, hops)
                except UsageError as error:  # it has gone while the message was on its way
                    self.state.log(f"a request to leave was ignored: {error}")
            case ["ready", str(member), int(incarnation), list(ranges)]:
                membership.on_ready(member, incarnation, ranges)
            case ["refused", str(reason)]:
                if not membership.is_member:
                    membership.refused = reason
            case ["absent", list(flat)]:
                membership.suspicion.on_absent(link, flat)
            case ["digests", int(epoch), list(digests)]:
                self.exchange.on_digests(link, epoch, digests)
            case ["put", list(records)]:
                self._put(records)
            case _:
                self._transfer(link, control, now_us)

    def _transfer(self, link: Link, control: list[Any], now_us: int) -> None:
        """Dispatch one message of a range on its way, or of a walk through all."""
        transfers, count = self.transfers, self.state.settings.range_count
        donations = transfers.donations
        match control:
            case ["pull", int(one), int(index), int(epoch), (bytes() | None) as leaves] if (
                0 <= index < count
            ):
                donations.on_pull(link, one, index, epoch, leaves)
            case ["chunk", int(one), (0 | 1) as ns, list(records), bool(more), *rest]:
                left, purged = map(int, rest)
                transfers.on_chunk(
                    link, one, ns, records, now_us, more=more, left=left, purged=purged
                )
            case ["more", int(one)]:
                donations.on_more(link, one)
            case ["fetch", int(one), int(index), (0 | 1) as ns, list(keys)] if 0 <= index < count:
                donations.on_fetch(link, one, index, ns, keys)
            case ["records", int(one), (0 | 1) as ns, list(records), int(number)]:
                transfers.on_records(link, one, ns, records, number, now_us)
            case ["wait", int(one)]:
                transfers.on_wait(one)
            case ["offer", int(one), int(index), list(versions)] if 0 <= index < count:
                transfers.handoff.on_offer(link, one, index, versions)
            case ["want", int(one), list(keys)]:
                transfers.handoff.on_want(link, one, keys)
            case ["scan", int(one), (0 | 1) as ns, int(index), int(after)]:
                self.scans.on_scan(link, one, ns, index, after)
            case ["scanned", int(one), list(keys), int(following)]:
                self.scans.on_scanned(link, one, keys, following)
            case _:
                self._purge(link, control)

    def _purge(self, link: Link, control: list[Any]) -> None:
        """Dispatch one message of tombstones that are to go."""
        purge, count = self.purge, self.state.settings.range_count
        match control:
            case ["hush", int(version)]:
                purge.on_hush(link, version)
            case ["quiet", int(version)]:
                purge.on_quiet(link, version)
            case ["cut", int(one), int(epoch), int(index), int(version)] if 0 <= index < count:
                purge.on_cut(link, one, epoch, index, version)
            case ["counted", int(one), (int() | None) as digest]:
                purge.on_counted(link, one, digest)
            case ["purge", int(epoch), int(index), int(version), int(digest)] if 0 <= index < count:
                purge.on_purge(epoch, index, version, digest)
            case _:
                raise FrameError(f"a control of {link.id} that is unknown or malformed")

    def _put(self, records: list[Any]) -> None:
        """Apply a repair, where this node still holds the range."""
        for key, version, value in records_of(records):
            self.state.put_if_held(key, version, value)
