"""Many simulated runs in several processes: seeds in chunks, results as they come. It prints nothing.

Invariants:

1. A seed gives the same result in whatever process and order.
2. At most a few chunks are under way, so an interrupt or the end of the time is noticed soon.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice

from kvlab.spec.scenario import ScenarioSpec

CHUNK_RUNS = 8


@dataclass(slots=True)
class Failure:
    """One run that was not valid."""

    seed: int
    verdict: str
    because: str


@dataclass(slots=True)
class Sum:
    """What runs came to, added up."""

    runs: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    operations: int = 0
    events: int = 0
    sim_us: int = 0

    def add(self, other: Sum) -> None:
        """Add another sum to this one."""
        self.runs += other.runs
        self.verdicts += other.verdicts
        self.reached += other.reached
        self.failures += other.failures
        self.operations += other.operations
        self.events += other.events
        self.sim_us += other.sim_us


@dataclass(frozen=True, slots=True)
class Job:
    """What every seed of a campaign has in common."""

    scenario: ScenarioSpec | None = None  # None: drawn from the seed
    nodes: int = 0
    operations: int = 0
    mutant: str = ""

    def spec(self, seed: int) -> ScenarioSpec:
        """Return the scenario of one seed."""
        from kvlab.sim.draw import draw
        from kvlab.sim.mutants import mutant

        if self.scenario is not None:
            return replace(self.scenario, seed=seed)
        if self.mutant and not (self.nodes or self.operations):
            return mutant(self.mutant).scenario(seed)
        return draw(seed, nodes=self.nodes, operations=self.operations)

    def repeat(self, seed: int, file: str) -> str:
        """Return the command that runs one seed again."""
        words = ["kvlab sim", f"--seed {seed}"]
        if file:
            words.append(f"--scenario {file}")
        if self.nodes:
            words.append(f"--nodes {self.nodes}")
        if self.operations:
            words.append(f"--operations {self.operations}")
        if self.mutant:
            words.append(f"--mutant {self.mutant}")
        return " ".join(words)


def run_many(
    job: Job, seeds: Iterable[int], *, jobs: int, until: float, tell: Callable[[Sum, Sum], object]
) -> Sum:
    """Run seeds until there are none left or time.monotonic() is past `until`.

    `tell` gets each chunk's sum and the sum of all, as they come.
    """
    total = Sum()
    chunks = _chunks(iter(seeds))
    if jobs == 1:
        for chunk in chunks:
            _take(total, _run_chunk(job, chunk), tell)
            if time.monotonic() >= until:
                break
        return total
    with ProcessPoolExecutor(jobs, initializer=_prepare, initargs=(os.getpid(),)) as pool:
        under_way: set[Future[Sum]] = set()
        try:
            while True:
                if time.monotonic() < until:
                    for chunk in islice(chunks, 2 * jobs - len(under_way)):
                        under_way.add(pool.submit(_run_chunk, job, chunk))
                if not under_way:
                    return total
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    _take(total, future.result(), tell)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _take(total: Sum, part: Sum, tell: Callable[[Sum, Sum], object]) -> None:
    total.add(part)
    tell(part, total)


def _chunks(seeds: Iterator[int]) -> Iterator[list[int]]:
    while chunk := list(islice(seeds, CHUNK_RUNS)):
        yield chunk


def _prepare(parent: int) -> None:
    """End with the parent, however it ends; leave an interrupt at the terminal to it."""
    import signal

    from kvlab.lab.shim import die_with_parent

    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_chunk(job: Job, seeds: list[int]) -> Sum:
    from kvlab.sim.mutants import planted
    from kvlab.sim.run import run

    total = Sum()
    gc.disable()  # a run is short; what it leaves is collected after it
    try:
        with planted(job.mutant) if job.mutant else nullcontext():
            for seed in seeds:
                outcome = run(job.spec(seed))
                verdict = outcome.judgement.verdict.value
                total.runs += 1
                total.verdicts[verdict] += 1
                total.reached.update(outcome.record.coverage)
                total.operations += sum(map(len, outcome.plan.operations.values()))
                total.events += outcome.events
                total.sim_us += outcome.sim_us
                if verdict != "valid":
                    total.failures.append(Failure(seed, verdict, outcome.judgement.because))
                del outcome
                gc.collect(1)
    finally:
        gc.enable()
    return total


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
