from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.lab.restart import GiveUp, LeaveDown, Restart, decide
from kvlab.spec import RestartSpec

MS, S = 1_000, 1_000_000
POLICY = RestartSpec("on-failure", 100 * MS, 1 * S, 6, 30 * S)


@pytest.mark.parametrize(
    ("earlier", "delay_us"),
    [(0, 100 * MS), (1, 200 * MS), (2, 400 * MS), (3, 800 * MS), (4, 1 * S), (5, 1 * S)],
)
def test_the_wait_doubles_up_to_the_longest(earlier: int, delay_us: int) -> None:
    assert decide(POLICY, -9, [0] * earlier, 1 * S) == Restart(delay_us)


def test_too_many_restarts_in_the_window_end_it() -> None:
    decision = decide(POLICY, 1, [0] * 6, 29 * S)
    assert isinstance(decision, GiveUp)
    assert "6 restarts in 30 s" in decision.because


def test_restarts_before_the_window_do_not_count() -> None:
    assert decide(POLICY, 1, [0] * 6, 30 * S) == Restart(100 * MS)


def test_status_0_is_no_failure() -> None:
    assert isinstance(decide(POLICY, 0, [], 0), LeaveDown)
    always = RestartSpec("always", 100 * MS, 1 * S, 6, 30 * S)
    assert decide(always, 0, [], 0) == Restart(100 * MS)


def test_never_means_never() -> None:
    assert isinstance(decide(RestartSpec("never"), -9, [], 0), LeaveDown)


@given(st.lists(st.integers(0, 10**9), max_size=60), st.integers(0, 2 * 10**9))
def test_a_wait_is_always_within_the_bounds_of_the_policy(times: list[int], now_us: int) -> None:
    policy = RestartSpec("always", 3, 10**6, 50, 10**9)
    decision = decide(policy, 1, times, now_us)
    if isinstance(decision, Restart):
        assert 3 <= decision.delay_us <= 10**6
