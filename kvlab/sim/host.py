"""One simulated machine with one node: its clock, disk and process, and the shell around the node.

It is to a `kv.Node` what `live.server` is on real sockets: it feeds events and carries out what the
node says, and decides nothing about data or membership.

Invariants:

1. A paused process hears nothing, and hears everything in order when it runs on. Its clock goes on.
2. A life ends once; nothing that was asked for in one life happens in the next.
3. The clock of a life never steps (as in live/server.py): the machine's shows in the next life.
4. Of a node that keeps its data on disk nothing leaves past its `kv.keeper`.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from kvlab.kv.keeper import Keeper, Policy, Said, Work, life_of
from kvlab.kv.node import TICK_US, Node
from kvlab.kv.peer_session import Close, Dial, Session, Write
from kvlab.kv.peering import NEVER_US, WRITE_BYTES_MAX, Peering
from kvlab.kv.state import Settings
from kvlab.ring.slot import range_of
from kvlab.rng import Rng
from kvlab.sim.clock import Clock, Timer
from kvlab.sim.disk import BYTE_BITS, SimDisk
from kvlab.sim.ends import ClientEnd, PeerEnd
from kvlab.sim.network import Network
from kvlab.sim.stream import End, Owner, Power
from kvlab.sim.watch import Watch, WatchedNode
from kvlab.storage.disk import DiskError, DiskFailedError
from kvlab.storage.frame import HEADER_BYTES, place_of
from kvlab.storage.journal import Saved
from kvlab.storage.log import Sync, identity_of, parse_name
from kvlab.storage.recovery import recover
from kvlab.wire.peer import NONCE_BYTES

RESERVE_BYTES = 1024  # real nodes reserve more; here a disk that is full is to be felt soon
INTERVAL_US = 100_000  # from one sync to the next, where a node syncs at an interval
START_US = 1_800_000_000_000_000  # what a clock that is right shows when the world begins
DRAIN_US = 100_000  # that a process which is asked to end goes on
TURN_US = 30  # from the first event of a loop turn to its end


class Life:
    """One process of a node: from its start to its end."""

    __slots__ = ("flush_due", "keeper", "node", "offset_us", "peering", "timer", "timer_us")

    def __init__(
        self, node: Node, peering: Peering, offset_us: int, keeper: Keeper | None = None
    ) -> None:
        self.node = node
        self.keeper = keeper  # None: this node keeps nothing
        self.peering = peering
        self.offset_us = offset_us  # of its clock from the world's
        self.flush_due = False
        self.timer: Timer | None = None
        self.timer_us = NEVER_US


class Host:
    """A machine, and the life of a node on it if there is one."""

    def __init__(self, name: str, clock: Clock, network: Network, watch: Watch, rng: Rng) -> None:
        self.name = name
        self.disk = SimDisk(clock, rng.child("disk"))  # outlives the lives of the node
        self.power: Power = "no process"
        self.paused = False
        self.is_stopping = False
        self.skew_us = 0  # of the machine's clock
        self.life: Life | None = None
        self.lives = 0
        self.ended_because = ""  # why the last life ended by itself
        self.on_replaced: Callable[[str], None] = lambda _name: None
        self.missed = 0  # events that came while paused
        self._recovering = False  # a process has begun, and waits for its disk
        self._backlog: deque[tuple[Life | None, Callable[..., object], tuple[Any, ...]]] = deque()
        self.clock = clock
        self._network = network
        self._watch = watch
        self._rng = rng
        network.machines[name] = self

    # -- life -----------------------------------------------------------------------------------

    def start(
        self, settings: Callable[[int], Settings], seeds: tuple[str, ...], *, sync: str = "memory"
    ) -> None:
        """Begin a process; `settings` takes its boot time: an earlier one's where that life goes on.

        Raise DiskError where its disk does not let it begin.
        """
        assert self.life is None
        offset_us = START_US + self.skew_us
        now_us = self.clock.now_us + offset_us
        keeper = None
        if sync == "memory":
            node = WatchedNode(settings(now_us), now_us, self._watch)
        else:
            try:
                node, keeper = self._restored(settings, now_us, cast("Policy", sync))
            except DiskError:
                self.end()
                raise
        node.state.log = lambda line: self._watch.log(self.name, line)
        nonces = self._rng.child(f"nonces/{self.lives}")
        peering = Peering(node, seeds, self._note, lambda: nonces.randbytes(NONCE_BYTES))
        life = Life(node, peering, offset_us, keeper)
        self.life, self.power, self.ended_because = life, "up", ""
        self.lives += 1
        if keeper is None:
            self._begin(life)
            return
        begun = keeper.begin()
        if begun is not None:
            try:
                begun.run()
            except DiskError:
                self.end()
                raise
        # Until then connections are taken, as the system takes them, and wait.
        self._recovering = True
        self.clock.at(self.disk.done_us, self._recovered, life, begun)

    def _restored(
        self, settings: Callable[[int], Settings], now_us: int, policy: Policy
    ) -> tuple[WatchedNode, Keeper]:
        """Make the node that goes on with what is on the disk, or a new one."""
        first = settings(now_us)
        saved = Saved(first.range_count, lambda key: range_of(key, first.range_count))
        identity = identity_of(first.cluster, first.id)
        recovery = recover(self.disk, identity, self._rng.child(f"log/{self.lives}"), saved.apply)
        recovery.log.reserve_bytes = RESERVE_BYTES
        machine = f"up {self.disk.counts.power_cuts}"
        boot = life_of(saved, recovery, policy=policy, machine=machine) or now_us
        found = "damage" if recovery.damage else "torn tail" if recovery.torn_bytes else "clean"
        self._watch.saw(f"disk: {found}")
        node = WatchedNode(settings(boot), now_us, self._watch, saved)
        return node, Keeper(
            node, recovery, saved.meta, policy=policy, machine=machine, interval_us=INTERVAL_US
        )

    def _recovered(self, life: Life, begun: Sync | None) -> None:
        """The disk has done all that this process began with."""
        if life is not self.life or life.keeper is None:
            return
        if begun is not None:
            life.keeper.log.end_sync(begun)
        self._recovering = False
        self._backlog.appendleft((life, self._begin, (life,)))
        if not self.paused:
            self.resume()

    def _begin(self, life: Life) -> None:
        if not life.peering.seeds:
            life.node.membership.alone(self.now_us(life))
        self._run(life, self._dial, ())
        self.clock.after(TICK_US, self.hear_of, life, self._tick)

    def _note(self, level: str, line: str) -> None:
        if level != "debug":
            self._watch.log(self.name, line)

    def stop(self) -> None:
        """Ask the process to end: it turns clients away, answers what it owes, and is gone."""
        life, self.is_stopping = self.life, True
        assert life is not None
        life.node.state.end_service()
        self.touch(life)
        self.clock.after(DRAIN_US, self.hear_of, life, self._finish, "")

    def end(self, *, power: Power = "no process", polite: bool = True) -> None:
        """End the life at once: by a kill (polite: the system ends its connections) or a power cut."""
        self.life = None
        self.power = power
        self.paused = self._recovering = self.is_stopping = False
        self._backlog.clear()
        if polite:
            self.disk.kill()
        else:
            self.disk.power_cut(self._rng)
        self._network.vanish(self.name, polite=polite)

    def flip_bit(self) -> bool:
        """Turn a bit over in what the log knows to be durable; False: there is no such bit.

        Not in what it does not know of: a damaged end looks as if a crash had torn it.
        """
        if self.life is None or self.life.keeper is None:
            return False
        last, end = place_of(self.life.keeper.log.told)
        ends = {}
        for name, size in self.disk.written().items():
            kind, number = parse_name(name)
            if kind == "log" and number <= last:
                ends[name] = end if number == last else size
        found = sorted(name for name, size in ends.items() if size > HEADER_BYTES)
        if not found:
            return False
        name = self._rng.choice(found)
        offset = self._rng.randrange(HEADER_BYTES, ends[name])
        self.disk.flip_bit(name, offset, self._rng.randrange(BYTE_BITS))
        return True

    def pause(self) -> None:
        """Stop the process; its sockets stay open."""
        self.paused = True
        self.missed = 0

    def resume(self) -> None:
        """Let the process run on, with all that happened meanwhile."""
        self.paused = False
        if self._recovering:
            return
        backlog, self._backlog = self._backlog, deque()
        self.missed = len(backlog)
        for life, call, arguments in backlog:
            if self.paused or self._recovering:
                self._backlog.append((life, call, arguments))
            elif life is self.life:
                self._run(life, call, arguments)

    def now_us(self, life: Life) -> int:
        """Return what the clock of a life shows."""
        return self.clock.now_us + life.offset_us

    # -- what the world calls -------------------------------------------------------------------

    def hear(self, call: Callable[..., object], *arguments: Any) -> None:
        """Run an event in the process, now or when it runs again."""
        if self.paused or self._recovering:
            self._backlog.append((self.life, call, arguments))
        elif self.life is not None:
            self._run(self.life, call, arguments)

    def accept(self, end: End) -> Owner:
        """A connection came; its first bytes will tell whose it is."""
        assert self.life is not None
        return ClientEnd(self, self.life, end)

    def hear_of(self, life: Life | None, call: Callable[..., object], *arguments: Any) -> None:
        """Run an event of one life of the process, if that still lives."""
        if self.paused or self._recovering:
            self._backlog.append((life, call, arguments))
        elif life is self.life and life is not None:
            self._run(life, call, arguments)

    def _run(
        self, life: Life | None, call: Callable[..., object], arguments: tuple[Any, ...]
    ) -> None:
        """Run something of the process; an exception is the end of it, and of the run's good name."""
        try:
            call(*arguments)
        except Exception:  # noqa: BLE001  whatever a node raises is what is looked for
            self._watch.crashed(self.name, traceback.format_exc())
            if life is self.life:
                self.end()

    # -- the shell of the node ------------------------------------------------------------------

    def _tick(self) -> None:
        life = self.life
        assert life is not None
        self.clock.after(TICK_US, self.hear_of, life, self._tick)
        node, now_us = life.node, self.now_us(life)
        node.tick(now_us)
        if life.keeper is not None:
            life.keeper.tick()
            self._carry_on(life, [])
        life.peering.drop_silent(now_us)
        self._dial()
        if not life.flush_due and self._has_news(life):
            self._flush()  # a tick is a loop turn of its own
        if node.refused and node.membership.is_replaced:
            self._finish("")
            self.on_replaced(self.name)
        elif node.refused:
            self._finish(node.refused)
        elif node.state.left and not node.transfers.giving:
            self._finish("it has left the cluster")

    def _finish(self, why: str) -> None:
        self._watch.log(self.name, f"ends: {why}")
        self.ended_because = why
        if self.life is not None and self.life.keeper is not None:
            self.life.keeper.end_turn()
        self.end()

    def _dial(self) -> None:
        life = self.life
        assert life is not None
        life.peering.advance(self.now_us(life))
        self.carry_out(life)

    def touch(self, life: Life) -> None:
        """Something happened: tell peers and release replies at the end of this loop turn."""
        if not life.flush_due and self._has_news(life):
            life.flush_due = True
            self.clock.after(TURN_US, self.hear_of, life, self._flush)

    def _has_news(self, life: Life) -> bool:
        return life.node.has_news or (life.keeper is not None and life.keeper.has_turn)

    def say(self, life: Life, end: End, data: bytes | None) -> None:
        """Answer a client; None: close its connection."""
        if life.keeper is None:
            _tell(end, data)
        else:
            life.keeper.say(end, data)

    def _flush(self) -> None:
        life = self.life
        assert life is not None
        life.flush_due = False
        node, current, keeper = life.node, life.peering.current, life.keeper
        for peer, data in node.take_frames():
            session = current.get(peer)
            if session is None:
                continue
            if keeper is None:
                self._write(session, data)
            else:
                keeper.say(session, data)
        for batch in node.finished:
            cast("ClientEnd", batch.conn.conn).release()
        if keeper is not None:
            self._carry_on(life, keeper.end_turn())

    def _carry_on(self, life: Life, said: list[Said]) -> None:
        """Send what may leave, and let the disk begin what is to be waited for."""
        keeper = life.keeper
        assert keeper is not None
        for whom, what in said:
            if isinstance(whom, End):
                _tell(whom, what)
            elif what is not None:
                self._write(whom, what)
        aborts, keeper.aborts = keeper.aborts, []
        for whom in aborts:
            (whom if isinstance(whom, End) else whom.conn).abort()
        while (work := keeper.take_work(self.now_us(life))) is not None:
            failure = None
            try:
                work.run()
            except DiskFailedError as error:
                failure = error
            self.clock.at(self.disk.done_us, self.hear_of, life, self._disk_done, work, failure)

    def _disk_done(self, work: Work, failure: DiskFailedError | None) -> None:
        life = self.life
        assert life is not None
        assert life.keeper is not None
        self._carry_on(life, life.keeper.work_done(work, failure))

    def _write(self, session: Session, data: bytes) -> None:
        end: End = session.conn
        end.write(data)
        if end.pending_bytes > WRITE_BYTES_MAX:
            end.abort()

    def carry_out(self, life: Life) -> None:
        """Do what the peering asks for."""
        peering = life.peering
        while peering.effects:
            for effect in peering.take_effects():
                session = effect.session
                if isinstance(effect, Dial):
                    target = session.address.partition(":")[0]
                    session.conn = self._network.connect(
                        self.name, target, PeerEnd(self, life, session)
                    )
                elif isinstance(effect, Write):
                    self._write(session, effect.data)
                elif isinstance(effect, Close):
                    session.conn.close()
                else:
                    session.conn.abort()
        if peering.due_us < life.timer_us:
            if life.timer is not None:
                life.timer.cancel()
            life.timer_us = peering.due_us
            at_us = life.timer_us - life.offset_us
            life.timer = self.clock.at(at_us, self.hear_of, life, self._due)

    def _due(self) -> None:
        life = self.life
        assert life is not None
        life.timer, life.timer_us = None, NEVER_US
        self._dial()


def _tell(end: End, data: bytes | None) -> None:
    if data is None:
        end.close()
    else:
        end.write(data)
