"""Nodes that join and leave a running cluster.

It moves no data: the nodes do; here their processes are started and ended, and the end of the
movement is asked for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kvlab.errors import ClientError, InfraError, KvlabError, UsageError
from kvlab.lab.member import Member, now_us
from kvlab.spec import NodeSpec
from kvlab.spec.cluster_nodes import NAME_ADVICE, SELECTORS, WEIGHT_MAX, WEIGHT_MIN, is_name

if TYPE_CHECKING:
    from kvlab.lab.supervisor import Lab, Progress

# Moving a node's share takes as long as its data is large; after this we stop watching, not moving.
MOVE_TIMEOUT_S = 600.0
# Asked rarely enough to cost the nodes nothing, often enough to look immediate.
MOVE_POLL_FIRST_S = 0.005
MOVE_POLL_MAX_S = 0.2
JOIN_HINT = 'write it, such as engine: {join: "./server {host}:{port} --join {peers}"}'


class Membership:
    """Adds nodes to one laboratory and removes them."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._lock = asyncio.Lock()
        self._departures: set[asyncio.Task[None]] = set()

    async def add(
        self,
        node: str | None = None,
        weight: float | None = None,
        rack: str | None = None,
        *,
        wait: bool = True,
        on_progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Start a new node that joins; with `wait`, return once it holds its share.

        Raises UsageError for a wrong name, InfraError when it does not start (nothing is left of
        it then) or is still receiving data at the end of MOVE_TIMEOUT_S (it stays).
        """
        lab, began = self._lab, now_us()
        async with self._lock:
            member = await self.join(self._spec_of(node, weight, rack), added=True)
        if on_progress is not None:
            text = f"{member.id} is ready on {member.address}"
            on_progress({"stage": "ready", "node": member.id, "text": text})
        if wait:
            await self._settled(member)
        status = await lab.engine.status(member.host, member.port, lab.ask_timeout_s)
        lab.events.add("added", member.id, member.address)
        return {
            "id": member.id,
            "host": member.host,
            "port": member.port,
            "epoch": status.get("epoch"),
            "took_us": now_us() - began,
        }

    async def join(self, spec: NodeSpec, *, added: bool = False) -> Member:
        """Start a new node, which the others take in; it serves, and may have no data yet.

        Raises UsageError or InfraError when that cannot be; nothing is left of it then.
        """
        lab = self._lab
        _refuse(lab.engine.why_no_join(), f"{spec.id} cannot be added", JOIN_HINT)
        if not any(member.answers for member in lab.members.values()):
            raise UsageError(
                "no node runs that a new one could join", hint="kvlab start all, then add"
            )
        member = lab.new_member(spec, founder=False)
        member.added = added and spec.id not in lab.spec.node_ids
        try:
            await lab.open(member)
            await lab.network.apply_default(tuple(lab.members))
            lab.clear(member)
            lab.removed.discard(member.id)
            lab.keep()
            async with member.lock:
                child = await lab.life.begin(member)
            await lab.life.ready(member, child)
        except (KvlabError, OSError):
            await self.discard(member)
            raise
        return member

    async def remove(
        self, node: str, *, wait: bool = True, on_progress: Progress | None = None
    ) -> dict[str, Any]:
        """See a node out: it hands its data over and ends.

        With `wait` false the rest happens in the background. Raises UsageError for the last node
        or an unknown one, InfraError when nobody can see it out.
        """
        lab, began = self._lab, now_us()
        member = lab.member(node)
        _refuse(
            lab.engine.why_no_leave(),
            f"{node} cannot be seen out",
            f"kvlab stop {node} ends it, and leaves its place to it",
        )
        others = [one for one in lab.members.values() if one is not member and one.answers]
        if member.leaving:
            raise UsageError(f"{node} is leaving already")
        if not others:
            raise UsageError(
                f"{node} cannot leave: no other node runs that could take its data",
                hint="kvlab down ends the whole cluster",
            )
        asked = member if member.answers else others[0]
        wanted, guarded = member.wanted, member.guarded
        # From now on its end is no crash.
        member.leaving, member.wanted, member.guarded = True, False, False
        lab.life.forget_recovery(member)
        try:
            await lab.engine.leave(asked.host, asked.port, member.id)
        except ClientError:
            member.leaving, member.wanted, member.guarded = False, wanted, guarded
            raise
        lab.keep()
        if on_progress is not None:
            text = f"{node} hands its data over"
            on_progress({"stage": "leaving", "node": node, "text": text})
        departure = asyncio.get_running_loop().create_task(self._depart(member))
        self._departures.add(departure)
        departure.add_done_callback(self._departures.discard)
        if wait:
            await departure
        return {"id": node, "is_ours": lab.engine.is_ours, "took_us": now_us() - began}

    async def close(self) -> None:
        """Stop watching departures."""
        for task in self._departures:
            task.cancel()
        await asyncio.gather(*self._departures, return_exceptions=True)

    def _spec_of(self, node: str | None, weight: float | None, rack: str | None) -> NodeSpec:
        known = self._lab.members
        if node is None:
            count = 1
            while f"server{count}" in known:
                count += 1
            node = f"server{count}"
        elif node in known:
            raise UsageError(f"{node} exists already", hint="kvlab start starts it if it is down")
        elif not is_name(node) or node in SELECTORS:
            raise UsageError(f"{node!r} cannot name a node", hint=f"{NAME_ADVICE} server9")
        weight = 1.0 if weight is None else weight
        if not WEIGHT_MIN <= weight <= WEIGHT_MAX:
            raise UsageError(f"weight is from {WEIGHT_MIN:g} to {WEIGHT_MAX:g}, not {weight:g}")
        if rack is not None and not is_name(rack):
            raise UsageError(f"{rack!r} cannot name a rack", hint=f"{NAME_ADVICE} rack1")
        return NodeSpec(id=node, weight=weight, rack=rack)

    async def _settled(self, member: Member) -> None:
        """Wait until the node is a member and nothing is on its way to it."""
        engine = self._lab.engine
        await self._until(
            lambda: engine.settled(member.host, member.port, member.id),
            member,
            f"{member.id} joined, but is still receiving its share",
        )

    async def _depart(self, member: Member) -> None:
        """Wait until the others no longer list the node, then end it and forget it."""
        lab = self._lab

        async def is_out() -> bool:
            for one in list(lab.members.values()):
                if one is not member and one.answers:
                    return member.id not in await lab.engine.members(one.host, one.port)
            return False

        try:
            await self._until(is_out, None, f"{member.id} is still handing its data over")
        except InfraError as error:
            lab.events.add("leave-failed", member.id, error.message)
            member.leaving = False
            lab.keep()
            raise
        await self.discard(member)
        lab.events.add("removed", member.id)

    async def _until(self, is_done: Any, member: Member | None, late: str) -> None:
        """Ask until `is_done`; raises InfraError when `member` dies first or the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + MOVE_TIMEOUT_S
        pause_s = MOVE_POLL_FIRST_S
        while True:
            try:
                if await is_done():
                    return
            except ClientError:
                if member is not None and member.child is None:
                    raise InfraError(
                        f"{member.id} ended ({member.last_exit})", hint=f"see {member.log}"
                    ) from None
            if loop.time() > deadline:
                late = f"{late} after {MOVE_TIMEOUT_S:g} s"
                raise InfraError(late, hint="kvlab moves shows more")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, MOVE_POLL_MAX_S)

    async def discard(self, member: Member) -> None:
        """End a node that is no member, with all that there is of it but its log."""
        async with member.lock:
            await self._lab.life.stop(member)
        if member.leaving:
            self._lab.removed.add(member.id)
        await self._lab.forget(member)


def _refuse(why: str, what: str, hint: str) -> None:
    """Raise UsageError if there is a reason."""
    if why:
        raise UsageError(f"{what}: {why}", hint=hint)
