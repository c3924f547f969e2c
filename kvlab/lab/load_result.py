"""What a load run measured: values that several workers' results add up to.

It computes no percentile and prints nothing: see report/latency and report/bench.

1. A latency belongs to a request that was answered with success or "no such key"; errors and
   time-outs are counted by kind and never enter a distribution.
2. issued = ok + missing + the sum of errors, but for requests that were never sent (`unsent`).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

GENERATOR_BUSY = 0.9  # of a core: beyond it the generator may be what limits the rate
LATE_US = 2_000  # open loop: lateness of 1 % of the sends beyond which the generator is "late"
LATE_SHARE = 0.01


class Latencies(msgspec.Struct):
    """A distribution as ascending microseconds and how often each occurred."""

    values_us: list[int] = []
    counts: list[int] = []

    @property
    def n(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def share_above(self, limit_us: int) -> float:
        """Share of them that is above a limit; 0 when there are none."""
        total = self.n
        above = sum(c for v, c in zip(self.values_us, self.counts, strict=True) if v > limit_us)
        return above / total if total else 0.0


class NodeShare(msgspec.Struct):
    """What went through the connections to one node."""

    answered: int = 0
    errors: int = 0
    connects: int = 0


class LoadResult(msgspec.Struct, kw_only=True):
    """Everything one run measured, in requests.

    `missing` are GETs and DELETEs of absent keys; `unsent` failed before a byte was sent;
    `not_issued` are arrivals of an open loop that found the backlog full, waited longer than the
    time-out, or were left at the end. `service` counts from the send, `response` from the intended
    time (open loop), `lateness` is how late the generator itself woke for an arrival.
    """

    elapsed_us: int = 0
    ok: int = 0
    missing: int = 0
    unsent: int = 0
    not_issued: int = 0
    errors: dict[str, int] = {}
    refused_connects: int = 0
    nodes: dict[str, NodeShare] = {}
    service: Latencies = msgspec.field(default_factory=Latencies)
    response: Latencies | None = None
    lateness: Latencies | None = None
    generator_busy: float = 0.0
    processes: int = 1
    interrupted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def answered(self) -> int:
        """Requests answered with success or "no such key"."""
        return self.ok + self.missing

    @property
    def failed(self) -> int:
        """Requests with an error of any kind, unsent ones too."""
        return sum(self.errors.values())

    @property
    def issued(self) -> int:
        """Requests that the generator tried to make."""
        return self.answered + self.failed

    @property
    def per_second(self) -> float:
        """Answered requests per second."""
        return self.answered * 1_000_000 / self.elapsed_us if self.elapsed_us else 0.0

    @property
    def generator_limited(self) -> bool:
        """Whether the generator used so much of its core that it may have been the bottleneck."""
        return self.generator_busy > GENERATOR_BUSY

    @property
    def generator_late(self) -> bool:
        """Whether more than 1 % of the arrivals of an open loop were handled over 2 ms late."""
        return self.lateness is not None and self.lateness.share_above(LATE_US) > LATE_SHARE


class Progress(msgspec.Struct, frozen=True):
    """How far a run is: times in microseconds, requests since the start."""

    elapsed_us: int
    answered: int
    failed: int


def merge_latencies(parts: Iterable[Latencies]) -> Latencies:
    """Add distributions up."""
    sums: dict[int, int] = {}
    for part in parts:
        for value, count in zip(part.values_us, part.counts, strict=True):
            sums[value] = sums.get(value, 0) + count
    values = sorted(sums)
    return Latencies(values, [sums[value] for value in values])


def merge_results(results: list[LoadResult]) -> LoadResult:
    """Add the results of the workers of one run up; they ran at the same time."""
    errors: dict[str, int] = {}
    nodes: dict[str, NodeShare] = {}
    for result in results:
        for kind, count in result.errors.items():
            errors[kind] = errors.get(kind, 0) + count
        for name, part in result.nodes.items():
            share = nodes.setdefault(name, NodeShare())
            share.answered += part.answered
            share.errors += part.errors
            share.connects += part.connects
    responses = [result.response for result in results if result.response is not None]
    lateness = [result.lateness for result in results if result.lateness is not None]
    return LoadResult(
        elapsed_us=max(result.elapsed_us for result in results),
        ok=sum(result.ok for result in results),
        missing=sum(result.missing for result in results),
        unsent=sum(result.unsent for result in results),
        not_issued=sum(result.not_issued for result in results),
        errors=errors,
        refused_connects=sum(result.refused_connects for result in results),
        nodes=nodes,
        service=merge_latencies(result.service for result in results),
        response=merge_latencies(responses) if responses else None,
        lateness=merge_latencies(lateness) if lateness else None,
        generator_busy=max(result.generator_busy for result in results),
        processes=sum(result.processes for result in results),
        interrupted=any(result.interrupted for result in results),
        notes=tuple(dict.fromkeys(note for result in results for note in result.notes)),
    )
