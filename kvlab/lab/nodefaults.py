"""The node verbs with proof of effect: kill, stop, start, restart, pause, resume.

It decides neither targets nor restarts; it acts on one member and proves with the system's own
view of the process (psutil), never with what was meant to happen.

A verb on a node that is already there (kill of a dead one, pause of a paused one) succeeds and
says so in its note: a verb on `all` must not fail because one node was down before.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from kvlab.errors import InfraError
from kvlab.lab import procs
from kvlab.lab.events import EventLog
from kvlab.lab.lifecycle import Lifecycle
from kvlab.lab.member import Member, now_us

SIGNAL_TIMEOUT_S = 5.0


class Proof(msgspec.Struct, frozen=True):
    """What a verb did to one node: states as the system showed them, and how long it took."""

    id: str
    before: str
    after: str
    pid: int | None
    took_us: int
    note: str = ""


class NodeFaults:
    """Acts on single nodes of one cluster."""

    def __init__(self, lifecycle: Lifecycle, events: EventLog) -> None:
        self._life = lifecycle
        self._events = events
        self.verbs: Final[dict[str, Callable[[Member], Awaitable[Proof]]]] = {
            "kill": self.kill,
            "stop": self.stop,
            "start": self.start,
            "restart": self.restart,
            "pause": self.pause,
            "resume": self.resume,
        }

    async def kill(self, member: Member) -> Proof:
        """SIGKILL; the node stays down until it is started by a verb."""
        return await self._end(member, "kill", self._life.kill)

    async def stop(self, member: Member) -> Proof:
        """Ask the node to end, kill it after the grace; it stays down until it is started."""
        return await self._end(member, "stop", self._life.stop)

    async def start(self, member: Member) -> Proof:
        """Start a node that is down, and wait until it serves."""
        began, before = now_us(), _seen(member)
        async with member.lock:
            child = member.child
            if child is not None:
                note = "it runs already"
                if child.paused:
                    note = "it is paused: kvlab resume lets it run on"
                return Proof(member.id, before, before, child.pid, now_us() - began, note)
            self._life.forget_recovery(member)
            child = await self._life.begin(member)
        await self._life.ready(member, child)
        return Proof(member.id, before, _seen(member), child.pid, now_us() - began)

    async def restart(self, member: Member) -> Proof:
        """Stop the node if it runs, start it, and wait until it serves."""
        began, before, old = now_us(), _seen(member), member.pid
        stopped = await self.stop(member)
        started = await self.start(member)
        note = f"pid {old} before" if old is not None else stopped.note
        return Proof(member.id, before, started.after, started.pid, now_us() - began, note)

    async def pause(self, member: Member) -> Proof:
        """SIGSTOP: the sockets stay open, nothing answers."""
        return await self._freeze(member, signal.SIGSTOP, procs.PAUSED)

    async def resume(self, member: Member) -> Proof:
        """SIGCONT."""
        return await self._freeze(member, signal.SIGCONT, procs.RUNNING)

    async def _end(
        self, member: Member, verb: str, end: Callable[[Member], Awaitable[str]]
    ) -> Proof:
        began, before = now_us(), _seen(member)
        async with member.lock:
            pid = member.pid
            if pid is not None:
                self._events.add(verb, member.id, f"pid {pid}")
            note = await end(member)
        return Proof(member.id, before, _seen(member), pid, now_us() - began, note)

    async def _freeze(self, member: Member, number: signal.Signals, wanted: str) -> Proof:
        began, before = now_us(), _seen(member)
        async with member.lock:
            child = member.child
            if child is None:
                note = f"it is {member.phase}: only a running node can be paused or resumed"
                return Proof(member.id, before, before, None, now_us() - began, note)
            note = ""
            if before == wanted:
                note = "it is paused already" if wanted == procs.PAUSED else "it was not paused"
            child.send_signal(number)
            after = await procs.prove(child.pid, child.started, wanted, SIGNAL_TIMEOUT_S)
            if child.exited.done():
                raise InfraError(f"{member.id} ended before it could be {wanted}")
            # The warm parent reports the same, a moment later; status must not lag behind a proof.
            child.paused = wanted == procs.PAUSED
        if not note:
            self._events.add(wanted, member.id, f"pid {child.pid}")
        return Proof(member.id, before, after, child.pid, now_us() - began, note)


def _seen(member: Member) -> str:
    """Return the state of the node's process as the system shows it now."""
    child = member.child
    if child is None:
        return member.state
    seen = procs.observe(child.pid, child.started)
    return str(member.phase) if seen == procs.RUNNING else seen
