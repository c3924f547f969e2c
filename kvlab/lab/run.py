"""One run of a scenario on real processes: a private cluster, clients, faults, rest, final reads.

It judges only what it saw itself (rest, service, processes that ended, logs); the history is judged
by `experiment`. It prints nothing.

Invariants:

1. Nothing it started is left when it ends, however it ends.
2. Every fault is undone when it is over, at the latest when the plan's time is; then all must come to
   rest, and every key is read through every node.
3. What was recorded is in the files within FLUSH_S, so that a run that is ended from outside leaves it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from kvlab.check.verdict import Check, Verdict
from kvlab.errors import KvlabError
from kvlab.experiment import Plan, Record
from kvlab.fault.fault import Fault
from kvlab.history import Recorder
from kvlab.lab.run_client import RunClient, Tongue
from kvlab.lab.run_faults import RunFaults, check_real
from kvlab.lab.run_nemesis import Nemesis, NemesisFunction
from kvlab.lab.run_others import left_out
from kvlab.lab.run_rest import ring_of, why_different, why_restless
from kvlab.lab.supervisor import Lab
from kvlab.rng import Rng
from kvlab.spec import (
    ClusterSpec,
    LinkSpec,
    NetworkSpec,
    NodeSpec,
    ReplicationSpec,
    StorageSpec,
)
from kvlab.spec.scenario import OperationSpec, ScenarioSpec

FLUSH_S = 0.1
POLL_S = 0.05
READS_AT_ONCE = 16  # of one final reader
FINAL_TIMEOUT_US = 10_000_000
LAST_TIMEOUT_US = 5_000_000
LAST_KEY = "kvlab-last"
WATCHED = ("crashed", "failed")  # events of the laboratory that nobody asked for

Say = Callable[[str], None]


class Journal(Protocol):
    """Where a run writes what happens, as it happens."""

    def history(self, block: bytes) -> None:
        """Take lines of the history."""

    def fault(self, line: dict[str, Any]) -> None:
        """Take what is known of a fault now."""

    def links(self, lines: list[dict[str, Any]]) -> None:
        """Take what links have counted by now."""


@dataclass(slots=True)
class Outcome:
    """What a run left besides its history."""

    record: Record = field(default_factory=Record)
    healed_us: int = 0  # when the last fault had been undone
    settled_us: int = -1  # when all had come to rest
    took_us: int = 0
    ring: dict[str, Any] = field(default_factory=dict)  # which node holds how much, and what moved


class Run:
    """One run. `run` it once."""

    def __init__(
        self,
        plan: Plan,
        state: Path,
        journal: Journal,
        say: Say,
        nemesis: NemesisFunction | None = None,
    ) -> None:
        """`state` is a folder for the cluster's own files. Raises UsageError for unreal faults."""
        check_real(plan)
        self.plan = plan
        self.outcome = Outcome()
        folder = Path(plan.spec.folder) if plan.spec.folder else None
        self._lab = Lab(cluster_of(plan.spec), state, folder=folder)
        engine = self._lab.engine
        self._tongue = Tongue(engine.protocol, engine.is_ours, self._lab.access)
        self._lab.clocks = dict(plan.spec.clocks) if engine.is_ours else {}
        self._say = say
        self._nemesis = nemesis
        self._recorder = Recorder(journal.history)
        self._epoch_ns = 0
        self._note_links = journal.links
        self._faults = RunFaults(self._lab, plan, self._now_us, journal.fault, self._count_links)
        self._readers: list[RunClient] = []
        self._waiting: list[str] = []  # clients that had not come to their end
        self._unsettled = ""

    async def run(self) -> Outcome:
        """Run to the end of the final reads. Raises InfraError if the machine does not let it."""
        began_ns = time.monotonic_ns()
        async with self._lab:
            self._say(f"up: {', '.join(self._lab.members)} answer")
            for said in left_out(self._lab, self.plan):
                self._say(f"note: {said}")
            flusher = asyncio.create_task(self._flush())
            guards = self.outcome.record.guards
            try:
                guards["health before"] = await why_restless(self._lab)
                await self._happen()
                await self._end()
                await self._count_links("final reads")
                guards["health after"] = self._unsettled
                self.outcome.ring = await ring_of(self._lab)
            finally:
                flusher.cancel()
                await asyncio.gather(flusher, return_exceptions=True)
                await self._faults.close()
                self._recorder.flush()
            crashes = self._crashes()
        record = self.outcome.record
        record.faults = self._faults.lines
        record.checks = [crashes, self._converged(), self._serves()]
        self.outcome.took_us = (time.monotonic_ns() - began_ns) // 1000
        return self.outcome

    # -- the course of a run --------------------------------------------------------------------

    async def _happen(self) -> None:
        """Let clients and faults happen until the plan's time is over and all is undone."""
        plan, addresses = self.plan, dict(self._lab.addresses)
        self._epoch_ns = time.monotonic_ns()
        clients = {name: self._client(name, addresses) for name in plan.operations}
        working = {
            asyncio.create_task(clients[name].run(operations, self._until), name=name)
            for name, operations in plan.operations.items()
        }
        tasks: list[Coroutine[Any, Any, object]] = []
        tasks += [self._tell_phases(), self._until(plan.spec.time_us)]
        if self._nemesis is not None:
            hand = Nemesis(self._lab, plan, self._faults, self._now_us, self._until)
            tasks.append(hand.run(self._nemesis))
        tasks += [self._faults.course(fault, self._until) for fault in plan.faults]
        try:
            await _all(tasks)
            await self._faults.undo_rest()
            self.outcome.healed_us = self._now_us()
            left_us = plan.spec.time_us + plan.spec.settle_us - self.outcome.healed_us
            _, late = await asyncio.wait(working, timeout=max(0.0, left_us / 1e6))
            self._waiting = sorted(task.get_name() for task in late)
            for task in working - late:
                task.result()
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def _tell_phases(self) -> None:
        for name, begins_us, ends_us in self.plan.phases:
            await self._until(begins_us)
            self._say(f"phase {name}")
            await self._until(ends_us)
            await self._count_links(f"phase {name}")

    async def _count_links(self, after: str, fault: Fault | None = None) -> None:
        """Note what each link has carried and held since the cluster began; none without shims.

        After a fault, only its links are noted, or those from and to its nodes.
        """
        rows = (await self._lab.network.report())["links"]
        t_us = self._now_us()
        if fault is not None:
            rows = [row for row in rows if fault.touches((row["from"], row["to"]))]
        self._note_links([{"t_us": t_us, "after": after, **row} for row in rows])

    async def _end(self) -> None:
        """Wait for rest, show that writes succeed again, read every key through every node."""
        self._say("all faults are undone; the nodes settle")
        await self._settle()
        addresses = dict(self._lab.addresses)
        keys = list(self.plan.keys)
        if keys:
            await self._write_last(addresses)
            keys.append(LAST_KEY)
            if self.outcome.settled_us >= 0:
                await self._settle()
        self._say(f"reading {len(keys)} keys through each of {len(addresses)} nodes")
        await _all([self._read(number, node, addresses, keys)
                    for number, node in enumerate(addresses, start=1)])  # fmt: skip

    async def _settle(self) -> None:
        deadline_us = self._now_us() + self.plan.spec.settle_us
        # Where one copy decides, the others need not be equal; of servers by others nobody knows.
        is_compared = self.plan.spec.ns == "eventual" or self.plan.spec.is_of_others
        keys = self.plan.keys if is_compared else ()
        while True:
            self._unsettled = await why_restless(self._lab) or await why_different(self._lab, keys)
            self.outcome.settled_us = -1 if self._unsettled else self._now_us()
            if not self._unsettled or self._now_us() > deadline_us:
                return
            await asyncio.sleep(POLL_S)

    async def _write_last(self, addresses: dict[str, tuple[str, int]]) -> None:
        """Write once through each node: a store that only reads has not come back."""
        client, succeeded = self._client("last", addresses), 0
        for number, node in enumerate(addresses, start=1):
            succeeded += await client.do(
                OperationSpec(
                    at_us=self._now_us(),
                    client="last",
                    verb="set",
                    key=LAST_KEY,
                    value=f"last{number}",
                    node=node,
                    meta=True,
                    timeout_us=LAST_TIMEOUT_US,
                )
            )
        await client.close()
        said = f"{len(addresses) - succeeded} of {len(addresses)} nodes took no write at the end"
        self.outcome.record.guards["last writes"] = "" if succeeded == len(addresses) else said

    async def _read(
        self, number: int, node: str, addresses: dict[str, tuple[str, int]], keys: Sequence[str]
    ) -> None:
        reader = self._client(f"reader{number}", addresses, final=True)
        self._readers.append(reader)

        def read(key: str) -> Coroutine[Any, Any, bool]:
            one = OperationSpec(
                at_us=self._now_us(),
                client=reader.name,
                verb="get",
                key=key,
                node=node,
                meta=True,
                timeout_us=FINAL_TIMEOUT_US,
            )
            return reader.do(one)

        for at in range(0, len(keys), READS_AT_ONCE):
            await asyncio.gather(*(read(key) for key in keys[at : at + READS_AT_ONCE]))
        await reader.close()

    # -- parts ----------------------------------------------------------------------------------

    def _client(
        self, name: str, addresses: dict[str, tuple[str, int]], *, final: bool = False
    ) -> RunClient:
        return RunClient(
            name,
            addresses=addresses,
            recorder=self._recorder,
            now_us=self._now_us,
            rng=Rng(self.plan.spec.seed, f"run/{name}"),
            ns=self.plan.spec.ns,
            final=final,
            tongue=self._tongue,
        )

    def _now_us(self) -> int:
        return (time.monotonic_ns() - self._epoch_ns) // 1000

    async def _until(self, t_us: int) -> None:
        while (left_us := t_us - self._now_us()) > 0:  # noqa: ASYNC110 - time is what is waited for
            await asyncio.sleep(left_us / 1e6)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self._recorder.flush()

    # -- what the run saw itself ----------------------------------------------------------------

    def _converged(self) -> Check:
        """All nodes came to rest in time, with the replicas of every range equal."""
        verdict = Verdict.VALID if self.outcome.settled_us >= 0 else Verdict.INVALID
        because = "all nodes came to rest, and the replicas of all ranges are equal"
        if not self._lab.engine.is_ours:
            because = "all servers answer, and each tells the same of every key"
        judged = len(self.plan.keys) if self.plan.spec.is_of_others else self.plan.spec.ranges
        if verdict is Verdict.INVALID:
            because = f"after the last fault the nodes did not come to rest: {self._unsettled}"
        return Check(name="converged", verdict=verdict, because=because, judged=judged)

    def _serves(self) -> Check:
        """After the last fault every key can be read, and every client was answered."""
        found = [f"{name} still waits" for name in self._waiting]
        found += [one for reader in self._readers for one in reader.failed]
        if found:
            because = f"after the last fault a key could not be read: {found[0]}"
            return Check(
                name="serves", verdict=Verdict.INVALID, because=because, violations=len(found)
            )
        said = f"every key could be read through {len(self._readers)} nodes at the end"
        return Check(name="serves", verdict=Verdict.VALID, because=said)

    def _crashes(self) -> Check:
        """No process ended that nobody had ended."""
        lines = self._lab.directory.events.read_text().splitlines()
        events = [json.loads(line) for line in lines]
        # Where members are replaced, one that comes back late ends by itself and is started again.
        kinds = WATCHED if not self.plan.spec.dead_after_us else ("failed",)
        found = [f"{one['node']} {one['detail']}" for one in events if one["kind"] in kinds]
        started = sum(one["kind"] == "start" for one in events)
        if not found:
            because = f"no process of {started} ended by itself"
            return Check(name="crashes", verdict=Verdict.VALID, because=because, judged=started)
        because = f"a process ended by itself: {found[0]}"
        killed = all("SIGKILL" in one for one in found)
        verdict = Verdict.UNKNOWN if killed else Verdict.INVALID  # the system, or somebody
        return Check(
            name="crashes", verdict=verdict, because=because, judged=started, violations=len(found)
        )


