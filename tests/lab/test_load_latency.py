from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvlab.lab.load_latency import COARSE_US, FINE_US, LatencyRecorder
from kvlab.lab.load_result import Latencies, LoadResult, NodeShare, merge_latencies, merge_results

us = st.integers(0, 3 * FINE_US)


@given(st.lists(st.tuples(us, st.integers(1, 20)), max_size=50), st.integers(1, 7))
def test_every_operation_is_counted_to_the_microsecond_or_millisecond(records, fold_every):
    recorder = LatencyRecorder()
    expected: dict[int, int] = {}
    for n, (value, weight) in enumerate(records):
        recorder.add(value * 1000 + 999, weight)
        if n % fold_every == 0:
            recorder.fold()
        kept = value if value < FINE_US else value - value % COARSE_US
        expected[kept] = expected.get(kept, 0) + weight
    found = recorder.latencies()
    assert dict(zip(found.values_us, found.counts, strict=True)) == expected
    assert found.values_us == sorted(expected)


def test_a_clock_that_stands_still_gives_zero():
    recorder = LatencyRecorder()
    recorder.add(-5)
    assert recorder.latencies() == Latencies([0], [1])


@given(st.lists(st.dictionaries(us, st.integers(1, 9), max_size=9), max_size=4))
def test_merged_distributions_hold_every_value(parts):
    merged = merge_latencies(
        Latencies(sorted(part), [part[v] for v in sorted(part)]) for part in parts
    )
    assert merged.values_us == sorted({v for part in parts for v in part})
    assert merged.n == sum(sum(part.values()) for part in parts)


def test_results_of_workers_add_up():
    one = LoadResult(
        elapsed_us=10, ok=1, errors={"timeout": 1}, nodes={"a": NodeShare(1, 1, 1)}, not_issued=1
    )
    two = LoadResult(elapsed_us=30, ok=2, missing=1, errors={"timeout": 2, "reset": 1})
    merged = merge_results([one, two])
    assert (merged.elapsed_us, merged.answered, merged.failed) == (30, 4, 4)
    assert merged.errors == {"timeout": 3, "reset": 1}
    assert merged.nodes == {"a": NodeShare(1, 1, 1)}
    assert (merged.not_issued, merged.processes, merged.response) == (1, 2, None)
