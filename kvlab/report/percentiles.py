"""Latencies as the percentile text of HdrHistogram (`.hgrm`), which its plotters and others read.

It is no histogram: it is given every latency, so its values are exact.

Source: G. Tene's HdrHistogram, `outputPercentileDistribution`: the steps between percentiles are
halved each time that the distance to 100 % is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from math import ceil, floor, log2, sqrt

STEPS_PER_HALF = 5  # as HdrHistogram's own tools print
US_PER_MS = 1_000


def percentile_text(ordered_us: Sequence[int]) -> str:
    """Print latencies, microseconds in ascending order, in milliseconds."""
    count = len(ordered_us)
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    for level, below in _steps(ordered_us):
        value = f"{ordered_us[below - 1] / US_PER_MS:12.3f} {level:2.12f} {below:10d}"
        lines.append(value if level == 1 else f"{value} {1 / (1 - level):14.2f}")
    mean = sum(ordered_us) / count / US_PER_MS if count else 0.0
    squares = sum((one / US_PER_MS - mean) ** 2 for one in ordered_us)
    deviation = sqrt(squares / count) if count else 0.0
    most = ordered_us[-1] / US_PER_MS if count else 0.0
    lines += [
        f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]",
        f"#[Max     = {most:12.3f}, Total count    = {count:12d}]",
        f"#[Buckets = {1:12d}, SubBuckets     = {count:12d}]",
    ]
    return "\n".join(lines) + "\n"


def _steps(ordered_us: Sequence[int]) -> Iterator[tuple[float, int]]:
    """Yield levels from 0 to 1, each with how many latencies are at most the one at that level."""
    count, percent, below = len(ordered_us), 0.0, 0
    while below < count:
        place = max(0, ceil(percent / 100 * count) - 1)
        below = bisect_right(ordered_us, ordered_us[place])
        yield percent / 100, below
        halvings = floor(log2(100 / (100 - percent))) + 1
        percent += 100 / (STEPS_PER_HALF * 2**halvings)
    if count:
        yield 1.0, count