async def _all(work: Sequence[Coroutine[Any, Any, object]]) -> None:
    """Do all at once; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as errors:
        known = [one for one in errors.exceptions if isinstance(one, KvlabError)]
        raise (known or errors.exceptions)[0] from None


def cluster_of(spec: ScenarioSpec) -> ClusterSpec:
    """Return the cluster that a scenario runs on: free ports, and what else it says of nodes.

    A cluster of a file of its own is taken as it is, but for its ports: it may run beside this one.
    Links are as the machine has them, unless the scenario says otherwise than by default.
    """
    usual = ScenarioSpec()
    link = LinkSpec()
    is_slow = (spec.latency_us, spec.jitter_us) != (usual.latency_us, usual.jitter_us)
    if is_slow:
        link = LinkSpec(latency_us=spec.latency_us, jitter_us=spec.jitter_us)
    if spec.cluster is not None:
        nodes = tuple(replace(node, port=0) for node in spec.cluster.nodes)
        network = spec.cluster.network
        if is_slow:
            network = replace(network, default=link)
        return replace(spec.cluster, nodes=nodes, seed=spec.seed, network=network)
    return ClusterSpec(
        nodes=tuple(NodeSpec(id=f"server{number}") for number in range(1, spec.nodes + 1)),
        name=spec.name,
        seed=spec.seed,
        replication=ReplicationSpec(n=spec.copies, r=spec.r, w=spec.w),
        ranges=spec.ranges,
        dead_after_us=spec.dead_after_us,
        storage=StorageSpec(sync=spec.sync),  # type: ignore[arg-type]  # the spec checks it
        network=NetworkSpec(default=link),
    )
