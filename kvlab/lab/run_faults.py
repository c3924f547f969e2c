"""What the faults of a run do to real processes, links and folders; each leaves proof, each is undone.

It uses the code of the verbs (`nodefaults`, `netfaults`, `membership`); `run` says when one is due.

Invariants:

1. A fault that is begun leaves one line, which says whether it could be done and what was seen of it.
2. A node loses what it holds only while all others have theirs (`why_not_lose`).
3. What this machine cannot really do is refused before anything starts (`check_real`).
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kvlab.errors import ClientError, InfraError, KvlabError, UsageError
from kvlab.experiment import Plan
from kvlab.experiment.limits import why_not_lose
from kvlab.fault.fault import KILLS, LASTING, LINK_KINDS, Fault, loses_data
from kvlab.lab.kept import clear_data
from kvlab.lab.run_others import why_not
from kvlab.lab.run_rest import why_restless
from kvlab.lab.run_slow import Slowed
from kvlab.live.damage import flip_bit
from kvlab.rng import Rng

if TYPE_CHECKING:
    from kvlab.lab.member import Member
    from kvlab.lab.supervisor import Lab

CHANGES = ("join", "leave")
FULL_BYTES = 4096  # of a file: below that, nothing that a node keeps has room
UNREAL = {
    "power-cut": "no user may take the power from a real machine",
    "sync-fail": "no user may make a real disk fail to sync",
}

Line = dict[str, Any]


def check_real(plan: Plan) -> None:
    """Raise UsageError if some fault of a plan can only be simulated."""
    for fault in plan.faults:
        if fault.kind in UNREAL:
            raise UsageError(
                f"{fault.kind} cannot be done here: {UNREAL[fault.kind]}",
                hint="kvlab sim --scenario runs this file in a simulated world",
            )


class RunFaults:
    """The faults of one run."""

    def __init__(
        self,
        lab: Lab,
        plan: Plan,
        now_us: Callable[[], int],
        tell: Callable[[Line], None],
        count_links: Callable[[str, Fault], Awaitable[None]],
    ) -> None:
        """`tell` is given each line when the fault begins and again when it has ended.

        `count_links` is called with the name of each fault that has ended, and the fault.
        """
        self.lines: list[Line] = []
        self._lab = lab
        self._plan = plan
        self._now_us = now_us
        self._tell = tell
        self._count_links = count_links
        self._rng = Rng(plan.spec.seed, "run/faults")
        self._one_begins = asyncio.Lock()
        self._active: list[Fault] = []
        self._exposed = False  # memory was lost, and not everybody is whole again
        self._numbers: dict[int, int] = {}  # id of an active fault -> its number at the links
        self._slowed: dict[int, list[Slowed]] = {}
        self._starting: set[asyncio.Task[None]] = set()

    async def course(self, fault: Fault, until: Callable[[int], Awaitable[None]]) -> Line:
        """Bring a fault about when it is due, undo it when it is over; return its line."""
        await until(fault.at_us)
        if fault.kind in CHANGES:  # takes its time, and nothing waits for it
            line = await self._begin(fault)
        else:
            async with self._one_begins:
                line = await self._begin(fault)
        if not line["done"] or fault.kind in LASTING:
            return line
        await until(fault.until_us)
        self._active.remove(fault)
        line["until_us"] = self._now_us()
        await self._undo(fault, line)
        line["undone_us"] = self._now_us()
        self._tell(line)
        await self._count_links(f"fault {line['id']} {fault.title}", fault)
        return line

    async def _begin(self, fault: Fault) -> Line:
        line: Line = {
            "id": len(self.lines) + 1,
            "t_us": self._now_us(),
            "until_us": fault.until_us,
            "planned_us": fault.at_us,
            "planned_until_us": fault.until_us,
            **fault.to_builtins(),
            "done": True,
            "bit": False,
            "why": "",
            "evidence": {},
        }
        self.lines.append(line)
        why = await self._why_not(fault)
        if not why:
            self._tell(line)
            try:
                await self._do(fault, line)
            except KvlabError as error:  # such as a node that says no
                if fault.kind in LINK_KINDS:
                    raise  # the shim is gone: nothing can be proved any more
                why = error.message
        if why:
            line["done"], line["why"] = False, why
        elif fault.kind not in LASTING:
            self._active.append(fault)
        self._tell(line)
        return line

    # -- what can be done now -------------------------------------------------------------------

    async def _why_not(self, fault: Fault) -> str:
        """Say why a fault cannot be done now, or return ""."""
        members = self._lab.members
        if why := why_not(self._lab, self._plan, fault):
            return why
        if fault.kind == "join":
            taken = [name for name in fault.nodes if name in members]
            return f"{taken[0]} is there already" if taken else ""
        for name in fault.nodes:
            if name not in members or members[name].child is None:
                return f"{name} is not running"
            held = {one.kind for one in self._active if name in one.nodes}
            if fault.kind in (*KILLS, "pause", "slow") and "pause" in held:
                return f"{name} is paused"
            if fault.kind in ("pause", "slow") and "slow" in held:
                return f"{name} is slowed"
        # What servers by others promise to survive is not known: they are judged by what they do.
        if self._lab.engine.is_ours and loses_data(fault.kind, self._plan.spec.sync):
            if self._exposed and not self._active and not await why_restless(self._lab):
                self._exposed = False
            here = len(members)
            why = why_not_lose(self._plan.spec, fault, exposed=self._exposed, members=here)
            self._exposed |= not why
            return why
        return ""

    def _members(self, fault: Fault) -> list[Member]:
        return [self._lab.members[name] for name in fault.nodes if name in self._lab.members]

    # -- doing ----------------------------------------------------------------------------------

    async def _do(self, fault: Fault, line: Line) -> None:
        if fault.kind in LINK_KINDS:
            await self._do_to_links(fault, line)
        elif fault.kind in CHANGES:
            await self._change(fault, line)
        else:
            await asyncio.gather(
                *(self._do_to_node(fault, line, one) for one in self._members(fault))
            )

    async def _do_to_links(self, fault: Fault, line: Line) -> None:
        network, nodes = self._lab.network, tuple(self._lab.members)
        if fault.kind == "reset":
            broken = await network.break_once(fault.links, nodes)
            line["evidence"], line["bit"] = {"resets": broken}, broken > 0
            return
        number = await network.begin(fault.title, fault.links, fault.rule, nodes)
        self._numbers[id(fault)] = number

    async def _change(self, fault: Fault, line: Line) -> None:
        for name in fault.nodes:
            if fault.kind == "join":
                told = await self._lab.membership.add(name, wait=False)
                line["evidence"][name] = f"port {told['port']}"
            else:
                await self._lab.membership.remove(name, wait=False)
                line["evidence"][name] = "leaving"
        line["bit"] = True

    async def _do_to_node(self, fault: Fault, line: Line, member: Member) -> None:
        nodes, kind = self._lab.nodes, fault.kind
        seen: Any = ""
        if kind == "disk-full":
            assert member.pid is not None
            _limit_files(member.pid, FULL_BYTES)
            return  # what the node says at the end is the proof
        if kind == "skew":
            member.clock_us += fault.by_us
            seen = f"{member.clock_us} us off from its next start on"
        elif kind == "slow":
            self._slowed.setdefault(id(fault), []).append(Slowed(member, fault.cpu))
            return
        elif kind == "pause":
            proof = await nodes.pause(member)
            seen = proof.after if proof.after == "paused" else ""
        else:
            proof = await (nodes.stop if kind == "stop" else nodes.kill)(member)
            seen = f"pid {proof.pid} {member.last_exit}" if proof.after == "stopped" else ""
            if kind in ("wipe", "bit-flip"):
                seen = self._damage(kind, member)
        line["evidence"][member.id] = seen
        line["bit"] = line["bit"] or bool(seen)

    def _damage(self, kind: str, member: Member) -> Any:
        folder = self._lab.directory.node_data(member.id)
        if kind == "bit-flip":
            return flip_bit(folder, self._rng.child(f"bit/{len(self.lines)}"))
        files = sum(one.is_file() for one in folder.rglob("*"))
        clear_data(self._lab.directory, member.id)
        return f"{files} files removed"

    # -- undoing --------------------------------------------------------------------------------

    async def _undo(self, fault: Fault, line: Line) -> None:
        if fault.kind in LINK_KINDS:
            number = self._numbers.pop(id(fault))
            counted = await self._lab.network.end(number, tuple(self._lab.members))
            line["evidence"], line["bit"] = counted, any(counted.values())
            return
        for slowed in self._slowed.pop(id(fault), ()):
            await slowed.end()
            line["evidence"][slowed.member.id] = f"stopped {slowed.stops} times"
            line["bit"] = line["bit"] or slowed.stops > 0
        try:
            await asyncio.gather(
                *(self._undo_to_node(fault, line, one) for one in self._members(fault))
            )
        except KvlabError as error:  # told by the check that all come to rest
            line["why"] = f"not undone: {error.message}"

    async def _undo_to_node(self, fault: Fault, line: Line, member: Member) -> None:
        if fault.kind in KILLS:
            await self._start(member)
        elif fault.kind == "pause":
            await self._lab.nodes.resume(member)
        elif fault.kind == "skew":
            member.clock_us -= fault.by_us
        elif fault.kind == "disk-full" and member.pid is not None:
            refusal = ""
            with suppress(ClientError):  # it may be paused
                status = await self._lab.engine.status(
                    member.host, member.port, self._lab.ask_timeout_s
                )
                refusal = status.get("refusal") or ""
            _limit_files(member.pid, resource.RLIM_INFINITY)
            line["evidence"][member.id] = refusal
            line["bit"] = line["bit"] or bool(refusal)

    async def _start(self, member: Member) -> None:
        """Begin a node's process; whether it gets ready (it may be cut off) shows in the end."""
        async with member.lock:
            if member.child is not None or member.leaving:
                return
            self._lab.life.forget_recovery(member)
            child = await self._lab.life.begin(member)

        async def watch() -> None:
            with suppress(InfraError):
                await self._lab.life.ready(member, child)

        task = asyncio.get_running_loop().create_task(watch())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def close(self) -> None:
        """Take every signal back, and wait for nobody any more."""
        for task in self._starting:
            task.cancel()
        for each in self._slowed.values():
            for slowed in each:
                await slowed.end()
        await asyncio.gather(*self._starting, return_exceptions=True)

    async def undo_rest(self) -> None:
        """Start whoever is down: a node that ended by itself, too."""
        await self._lab.network.heal(tuple(self._lab.members))
        for member in list(self._lab.members.values()):
            await self._start(member)


def _limit_files(pid: int, size_bytes: int) -> None:
    """Let no file of a process grow beyond a size: as a full disk does."""
    with suppress(ProcessLookupError):  # it ended meanwhile, and its limit with it
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, most))
