"""The checker against brute force: every linear extension of small histories of one key."""

from __future__ import annotations

from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlab.check import CHECKERS, Verdict, check_lost, check_reads, run_checks, worst
from kvlab.history import History, Op


def op(
    f: str,
    value: str | None,
    start: int,
    end: int | None,
    outcome: str = "ok",
    *,
    final: bool = False,
    key: str = "k",
) -> Op:
    return Op(
        client=f"c{start}",
        op=start,
        f=f,  # type: ignore[arg-type]
        key=key,
        value=value,
        expected=None,
        outcome=outcome,  # type: ignore[arg-type]
        start=start,
        end=end if outcome != "info" else None,
        start_us=start * 1000,
        end_us=None if end is None else end * 1000,
        final=final,
    )


def history(*ops: Op) -> History:
    return History(tuple(sorted(ops, key=lambda one: one.start)))


def explained(writes: list[Op], read: Op) -> bool:
    """Whether some order of the writes, and some choice of the uncertain ones, gives the read."""
    sure = [w for w in writes if w.outcome == "ok"]
    unsure = [w for w in writes if w.outcome == "info"]
    for chosen in product([False, True], repeat=len(unsure)):
        happened = [*sure, *(w for w, yes in zip(unsure, chosen, strict=True) if yes), read]
        for order in permutations(happened):
            if respects_time(order) and value_read(order, read) == read.value:
                return True
    return False


def respects_time(order: tuple[Op, ...]) -> bool:
    return not any(
        later.end is not None and later.end < earlier.start
        for n, earlier in enumerate(order)
        for later in order[n + 1 :]
    )


def value_read(order: tuple[Op, ...], read: Op) -> str | None:
    state: str | None = None
    for one in order:
        if one is read:
            return state
        state = one.value if one.f == "set" else None
    raise AssertionError("the read is in the order")


@st.composite
def small_histories(draw: st.DrawFn) -> tuple[list[Op], Op]:
    count = draw(st.integers(0, 5))
    places = draw(st.permutations(range(2 * count + 2)))
    ops = []
    for n in range(count + 1):
        start, end = sorted(places[2 * n : 2 * n + 2])
        if n == count:
            value = draw(st.sampled_from([None, "never", *(f"v{i}" for i in range(count))]))
            return ops, op("get", value, start, end, final=True)
        f = draw(st.sampled_from(["set", "set", "delete"]))
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "info", "fail"]))
        ops.append(op(f, f"v{n}" if f == "set" else None, start, end, outcome))
    raise AssertionError("the read comes last")


@settings(max_examples=400)
@given(small_histories())
def test_a_final_read_is_invalid_exactly_when_no_linear_extension_explains_it(case):
    writes, read = case
    check = check_lost(history(*writes, read))
    wanted = Verdict.VALID if explained(writes, read) else Verdict.INVALID
    assert check.verdict is wanted, check.because
    if check.verdict is Verdict.INVALID:
        by_start = {one.start: one for one in [*writes, read]}
        kept = [by_start[start] for start in check.evidence]
        assert read in kept
        fewer = [one for one in kept if one is not read]
        assert not explained(fewer, read), "the evidence alone proves it"


@settings(max_examples=200)
@given(small_histories())
def test_the_check_of_reads_accepts_whatever_some_order_explains(case):
    writes, read = case
    if explained(writes, read):
        assert check_reads(history(*writes, read)).verdict is not Verdict.INVALID


def test_a_lost_write_names_the_write_and_the_read():
    check = check_lost(
        history(op("set", "v1", 0, 1), op("get", None, 2, 3, final=True)),
    )
    assert check.verdict is Verdict.INVALID
    assert check.evidence == (0, 2)
    assert "'v1' is lost" in check.because


def test_an_overwritten_value_that_returns_is_named_with_what_replaced_it():
    check = check_lost(
        history(
            op("set", "old", 0, 1),
            op("set", "new", 2, 3),
            op("get", "old", 4, 5, final=True),
        )
    )
    assert check.verdict is Verdict.INVALID
    assert check.evidence == (0, 2, 4)
    assert "came back" in check.because


def test_a_deleted_value_that_returns_is_a_resurrection():
    ops = [op("set", "v", 0, 1), op("delete", None, 2, 3), op("get", "v", 4, 5, final=True)]
    check = check_lost(history(*ops))
    assert "deleted it" in check.because


