"""The laboratory of one cluster: its nodes, its shims, and what is done to them.

It is the same object in the daemon and embedded in a test or a demo (`async with Lab(...)`); it
knows no control socket and no `supervisor.json`.

Invariants:
1. `close` always ends every process, whatever state the cluster is in, and may be called twice.
2. A failed `start` leaves nothing behind: no process, no socket, no lock.
3. A state directory has one owner at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kvlab.engine import load_engine
from kvlab.engine.base import Engine
from kvlab.errors import ClientError, InfraError, UsageError
from kvlab.fault.selector import resolve
from kvlab.lab import procs
from kvlab.lab.events import EventLog
from kvlab.lab.host import LocalHost
from kvlab.lab.lifecycle import Lifecycle
from kvlab.lab.member import Member, now_us
from kvlab.lab.membership import Membership
from kvlab.lab.netfaults import NetFaults
from kvlab.lab.nodefaults import NodeFaults, Proof
from kvlab.lab.ports import Reservation
from kvlab.lab.rolling import restart_in_turn
from kvlab.lab.security import LabSecurity
from kvlab.lab.state import Lock, NodeRecord, StateDir, lock_owner
from kvlab.live.security import OPEN
from kvlab.rng import Rng, fresh_seed
from kvlab.spec import ClusterSpec, NodeSpec

if TYPE_CHECKING:
    from kvlab.lab.shims import Shims

Progress = Callable[[dict[str, Any]], None]

# How long one node may take to say how it is before the table goes on without it.
ASK_TIMEOUT_S = 0.5
# Between two looks at who sees whom while a cluster forms.
PEERS_POLL_FIRST_S = 0.002
PEERS_POLL_MAX_S = 0.05


class Lab:
    """A cluster of real processes on this machine, with everything that can be done to it."""

    ask_timeout_s = ASK_TIMEOUT_S

    def __init__(
        self,
        spec: ClusterSpec,
        directory: StateDir | Path,
        *,
        engine: Engine | None = None,
        host: LocalHost | None = None,
        lock: Lock | None = None,
        folder: Path | None = None,
    ) -> None:
        """Set up without starting anything; raises UsageError for a spec that the engine cannot run.

        `directory` is the cluster's own state directory. `host` may be shared between
        laboratories, which saves the start of a warm parent each time; it is then not closed here.
        `folder` is where commands and files of the spec are looked for, by default the current one.
        """
        self.spec = spec
        self.directory = directory if isinstance(directory, StateDir) else StateDir(directory)
        folder = folder or Path.cwd()
        chosen = engine if engine is not None else load_engine(spec.engine.name)
        self.engine = chosen.configured(spec, folder)
        self.security = LabSecurity.of(spec.security, folder)
        self.access = self.security.access()
        if self.access != OPEN:
            self.engine.access = self.access
        self._own_host = host is None
        self._host = host or LocalHost(self.engine.preload, state=str(self.directory.path))
        self._lock = lock
        self._shims: Shims | None = None
        self._meter = procs.UsageMeter()
        self._began_us = now_us()
        self._count = 0  # of all nodes that ever were
        self._closed = False
        self._open = False
        self.clocks: dict[str, int] = {}  # node -> microseconds that its clock is to be off
        self.events: EventLog
        self.life: Lifecycle
        self.nodes: NodeFaults
        self.network: NetFaults
        self.membership: Membership

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def members(self) -> dict[str, Member]:
        """The nodes by id, in the order of the file and then of joining."""
        return self.life.members

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Node id -> where clients reach it."""
        return {member.id: (member.host, member.port) for member in self.members.values()}

    def member(self, node: str) -> Member:
        """Return the node of this id; raises UsageError when there is none."""
        try:
            return self.members[node]
        except KeyError:
            known = ", ".join(self.members)
            raise UsageError(f"no node is called {node!r}", hint=f"nodes are {known}") from None

    async def start(self, on_progress: Progress | None = None) -> None:
        """Start every node and wait until each is ready and sees all others.

        Raises PortTakenError or InfraError, the latter with the end of the log of a node that did
        not come up; everything is then ended again.
        """
        say = on_progress or _silent
        self._began_us = now_us()
        self._own_directory()
        try:
            await self._host.start()
            await self._open_all()
            say({"stage": "starting", "text": f"starting {len(self.members)} nodes"})
            await self._begin_all(say)
            told = await self._await_peers()
        except BaseException:
            await self.close()
            raise
        took_us = now_us() - self._began_us
        self.events.add("up", detail=f"{len(self.members)} nodes in {took_us} us")
        what = "see each other" if told else "answer"
        say({"stage": "up", "text": f"all nodes {what} after {took_us / 1000:.0f} ms"})

    async def close(self) -> list[str]:
        """End every node and all else; returns the ids of the nodes that were running."""
        if self._closed or not self._open:
            return []
        self._closed = True
        await self.membership.close()
        await self.life.close()
        running = [member.id for member in self.members.values() if member.child is not None]
        try:
            results = await asyncio.gather(
                *(self.nodes.stop(member) for member in self.members.values()),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    self.events.add("stop-failed", detail=str(result))
        finally:
            if self._shims is not None:
                await self._shims.close()
            if self._own_host:
                await self._host.close()
            for member in self.members.values():
                if member.reservation is not None:
                    member.reservation.close()
            self.events.add("down")
            self.events.close()
            self.directory.forget()
            if self._lock is not None:
                self._lock.release()
        return running

    async def act(self, verb: str, targets: str, seed: int | None = None) -> list[Proof]:
        """Do a node verb (kill, stop, start, restart, pause, resume) to the nodes selected.

        Raises UsageError for an unknown verb or target, InfraError when the effect is not proved.
        """
        act = self.nodes.verbs.get(verb)
        if act is None:
            raise UsageError(f"no verb is called {verb!r}")
        chosen = self._chosen(verb, targets, seed)
        return await _all([act(self.member(node)) for node in chosen])

    async def restart_in_turn(
        self, targets: str, seed: int | None = None, on_progress: Progress | None = None
    ) -> list[Proof]:
        """Restart the nodes selected one after the other, see `rolling`."""
        chosen = self._chosen("restart", targets, seed)
        return await restart_in_turn(self, chosen, on_progress or _silent)

    def _chosen(self, verb: str, targets: str, seed: int | None) -> tuple[str, ...]:
        rng = Rng(fresh_seed() if seed is None else seed, f"lab/{verb}")
        return resolve(targets, tuple(self.members), rng)

    async def status(self) -> dict[str, Any]:
        """Return how every node is: the supervisor's view, the system's, and the node's own."""
        members = list(self.members.values())
        infos = await asyncio.gather(*(self._ask(member) for member in members))
        pids = {member.pid for member in members if member.pid is not None}
        self._meter.keep_only(pids)
        return {
            "name": self.spec.name,
            "engine": self.engine.name,
            "is_ours": self.engine.is_ours,
            "protocol": self.engine.protocol,
            "uptime_us": now_us() - self._began_us,
            "faults": await self.network.active(),
            "nodes": [self._row(one, info) for one, info in zip(members, infos, strict=True)],
        }

    def new_member(self, spec: NodeSpec, *, founder: bool) -> Member:
        """Enter a node into the laboratory; nothing is opened or started."""
        self._count += 1
        member = Member(
            spec,
            self.directory.node_log(spec.id),
            index=self._count,
            founder=founder,
            restarts_kept=max(1, self.spec.restart.count_max),
        )
        member.clock_us = self.clocks.get(spec.id, 0)
        self.members[spec.id] = member
        return member

    async def open(self, member: Member) -> None:
        """Reserve the node's port, put its shim in front, and see that it begins without data."""
        self.directory.clear_data(member.id)
        member.reservation = Reservation(member.spec.host, member.spec.port, member.id)
        member.advertise = member.address
        if self._shims is not None:
            host, port = await self._shims.add(member.id, (member.host, member.port))
            member.advertise = f"{host}:{port}"
            if not member.founder:
                await self.network.apply_default(tuple(self.members))

    async def forget(self, member: Member) -> None:
        """Drop a node that is down: its shim, its port and its place in the laboratory."""
        self.members.pop(member.id, None)
        if self._shims is not None:
            await self._shims.remove(member.id)
            self.network.drop_node(member.id)
        if member.reservation is not None:
            member.reservation.close()
        self.life.on_change()

    def records(self) -> dict[str, NodeRecord]:
        """Return the nodes as `supervisor.json` lists them."""
        return {
            member.id: NodeRecord(member.host, member.port, member.advertise, member.pid)
            for member in self.members.values()
        }

    def _own_directory(self) -> None:
        self.directory.create()
        if self._lock is None:
            self._lock = Lock.acquire(self.directory)
        if self._lock is None:
            owner = lock_owner(self.directory)
            who = f"process {owner.pid}" if owner else "another process"
            raise InfraError(
                f"{self.directory.path} belongs to a running cluster of {who}",
                hint="kvlab down ends it",
            )
        self.directory.path.joinpath("nodes").mkdir(exist_ok=True)
        self.events = EventLog(self.directory.events)
        self._make_parts(None)

    def _make_parts(self, shims: Shims | None) -> None:
        self._shims = shims
        self.life = Lifecycle(
            self.spec,
            directory=self.directory,
            engine=self.engine,
            host=self._host,
            shims=shims,
            events=self.events,
            security=self.security.options,
        )
        self.nodes = NodeFaults(self.life, self.events)
        self.network = NetFaults(shims, self.spec.network.default, self.events)
        self.membership = Membership(self)
        self._open = True

    async def _open_all(self) -> None:
        if self.spec.network.shims:
            from kvlab.lab.shims import Shims

            shims = Shims(seed=self.spec.seed or fresh_seed())
            # Known before it starts, so that a start that fails half way is ended like any other.
            self._make_parts(shims)
            await shims.start()
        for node in self.spec.nodes:
            self.new_member(node, founder=True)
        # Ports first, all of them: a taken one is found before anything runs.
        for member in self.members.values():
            await self.open(member)
        await self.network.apply_default(tuple(self.members))

    async def _begin_all(self, say: Progress) -> None:
        async def up(member: Member) -> None:
            async with member.lock:
                child = await self.life.begin(member)
            await self.life.ready(member, child)
            say(
                {
                    "stage": "ready",
                    "node": member.id,
                    "text": f"{member.id} is ready on {member.address}",
                    "took_us": now_us() - self._began_us,
                }
            )

        # The first node that fails ends the start: nobody waits for the others' time-outs.
        tasks = [asyncio.ensure_future(up(member)) for member in self.members.values()]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()

    async def _await_peers(self) -> bool:
        """Wait until every node is connected to every other one; False if they do not tell."""
        told = True
        deadline_us = now_us() + self.spec.ready.timeout_us
        for member in self.members.values():
            others = frozenset(self.members) - {member.id}
            pause_s = PEERS_POLL_FIRST_S
            while True:
                try:
                    info = await self.engine.status(member.host, member.port, ASK_TIMEOUT_S)
                except ClientError:
                    info = {}
                if info and self.engine.sees(info, others):
                    told = told and "peers" in info
                    break
                if member.child is None:
                    raise InfraError(
                        f"{member.id} ended while the cluster formed ({member.last_exit})",
                        hint=f"its log: {member.log}",
                    )
                if now_us() > deadline_us:
                    seen = info.get("peers", "no answer")
                    raise InfraError(
                        f"{member.id} does not see all other nodes: {seen}",
                        hint=f"its log: {member.log}",
                    )
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PEERS_POLL_MAX_S)
        return told

    async def _ask(self, member: Member) -> dict[str, Any] | None:
        if not member.answers:
            return None
        try:
            return await self.engine.status(member.host, member.port, ASK_TIMEOUT_S)
        except ClientError:
            return None

    def _row(self, member: Member, info: dict[str, Any] | None) -> dict[str, Any]:
        pid = member.pid
        usage = self._meter.read(pid) if pid is not None else procs.Usage(0.0, 0)
        return {
            "id": member.id,
            "state": member.state,
            "pid": pid,
            "host": member.host,
            "port": member.port,
            "advertise": member.advertise,
            "uptime_us": now_us() - member.since_us if pid is not None else 0,
            "cpu_percent": usage.cpu_percent,
            "rss_bytes": usage.rss_bytes,
            "restarts": member.restarts,
            "last_exit": member.last_exit,
            "node": info,
        }


async def _all(work: Sequence[Awaitable[Any]]) -> list[Any]:
    """Do all at once; when one fails, wait for the others too and raise the first failure."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _silent(_progress: dict[str, Any]) -> None:
    """Take progress that nobody asked for."""
