"""The percentile text of HdrHistogram: its lines, its levels, and that nothing is left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvlab.report.percentiles import percentile_text


def rows_of(text: str) -> list[list[float]]:
    return [
        [float(one) for one in line.split()] for line in text.splitlines()[2:] if line[0] != "#"
    ]


def test_a_few_latencies_are_printed_as_hdrhistogram_does() -> None:
    text = percentile_text([1_000, 2_000, 3_000, 4_000])
    assert text.splitlines()[:4] == [
        "       Value     Percentile TotalCount 1/(1-Percentile)",
        "",
        "       1.000 0.000000000000          1           1.00",
        "       1.000 0.100000000000          1           1.11",
    ]
    assert "       2.000 0.500000000000          2           2.00" in text.splitlines()
    assert text.splitlines()[-4:] == [
        "       4.000 1.000000000000          4",
        "#[Mean    =        2.500, StdDeviation   =        1.118]",
        "#[Max     =        4.000, Total count    =            4]",
        "#[Buckets =            1, SubBuckets     =            4]",
    ]


def test_without_latencies_there_are_no_lines_of_them() -> None:
    assert rows_of(percentile_text([])) == []


@given(st.lists(st.integers(0, 10**8), min_size=1).map(sorted))
def test_levels_grow_to_the_last_and_each_tells_a_latency_that_was(latencies) -> None:
    rows = rows_of(percentile_text(latencies))
    levels, counts = [row[1] for row in rows], [row[2] for row in rows]
    assert levels == sorted(levels)
    assert counts == sorted(counts)
    assert rows[-1][:3] == [latencies[-1] / 1000, 1.0, len(latencies)]
    for value, level, count, *_ in rows:
        assert count >= level * len(latencies) - 1e-6
        assert value == latencies[int(count) - 1] / 1000
