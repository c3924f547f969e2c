"""A whole simulated world: hosts, network and clients of one plan, and the faults they suffer.

It judges nothing but whether the nodes came to rest. What each fault does is in `faults`; see `run`
for a run from plan to verdict.

Invariants:

1. Same plan, same world: time, chance and order come from here alone.
2. Every fault is undone by its time, or at the latest when the plan's time is over, and leaves a line
   that says whether it had an effect.
3. A node loses its memory only while all others have theirs (`why_not_lose`): the store keeps copies
   of a key on several nodes and promises to survive one loss at a time.
"""

from __future__ import annotations

from typing import Any

from kvlab.experiment import Plan, Record
from kvlab.fault.fault import KILLS
from kvlab.fault.link import LinkRule
from kvlab.history import Recorder
from kvlab.kv.node import TICK_US, Node
from kvlab.kv.state import Settings
from kvlab.rng import Rng
from kvlab.sim.client import Client
from kvlab.sim.clock import Clock
from kvlab.sim.faults import Faults
from kvlab.sim.host import Host
from kvlab.sim.network import Network
from kvlab.sim.rest import differing, why_restless
from kvlab.sim.watch import Watch
from kvlab.spec.scenario import OperationSpec
from kvlab.storage.disk import DiskError

CLUSTER = "sim"
RESTART_US = 500_000  # until a process whose disk did not let it begin is started again
PURGE_AFTER_US = 500_000  # sooner than real nodes: what makes a purge safe is not the time
POLL_US = 100_000  # how often it is asked whether the nodes have come to rest
FINAL_READERS = 2  # clients that read every key at the end, through different nodes
FINAL_US_MAX = 60_000_000
FINAL_TIMEOUT_US = 10_000_000


