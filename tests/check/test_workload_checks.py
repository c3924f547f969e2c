"""The checks of workloads by name: sets, counters, growing texts and carts; what each must find."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.check import EXTRA, Check, Verdict
from kvlab.history import History, Op

from .register import history, op

VALID, INVALID, UNKNOWN = Verdict.VALID, Verdict.INVALID, Verdict.UNKNOWN


def final(key: str, value: str | None, start: int = 90) -> Op:
    read = op("get", value, start, start + 1, key=key)
    read.final = True
    return read


def add(key: str, start: int, outcome: str = "ok") -> Op:
    return op("set", f"v-{key}", start, start + 1, outcome, key=key)


def judged(name: str, *ops: Op) -> Check:
    return EXTRA[name](history(*ops))


# -- sets -----------------------------------------------------------------------------------------


def test_elements_that_were_acknowledged_are_there_and_others_may_be() -> None:
    check = judged(
        "set",
        *(add("a", 0), add("b", 2, "info"), add("c", 4, "info"), add("d", 6, "fail")),
        *(final("a", "v-a", 90), final("b", "v-b", 92), final("c", None, 94), final("d", None, 96)),
    )
    assert check.verdict is VALID
    assert (check.figures["present"], check.figures["recovered"]) == (2, 1)


@pytest.mark.parametrize(
    ("ops", "fault"),
    [
        ((add("a", 0), final("a", None)), "lost"),
        ((add("a", 0, "fail"), final("a", "v-a")), "unexpected"),
        ((add("a", 0), final("a", "v-x")), "unexpected"),
        ((op("get", None, 0, 1, key="a"), final("a", "v-x")), "unexpected"),
        ((add("a", 0), add("b", 2), final("a", "v-b")), "duplicated"),
        ((add("a", 0), final("a", "v-a", 80), final("a", None, 90)), "lost"),
    ],
)
def test_elements_that_are_lost_unexpected_or_duplicated_are_found(ops, fault) -> None:
    check = judged("set", *ops)
    assert check.verdict is INVALID
    assert check.figures[fault] == 1
    assert f"(1 {fault})" in check.because
    assert check.evidence[-1] == ops[-1].start


def test_keys_that_are_written_twice_or_not_read_at_the_end_are_no_elements() -> None:
    twice = (add("a", 0), add("a", 4), final("a", None))
    assert judged("set", *twice).verdict is UNKNOWN
    assert judged("set", add("a", 0)).verdict is UNKNOWN


# -- counters ---------------------------------------------------------------------------------------


def incr(step: int, start: int, end: int, outcome: str = "ok", result: str | None = None) -> Op:
    made = op("incr", str(step), start, end, outcome)
    made.result = result
    return made


@given(
    st.lists(st.tuples(st.integers(-3, 9), st.sampled_from(["ok", "info", "fail"]), st.booleans()))
)
def test_a_counter_is_within_bounds_exactly_as_its_steps_say(steps) -> None:
    ops, low, high, at = [], 0, 0, 0
    for step, outcome, _ in steps:
        ops.append(incr(step, at, at + 1, outcome))
        at += 2
        if outcome != "fail":
            low += step if outcome == "ok" or step < 0 else 0
            high += step if outcome == "ok" or step > 0 else 0
    for number in (low - 1, low, high, high + 1):
        check = judged("counter", *ops, op("get", str(number), at, at + 1))
        right = low <= number <= high or not ops
        assert check.verdict is (UNKNOWN if not ops else VALID if right else INVALID)


def test_an_increment_under_way_counts_for_neither_bound_before_it_ended() -> None:
    for seen, verdict in (("0", VALID), ("5", VALID), ("6", INVALID)):
        assert judged("counter", incr(5, 0, 9), op("get", seen, 2, 3)).verdict is verdict
    assert judged("counter", incr(5, 0, 1), op("get", None, 2, 3)).verdict is INVALID


def test_what_an_increment_was_told_counts_itself_and_what_was_before() -> None:
    for told, verdict in (("4", INVALID), ("5", VALID), ("6", INVALID), ("x", INVALID)):
        ops = (incr(2, 0, 1), incr(3, 2, 3, result=told))
        assert judged("counter", *ops).verdict is verdict


# -- growing texts ----------------------------------------------------------------------------------


def append(part: str, start: int, outcome: str = "ok", end: int | None = None) -> Op:
    return op("append", part, start, start + 1 if end is None else end, outcome)


@pytest.mark.parametrize(
    ("text", "verdict", "said"),
    [
        ("1,2,", VALID, ""),
        ("1,2,3,", VALID, ""),
        ("1,", INVALID, "did not find '2,'"),
        (None, INVALID, "did not find '1,'"),
        ("2,1,", INVALID, "had ended before"),
        ("1,2,2,", INVALID, "twice"),
        ("1,2,9,", INVALID, "nobody had appended"),
        ("1,2,4,", INVALID, "was told had failed"),
        ("1,2", INVALID, "found '2', which nobody had appended"),
    ],
)
def test_a_text_has_every_part_once_and_in_order(text, verdict, said) -> None:
    ops = (append("1,", 0), append("2,", 2), append("3,", 4, "info"), append("4,", 6, "fail"))
    check = judged("append", *ops, op("get", text, 8, 9))
    assert check.verdict is verdict
    assert said in check.because


def test_texts_only_grow() -> None:
    ops = (append("1,", 0, end=9), append("2,", 1, end=10))
    reads = (op("get", "1,2,", 11, 12), op("get", "2,1,", 13, 14))
    assert judged("append", *ops, reads[0]).verdict is VALID
    check = judged("append", *ops, *reads)
    assert check.verdict is INVALID
    assert "no beginning" in check.because


# -- carts ------------------------------------------------------------------------------------------


def write(f: str, things: list[str], start: int, outcome: str = "ok") -> Op:
    expected = json.dumps(things[:-1]) if f == "cas" else None
    return op(f, json.dumps(things), start, start + 1, outcome, expected=expected)


def test_lost_updates_are_counted_with_plain_writes_and_wrong_with_compare_and_set() -> None:
    for f, verdict in (("set", VALID), ("cas", INVALID)):
        ops = (write(f, ["a"], 0), write(f, ["b"], 2), final("k", '["b"]'))
        check = judged("cart", *ops)
        assert check.verdict is verdict
        assert check.figures["lost_updates"] == 1
        assert "'a' is lost" in check.because
    whole = (write("cas", ["a"], 0), write("cas", ["a", "b"], 2), final("k", '["a","b"]'))
    assert judged("cart", *whole).verdict is VALID


@pytest.mark.parametrize("found", ['["a","x"]', '["a","a"]', "rubbish", '["a","c"]'])
def test_what_nobody_put_into_a_cart_is_wrong_at_every_level(found) -> None:
    ops = (write("set", ["a"], 0), write("set", ["a", "c"], 2, "fail"), final("k", found))
    assert judged("cart", *ops).verdict is INVALID


@pytest.mark.parametrize("name", ["set", "counter", "append", "cart"])
def test_a_history_of_something_else_is_unknown(name) -> None:
    other = History((op("set", "1", 0, 1), op("set", "2", 2, 3), op("get", "2", 4, 5)))
    assert EXTRA[name](other).verdict is UNKNOWN
    assert EXTRA[name](History(())).verdict is UNKNOWN
