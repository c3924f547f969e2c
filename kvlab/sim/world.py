"""A whole simulated world: hosts, network and clients of one plan, and the faults they suffer.

It judges nothing but whether the nodes came to rest. See `run` for a run from plan to verdict.

Invariants:

1. Same plan, same world: time, chance and order come from here alone.
2. Every fault is undone by its time, or at the latest when the plan's time is over, and leaves a line
   that says whether it had an effect.
3. A node loses its memory only while all others have theirs (`_may_lose`): the store keeps copies of
   a key on several nodes and promises to survive one loss at a time.
"""

from __future__ import annotations

from typing import Any

from kvlab.experiment import Plan, Record
from kvlab.fault.fault import DISK_KINDS, KILLS, LASTING, Fault, loses_data, rule_of
from kvlab.fault.link import LinkRule
from kvlab.history import Recorder
from kvlab.kv.node import TICK_US, Node
from kvlab.kv.state import Settings
from kvlab.rng import Rng
from kvlab.sim.client import Client
from kvlab.sim.clock import Clock
from kvlab.sim.disk_faults import Counts
from kvlab.sim.host import Host
from kvlab.sim.network import Network
from kvlab.sim.rest import differing, why_restless
from kvlab.sim.watch import Watch
from kvlab.spec.scenario import OperationSpec
from kvlab.storage.disk import DiskError

