"""Histories of one key for the checkers, made by hand or drawn, and the slow truth about them.

The truth is a walk through every order of the operations, written without a look at the checkers.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

from kvlab.history import MISSING, History, Op

REFUSED = object()


def op(
    f: str,
    value: str | None,
    start: int,
    end: int,
    outcome: str = "ok",
    *,
    expected: str | None = None,
    error: str = "",
    key: str = "k",
    version: int = 0,
    degraded: bool = False,
) -> Op:
    """Return an operation; a failed delete is one that found no key, unless an error says else."""
    if f == "delete" and outcome == "fail":
        error = error or MISSING
    return Op(
        client=f"c{start}",
        op=start,
        f=f,  # type: ignore[arg-type]
        key=key,
        value=value,
        expected=expected,
        outcome=outcome,  # type: ignore[arg-type]
        start=start,
        end=None if outcome == "info" else end,
        start_us=start * 1000,
        end_us=end * 1000,
        error=error,
        version=version,
        degraded=degraded,
    )


def history(*ops: Op) -> History:
    return History(tuple(sorted(ops, key=lambda one: one.start)))


def after(one: Op, state: str | None) -> object:
    """Return what an operation leaves, or REFUSED if it cannot have done what it told."""
    match one.f:
        case "get":
            return state if state == one.value else REFUSED
        case "set":
            return one.value
        case "delete":
            return REFUSED if one.outcome == "fail" and state is not None else None
        case "cas":
            return one.value if state == one.expected else REFUSED
        case "incr":
            is_number = state is None or state.isdigit()
            made = str(int(state or 0) + int(one.value or 1)) if is_number else None
            return made if made is not None and one.result in (None, made) else REFUSED
        case "append":
            made = (state or "") + (one.value or "")
            return made if one.result in (None, str(len(made))) else REFUSED
    raise AssertionError(one.f)


def has_order(ops: Sequence[Op]) -> bool:
    """Say whether some order explains the operations, by trying all."""
    sure = [one for one in ops if one.outcome == "ok" or one.error == MISSING]
    unsure = [one for one in ops if one.outcome == "info" and one.f != "get"]
    some = [*sure, *unsure]
    tried = set()

    def goes_on(taken: frozenset[int], state: str | None) -> bool:
        if all(number in taken for number in range(len(sure))):
            return True
        if (taken, state) in tried:
            return False
        tried.add((taken, state))
        for number, one in enumerate(some):
            if number in taken or any(
                other not in taken and sure[other].end < one.start for other in range(len(sure))
            ):
                continue
            left = after(one, state)
            if left is not REFUSED and goes_on(taken | {number}, left):
                return True
        return False

    return goes_on(frozenset(), None)


def saw_something(ops: Sequence[Op]) -> bool:
    return any(
        (one.outcome == "ok" and one.f in {"get", "cas"}) or one.error == MISSING for one in ops
    )


FUNCTIONS = (
    ("get", "get", "set"),
    ("get", "set", "delete"),
    ("get", "set", "cas", "delete"),
    ("get", "incr", "incr"),
    ("get", "append", "delete"),
    ("get", "set", "cas", "delete", "incr", "append"),
)
OUTCOMES = (("ok",), ("ok", "ok", "ok", "info"), ("ok", "ok", "info", "fail"))


@st.composite
def small_histories(draw: st.DrawFn) -> list[Op]:
    """Draw up to six operations at any places, with any results."""
    functions = draw(st.sampled_from(FUNCTIONS))
    outcomes = draw(st.sampled_from(OUTCOMES))
    values = ["1", "2", "3"][: draw(st.integers(1, 3))]
    count = draw(st.integers(1, 6))
    places = draw(st.permutations(range(2 * count)))
    ops = []
    for n in range(count):
        start, end = sorted(places[2 * n : 2 * n + 2])
        f = draw(st.sampled_from(functions))
        value = None
        if f in {"set", "cas", "append"}:
            value = draw(st.sampled_from(values))
        elif f in {"get", "incr"}:
            value = draw(st.sampled_from([None, *values]))
        outcome = draw(st.sampled_from(outcomes))
        expected = draw(st.sampled_from([None, *values])) if f == "cas" else None
        ops.append(op(f, value, start, end, outcome, expected=expected))
    return sorted(ops, key=lambda one: one.start)


def drawn(rng: Random, *, unique: bool = False) -> list[Op]:
    """Draw a history that some order explains, and then perhaps spoil it a little."""
    functions = FUNCTIONS[0] if unique else rng.choice(FUNCTIONS)
    outcomes = rng.choice(OUTCOMES)
    values = ["1", "2", "3"][: rng.randint(1, 3)]
    ops = []
    for n, (start, end) in enumerate(_places(rng, rng.randint(1, 9))):
        f = rng.choice(functions)
        value = f"v{n}" if unique else rng.choice(values)
        if f in {"get", "delete"}:
            value = None
        ops.append(op(f, value, start, end, rng.choice(outcomes)))
    _play(rng, ops)
    written = [one.value for one in ops if one.f == "set"] if unique else values
    for one in ops:
        if one.f == "get" and rng.random() < 0.15:
            one.value = rng.choice([None, *written])
    return sorted(ops, key=lambda one: one.start)


def _places(rng: Random, count: int) -> list[tuple[int, int]]:
    """Draw intervals; most of them short, so that there is some order in time."""
    places = list(range(2 * count))
    for n in range(len(places)):
        if rng.random() < 0.5:
            other = min(len(places) - 1, n + rng.randint(1, 4))
            places[n], places[other] = places[other], places[n]
    return [tuple(sorted(places[2 * n : 2 * n + 2])) for n in range(count)]


def _play(rng: Random, ops: list[Op]) -> None:
    """Let operations happen at moments of theirs, and note what each would have seen."""
    state: str | None = None
    moments = {
        one.start: rng.uniform(one.start, one.start + 12 if one.end is None else one.end)
        for one in ops
    }
    for one in sorted(ops, key=lambda one: moments[one.start]):
        if one.f == "get":
            one.value = state
        elif one.f == "cas":
            one.expected = state if rng.random() < 0.8 else one.value
        elif one.f == "delete" and one.outcome == "fail" and state is not None:
            one.error = "BUSY"
        if one.outcome == "fail" or (one.outcome == "info" and rng.random() < 0.5):
            continue
        left = after(one, state)
        if left is not REFUSED:
            state = left  # type: ignore[assignment]
        elif one.outcome == "ok":
            one.outcome = "fail"