class World:
    """One world. `run` lets it happen."""

    def __init__(self, plan: Plan, sink: Any) -> None:
        spec = plan.spec
        self.plan = plan
        self.clock = Clock()
        rng = Rng(spec.seed, "world")
        base = LinkRule(latency_us=spec.latency_us, jitter_us=spec.jitter_us)
        self.network = Network(self.clock, rng.child("network"), base)
        self.watch = Watch()
        self.watch.now_us = lambda: self.clock.now_us
        self.record = Record()
        self.recorder = Recorder(sink)
        self.hosts: dict[str, Host] = {}
        self.clients: list[Client] = []
        self.settled_us = -1  # when all had come to rest after the last fault
        self.unsettled = ""  # why they had not
        self._rng = rng
        self.faults = Faults(self)
        self._left: set[str] = set()
        self._initial = tuple((name, f"{name}:1") for name in plan.founders)

    # -- the course of a run --------------------------------------------------------------------

    def run(self) -> None:
        """Start the nodes, let clients and faults happen, undo all, wait for rest, read the end."""
        spec = self.plan.spec
        for name in self.plan.founders:
            self.host(name).skew_us = spec.clocks.get(name, 0)
            self.start(name)
        for name, operations in self.plan.operations.items():
            self._client(name, operations)
        for fault in self.plan.faults:
            self.clock.at(fault.at_us, self.faults.begin, fault)
        self.clock.run(spec.time_us)
        self.faults.undo_all()
        deadline_us = self.clock.now_us + spec.settle_us
        self._settle(deadline_us)
        while any(not one.done for one in self.clients) and self.clock.now_us < deadline_us:
            self.clock.run(self.clock.now_us + POLL_US)
        if self.settled_us >= 0:
            self._settle(deadline_us)  # the last operations may have left something to repair
        self._final_reads()
        self.recorder.flush()
        for host in self.hosts.values():
            if host.life is not None:
                for name, count in host.life.node.state.counters.items():
                    self.watch.reached[f"counter: {name}"] += count

    def _settle(self, deadline_us: int) -> None:
        self.settled_us = -1
        while self.clock.now_us < deadline_us:
            self.unsettled = self.why_restless() or next(iter(differing(self.nodes())), "")
            if not self.unsettled:
                self.settled_us = self.clock.now_us
                return
            self.clock.run(self.clock.now_us + POLL_US)

    def _final_reads(self) -> None:
        """Read every key through several nodes."""
        serving = [name for name, host in self.hosts.items() if host.life is not None]
        if not serving or not self.plan.keys:
            return
        readers = []
        for number in range(min(FINAL_READERS, len(serving))):
            node = serving[(number * len(serving)) // FINAL_READERS]
            reads = [
                OperationSpec(
                    at_us=self.clock.now_us,
                    client="",
                    verb="get",
                    key=key,
                    node=node,
                    meta=True,
                    timeout_us=FINAL_TIMEOUT_US,
                )
                for key in self.plan.keys
            ]
            readers.append(self._client(f"reader{number + 1}", reads, final=True))
        until_us = self.clock.now_us + FINAL_US_MAX
        while any(not one.done for one in readers) and self.clock.step(until_us):
            pass

    def _client(self, name: str, operations: Any, *, final: bool = False) -> Client:
        client = Client(
            name,
            operations,
            nodes=self.plan.founders,
            clock=self.clock,
            network=self.network,
            recorder=self.recorder,
            watch=self.watch,
            rng=self._rng.child(name),
            ns=self.plan.spec.ns,
            final=final,
        )
        self.clients.append(client)
        return client

    # -- nodes ----------------------------------------------------------------------------------

    def nodes(self) -> dict[str, Node]:
        """Return the nodes that are alive."""
        return {name: host.life.node for name, host in self.hosts.items() if host.life is not None}

    def host(self, name: str) -> Host:
        """Return the host of a name, which is made when it is first asked for."""
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = Host(
                name, self.clock, self.network, self.watch, self._rng.child(f"host/{name}")
            )
            host.on_replaced = self._replaced
            host.disk.faults.slow_sync(self.plan.spec.fsync_us // 2, self.plan.spec.fsync_us // 2)
        return host

    def start(self, name: str) -> None:
        """Begin a process on a host; one whose disk does not let it begin is started again."""
        spec, host = self.plan.spec, self.host(name)
        founder = name in self.plan.founders
        # Whoever is dead now may be back before this one gives up; and founders may all have left.
        others = [one for one in self.hosts if one != name]

        def settings(boot: int) -> Settings:
            return Settings(
                id=name,
                cluster=CLUSTER,
                address=f"{name}:1",
                client_address=f"{name}:1",
                boot=boot,
                replication=spec.copies,
                range_count=spec.ranges,
                r=spec.r,
                w=spec.w,
                initial=self._initial if founder else (),
                dead_after_ticks=spec.dead_after_us // TICK_US,
                purge_after_us=PURGE_AFTER_US,
            )

        seeds = () if founder else tuple(f"{one}:1" for one in others)
        try:
            host.start(settings, seeds, sync=spec.sync)
        except DiskError as error:
            self.note("log", name, f"does not start: {error.message}")
            self.clock.after(RESTART_US, self._start_again, name)
            return
        self.note("start", name, f"life {host.lives}")

    def _replaced(self, name: str) -> None:
        """Start a node again that ended because others had taken its place, as supervisors do."""
        self.clock.after(RESTART_US, self._start_again, name)

    def _start_again(self, name: str) -> None:
        """Start what could not start, unless something else keeps it down or has brought it up."""
        down = any(name in fault.nodes and fault.kind in KILLS for fault in self.faults.active)
        if self.host(name).life is None and not down:
            self.start(name)

    def why_restless(self) -> str:
        """Say what keeps the nodes from being at rest, or return ""."""
        nodes = self.nodes()
        for name, host in self.hosts.items():
            if host.life is None and name not in self._left:
                why = host.ended_because
                if why == "it has left the cluster":
                    self._left.add(name)
                    continue
                return f"{name} is not running" + (f": {why}" if why else "")
        maps = {(node.state.epoch, node.membership.digest) for node in nodes.values()}
        if len(maps) > 1:
            epochs = ", ".join(f"{name} {node.state.epoch}" for name, node in nodes.items())
            return f"the nodes serve by different maps: {epochs}"
        for name, node in nodes.items():
            why = why_restless(node, nodes)
            if why:
                return f"{name} {why}"
            life = self.hosts[name].life
            if life is not None and life.peering.is_busy:
                return f"{name} is in the middle of a handshake"
        return ""

    def note(self, kind: str, host: str, text: str) -> None:
        """Tell whoever looks on."""
        if self.watch.trace is not None:
            self.watch.trace(self.clock.now_us, kind, host, "", text)
