from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.report.latency import enough, percentiles, show_us, summarize


@given(st.dictionaries(st.integers(0, 10**7), st.integers(1, 5000), min_size=1, max_size=30))
def test_percentiles_are_those_of_the_list_written_out(counts):
    values = sorted(counts)
    found = percentiles(values, [counts[v] for v in values])
    written = [v for v in values for _ in range(counts[v])]
    for value, (top, bottom) in zip(found, [(1, 2), (9, 10), (99, 100), (999, 1000)], strict=True):
        rank = ceil(len(written) * top / bottom) or 1
        assert value is None or value == written[rank - 1]


@pytest.mark.parametrize(
    ("n", "shown"),
    [(1, "p50 p90"), (999, "p50 p90"), (1000, "p50 p90 p99"), (9999, "p50 p90 p99")],
)
def test_percentiles_of_too_few_values_are_not_shown(n, shown):
    names = ("p50", "p90", "p99", "p999")
    values = percentiles([7], [n])
    assert " ".join(name for name, v in zip(names, values, strict=True) if v is not None) == shown


def test_p999_is_shown_from_ten_thousand_values_on():
    assert enough(10_000, 0.999)
    assert not enough(9_999, 0.999)


def test_an_empty_distribution_has_no_percentiles():
    summary = summarize([], [])
    assert (summary.n, summary.mean_us, summary.p50_us, summary.max_us) == (0, None, None, None)


def test_the_maximum_and_mean_are_exact():
    summary = summarize([10, 30], [3, 1])
    assert (summary.n, summary.mean_us, summary.max_us) == (4, 15.0, 30)


@pytest.mark.parametrize(
    ("us", "text"),
    [(None, "-"), (0, "0 us"), (999, "999 us"), (1500, "1.50 ms"), (2_500_000, "2.50 s")],
)
def test_times_are_written_as_people_read_them(us, text):
    assert show_us(us) == text
