"""Percentiles of latencies, and the text of them.

It records nothing: arrays of values and how often each occurred come in.

1. Percentiles come from all values, merged; they are never averaged.
2. A percentile q is shown only when there are at least 10 / (1 - q) values: p99.9 needs 10,000.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

QUANTILES = (0.5, 0.9, 0.99, 0.999)
VALUES_BEYOND = 10  # values that must lie beyond a percentile for it to mean something
US_PER_MS = 1_000
US_PER_S = 1_000_000
ROUNDING = 1e-9


class LatencySummary(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles in microseconds; None where there are too few values to tell."""

    n: int
    mean_us: float | None
    p50_us: int | None
    p90_us: int | None
    p99_us: int | None
    p999_us: int | None
    max_us: int | None


def percentiles(
    values_us: Sequence[int], counts: Sequence[int], quantiles: Sequence[float] = QUANTILES
) -> list[int | None]:
    """Return the nearest-rank percentile for each quantile in (0, 1), or None for too few values.

    `values_us` ascend; `counts` says how often each occurred.
    """
    if not len(values_us):
        return [None] * len(quantiles)
    sums = np.cumsum(np.asarray(counts, dtype=np.int64))
    total = int(sums[-1])
    # Rank k, counted from 1: the smallest value with at least that many values up to it.
    ranks = np.maximum(np.ceil(np.asarray(quantiles) * total - ROUNDING), 1)
    places = np.searchsorted(sums, ranks)
    found = np.asarray(values_us, dtype=np.int64)[places].tolist()
    return [
        value if enough(total, quantile) else None
        for value, quantile in zip(found, quantiles, strict=True)
    ]


def enough(n: int, quantile: float) -> bool:
    """Say whether `n` values are enough to show a quantile; p50 and p90 need one value only."""
    if quantile <= QUANTILES[1]:
        return n > 0
    return n * (1 - quantile) >= VALUES_BEYOND - ROUNDING


def summarize(values_us: Sequence[int], counts: Sequence[int]) -> LatencySummary:
    """Return the percentiles of a distribution."""
    p50, p90, p99, p999 = percentiles(values_us, counts)
    total = sum(counts)
    weighted = sum(value * count for value, count in zip(values_us, counts, strict=True))
    return LatencySummary(
        n=total,
        mean_us=weighted / total if total else None,
        p50_us=p50,
        p90_us=p90,
        p99_us=p99,
        p999_us=p999,
        max_us=values_us[-1] if total else None,
    )


def show_us(value_us: float | None) -> str:
    """Return a time as people read it: `85 us`, `1.23 ms`, `2.50 s`; `-` for none."""
    if value_us is None:
        return "-"
    if value_us < US_PER_MS:
        return f"{value_us:.0f} us"
    if value_us < US_PER_S:
        return f"{value_us / US_PER_MS:.2f} ms"
    return f"{value_us / US_PER_S:.2f} s"


def cells(name: str, summary: LatencySummary) -> tuple[str, ...]:
    """Return the cells of one row: name, n, p50, p90, p99, p99.9, max."""
    times = (summary.p50_us, summary.p90_us, summary.p99_us, summary.p999_us, summary.max_us)
    return (name, f"{summary.n:,}", *(show_us(value) for value in times))
