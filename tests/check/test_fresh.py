"""Freshness by versions: dialogues, the rules read aloud, and a store that keeps its promise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlab.check import Verdict, check_fresh
from kvlab.history import Op, load
from kvlab.rng import Rng

from .register import history, op

VALID, INVALID, UNKNOWN = Verdict.VALID, Verdict.INVALID, Verdict.UNKNOWN


def wrote(version: int, start: int, end: int, outcome: str = "ok", **more) -> Op:
    return op("set", f"v{version}", start, end, outcome, version=version, **more)


def got(version: int, start: int, end: int, outcome: str = "ok", **more) -> Op:
    return op("get", f"v{version}", start, end, outcome, version=version, **more)


def deleted(version: int, start: int, end: int, outcome: str = "ok", **more) -> Op:
    return op("delete", None, start, end, outcome, version=version, **more)


def found_nothing(start: int, end: int, **more) -> Op:
    return op("get", None, start, end, **more)


CASES = {
    "the newest": (VALID, [wrote(1, 0, 1), wrote(2, 2, 3), got(2, 4, 5)]),
    "a newer one": (VALID, [wrote(1, 0, 1), wrote(2, 2, 9), got(2, 4, 5)]),
    "an older one": (INVALID, [wrote(1, 0, 1), wrote(2, 2, 3), got(1, 4, 5)]),
    "an older one beside the write": (VALID, [wrote(1, 0, 1), wrote(2, 2, 6), got(1, 4, 5)]),
    "older in version though later in time": (
        VALID,
        [wrote(2, 0, 1), wrote(1, 2, 3), got(2, 4, 5)],
    ),
    "the later one, older in version": (INVALID, [wrote(2, 0, 1), wrote(1, 2, 3), got(1, 4, 5)]),
    "a tombstone": (VALID, [wrote(1, 0, 1), deleted(2, 2, 3), found_nothing(4, 5, version=2)]),
    "a value before its delete": (INVALID, [wrote(1, 0, 1), deleted(2, 2, 3), got(1, 4, 5)]),
    "of unknown end": (UNKNOWN, [wrote(2, 0, 1, "info"), got(1, 2, 3)]),
    "of a failed write": (UNKNOWN, [wrote(2, 0, 1, "fail"), got(1, 2, 3)]),
    "a write of few copies": (UNKNOWN, [wrote(2, 0, 1, degraded=True), got(1, 2, 3)]),
    "a get from few copies": (UNKNOWN, [wrote(2, 0, 1), got(1, 2, 3, degraded=True)]),
    "a write without a version": (UNKNOWN, [op("set", "a", 0, 1), got(1, 2, 3)]),
    "a get without a version": (UNKNOWN, [wrote(2, 0, 1), op("get", "a", 2, 3)]),
    "no write before": (UNKNOWN, [got(1, 0, 1), wrote(2, 2, 3)]),
    "another key": (UNKNOWN, [wrote(2, 0, 1, key="x"), got(1, 2, 3, key="y")]),
    "changed and counted": (INVALID, [op("cas", "b", 0, 1, version=2), got(1, 2, 3)]),
    "nothing, and nobody deleted": (INVALID, [wrote(1, 0, 1), found_nothing(2, 3)]),
    "nothing, and deleted": (UNKNOWN, [wrote(1, 0, 1), deleted(2, 2, 3), found_nothing(4, 5)]),
    "nothing, and perhaps deleted": (
        UNKNOWN,
        [wrote(1, 0, 1), deleted(0, 2, 3, "info"), found_nothing(4, 5)],
    ),
    "nothing, and deleted beside": (
        UNKNOWN,
        [wrote(1, 0, 1), deleted(2, 3, 6), found_nothing(4, 5)],
    ),
    "nothing, and deleted later": (
        INVALID,
        [wrote(1, 0, 1), found_nothing(2, 3), deleted(2, 4, 5)],
    ),
    "nothing, deleted before it was written": (
        INVALID,
        [deleted(1, 0, 1), wrote(2, 2, 3), found_nothing(4, 5)],
    ),
    "nothing, perhaps deleted before it was written": (
        UNKNOWN,
        [deleted(1, 0, 1, "info"), wrote(2, 2, 3), found_nothing(4, 5)],
    ),
    "nothing, and a delete found nothing": (
        INVALID,
        [wrote(1, 0, 1), deleted(0, 2, 3, "fail"), found_nothing(4, 5)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_get_is_judged_by_its_version(name):
    verdict, ops = CASES[name]
    check = check_fresh(history(*ops))

    assert check.verdict is verdict, check.because
    assert check.judged == (verdict is not UNKNOWN)
    assert len(check.evidence) == (2 if verdict is INVALID else 0)


def test_the_write_and_the_get_are_named():
    check = check_fresh(history(wrote(7, 0, 1), wrote(9, 2, 3), wrote(8, 4, 5), got(7, 6, 8)))

    assert check.evidence == (2, 6)
    assert check.because == (
        "key k: the get by c6 (op 6) at 0.008000 s told version 7, though the set by c2 (op 2) with"
        " version 9 was acknowledged at 0.003000 s, before that get began"
    )


def test_the_first_violation_is_shown_and_all_are_counted():
    check = check_fresh(
        history(
            *[wrote(5, 0, 1, key="b"), wrote(5, 2, 3, key="a"), found_nothing(4, 5, key="a")],
            *[got(4, 6, 7, key="b"), got(5, 8, 9, key="b")],
        )
    )

    assert (check.evidence, check.judged, check.violations) == ((2, 4), 3, 2)
    assert "found nothing, though the set by c2" in check.because
    assert check.because.endswith("(and 1 more)")


def test_versions_come_from_the_lines_of_a_history():
    newer, older = "244881229770768384", "244881229770768383"
    lines = [
        '{"t_us":1,"client":"c1","op":1,"type":"invoke","f":"set","key":"k","value":"a"}',
        f'{{"t_us":2,"client":"c1","op":1,"type":"ok","f":"set","key":"k","version":"{newer}"}}',
        '{"t_us":3,"client":"c1","op":2,"type":"invoke","f":"get","key":"k"}',
        (
            '{"t_us":4,"client":"c1","op":2,"type":"ok","f":"get","key":"k","value":null,'
            f'"version":"{older}"}}'
        ),
    ]
    check = check_fresh(load("\n".join(lines).encode()))

    assert (check.verdict, check.evidence) == (INVALID, (0, 2))


def certainly_counts(write: Op) -> bool:
    return write.outcome == "ok" and not write.degraded and write.version > 0


def read_aloud(ops: list[Op], get: Op) -> bool | None:
    """Apply the rules to one get, one write after the other; None: it is not judged."""
    known = [one for one in ops if one.f != "get" and certainly_counts(one)]
    before = [one for one in known if one.end < get.start]
    if get.degraded or get.outcome != "ok" or not before:
        return None
    if get.version:
        return all(get.version >= one.version for one in before)
    newest = max(before, key=lambda one: one.version)
    if get.value is not None or newest.f == "delete":
        return None
    deletes = [one for one in ops if one.f == "delete" and one.outcome != "fail"]
    if all(
        certainly_counts(one) and one.end < newest.start for one in deletes if one.start < get.end
    ):
        return False
    return None


@st.composite
def small_histories(draw: st.DrawFn) -> list[Op]:
    count = draw(st.integers(1, 7))
    places = draw(st.permutations(range(2 * count)))
    versions = draw(st.permutations(range(1, count + 1)))
    ops = []
    for n in range(count):
        start, end = sorted(places[2 * n : 2 * n + 2])
        f = draw(st.sampled_from(["get", "get", "set", "set", "delete"]))
        version = draw(st.sampled_from([0, versions[n], versions[n]]))
        if f == "get":
            version = draw(st.integers(0, count))
        value = draw(st.sampled_from([None, "a"])) if f == "get" else "a" if f == "set" else None
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "ok", "info", "fail"]))
        degraded = draw(st.integers(0, 5)) == 0
        ops.append(op(f, value, start, end, outcome, version=version, degraded=degraded))
    return sorted(ops, key=lambda one: one.start)


@settings(max_examples=600)
@given(small_histories())
def test_it_says_what_the_rules_say_read_aloud(ops):
    said = [read_aloud(ops, one) for one in ops if one.f == "get"]
    check = check_fresh(history(*ops))

    assert check.judged == len(said) - said.count(None)
    assert check.violations == said.count(False)
    if check.verdict is INVALID:
        by_start = {one.start: one for one in ops}
        write, get = (by_start[start] for start in check.evidence)
        assert read_aloud([write, get], get) is False, "the evidence alone proves it"


def quorum_store(rng: Rng, count: int) -> list[Op]:
    """Let operations happen one after the other in the order of versions, tombstones forgotten."""
    ops = []
    for n in range(count):
        start = rng.randrange(3 * n, 3 * n + 9) * 10 + n % 10
        f = rng.choice(["get", "get", "set", "delete"])
        outcome = rng.choice(["ok", "ok", "ok", "info", "fail"])
        degraded = rng.random() < 0.1
        ops.append(op(f, None, start, start + rng.randrange(1, 200), outcome, degraded=degraded))
    moments = {id(one): rng.uniform(one.start, one.end or one.start + 400) for one in ops}
    version, held = 0, 0
    for one in sorted(ops, key=lambda one: moments[id(one)]):
        if one.f == "get":
            stale = rng.randrange(held + 1) if one.degraded else held
            one.version, one.value = stale, f"v{stale}" if stale else None
        elif one.outcome == "ok" or (one.outcome == "info" and rng.random() < 0.5):
            version += 1
            one.version = 0 if rng.random() < 0.1 else version
            held = 0 if one.f == "delete" and rng.random() < 0.5 else version
    return sorted(ops, key=lambda one: one.start)


@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_keeps_its_promise_raises_no_alarm(seed):
    rng = Rng(seed)
    judged = 0
    for _ in range(400):
        check = check_fresh(history(*quorum_store(rng, 30)))
        assert check.verdict is not INVALID, check.because
        judged += check.judged

    assert judged > 1_000
