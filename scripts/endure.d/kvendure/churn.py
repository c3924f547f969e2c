"""Campaign `churn`: nodes join, leave and are replaced under load.

After each change: every acknowledged write is there, no request failed that another try would not have
served, as few copies moved as can be shown to have to, and the copies lie evenly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from kvendure.campaign import Campaign, spread
from kvlab.engine.jsonline import ask
from kvlab.errors import KvlabError
from kvlab.lab.kept import clear_data
from kvlab.lab.rolling import wait_whole
from kvlab.lab.supervisor import Lab
from kvlab.report.moves import merge_moves
from kvlab.ring.balance import slot_balance
from kvlab.ring.cluster_map import ClusterMap
from kvlab.spec import ClusterSpec, NetworkSpec, NodeSpec, StorageSpec
from tests.live.node_process import Wire

NODES, NODES_MIN, NODES_MAX = 5, 4, 8
WRITERS = 4
KEYS_EACH = 25
PAUSE_S = 0.002  # of a writer between two requests: it shares a processor with the nodes
ACKS_BETWEEN = 200  # before and after each change, at least
ACKS_S = 120.0
ANSWER_S = 5.0
RETRY_S = 10.0  # within which another try must be served
RETRY_PAUSE_S = 0.02
BALANCE_MAX = 1.01  # the most of a node over its fair share

Address = tuple[str, int]


class Writer(threading.Thread):
    """One client: it counts its keys up and reads them back, through whichever node there is."""

    def __init__(self, number: int, addresses: dict[str, Address], seed: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged = {f"w{number}-{key}": 0 for key in range(KEYS_EACH)}
        self.doubtful: dict[str, set[int]] = {key: set() for key in self.acknowledged}
        self.requests = self.again = self.degraded = 0
        self.wrong: list[str] = []
        self.waits_s: list[float] = []  # of requests that were served by another try
        self.ending = threading.Event()
        self._chance = random.Random(f"churn/{seed}/{number}")
        self._addresses = addresses
        self._wires: dict[str, Wire] = {}
        self._count = 0

    def run(self) -> None:
        """Go on until `ending` is set."""
        while not self.ending.wait(PAUSE_S):
            self._set_and_get(self._chance.choice(list(self.acknowledged)))
        for wire in self._wires.values():
            wire.socket.close()

    def _set_and_get(self, key: str) -> None:
        self._count += 1
        number, doubts = self._count, self.doubtful[key]
        written = self._served(doubts, type="SET", key=key, value=str(number), meta=True)
        if written is None or written.get("degraded"):
            doubts.add(number)  # it may be there, or be lost with the one copy that has it
            self.degraded += written is not None
            return
        self.acknowledged[key] = number
        read = self._served(set(), type="GET", key=key, meta=True)
        if read is None or read.get("degraded"):
            return
        found = int(read["value"] or 0)
        if found != number and found not in doubts:
            self.wrong.append(
                f"{key} reads as {found} after {number} was acknowledged: {written}, {read}"
            )

    def _served(self, doubts: set[int], **request: Any) -> dict[str, Any] | None:
        """Ask until somebody serves it; None when nobody did in time.

        What was asked for twice may be done twice, the second time after whatever follows: such a
        value is doubtful.
        """
        self.requests += 1
        began, tries, error = time.monotonic(), 0, ""
        while time.monotonic() < began + RETRY_S:
            tries += 1
            node = self._chance.choice(list(self._addresses))
            try:
                reply = self._wire(node).ask(**request)
            except (OSError, AssertionError, KeyError) as problem:
                self._drop(node)
                error = f"{node}: {problem}"
                doubts.add(int(request.get("value", 0)))
            else:
                if reply["status"] == "SUCCESS":
                    if tries > 1:
                        self.again += 1
                        self.waits_s.append(time.monotonic() - began)
                    return reply
                error = f"{node}: {reply.get('code')} {reply['error']}"
                if reply.get("code") == "UNKNOWN":
                    doubts.add(int(request.get("value", 0)))
            time.sleep(RETRY_PAUSE_S)
        self.wrong.append(
            f"{request['type']} {request['key']} was not served in {RETRY_S:g} s: {error}"
        )
        return None

    def _wire(self, node: str) -> Wire:
        if node not in self._wires:
            self._wires[node] = Wire(self._addresses[node][1], seconds=ANSWER_S)
        return self._wires[node]

    def _drop(self, node: str) -> None:
        wire = self._wires.pop(node, None)
        if wire is not None:
            wire.socket.close()


class Churn:
    """The cluster, and what is changed in it."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab = lab
        self.chance = random.Random(f"churn/{seed}")
        self.addresses = dict(lab.addresses)
        self.writers = [Writer(number, self.addresses, seed) for number in range(WRITERS)]
        self.kinds: dict[str, int] = {}
        self.worst_balance = 0.0
        self.copies = self.minimum = 0
        self._epoch = 0
        self._wrong_said = 0

    async def trial(self) -> str:
        """Change something under load; return what did not hold."""
        await self._load()
        kind, change = self._draw()
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        try:
            await change
            await self._load()
            await wait_whole(self.lab)
            wrong = [*self._seen(), *await self._lost(), *await self._moved()]
        except KvlabError as error:
            wrong = [*self._seen(), error.message]
        return f"{kind}: {'; '.join(wrong)}" if wrong else ""

    async def _load(self) -> None:
        """Wait until the writers have gone on for a while."""
        goal = sum(one.requests for one in self.writers) + ACKS_BETWEEN
        deadline = time.monotonic() + ACKS_S
        while (  # noqa: ASYNC110 - the writers are threads
            sum(one.requests for one in self.writers) < goal and time.monotonic() < deadline
        ):
            await asyncio.sleep(0.01)

    # -- changes --------------------------------------------------------------------------------

    def _draw(self) -> tuple[str, Any]:
        count = len(self.lab.members)
        kinds = ["replace", "refill"]
        kinds += ["join"] * (count < NODES_MAX) + ["leave"] * (count > NODES_MIN)
        kind = self.chance.choice(kinds)
        return kind, getattr(self, f"_{kind}")()

    async def _join(self) -> None:
        told = await self.lab.membership.add()
        self.addresses[told["id"]] = (told["host"], told["port"])

    async def _leave(self) -> None:
        node = self.chance.choice(list(self.lab.members))
        await self.lab.membership.remove(node)
        self.addresses.pop(node)

    async def _replace(self) -> None:
        """One comes and one goes at the same time."""
        node = self.chance.choice(list(self.lab.members))
        joining = asyncio.ensure_future(self._join())
        await asyncio.gather(self.lab.membership.remove(node), joining)
        self.addresses.pop(node)

    async def _refill(self) -> None:
        """A node dies with its disk and comes back with an empty one."""
        member = self.lab.member(self.chance.choice(list(self.lab.members)))
        await self.lab.nodes.kill(member)
        clear_data(self.lab.directory, member.id)
        await self.lab.nodes.start(member)

    # -- what must hold -------------------------------------------------------------------------

    def _seen(self) -> list[str]:
        """Return what writers saw that must not be, since they were last asked."""
        wrong = [text for one in self.writers for text in one.wrong]
        new, self._wrong_said = wrong[self._wrong_said :], len(wrong)
        return new

    async def _lost(self) -> list[str]:
        before = {key: number for one in self.writers for key, number in one.acknowledged.items()}
        doubtful = {key: some for one in self.writers for key, some in one.doubtful.items()}
        _, port = self.addresses[self.chance.choice(list(self.addresses))]
        return await asyncio.to_thread(_older, port, before, doubtful)

    async def _moved(self) -> list[str]:
        """Compare the changes since the last time, and how even the map is, with the best there is."""
        addresses = list(self.addresses.values())
        answers = [await ask(*one, {"type": "MOVES", "key": ""}) for one in addresses]
        wrong = []
        for change in merge_moves(answers)["changes"]:
            if change["epoch"] <= self._epoch:
                continue
            moved, minimum = change["moved_copies"], change["minimum_copies"]
            self.copies, self.minimum = self.copies + moved, self.minimum + minimum
            if moved > minimum:
                what = f"{change['change']} {change['subject']}"
                wrong.append(f"{what} moved {moved} copies, and {minimum} had to")
        shown = ClusterMap.from_builtins(await ask(*addresses[0], {"type": "MAP", "key": ""}))
        self._epoch = shown.epoch
        ratio = max(one.ratio for one in slot_balance(shown).nodes)
        self.worst_balance = max(self.worst_balance, ratio)
        if ratio > BALANCE_MAX:
            wrong.append(f"a node holds {ratio:.4f} of its fair share")
        return wrong


