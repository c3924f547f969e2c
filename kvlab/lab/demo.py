"""The demonstration: one real cluster started, loaded, broken, healed, grown, and judged.

It prints nothing: it reports each step as a value, and the caller shows it. It is a fixed sequence on
purpose; experiments of one's own are the business of scenarios.

Invariants:

1. Nothing it started is left when it ends, however it ends.
2. The verdict rests on the recorded history alone, and is `unknown` if a fault did not bite or a
   phase saw too few operations: a run that did not hurt proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kvlab.check import Check, Verdict, check_lost, check_reads, worst
from kvlab.engine.jsonline import ask
from kvlab.errors import ClientError, InfraError
from kvlab.history import History
from kvlab.lab.load import load_keys, read_all, run_load
from kvlab.lab.load_history import HistoryLog
from kvlab.lab.load_plan import LoadPlan
from kvlab.lab.load_result import LoadResult
from kvlab.lab.nodefaults import Proof
from kvlab.lab.supervisor import Lab
from kvlab.spec import ClusterSpec

VALUE_BYTES = 100
RATE_HZ = 400.0  # of the load that runs while things break
CLIENTS = 16
PHASE_EVENTS = 500  # history events (two per operation) that each phase must last for
PHASE_SECONDS_MAX = 8.0
PHASE_OPS_MIN = 50  # acknowledged in each phase, or the phase proved nothing
SETTLE_SECONDS_MAX = 15.0
POLL_SECONDS = 0.02
# The nodes stamp writes with their own clocks, which agree to far better than this on one machine.
CLOCK_ERROR_US = 1_000
SIDES = 2


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the run, and what clients saw in it."""

    name: str
    began_us: int
    ended_us: int
    ok: int = 0
    failed: int = 0
    unknown: int = 0
    degraded: int = 0
    gap_us: int = 0  # the longest time without an acknowledgement


@dataclass(slots=True)
class Outcome:
    """What a demonstration found."""

    verdict: Verdict = Verdict.UNKNOWN
    because: str = ""
    phases: list[Phase] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    vacuous: list[str] = field(default_factory=list)  # why it might have proved nothing
    operations: int = 0
    acknowledged: int = 0
    keys: int = 0
    seed: int = 0


Report = Callable[[str, Any], None]
"""Called with the name of a step and its value: see `cli/demo.py` for the steps."""


