from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvlab.kv.version import EPOCH_US, NUMBER_BITS, SKEW_MAX_US, STEP, Clock, microseconds

NOW_US = EPOCH_US + 60_000_000_000_000  # most of two years later
# A wall clock that stands, runs, jumps ahead and is turned back.
times = st.integers(NOW_US - 10_000_000, NOW_US + 10_000_000)
numbers = st.integers(0, (1 << NUMBER_BITS) - 1)


@given(numbers, st.lists(times, min_size=1))
def test_versions_of_one_clock_grow_whatever_the_wall_clock_does(number, moments):
    clock = Clock(number)
    versions = [clock.next(moment) for moment in moments]

    assert versions == sorted(set(versions))
    assert all(version & (STEP - 1) == number for version in versions)
    assert all(0 < version < 2**63 for version in versions)


@given(numbers, numbers, st.lists(st.tuples(st.booleans(), times)))
def test_two_members_never_make_the_same_version(one, other, turns):
    if one == other:
        other = (one + 1) % STEP
    clocks = (Clock(one), Clock(other))
    versions = [clocks[second].next(moment) for second, moment in turns]

    assert len(versions) == len(set(versions))


@given(numbers, numbers, times, times)
def test_what_was_observed_is_below_what_comes_next(mine, theirs, my_time, their_time):
    clock = Clock(mine)
    seen = Clock(theirs).next(their_time)

    clock.observe(seen, my_time)

    if their_time - my_time <= SKEW_MAX_US:
        assert clock.next(my_time) > seen
        assert clock.refused == 0
    else:
        assert clock.refused == 1
        assert microseconds(clock.next(my_time)) == my_time


@given(st.lists(st.integers(-5, 2**63 - 1), max_size=20), times)
def test_no_observation_takes_a_clock_further_ahead_than_the_limit(seen, now_us):
    clock = Clock(3)
    for version in seen:
        clock.observe(version, now_us)
        assert microseconds(clock.last) <= now_us + SKEW_MAX_US
    following = clock.next(now_us)

    assert all(
        following > version for version in seen if version >> NUMBER_BITS <= now_us - EPOCH_US
    )


@given(numbers, st.integers(1, 1000), times, times)
def test_a_reserved_run_belongs_to_one_caller(number, count, now_us, later_us):
    clock = Clock(number)
    first = clock.reserve(count, now_us)
    run = [first + STEP * place for place in range(count)]

    assert clock.next(later_us) > run[-1]
    assert all(version & (STEP - 1) == number for version in run)


def test_a_version_tells_when_it_was_made():
    assert microseconds(Clock(77).next(NOW_US)) == NOW_US


steps = st.lists(
    st.tuples(st.sampled_from(["next", "above", "reserve"]), times, st.integers(0, 3_000_000)),
    max_size=40,
)


@given(numbers, steps)
def test_no_version_is_given_twice_though_some_go_far_ahead(number, turns):
    clock, given_before = Clock(number), set()
    for what, now_us, ahead_us in turns:
        if what == "next":
            new = [clock.next(now_us)]
        elif what == "reserve":
            first = clock.reserve(1 + ahead_us % 50, now_us)
            new = [first + STEP * place for place in range(1 + ahead_us % 50)]
        else:
            met = ((now_us + ahead_us - EPOCH_US) << NUMBER_BITS) | 5
            new = [clock.above(met, now_us)]
            assert new[0] > met
        assert not given_before & set(new)
        given_before |= set(new)
        assert all(version & (STEP - 1) == number for version in new)


@given(numbers, times)
def test_one_write_above_a_broken_clock_does_not_take_this_one_along(number, now_us):
    clock = Clock(number)
    met = ((now_us + 3_600_000_000 - EPOCH_US) << NUMBER_BITS) | 5

    assert clock.above(met, now_us) > met
    assert microseconds(clock.next(now_us)) <= now_us + 1