def _older(port: int, wanted: dict[str, int], doubtful: dict[str, set[int]]) -> list[str]:
    """Read keys from all replicas; return what is older than what was acknowledged."""
    found = []
    with Wire(port) as wire:
        for key, number in wanted.items():
            reply = wire.ask(type="GET", key=key, level="all")
            there = int(reply["value"] or 0) if reply["status"] == "SUCCESS" else 0
            if there < number and there not in doubtful[key]:
                error = reply.get("error") or "it is older"
                found.append(f"{key}: {number} was acknowledged, {there} is there ({error})")
    return found


def churn(options: argparse.Namespace) -> int:
    """Run the campaign; return the exit status."""
    holds = "joins, leaves and replacements lose nothing, move the least, and end even"
    told = Campaign("churn", holds, options.count, options.json)
    with (
        tempfile.TemporaryDirectory(prefix="kvlab-churn-") as place,
        contextlib.suppress(KeyboardInterrupt),
    ):
        told.interrupted = True
        asyncio.run(_run(told, options, Path(place)))
        told.interrupted = False
    return told.close()


async def _run(told: Campaign, options: argparse.Namespace, folder: Path) -> None:
    spec = ClusterSpec(
        nodes=tuple(NodeSpec(f"server{number}") for number in range(1, NODES + 1)),
        name="churn",
        storage=StorageSpec(sync=options.sync),
        network=NetworkSpec(shims=False),
    )
    async with Lab(spec, folder / "state") as lab:
        work = Churn(lab, options.seed)
        for writer in work.writers:
            writer.start()
        try:
            for _ in range(options.count):
                told.note(await work.trial())
        finally:
            for writer in work.writers:
                writer.ending.set()
            for writer in work.writers:
                await asyncio.to_thread(writer.join)
            told.facts = {
                "seed": options.seed,
                "changes": work.kinds,
                "requests": sum(one.requests for one in work.writers),
                "acknowledged by fewer than asked": sum(one.degraded for one in work.writers),
                "served by another try": sum(one.again for one in work.writers),
                "until then (s)": spread([one for each in work.writers for one in each.waits_s]),
                "copies moved": work.copies,
                "the least possible": work.minimum,
                "most of a fair share": work.worst_balance,
            }
