from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvlab.experiment import count_phases, make_plan
from kvlab.report.series import (
    OUTCOMES,
    POINTS_MAX,
    fault_span,
    latencies,
    phase_figures,
    points,
    rates,
    width_of,
    work_of,
)
from kvlab.spec.scenario_file import parse_scenario
from tests.report.run_files import SPEC, events_of, operation, record_of, tiny_events

PHASES = (("calm", 0, 1_000_000), ("trouble", 1_000_000, 3_000_000))


def columns_of(operations):
    return record_of(events_of(operations)).columns


def test_final_reads_are_no_work_and_a_missing_key_is_an_answer() -> None:
    work = work_of(
        columns_of(
            [
                operation(1, 0, 10, f="delete", value=None, outcome="fail", error="NOT_FOUND"),
                operation(2, 20, 10, outcome="fail", error="NO_QUORUM"),
                operation(3, 40, 10, degraded=True),
                operation(4, 60, None),
                operation(5, 80, 10, f="get", final=True),
            ]
        )
    )

    assert [OUTCOMES[code] for code in work.outcome.tolist()] == [
        "ok",
        "failed",
        "degraded",
        "unknown",
    ]
    assert work.took_us.tolist() == [10, 10, 10, -1]


@given(st.integers(1, 10**10), st.integers(1, 500))
def test_so_many_bins_cover_the_span_and_no_smaller_width_would(span, bins):
    width = width_of(span, bins)

    assert width * bins >= span
    smaller = width_of(max(1, span // 20), bins)
    assert smaller <= width


def test_every_operation_is_in_the_bin_in_which_it_began() -> None:
    columns = columns_of([operation(n, n * 10_000, 5_000) for n in range(100)])
    found = rates(work_of(columns), 1_000_000)

    assert found.width_us == 10_000
    assert found.counts["ok"] == [1] * 100
    assert found.counts["failed"] == [0] * 100


def test_a_bin_without_enough_operations_has_no_p99() -> None:
    many = [operation(n, n * 10, n % 10, client=f"c{n}") for n in range(2000)]
    few = [operation(1, 1_900_000, 700, client="late")]
    found = latencies(work_of(columns_of(many + few)), 2_000_000)

    assert found.n[0] == 2000
    assert (found.p50_us[0], found.p99_us[0], found.max_us[0]) == (4, 9, 9)
    assert (found.n[-1], found.p50_us[-1], found.p99_us[-1]) == (1, 700, None)
    assert sum(found.n) == 2001


def test_of_many_points_the_slowest_of_each_moment_stay() -> None:
    slow = {500, 2500, 4999}
    operations = [
        operation(n, n * 1000, 90_000 if n in slow else 100, client=f"c{n}") for n in range(5000)
    ]
    work = work_of(columns_of(operations))
    found = points(work, "ok", 5_000_000)

    assert slow <= set(found.rows.tolist())
    assert len(found.rows) < POINTS_MAX
    assert len(found.rows) + found.left_out == 5000
    assert not points(work, "failed", 5_000_000).left_out


def test_phases_are_counted_as_the_judgement_counts_them() -> None:
    events = tiny_events()
    counted = count_phases(make_plan(parse_scenario(SPEC)), events).phases
    found = phase_figures(record_of(events).columns, PHASES)

    assert [(one.ok, one.failed, one.unknown, one.degraded, one.gap_us) for one in counted] == [
        (one.ok, one.failed, one.unknown, one.degraded, one.gap_us) for one in found
    ]
    assert [one.operations for one in found] == [2, 4]
    assert found[0].per_s == 2.0
    assert found[1].ok_share == 0.25
    assert found[0].latency.max_us == 4000


def test_a_phase_in_which_nothing_happened_is_one_long_gap() -> None:
    [calm, _] = phase_figures(columns_of([operation(1, 2_000_000, 10)]), PHASES)

    assert (calm.operations, calm.ok_share, calm.gap_us) == (0, None, 1_000_000)
    assert calm.latency.p50_us is None


def test_a_fault_lasts_until_it_is_undone_and_a_reset_is_a_moment() -> None:
    kill = {"kind": "kill", "t_us": 5, "until_us": 9, "undone_us": 12}

    assert fault_span(kill, 100) == (5, 12)
    assert fault_span({**kill, "undone_us": 0}, 100) == (5, 9)
    assert fault_span(kill, 10) == (5, 10)
    assert fault_span({**kill, "kind": "reset"}, 100) == (5, 5)


def test_a_history_of_nothing_has_no_figures() -> None:
    columns = columns_of([])
    work = work_of(columns)

    assert len(work) == 0
    assert np.sum(rates(work, 1000).counts["ok"]) == 0
    assert set(latencies(work, 1000).p50_us) == {None}