def test_writes_on_both_sides_of_a_partition_may_end_in_either_order():
    both = [op("set", "left", 0, 5), op("set", "right", 1, 4)]
    for winner in ("left", "right"):
        assert check_lost(history(*both, op("get", winner, 6, 7, final=True))).verdict is (
            Verdict.VALID
        )


def test_a_write_of_unknown_end_may_appear_late_or_never():
    ops = [op("set", "maybe", 0, 9, "info"), op("set", "sure", 1, 2)]
    for found in ("maybe", "sure"):
        check = check_lost(history(*ops, op("get", found, 10, 11, final=True)))
        assert check.verdict is Verdict.VALID


def test_a_value_whose_write_was_refused_must_not_appear():
    check = check_lost(
        history(op("set", "no", 0, 1, "fail"), op("get", "no", 2, 3, final=True)),
    )
    assert check.verdict is Verdict.INVALID
    assert "was told had not been written" in check.because


def test_the_error_of_the_clocks_makes_near_writes_concurrent():
    ops = [
        op("set", "first", 0, 1),
        op("set", "second", 2, 3),
        op("get", "first", 90, 91, final=True),
    ]
    assert check_lost(history(*ops)).verdict is Verdict.INVALID
    assert check_lost(history(*ops), clock_error_us=1000).verdict is Verdict.VALID
    assert check_lost(history(*ops), clock_error_us=999).verdict is Verdict.INVALID


def test_without_final_reads_nothing_is_known():
    assert check_lost(history()).verdict is Verdict.UNKNOWN
    check = check_lost(history(op("set", "v", 0, 1)))
    assert check.verdict is Verdict.UNKNOWN
    assert "1 keys with acknowledged writes were not read" in check.because


def test_a_key_that_nobody_could_read_keeps_the_rest_from_being_valid():
    read_key = [op("set", "v", 0, 1), op("get", "v", 2, 3, final=True)]
    check = check_lost(history(*read_key, op("set", "w", 4, 5, key="other")))
    assert check.verdict is Verdict.UNKNOWN


def test_counters_are_outside_this_check():
    check = check_lost(history(op("incr", None, 0, 1), op("get", "1", 2, 3, final=True)))
    assert check.verdict is Verdict.UNKNOWN


def test_violations_are_counted_and_the_smallest_is_shown():
    ops = [
        op("set", "a", 0, 1, key="x"),
        op("set", "b", 2, 3, key="x"),
        op("set", "c", 4, 5, key="y"),
        op("get", "a", 6, 7, key="x", final=True),
        op("get", None, 8, 9, key="y", final=True),
    ]
    check = check_lost(history(*ops))
    assert check.violations == 2
    assert len(check.evidence) == 2
    assert "(and 1 more)" in check.because


@pytest.mark.parametrize(
    ("ops", "words"),
    [
        ([op("get", "x", 0, 1)], "nobody wrote"),
        ([op("set", "x", 0, 1, "fail"), op("get", "x", 2, 3)], "had not been written"),
        ([op("get", "x", 0, 1), op("set", "x", 2, 3)], "before c2"),
    ],
)
def test_reads_during_the_run_return_nothing_invented(ops, words):
    check = check_reads(history(*ops))
    assert check.verdict is Verdict.INVALID
    assert words in check.because


def test_stale_reads_during_the_run_are_fine():
    ops = [op("set", "a", 0, 1), op("set", "b", 2, 3), op("get", "a", 4, 5)]
    assert check_reads(history(*ops)).verdict is Verdict.VALID


def test_a_read_that_overlaps_its_write_is_fine():
    assert check_reads(history(op("get", "x", 0, 3), op("set", "x", 1, 2))).verdict is (
        Verdict.VALID
    )


def test_every_checker_of_the_registry_has_its_own_name():
    checks = run_checks(history())
    assert [check.name for check in checks] == list(CHECKERS)
    assert all(check.verdict is Verdict.UNKNOWN for check in checks)


def test_the_worst_verdict_wins():
    assert worst([Verdict.VALID, Verdict.UNKNOWN]) is Verdict.UNKNOWN
    assert worst([Verdict.UNKNOWN, Verdict.INVALID, Verdict.VALID]) is Verdict.INVALID
    assert worst([]) is Verdict.UNKNOWN
