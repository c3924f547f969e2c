"""What faults do to the hosts and links of a simulated world, and how they are undone.

It decides on no verdict. When a fault is due, `world` says.

Invariant: a fault that is begun leaves one line, which says whether it could be done and had an effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvlab.experiment.limits import why_not_lose
from kvlab.fault.fault import DISK_KINDS, KILLS, LASTING, Fault, loses_data, rule_of
from kvlab.kv.node import Node
from kvlab.sim.disk_faults import Counts
from kvlab.sim.host import Host

if TYPE_CHECKING:
    from kvlab.sim.world import World

SLOW_US = 20_000  # of this, a slowed process gets its share; then it stands still


class Faults:
    """The faults of one world. `begin` one when it is due; it ends by itself."""

    def __init__(self, world: World) -> None:
        self.active: list[Fault] = []
        self._world = world
        self._before: dict[int, int] = {}  # id of an active fault -> its counters at the beginning
        self._lines: dict[int, dict[str, Any]] = {}
        self._exposed = False  # memory was lost, and not everybody is whole again

    def begin(self, fault: Fault) -> None:
        """Bring a fault about, if that can be, and note what became of it."""
        line: dict[str, Any] = {
            "t_us": self._world.clock.now_us,
            "kind": fault.kind,
            "title": fault.title,
            "until_us": fault.until_us,
            "done": True,
            "bit": False,
            "why": "",
        }
        self._world.record.faults.append(line)
        if self._exposed and not self.active and not self._world.why_restless():
            self._exposed = False
        why = self._why_not(fault)
        if why:
            line["done"], line["why"] = False, why
            self._world.note("skip", "", f"{fault.title}: {why}")
            return
        self._world.note("fault", "", fault.title)
        self._lines[id(fault)] = line
        self._before[id(fault)] = self._felt(fault)
        if fault.kind not in LASTING:
            self.active.append(fault)
            self._world.clock.at(fault.until_us, self._undo, fault)
        self._do(fault)
        if fault.kind in LASTING or fault.kind in ("kill", "power-cut", "stop", "skew"):
            line["bit"] = True

    def _why_not(self, fault: Fault) -> str:
        """Say why a fault cannot be done now, or return ""."""
        if fault.kind == "join":
            taken = [name for name in fault.nodes if name in self._world.hosts]
            return f"{taken[0]} is there already" if taken else ""
        for name in fault.nodes:
            host = self._world.hosts.get(name)
            if host is None or host.life is None:
                return f"{name} is not running"
            if fault.kind in (*KILLS, "pause", "slow") and host.paused and not self._is_slow(name):
                return f"{name} is paused"
            if fault.kind in ("pause", "slow") and self._is_slow(name):
                return f"{name} is slowed"
        if loses_data(fault.kind, self._world.plan.spec.sync):
            current = next(iter(self._world.nodes().values())).state.map
            members = len(current.members) if current is not None else 0
            return why_not_lose(
                self._world.plan.spec, fault, exposed=self._exposed, members=members
            )
        return ""

    def _do(self, fault: Fault) -> None:
        """Carry a fault out."""
        kind = fault.kind
        if loses_data(kind, self._world.plan.spec.sync):
            self._exposed = True
        for name in fault.nodes:
            self._do_to_node(fault, self._world.host(name))
        if kind == "reset":
            for source, target in fault.links:
                self._world.network.reset(source, target)
        elif fault.links:
            self._apply_rules(fault)

    def _do_to_node(self, fault: Fault, host: Host) -> None:
        kind = fault.kind
        if kind == "kill":
            host.end()
        elif kind == "power-cut":
            host.end(power="off", polite=False)
        elif kind == "stop":
            host.stop()
        elif kind == "pause":
            host.pause()
        elif kind == "slow":
            self._halt(fault, host)
        elif kind == "skew":
            host.skew_us += fault.by_us
        elif kind == "join":
            self._world.start(host.name)
        elif kind in DISK_KINDS:
            self._do_to_disk(kind, host)
        elif host.life is not None:
            self._leave(host.life.node, host.name)

    def _is_slow(self, name: str) -> bool:
        return any(name in fault.nodes and fault.kind == "slow" for fault in self.active)

    def _halt(self, fault: Fault, host: Host) -> None:
        """Let a slowed process stand still, after it has had its share."""
        if fault not in self.active:
            return
        if host.life is not None:
            host.pause()
        still_us = max(1, round(SLOW_US * (1 - fault.cpu)))
        self._world.clock.after(still_us, self._run_on, fault, host)

    def _run_on(self, fault: Fault, host: Host) -> None:
        if host.paused and host.life is not None and self._is_mine(fault, host.name):
            host.resume()
            self._lines[id(fault)]["bit"] |= host.missed > 0
        if fault in self.active:
            self._world.clock.after(max(1, round(SLOW_US * fault.cpu)), self._halt, fault, host)

    def _is_mine(self, fault: Fault, name: str) -> bool:
        """Whether no other fault holds a process that this one lets run on."""
        others = (one for one in self.active if one is not fault and name in one.nodes)
        return not any(one.kind in ("pause", "slow") for one in others)

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
            self._world.start(host.name)

    def _leave(self, node: Node, name: str) -> None:
        try:
            node.membership.ask_leave(name)
        except Exception as error:  # noqa: BLE001  a refusal is an answer
            self._world.note("log", name, f"does not leave: {error}")

    def _undo(self, fault: Fault) -> None:
        if fault not in self.active:
            return
        self.active.remove(fault)
        self._world.note("undo", "", fault.title)
        for name in fault.nodes:
            host = self._world.host(name)
            if fault.kind == "stop" and host.is_stopping:
                host.end()  # its time to drain was over
            if fault.kind in KILLS and host.life is None:
                self._world.start(name)
            elif fault.kind == "slow" and host.paused:
                self._run_on(fault, host)
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
            self._world.network.set_rule(link, rule_of(self.active, link))

    def _felt(self, fault: Fault) -> int:
        """Return how often a fault has met something: bytes and connects on its links, or a disk."""
        if fault.kind in DISK_KINDS:
            disks = [self._world.host(name).disk.counts for name in fault.nodes]
            return sum(_felt_by_disk(fault.kind, counts) for counts in disks)
        counts = [self._world.network.count(*link) for link in fault.links]
        felt = sum(one.held_bytes + one.resets + one.hung for one in counts)
        if fault.rule.shapes and not fault.rule.cut:
            felt += sum(one.shaped_bytes for one in counts)
        return felt

    def undo_all(self) -> None:
        """End every fault that is there, and start whoever does not run."""
        for fault in list(self.active):
            self._undo(fault)
        for name, host in self._world.hosts.items():
            if host.life is None and not host.ended_because:
                self._world.start(name)


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
