"""A node's process from its start to its end, and from a crash to its next start.

It knows one node at a time: no verbs, no selectors, no cluster-wide readiness.

Invariants:
1. A child that dies while it is waited for is noticed at once, not when the time is over.
2. Only a node that was ready once is restarted by policy, and only while somebody wants it to run.
3. A node that is down has no listening socket anywhere: its port refuses.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from kvlab.engine.base import Engine, NodeStart, Place
from kvlab.errors import ClientError, InfraError, KvlabError
from kvlab.lab import own_port, procs, restart
from kvlab.lab.events import EventLog
from kvlab.lab.host import Child, Launch, LocalHost
from kvlab.lab.member import Member, Phase, describe_exit, now_us
from kvlab.lab.state import StateDir
from kvlab.spec import ClusterSpec

if TYPE_CHECKING:
    from kvlab.lab.shims import Shims

# A log that is larger at a start is moved aside to log.1, which replaces an older one.
LOG_BYTES_MAX = 64 << 20
# SIGKILL is not refused; only a process stuck in the kernel takes longer than this to go.
KILL_TIMEOUT_S = 10.0
WHY_TIMEOUT_S = 0.5


class Lifecycle:
    """Starts, watches, restarts and ends the processes of one cluster's nodes."""

    def __init__(
        self,
        spec: ClusterSpec,
        *,
        directory: StateDir,
        engine: Engine,
        host: LocalHost,
        events: EventLog,
        security: dict[str, str],
    ) -> None:
        self.spec = spec
        self._security = security
        self.members: dict[str, Member] = {}
        self.on_change: Callable[[], None] = _nothing
        self._directory = directory
        self._engine = engine
        self._host = host
        self.shims: Shims | None = None
        self.is_resumed = False
        """Whether the cluster goes on with the data of an earlier one."""
        self._events = events
        self._ports_are_let_go = False
        """Whether these servers cannot bind a port that is held; known once one has failed."""
        self._recoveries: dict[str, asyncio.Task[None]] = {}  # in their back-off
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, member: Member) -> Child:
        """Start the node's process; it is starting, not ready. The caller holds its lock.

        Raises PortTakenError or InfraError.
        """
        assert member.reservation is not None
        assert member.child is None
        program = self._engine.program(self.start_of(member))
        self._prepare_log(member)
        if not program.inherits:
            await own_port.wait_free(member)
        with ExitStack() as opened:
            listener = None
            if program.inherits:
                listener = opened.enter_context(member.reservation.listen())
            launch = Launch(
                name=f"kv:{member.id}",
                program=program,
                listener=listener,
                log=member.log,
                open_files=self.spec.limits.open_files,
            )
            child = await self._host.spawn(launch)
        member.begin(child)
        member.wanted = True
        child.exited.add_done_callback(lambda done: self._ended(member, child, done.result()))
        # Before "go": the shim must know the caller of the node's very first connection.
        if self.shims is not None:
            await self.shims.set_pid(member.id, child.pid)
        member.bound_beside_us = not program.inherits and not self._ports_are_let_go
        if not program.inherits and self._ports_are_let_go:
            member.reservation.let_go()
        child.go()
        self._events.add("start", member.id, f"pid {child.pid} on {member.address}")
        self.on_change()
        return child

    async def ready(self, member: Member, child: Child) -> None:
        """Wait until the node serves.

        Raises InfraError with the end of its log when it dies first or takes too long.
        """
        timeout_s = self.spec.ready.timeout_us / 1e6
        probe = asyncio.ensure_future(self._engine.wait_ready(member.host, member.port))
        either: set[asyncio.Future[Any]] = {probe, child.exited}
        try:
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if child.exited.done():
                again = await self._begin_with_port(member) or await self._begin_anew(member)
                if again is not None:
                    await self.ready(member, again)
                    return
                raise _ended_early(member, child.exited.result())
            if not probe.done():
                why = await self._why_not_ready(member)
                raise _with_log(member, f"{member.id} is not ready after {timeout_s:g} s{why}")
            probe.result()
        finally:
            probe.cancel()
        if member.child is child and member.phase == Phase.STARTING:
            member.phase = Phase.RUNNING
            member.guarded = True
            self._events.add("ready", member.id, f"after {now_us() - member.since_us} us")

    async def _begin_with_port(self, member: Member) -> Child | None:
        """Start a server again that could not bind its port beside the keeper; it is let go now."""
        if not member.bound_beside_us or not own_port.is_blocked(member):
            return None
        async with member.lock:
            if member.child is not None or member.phase != Phase.CRASHED:
                return None  # somebody, or the policy, sees to it
            self._ports_are_let_go = True
            self._events.add("port-let-go", member.id, member.address)
            own_port.note_let_go(member)
            member.last_exit = None
            return await self.begin(member)

    async def _begin_anew(self, member: Member) -> Child | None:
        """Start a node again that was away so long that others took its place, and ended on hearing it.

        Its next life begins without data.
        """
        if not self._engine.is_replaced(member.log_tail()):
            return None
        async with member.lock:
            if member.child is not None or member.phase != Phase.CRASHED:
                return None  # somebody, or the policy, sees to it
            return await self.begin(member)

    async def _why_not_ready(self, member: Member) -> str:
        """Say what the server does in place of answering."""
        try:
            await self._engine.status(member.host, member.port, WHY_TIMEOUT_S)
        except ClientError as error:
            return f": {error.message}{own_port.elsewhere(member)}"
        return ""

    async def kill(self, member: Member) -> str:
        """End the process with SIGKILL; returns a note when there was none. Holds no lock."""
        note = self.forget_recovery(member)
        child = member.child
        if child is None:
            member.phase = Phase.STOPPED
            return note or "it was not running"
        self._unwanted(member)
        child.send_signal(signal.SIGKILL)
        await self.gone(child, KILL_TIMEOUT_S)
        return note

    async def stop(self, member: Member) -> str:
        """Ask the process to end, and kill it when the grace is over; returns a note for people."""
        note = self.forget_recovery(member)
        child = member.child
        if child is None:
            member.phase = Phase.STOPPED
            return note or "it was not running"
        self._unwanted(member)
        if child.paused:
            note = "it was paused: resumed so that it could end"
        name = self.spec.stop.signal
        child.send_signal(signal.Signals[f"SIG{name}"])
        # A stopped process takes no signal but KILL and CONT, so it could not obey.
        child.send_signal(signal.SIGCONT)
        grace_s = self.spec.stop.grace_us / 1e6
        await asyncio.wait({child.exited}, timeout=grace_s)
        if not child.exited.done():
            note = f"it did not end within {grace_s:g} s of SIG{name}: killed"
            child.send_signal(signal.SIGKILL)
        await self.gone(child, KILL_TIMEOUT_S)
        return note

    async def gone(self, child: Child, timeout_s: float) -> None:
        """Wait for the end of the process and prove it; raises InfraError when it stays."""
        await asyncio.wait({child.exited}, timeout=timeout_s)
        await procs.prove(child.pid, child.started, procs.GONE, timeout_s)

    async def close(self) -> None:
        """Stop restarting; the processes themselves are ended by the caller."""
        for member in self.members.values():
            self.forget_recovery(member)
            member.guarded = False
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget_recovery(self, member: Member) -> str:
        """Call off a restart that waits for its time; returns a note when there was one."""
        task = self._recoveries.pop(member.id, None)
        if task is None or member.phase != Phase.BACKOFF:
            return ""
        task.cancel()
        member.phase = Phase.STOPPED
        return "it was waiting for its restart"

    def _unwanted(self, member: Member) -> None:
        member.wanted = False
        member.guarded = False

    def start_of(self, member: Member) -> NodeStart:
        """Return with what a node is started now."""
        others = [one for one in self.members.values() if one.child is not None]
        places = {
            one: Place(one.id, one.advertise, one.address, one.spec.weight, one.spec.rack or "")
            for one in self.members.values()
        }
        founders = tuple(place for one, place in places.items() if one.founder)
        # When founders have left, those that are still there are not who founded the cluster: one that
        # has lost its disk could take itself for the whole of it, and would not look for the others.
        founds = member.founder and len(founders) == len(self.spec.nodes)
        return NodeStart(
            id=member.id,
            index=member.index,
            cluster=self.spec.name,
            host=member.host,
            port=member.port,
            advertise=member.advertise,
            initial=founders if founds else (),
            join=() if founds else tuple(one.advertise for one in others if one is not member),
            members=tuple(place for one, place in places.items() if not one.leaving),
            replication=self.spec.replication.n,
            read_quorum=self.spec.replication.r,
            write_quorum=self.spec.replication.w,
            ranges=self.spec.ranges,
            dead_after_us=self.spec.dead_after_us,
            weight=member.spec.weight,
            rack=member.spec.rack or "",
            data_dir=str(self._directory.node_data(member.id)),
            sync=self.spec.storage.sync,
            log_level=self.spec.log.level,
            security=self._security,
            clock_us=member.clock_us,
            is_resumed=self.is_resumed,
        )

    def _prepare_log(self, member: Member) -> None:
        self._directory.node_data(member.id).mkdir(parents=True, exist_ok=True)
        try:
            member.log_offset = member.log.stat().st_size
        except FileNotFoundError:
            member.log_offset = 0
        if member.log_offset > LOG_BYTES_MAX:
            member.log.replace(member.log.with_name("log.1"))
            member.log_offset = 0

    def _ended(self, member: Member, child: Child, code: int) -> None:
        """Account for the end of a process: expected, or a crash that the policy decides about."""
        if member.child is not child:
            return
        member.child = None
        member.last_exit = describe_exit(code)
        if member.reservation is not None:
            member.reservation.keep()
        if not member.wanted:
            member.phase = Phase.STOPPED
            self._events.add("stopped", member.id, member.last_exit)
        else:
            member.phase = Phase.CRASHED
            self._events.add("crashed", member.id, member.last_exit)
            if member.guarded:
                self._decide(member, code)
        self.on_change()

    def _decide(self, member: Member, code: int) -> None:
        match restart.decide(self.spec.restart, code, member.restarts_us, now_us()):
            case restart.Restart(delay_us=delay_us):
                member.phase = Phase.BACKOFF
                self._events.add("backoff", member.id, f"restart in {delay_us} us")
                task = asyncio.get_running_loop().create_task(self._recover(member, delay_us))
                self._recoveries[member.id] = task
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case restart.GiveUp(because=because):
                member.phase = Phase.FAILED
                self._events.add("failed", member.id, because)
            case restart.LeaveDown(because=because):
                self._events.add("left-down", member.id, because)

    async def _recover(self, member: Member, delay_us: int) -> None:
        """Wait out the back-off and start the node again."""
        await asyncio.sleep(delay_us / 1e6)
        async with member.lock:
            if member.phase != Phase.BACKOFF:
                return
            member.restarts += 1
            member.restarts_us.append(now_us())
            try:
                child = await self.begin(member)
            except (KvlabError, OSError) as error:
                member.phase = Phase.FAILED
                self._events.add("failed", member.id, f"cannot be restarted: {error}")
                return
        # From here on the task is no back-off any more: the verbs must not cancel it with one.
        if self._recoveries.get(member.id) is asyncio.current_task():
            del self._recoveries[member.id]
        try:
            await self.ready(member, child)
        except InfraError as error:
            self._events.add("not-ready", member.id, error.message)
            child.send_signal(signal.SIGKILL)  # counts as a crash, so the policy decides again


def _ended_early(member: Member, code: int) -> InfraError:
    error = _with_log(member, f"{member.id} ended while it started ({describe_exit(code)})")
    if own_port.is_blocked(member):
        error.hint = own_port.why_blocked(member)
    return error


def _with_log(member: Member, message: str) -> InfraError:
    tail = "\n".join(f"  {line}" for line in member.log_tail().splitlines())
    return InfraError(f"{message}; its log ends:\n{tail}", hint=f"the whole log: {member.log}")


def _nothing() -> None:
    """Do nothing: the default of `on_change`."""