class Demo:
    """One demonstration on the cluster of a spec."""

    def __init__(
        self,
        spec: ClusterSpec,
        directory: Path,
        *,
        keys: int,
        seed: int,
        report: Report,
        history: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        """`directory` is for the nodes' files; `history` keeps the operations if given.

        `folder` is that of the spec's file, see `Lab`.
        """
        # Ports of the kernel's choice: a demonstration must not collide with a running cluster.
        nodes = tuple(replace(node, port=0) for node in spec.nodes)
        self.spec = replace(spec, nodes=nodes, seed=seed)
        self.keys = keys
        self.seed = seed
        self.report = report
        self.lab = Lab(self.spec, directory, folder=folder)
        self.log = HistoryLog(history)
        self.outcome = Outcome(seed=seed, keys=keys)
        self._phases: list[Phase] = []
        self._stop = asyncio.Event()

    async def run(self) -> Outcome:
        """Run to the verdict. Raises InfraError if the machine does not let it."""
        self.report("start", {"nodes": len(self.spec.nodes)})
        async with self.lab:
            self.report("up", await self.lab.status())
            await self._load()
            background = asyncio.create_task(self._background())
            try:
                await self._during("steady")
                await self._kill(self._second())
                await self._partition()
                await self._grow()
                await self._during("after")
            finally:
                self._stop.set()
                load = await background
            await self._final_reads()
        self.report("down", {})
        self._judge(load)
        return self.outcome

    def _second(self) -> str:
        names = self.spec.node_ids
        return names[1] if len(names) > 1 else names[0]

    # -- the steps ------------------------------------------------------------------------------

    def _addresses(self) -> tuple[str, ...]:
        return tuple(f"{name}={host}:{port}" for name, (host, port) in self.lab.addresses.items())

    async def _load(self) -> None:
        result = await load_keys(
            self._addresses(),
            self.keys,
            VALUE_BYTES,
            key_prefix="key",
            seed=self.seed,
            access=self.lab.access,
            log=self.log,
        )
        self.report("loaded", result)
        self.report(
            "ring", {"map": await self._newest_map(), "held": await self._ask_all("RANGES")}
        )

    async def _background(self) -> LoadResult:
        """Read and update keys at a steady rate until told to stop."""
        plan = LoadPlan(
            addresses=self._addresses(),
            workload="a",
            distribution="uniform",
            keys=self.keys,
            key_prefix="key",
            value_bytes=VALUE_BYTES,
            value_tag="d",
            clients=CLIENTS,
            rate=RATE_HZ,
            time_us=120_000_000,
            timeout_us=2_000_000,
            seed=self.seed,
            access=self.lab.access,
        )
        return await run_load(plan, stop=self._stop, log=self.log)

    async def _during(self, name: str) -> None:
        """Let clients work until a phase has seen enough; keep its name and times."""
        began_us, enough = self.log.now_us(), self.log.count + PHASE_EVENTS
        with suppress(TimeoutError):
            async with asyncio.timeout(PHASE_SECONDS_MAX):
                await _until(lambda: self.log.count >= enough)
        self._phases.append(Phase(name, began_us, self.log.now_us()))

    async def _kill(self, node: str) -> None:
        proof = (await self.lab.act("kill", node))[0]
        self.report("killed", proof)
        self._need(not _runs(proof), f"{node} was not killed")
        await self._during(f"{node} dead")
        back = (await self.lab.act("start", node))[0]
        took_us = await self._settled()
        kept = self.spec.storage.sync != "memory"
        self.report(
            "restarted", {"proof": back, "node": node, "refilled_us": took_us, "kept": kept}
        )

    async def _partition(self) -> None:
        names = list(self.lab.members)
        left = names[: len(names) // SIDES]
        groups = [left, names[len(left) :]]
        await self.lab.network.partition(
            names, groups=groups, sources=None, targets=None, mode="hold"
        )
        await self._during("split")
        faults = await self.lab.network.report()
        bit = sum(fault["evidence"].get("held_bytes", 0) for fault in faults["faults"])
        self._need(bit > 0, "the split held nothing back")
        self.report("split", {"groups": groups, "held_bytes": bit})
        await self.lab.network.heal(names)
        self.report("healed", {"took_us": await self._connected()})

    async def _grow(self) -> None:
        """Add a node while clients go on."""
        await self._settled()
        began_us = self.log.now_us()
        added = await self.lab.membership.add()
        await self._settled()
        self._phases.append(Phase("growing", began_us, self.log.now_us()))
        moves = await self._ask_all("MOVES")
        held = await self._ask_all("RANGES")
        copies = sum(keys for one in held.values() for keys, _ in one["ranges"].values())
        self.report("added", {"node": added["id"], "moves": moves, "held_keys": copies})
        self.report("ring", {"map": await self._newest_map(), "held": held})

    async def _final_reads(self) -> None:
        await self._connected()
        reads = await read_all(
            self._addresses(), self.log.keys, "all", access=self.lab.access, log=self.log
        )
        self._need(not reads.unread, f"{len(reads.unread)} keys could not be read at the end")

    # -- conditions -----------------------------------------------------------------------------

    async def _settled(self) -> int:
        """Wait until no range moves or is compared any more; return how long it took."""

        async def at_rest() -> bool:
            infos = await self._ask_all("STATUS")
            maps = await self._newest_map()
            busy = ("moving", "giving", "comparing")
            moving = any(info[what] for info in infos.values() for what in busy)
            joint = any(place["next"] is not None for place in maps["ranges"])
            return len(infos) == len(self.lab.members) and not moving and not joint

        return await self._wait(at_rest, "ranges still move")

    async def _connected(self) -> int:
        """Wait until every node sees every other one; return how long it took."""

        async def all_see_all() -> bool:
            infos = await self._ask_all("STATUS")
            return len(infos) == len(self.lab.members) and all(
                state == "up" for info in infos.values() for state in info["peers"].values()
            )

        return await self._wait(all_see_all, "nodes still do not see each other")

    async def _wait(self, condition: Callable[[], Any], problem: str) -> int:
        began_us = self.log.now_us()
        try:
            async with asyncio.timeout(SETTLE_SECONDS_MAX):
                while not await condition():  # noqa: ASYNC110 - other processes set no event
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            raise InfraError(f"{problem} after {SETTLE_SECONDS_MAX:g} s") from error
        return self.log.now_us() - began_us

    async def _ask_all(self, verb: str) -> dict[str, Any]:
        """Ask every node that answers."""
        infos = {}
        for name, (host, port) in self.lab.addresses.items():
            with suppress(ClientError):
                asked = {"type": verb, "key": ""}
                infos[name] = await ask(host, port, asked, 1.0, self.lab.access)
        return infos

    async def _newest_map(self) -> dict[str, Any]:
        maps = await self._ask_all("MAP")
        return max(maps.values(), key=lambda one: int(one["epoch"]))

    def _need(self, condition: bool, otherwise: str) -> None:
        if not condition:
            self.outcome.vacuous.append(otherwise)

    # -- the verdict ----------------------------------------------------------------------------

    def _judge(self, load: LoadResult) -> None:
        history = self.log.history()
        outcome = self.outcome
        outcome.phases = [_measured(phase, history) for phase in self._phases]
        outcome.operations = len(history.ops)
        outcome.acknowledged = sum(op.f == "set" and op.outcome == "ok" for op in history.ops)
        for phase in outcome.phases:
            self._need(
                phase.ok >= PHASE_OPS_MIN or phase.name == "growing",
                f"only {phase.ok} operations succeeded while {phase.name}",
            )
        self._need(load.answered > 0, "the load did not run")
        outcome.checks = [
            check_lost(history, clock_error_us=CLOCK_ERROR_US),
            check_reads(history),
        ]
        outcome.verdict = worst(check.verdict for check in outcome.checks)
        if outcome.verdict is Verdict.VALID and outcome.vacuous:
            outcome.verdict = Verdict.UNKNOWN
        wrong = [check for check in outcome.checks if check.verdict is not Verdict.VALID]
        if wrong:
            outcome.because = wrong[0].because
        elif outcome.vacuous:
            outcome.because = outcome.vacuous[0]
        else:
            outcome.because = (
                f"all {outcome.acknowledged:,} acknowledged writes of {self.keys:,} keys are there"
                " or were replaced by later ones"
            )


def _measured(phase: Phase, history: History) -> Phase:
    """Count what clients saw in a phase, by when operations ended."""
    ok = failed = unknown = degraded = gap_us = 0
    last_us = phase.began_us
    ended = [op for op in history.ops if phase.began_us <= op.start_us < phase.ended_us]
    for op in sorted(ended, key=lambda one: one.end_us or one.start_us):
        if op.outcome == "ok" or (op.outcome == "fail" and op.error == "NOT_FOUND"):
            ok += 1
            degraded += op.degraded
            end_us = op.end_us or op.start_us
            gap_us = max(gap_us, end_us - last_us)
            last_us = end_us
        elif op.outcome == "fail":
            failed += 1
        else:
            unknown += 1
    return replace(phase, ok=ok, failed=failed, unknown=unknown, degraded=degraded, gap_us=gap_us)


def _runs(proof: Proof) -> bool:
    return proof.after == "running"


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the log has no event of its own
        await asyncio.sleep(POLL_SECONDS)
