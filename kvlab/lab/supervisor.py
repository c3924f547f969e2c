"""The laboratory of one cluster: its nodes, its shims, and what is done to them.

It is the same object in the daemon and embedded in a test or a demo (`async with Lab(...)`); it
knows no control socket and no `supervisor.json`.

Invariants:
1. `close` always ends every process, whatever state the cluster is in, and may be called twice.
2. A failed `start` leaves nothing behind: no process, no socket, no lock.
3. A state directory has one owner at a time.
4. What is kept for the next start (`kept`) follows every change of the members.
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
from kvlab.lab.kept import Kept, clear_all, clear_data, write_kept
from kvlab.lab.lifecycle import Lifecycle
from kvlab.lab.member import Member, now_us
from kvlab.lab.membership import Membership
from kvlab.lab.netfaults import NetFaults
from kvlab.lab.nodefaults import NodeFaults, Proof
from kvlab.lab.ports import Reservation
from kvlab.lab.rolling import restart_in_turn
from kvlab.lab.security import LabSecurity
from kvlab.lab.startup import ASK_TIMEOUT_S, Startup
from kvlab.lab.state import Lock, NodeRecord, StateDir, lock_owner
from kvlab.live.security import OPEN
from kvlab.rng import Rng, fresh_seed
from kvlab.spec import ClusterSpec, NodeSpec

if TYPE_CHECKING:
    from kvlab.lab.shims import Shims

Progress = Callable[[dict[str, Any]], None]
LOOPBACK = "127.0.0.1"


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
        file: str = "",
        fresh: bool = True,
    ) -> None:
        """Set up without starting anything; raises UsageError for a spec that the engine cannot run.

        `directory` is the cluster's own state directory. `host` may be shared between
        laboratories, which saves the start of a warm parent each time; it is then not closed here.
        `folder` is where commands and files of the spec are looked for, by default the current one.
        With `fresh`, data that is in `directory` is removed; else the cluster goes on with it, if it
        fits the spec. `file` is the name of the file that the spec comes from: such a cluster comes
        back some time, and its ports are chosen for that.
        """
        self.spec = spec
        self.fresh = fresh
        self.file = file
        self.resumed: dict[str, Any] | None = None
        """What the cluster goes on with: when it was last written, and how many keys there are."""
        self.removed: set[str] = set()  # who left
        self.is_founded = False
        """Whether there is something that a next start can go on with."""
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

        Raises SpecError where the spec does not fit the data, PortTakenError, or InfraError with the
        end of the log of a node that did not come up; everything is then ended again.
        """
        self._began_us = now_us()
        self._own_directory()
        try:
            await self._host.start()
            await Startup(self, on_progress or _silent).run()
        except BaseException:
            await self.close()
            raise

    async def close(self, *, wipe: bool = False) -> list[str]:
        """End every node and all else; returns the ids of the nodes that were running.

        With `wipe`, their data is removed, too.
        """
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
                member.close()
            try:
                if wipe:
                    clear_all(self.directory)
            finally:
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

    @property
    def keeps(self) -> bool:
        """Whether nodes have data that outlasts them."""
        return not self.engine.is_ours or self.spec.storage.sync != "memory"

    @property
    def beside(self) -> Path:
        """The folder of cluster.yaml, where there is one."""
        return self.directory.path.parent.parent

    def new_member(self, spec: NodeSpec, *, founder: bool, index: int = 0) -> Member:
        """Enter a node into the laboratory; nothing is opened or started."""
        self._count = max(self._count + 1, index)
        member = Member(
            spec,
            self.directory.node_log(spec.id),
            index=index or self._count,
            founder=founder,
            restarts_kept=max(1, self.spec.restart.count_max),
        )
        member.clock_us = self.clocks.get(spec.id, 0)
        self.members[spec.id] = member
        return member

    async def open(self, member: Member, hint: str = "") -> None:
        """Reserve the node's port and put its shim in front. Raises PortTakenError with `hint`."""
        spec, lasts = member.spec, bool(self.file)
        member.reservation = Reservation(spec.host, spec.port, spec.id, hint=hint, lasts=lasts)
        member.advertise = member.address
        if self._shims is not None:
            # The shim listens beside the reservation, as nodes do.
            name = f"{spec.id} (its shim)"
            member.shim = Reservation(LOOPBACK, member.shim_port, name, hint=hint, lasts=lasts)
            host, port = await self._shims.add(
                member.id, (member.host, member.port), port=member.shim.port
            )
            member.advertise, member.shim_port = f"{host}:{port}", port

    async def forget(self, member: Member) -> None:
        """Drop a node that is down: its shim, its ports, its data and its place here."""
        self.members.pop(member.id, None)
        if member.shim is not None and self._shims is not None:
            await self._shims.remove(member.id)
            self.network.drop_node(member.id)
        member.close()
        self.keep()
        self.clear(member)
        self.life.on_change()

    def clear(self, member: Member) -> None:
        """Remove what a node kept that is no member. Raises InfraError."""
        if self.keeps:  # else what is there is another cluster's, which may go on with it
            clear_data(self.directory, member.id)

    def keep(self) -> None:
        """Write down who the members are, for the next start. Raises InfraError."""
        if not self.keeps:
            return
        kept = Kept(
            file=self.file,
            engine=self.engine.name,
            ranges=self.spec.ranges,
            copies=self.spec.replication.n,
            shims=self.spec.network.shims,
            founded=self.is_founded,
            nodes=[member.kept() for member in self.members.values()],
            removed=sorted(self.removed),
        )
        write_kept(self.directory, kept)

    def note_founded(self) -> None:
        """A node serves: from now on there is something to go on with."""
        if not self.is_founded:
            self.is_founded = True
            self.keep()

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
        self._make_parts()

    async def open_shims(self) -> None:
        """Start the shim process, if links are to pass one."""
        if self.spec.network.shims:
            from kvlab.lab.shims import Shims

            shims = Shims(seed=self.spec.seed or fresh_seed())
            # Known before it starts, so that a start that fails half way is ended like any other.
            self._shims = self.life.shims = shims
            self.network = NetFaults(shims, self.spec.network.default, self.events)
            await shims.start()

    def _make_parts(self) -> None:
        self.life = Lifecycle(
            self.spec,
            directory=self.directory,
            engine=self.engine,
            host=self._host,
            events=self.events,
            security=self.security.options,
        )
        self.nodes = NodeFaults(self.life, self.events)
        self.network = NetFaults(None, self.spec.network.default, self.events)
        self.membership = Membership(self)
        self._open = True

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
