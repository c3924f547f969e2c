"""The start of a cluster, from its ports to its nodes seeing each other; anew or with its data.

It decides nothing about what a cluster may go on with (`resume` does), and ends nothing when it fails:
its caller does.

Invariants:

1. Every port is bound before any process begins: no node ever dials a stranger at an address that
   its map still names.
2. Data is removed only when all ports are there, so a start that could not be leaves it as it was.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kvlab.errors import ClientError, InfraError, KvlabError
from kvlab.lab import kept
from kvlab.lab.member import Member, now_us
from kvlab.lab.resume import Beginning, anew, go_on, of_another_file, renamed, unnamed
from kvlab.lab.state import StateDir
from kvlab.spec import NodeSpec
from kvlab.units import format_count

if TYPE_CHECKING:
    from kvlab.lab.supervisor import Lab, Progress

# How long one node may take to say how it is.
ASK_TIMEOUT_S = 0.5
# Between two looks at who sees whom while a cluster forms.
PEERS_POLL_FIRST_S = 0.002
PEERS_POLL_MAX_S = 0.05
KEPT_HINT = f"others know the node there: end that process, or begin without the data: {kept.FRESH}"


class Startup:
    """One start of one laboratory's cluster."""

    def __init__(self, lab: Lab, say: Progress) -> None:
        self._lab = lab
        self._say = say
        self._began_us = now_us()
        self._began_at_us = time.time_ns() // 1000
        """By the clock on the wall, which lives of nodes are named by."""

    async def run(self) -> None:
        """Start every node and wait until each is ready and sees all others.

        Raises SpecError where the file does not fit the data, PortTakenError, or InfraError with the
        end of the log of a node that did not come up.
        """
        lab, say = self._lab, self._say
        written_us = kept.written_us(lab.directory)
        beginning = self._choose(written_us)
        lab.life.is_resumed = lab.is_founded = beginning.is_resumed
        lab.removed = set(beginning.removed)
        if beginning.is_resumed:
            text = f"going on with the data of {_when(written_us)} ({kept.FRESH} begins anew)"
            say({"stage": "resuming", "text": text})
        await self._open_all(beginning)
        for note in beginning.notes:
            say({"stage": "note", "text": f"note: {note}"})
        if not beginning.is_resumed and (lab.keeps or lab.fresh):
            kept.clear_all(lab.directory)
        lab.keep()
        first = [member for member in lab.members.values() if not member.leaving]
        say({"stage": "starting", "text": f"starting {len(first)} nodes"})
        try:
            await self._begin_all(first)
            told = await self._await_peers(first)
        except InfraError as error:
            raise await self._explained(error) from error
        await self._see_out()
        for node in beginning.joining:
            await lab.membership.join(node)
        took_us = now_us() - self._began_us
        lab.events.add("up", detail=f"{len(lab.members)} nodes in {took_us} us")
        what = "see each other" if told else "answer"
        say({"stage": "up", "text": f"all nodes {what} after {took_us / 1000:.0f} ms"})
        if beginning.is_resumed:
            await self._tell_resumed(written_us, first)

    # -- what there is -----------------------------------------------------------------------------

    def _choose(self, written_us: int) -> Beginning:
        """Decide whether to go on with what there is."""
        lab = self._lab
        there = f"the data of {_when(written_us)}"
        if lab.fresh:
            return anew(lab.spec, *([f"{there} is removed"] if written_us else []))
        if not lab.keeps:
            stays = f"storage.sync is memory: {there} stays where it is, and is not used"
            return anew(lab.spec, *([stays] if written_us else []))
        record = kept.read_kept(lab.directory)
        if record is None:
            self._refuse_renamed()
            if written_us:
                raise unnamed(str(lab.directory.node("")))
        elif record.founded and written_us:
            if record.file != lab.file and (lab.beside / record.file).exists():
                raise of_another_file(lab.spec.name, record.file, lab.file)
            return go_on(
                lab.spec,
                record,
                engine=lab.engine.name,
                is_ours=lab.engine.is_ours,
                file=lab.file,
            )
        return anew(lab.spec)

    def _refuse_renamed(self) -> None:
        """Raise UsageError where this very file has data under another name of its cluster."""
        lab = self._lab
        for path in sorted(lab.directory.path.parent.glob(f"*/{lab.directory.kept.name}")):
            other = StateDir(path.parent)
            try:
                record = kept.read_kept(other)
            except InfraError:
                continue  # that is for an `up` of its own name to say
            is_its = record is not None and record.founded and record.file == lab.file
            if is_its and kept.written_us(other):
                raise renamed(path.parent.name, lab.spec.name, lab.file)

    # -- the nodes ---------------------------------------------------------------------------------

    async def _open_all(self, beginning: Beginning) -> None:
        """Bring all ports and shims, so that a taken one is found before anything runs."""
        lab = self._lab
        in_file = {node.id: node for node in lab.spec.nodes}
        for seat in beginning.nodes:
            node = NodeSpec(seat.id, seat.host, seat.port, seat.weight, seat.rack)
            member = lab.new_member(node, founder=seat.founder, index=seat.index)
            member.added = seat.added and seat.id not in in_file
            member.leaving, member.shim_port = seat.leaving, seat.shim_port
        await lab.open_shims()
        for member in lab.members.values():
            await lab.open(member, KEPT_HINT if beginning.is_resumed else "")
        await lab.network.apply_default(tuple(lab.members))

    async def _begin_all(self, members: list[Member]) -> None:
        # The first node that fails ends the start: nobody waits for the others' time-outs.
        tasks = [asyncio.ensure_future(self._up(member)) for member in members]
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _up(self, member: Member) -> None:
        lab = self._lab
        async with member.lock:
            child = await lab.life.begin(member)
        await lab.life.ready(member, child)
        lab.note_founded()
        self._say(
            {
                "stage": "ready",
                "node": member.id,
                "text": f"{member.id} is ready on {member.address}",
                "took_us": now_us() - self._began_us,
            }
        )

    async def _await_peers(self, members: list[Member]) -> bool:
        """Wait until every node is connected to every other one; False if they do not tell."""
        lab, told = self._lab, True
        deadline_us = now_us() + lab.spec.ready.timeout_us
        for member in members:
            others = frozenset(one.id for one in members) - {member.id}
            pause_s = PEERS_POLL_FIRST_S
            while True:
                try:
                    info = await lab.engine.status(member.host, member.port, ASK_TIMEOUT_S)
                except ClientError:
                    info = {}
                if info and lab.engine.sees(info, others):
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

    async def _see_out(self) -> None:
        """Let go on who was leaving when the cluster ended; forget who had left."""
        lab = self._lab
        for member in [one for one in lab.members.values() if one.leaving]:
            stays = [one for one in lab.members.values() if one.answers]
            if member.id not in await lab.engine.members(stays[0].host, stays[0].port):
                await lab.membership.discard(member)
                continue
            member.leaving = False
            await self._up(member)
            try:
                await lab.membership.remove(member.id, wait=False, on_progress=self._say)
            except KvlabError as error:
                text = f"note: {member.id} was leaving, and cannot go on with that: {error.message}"
                self._say({"stage": "note", "text": text})

    # -- what is said ------------------------------------------------------------------------------

    async def _explained(self, error: InfraError) -> InfraError:
        """Say more where no node could go on with its data."""
        lab = self._lab
        if not (lab.life.is_resumed and lab.engine.is_ours):
            return error
        for member in lab.members.values():
            try:
                info = await lab.engine.status(member.host, member.port, ASK_TIMEOUT_S)
            except ClientError:
                return error
            if info.get("epoch"):
                return error
        return InfraError(
            f"no node could go on with the data in its folder: {error.message}",
            hint=f"kvlab logs says what each one found; {kept.FRESH} begins anew without the data",
        )

    async def _tell_resumed(self, written_us: int, members: list[Member]) -> None:
        """Say how much is there, and who could not go on with what it had."""
        lab = self._lab
        most: dict[str, int] = {}
        without = []
        for member in members:
            try:
                held = await lab.engine.held(member.host, member.port)
                info = await lab.engine.status(member.host, member.port, ASK_TIMEOUT_S)
            except ClientError:
                continue
            for index, keys in held.items():
                most[index] = max(most.get(index, 0), keys)
            if info.get("incarnation", 0) >= self._began_at_us or info.get("disk", {}).get(
                "damage"
            ):
                without.append(member.id)
        keys = sum(most.values())
        lab.resumed = {"written_us": written_us, "keys": None, "without_data": without}
        lab.events.add("resumed", detail=f"the data of {_when(written_us)}")
        if without:
            text = f"note: without all of their data (kvlab logs says why): {', '.join(without)};"
            text += " the others fill them"
            if len(without) >= lab.spec.replication.w:
                text += ", and what no other node held is lost"
            self._say({"stage": "note", "text": text})
        if lab.engine.is_ours:
            lab.resumed["keys"] = keys
            as_before = "" if without else ", as before"
            text = f"{format_count(keys)} key{'s' * (keys != 1)} held{as_before}"
            self._say({"stage": "resumed", "text": text})


def _when(at_us: int) -> str:
    """Write a time as the clock on the wall showed it."""
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
