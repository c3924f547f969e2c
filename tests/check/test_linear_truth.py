"""Linearizability against the truth: every order of thousands of small histories.

No false alarm and no miss, on every rung alone and on all together.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from kvlab.check import Verdict, check_linear
from kvlab.check.linear_model import calls_of
from kvlab.check.linear_proof import clash, core, impossible
from kvlab.check.linear_search import Search
from kvlab.check.linear_zones import sort_keys
from kvlab.history import MADE, Op
from kvlab.rng import Rng

from .register import REFUSED, after, drawn, has_order, history, op, saw_something, small_histories

STEPS = 1_000_000
DRAWN = 1_000  # histories for each seed


def with_results(rng: Rng, ops: list[Op]) -> list[Op]:
    """Tell each incr and append what it made if all happened as they began; now and then wrongly."""
    state: str | None = None
    for one in ops:
        found = after(one, state) if one.outcome == "ok" or rng.random() < 0.5 else REFUSED
        if found is REFUSED:
            continue
        state = found
        if one.f in MADE and one.outcome == "ok" and rng.random() < 0.8:
            told = state if one.f == "incr" else str(len(state or ""))
            one.result = told if rng.random() < 0.9 else str(int(told or 0) + 1)
    return ops


@pytest.mark.parametrize("seed", range(2))
def test_what_incr_and_append_were_told_is_judged(seed):
    rng = Rng(seed, "results")
    verdicts = set()
    for _ in range(DRAWN):
        ops = with_results(rng, drawn(rng, unique=False))
        if not any(one.result for one in ops):
            continue
        agree(ops)
        verdicts.add(check_linear(history(*ops)).verdict)
    assert verdicts == {Verdict.VALID, Verdict.INVALID}


def is_simple(ops: list[Op]) -> bool:
    return not sort_keys(history(*ops)).rest


def agree(ops: list[Op]) -> None:
    """The whole ladder says what is true, and its evidence has no order either."""
    truth = has_order(ops)
    check = check_linear(history(*ops))
    if check.verdict is Verdict.UNKNOWN:
        assert not saw_something(ops)
        assert truth
        return
    assert check.verdict is (Verdict.VALID if truth else Verdict.INVALID), check.because
    by_start = {one.start: one for one in ops}
    shown = [by_start[start] for start in check.evidence]
    assert bool(shown) is not truth
    if shown:
        assert not has_order(shown), "the evidence alone proves it"


@settings(max_examples=300)
@given(small_histories())
def test_a_history_is_invalid_exactly_when_it_has_no_order(ops):
    agree(ops)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("unique", [False, True])
def test_likely_histories_are_judged_as_they_are(seed, unique):
    rng = Rng(seed)
    verdicts = set()
    for _ in range(DRAWN):
        ops = drawn(rng, unique=unique)
        agree(ops)
        verdicts.add(check_linear(history(*ops)).verdict)

    assert len(verdicts) == 3, "all verdicts were met"


@pytest.mark.parametrize("seed", range(2))
def test_each_rung_alone_agrees_with_the_truth(seed):
    rng = Rng(seed, "rungs")
    simple = 0
    for n in range(DRAWN):
        ops = drawn(rng, unique=n % 2 == 0)
        truth, calls = has_order(ops), calls_of(ops)
        found = sort_keys(history(*ops))

        assert Search(calls).run(STEPS) is truth
        seen_too_early_or_late = impossible("k", ops, calls) is not None
        assert not (seen_too_early_or_late and truth), "it is a necessary condition"
        if found.rest or not saw_something(ops):
            continue
        simple += 1
        assert bool(found.wrong) is not truth
        assert (seen_too_early_or_late or clash("k", calls) is not None) is not truth

    assert simple > DRAWN // 3


def without(ops: list[Op], one: Op, everything: list[Op]) -> list[Op]:
    """Leave one out, and what saw a value that one of the left out may have written."""
    kept = [other for other in ops if other is not one]
    while True:
        gone = [other for other in everything if other not in kept and other.outcome != "fail"]
        standing = [
            other
            for other in kept
            if other.f not in {"get", "cas"}
            or not any(
                (None if left.f == "delete" else left.value)
                == (other.value if other.f == "get" else other.expected)
                for left in gone
                if left.f != "get"
            )
        ]
        if len(standing) == len(kept):
            return kept
        kept = standing


def test_evidence_has_nothing_that_could_be_spared():
    rng = Rng(5, "fewest")
    shown = 0
    for n in range(2 * DRAWN):
        ops = drawn(rng, unique=n % 2 == 0)
        made = any(one.f in {"incr", "append"} for one in ops)
        if made or has_order(ops) or any(one.outcome == "fail" for one in ops):
            continue
        by_start = {one.start: one for one in ops}
        for evidence in (
            [by_start[start] for start in check_linear(history(*ops)).evidence],
            list(core("k", calls_of(ops), STEPS).ops),
        ):
            if any(one.f == "cas" for one in evidence) and evidence[-1].f == "get":
                continue  # what a cas in between saw may be at odds, too
            shown += 1
            assert all(has_order(without(evidence, one, ops)) for one in evidence)

    assert shown > 100


def played(rng: Rng, keys: int, count: int, clients: int) -> list[Op]:
    """Let clients write unique values and read, on a store with one copy: one event at a time."""
    state: dict[str, str] = {}
    ops: list[Op] = []
    waiting: list[Op] = []  # invoked, and without effect so far
    running: list[Op] = []

    def happen(one: Op) -> None:
        waiting.remove(one)
        if one.f == "set":
            state[one.key] = one.value or ""
        else:
            one.value = state.get(one.key)

    for place in range(2 * count):
        if running and (len(running) == clients or len(ops) == count or rng.random() < 0.5):
            one = running.pop(rng.randrange(len(running)))
            one.end = place
            if one in waiting:
                happen(one)
        else:
            f, key = rng.choice(["get", "set"]), f"k{rng.randrange(keys)}"
            one = op(f, f"v{place}" if f == "set" else None, place, place, key=key)
            for some in (ops, waiting, running):
                some.append(one)
        if waiting and rng.random() < 0.5:
            happen(rng.choice(waiting))
    return ops


def test_long_histories_of_one_copy_are_valid_and_a_swapped_read_is_found():
    ops = played(Rng(1), keys=5, count=4_000, clients=20)
    check = check_linear(history(*ops))
    assert (check.verdict, check.judged) == (Verdict.VALID, 5)
    assert check.because.endswith("(5 by zones)")

    reads = [one for one in ops if one.f == "get" and one.key == "k3"]
    reads[50].value, reads[300].value = reads[300].value, reads[50].value
    check = check_linear(history(*ops))
    assert (check.verdict, check.violations) == (Verdict.INVALID, 1)
    assert len(check.evidence) <= 3


def test_search_and_zones_agree_on_long_histories():
    ops = played(Rng(2), keys=1, count=2_000, clients=30)
    assert is_simple(ops)
    assert Search(calls_of(ops)).run(STEPS) is True

    reads = [one for one in ops if one.f == "get"]
    reads[500].value = reads[400].value
    search = Search(calls_of(ops))
    assert search.run(STEPS) is False
    assert sort_keys(history(*ops)).wrong == ["k0"]


def test_a_search_goes_on_where_it_stopped():
    ops = played(Rng(3), keys=1, count=400, clients=10)
    whole, slices = Search(calls_of(ops)), Search(calls_of(ops))
    while slices.run(7) is None:
        pass

    assert whole.run(STEPS) is True
    assert slices.result is True
    assert slices.steps == whole.steps


def test_evidence_of_a_long_history_is_small():
    ops = played(Rng(4), keys=1, count=600, clients=5)
    last = max(one.end or 0 for one in ops)
    writes = [one for one in ops if one.f == "set"]
    ops += [
        op("cas", "x", last + 1, last + 2, expected=writes[20].value, key="k0"),
        op("get", "x", last + 3, last + 4, key="k0"),
    ]
    check = check_linear(history(*ops))

    assert check.verdict is Verdict.INVALID
    assert len(check.evidence) == 3
    assert len(core("k0", calls_of(ops), STEPS).ops) <= 5