CLUSTER = "sim"
RESTART_US = 500_000  # until a process whose disk did not let it begin is started again
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
        self._active: list[Fault] = []
        self._before: dict[int, int] = {}  # id of an active fault -> its counters at the beginning
        self._lines: dict[int, dict[str, Any]] = {}
        self._exposed = False  # memory was lost, and not everybody is whole again
        self._left: set[str] = set()
        self._initial = tuple((name, f"{name}:1") for name in plan.founders)

    # -- the course of a run --------------------------------------------------------------------

    def run(self) -> None:
        """Start the nodes, let clients and faults happen, undo all, wait for rest, read the end."""
        spec = self.plan.spec
        for name in self.plan.founders:
            self._host(name).skew_us = spec.clocks.get(name, 0)
            self._start(name)
        for name, operations in self.plan.operations.items():
            self._client(name, operations)
        for fault in self.plan.faults:
            self.clock.at(fault.at_us, self._begin, fault)
        self.clock.run(spec.time_us)
        self._undo_all()
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

    def _host(self, name: str) -> Host:
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = Host(
                name, self.clock, self.network, self.watch, self._rng.child(f"host/{name}")
            )
            host.on_replaced = self._replaced
            host.disk.faults.slow_sync(self.plan.spec.fsync_us // 2, self.plan.spec.fsync_us // 2)
        return host

    def _start(self, name: str) -> None:
        spec, host = self.plan.spec, self._host(name)
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
        down = any(name in fault.nodes and fault.kind in KILLS for fault in self._active)
        if self._host(name).life is None and not down:
            self._start(name)

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

    # -- faults ---------------------------------------------------------------------------------

    def _begin(self, fault: Fault) -> None:
        line: dict[str, Any] = {
            "t_us": self.clock.now_us,
            "kind": fault.kind,
            "title": fault.title,
            "until_us": fault.until_us,
            "done": True,
            "bit": False,
            "why": "",
        }
        self.record.faults.append(line)
        if self._exposed and not self._active and not self.why_restless():
            self._exposed = False
        why = self._why_not(fault)
        if why:
            line["done"], line["why"] = False, why
            self.note("skip", "", f"{fault.title}: {why}")
            return
        self.note("fault", "", fault.title)
        self._lines[id(fault)] = line
        self._before[id(fault)] = self._felt(fault)
        if fault.kind not in LASTING:
            self._active.append(fault)
            self.clock.at(fault.until_us, self._undo, fault)
        self._do(fault)
        if fault.kind in LASTING or fault.kind in ("kill", "power-cut", "skew"):
            line["bit"] = True

    def _why_not(self, fault: Fault) -> str:
        """Say why a fault cannot be done now, or return ""."""
        if fault.kind == "join":
            taken = [name for name in fault.nodes if name in self.hosts]
            return f"{taken[0]} is there already" if taken else ""
        for name in fault.nodes:
            host = self.hosts.get(name)
            if host is None or host.life is None:
                return f"{name} is not running"
            if fault.kind in (*KILLS, "pause") and host.paused:
                return f"{name} is paused"
        if loses_data(fault.kind, self.plan.spec.sync):
            return self._why_not_lose(fault)
        return ""

    def _why_not_lose(self, fault: Fault) -> str:
        if self._exposed:
            return "another node has lost its memory and not all is whole again"
        if len(fault.nodes) > 1:
            return "memory is lost on one node at a time"
        if self.plan.spec.copies < 2:
            return "there is one copy of each key"
        current = next(iter(self.nodes().values())).state.map
        if current is None or len(current.members) < 3:
            return "the rest would be no majority"
        return ""

    def _do(self, fault: Fault) -> None:
        """Carry a fault out."""
        kind = fault.kind
        if loses_data(kind, self.plan.spec.sync):
            self._exposed = True
        for name in fault.nodes:
            self._do_to_node(fault, self._host(name))
        if kind == "reset":
            for source, target in fault.links:
                self.network.reset(source, target)
        elif fault.links:
            self._apply_rules(fault)

    def _do_to_node(self, fault: Fault, host: Host) -> None:
        kind = fault.kind
        if kind == "kill":
            host.end()
        elif kind == "power-cut":
            host.end(power="off", polite=False)
        elif kind == "pause":
            host.pause()
        elif kind == "skew":
            host.skew_us += fault.by_us
        elif kind == "join":
            self._start(host.name)
        elif kind in DISK_KINDS:
            self._do_to_disk(kind, host)
        elif host.life is not None:
            self._leave(host.life.node, host.name)

    def _do_to_disk(self, kind: str, host: Host) -> None:
        disk = host.disk
        if kind == "wipe":
            host.end()
            disk.wipe()
        elif kind == "bit-flip":
            host.flip_bit()
            host.end()
        elif kind == "disk-full":
            disk.faults.limit_capacity(disk.used_bytes)
        else:
            disk.faults.fail("sync")

    def _undo_to_disk(self, fault: Fault, host: Host) -> None:
        if fault.kind == "disk-full":
            host.disk.faults.limit_capacity(None)
            return
        host.disk.faults.stop_failing()
        if self._felt(fault) > self._before[id(fault)] and host.life is not None:
            host.end()  # it keeps nothing any more until it is started again
            self._start(host.name)

    def _leave(self, node: Node, name: str) -> None:
        try:
            node.membership.ask_leave(name)
        except Exception as error:  # noqa: BLE001  a refusal is an answer
            self.note("log", name, f"does not leave: {error}")

    def _undo(self, fault: Fault) -> None:
        if fault not in self._active:
            return
        self._active.remove(fault)
        self.note("undo", "", fault.title)
        for name in fault.nodes:
            host = self._host(name)
            if fault.kind in KILLS and host.life is None:
                self._start(name)
            elif fault.kind == "pause" and host.paused:
                host.resume()
                self._lines[id(fault)]["bit"] = host.missed > 0
            elif fault.kind == "skew":
                host.skew_us -= fault.by_us
            elif fault.kind in ("disk-full", "sync-fail"):
                self._undo_to_disk(fault, host)
        if fault.links:
            self._apply_rules(fault)
        if fault.links or fault.kind in DISK_KINDS:
            self._lines[id(fault)]["bit"] = self._felt(fault) > self._before[id(fault)]

    def _apply_rules(self, fault: Fault) -> None:
        for link in fault.links:
            self.network.set_rule(link, rule_of(self._active, link))

    def _felt(self, fault: Fault) -> int:
        """Return how often a fault has met something: bytes and connects on its links, or a disk."""
        if fault.kind in DISK_KINDS:
            disks = [self._host(name).disk.counts for name in fault.nodes]
            return sum(_felt_by_disk(fault.kind, counts) for counts in disks)
        counts = [self.network.count(*link) for link in fault.links]
        felt = sum(one.held_bytes + one.resets + one.hung for one in counts)
        if fault.rule.shapes and not fault.rule.cut:
            felt += sum(one.shaped_bytes for one in counts)
        return felt

    def _undo_all(self) -> None:
        for fault in list(self._active):
            self._undo(fault)
        for name, host in self.hosts.items():
            if host.life is None and not host.ended_because:
                self._start(name)

    def note(self, kind: str, host: str, text: str) -> None:
        """Tell whoever looks on."""
        if self.watch.trace is not None:
            self.watch.trace(self.clock.now_us, kind, host, "", text)


def _felt_by_disk(kind: str, counts: Counts) -> int:
    match kind:
        case "wipe":
            return counts.wipes
        case "bit-flip":
            return counts.flipped_bits
        case "disk-full":
            return counts.full
        case _:
            return counts.failures["sync"]
