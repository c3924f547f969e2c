"""Staleness: figures by hand, bounds, and the definition itself counted write by write."""

from __future__ import annotations

import pytest

from kvlab.check import Verdict, run_checks
from kvlab.check.counts import Counts
from kvlab.check.staleness import check_staleness
from kvlab.history import Op
from kvlab.rng import Rng

from .register import history, op

DRAWN = 400


def wrote(value: str, start: int, end: int, outcome: str = "ok", **more) -> Op:
    return op("set", value, start, end, outcome, **more)


def got(value: str | None, start: int, end: int, **more) -> Op:
    return op("get", value, start, end, **more)


THREE = [wrote("a", 0, 1), wrote("b", 2, 3), wrote("c", 4, 5)]


def test_a_get_is_behind_by_the_writes_acknowledged_before_it() -> None:
    figures = check_staleness(history(*THREE, got("a", 8, 9), got("b", 10, 11))).figures

    assert figures["behind"] == 2
    assert figures["versions_max"] == 2
    assert figures["age_max_us"] == 5_000, "b, the first that it missed, was there at 3 ms"
    assert [(row["versions_behind"], row["reads"]) for row in figures["by_versions"]] == [
        ("1", 1),
        ("2", 1),
    ]


def test_without_a_bound_it_is_a_measurement() -> None:
    check = check_staleness(history(*THREE, got("a", 8, 9)))

    assert (check.verdict, check.judged, check.violations) == (Verdict.VALID, 1, 0)
    assert (
        check.because
        == "1 of 1 gets were behind, by at most 2 versions and 5ms; no bound was given"
    )


@pytest.mark.parametrize(
    ("bound", "verdict"),
    [
        ({"versions_max": 2}, Verdict.VALID),
        ({"versions_max": 1}, Verdict.INVALID),
        ({"age_us_max": 5_000}, Verdict.VALID),
        ({"age_us_max": 4_999}, Verdict.INVALID),
        ({"versions_max": 9, "age_us_max": 1}, Verdict.INVALID),
    ],
)
def test_a_bound_is_kept_or_not(bound: dict[str, int], verdict: Verdict) -> None:
    check = check_staleness(history(*THREE, got("a", 8, 9), got("c", 10, 11)), **bound)

    assert check.verdict is verdict
    assert check.violations == (verdict is Verdict.INVALID)


def test_the_evidence_is_enough_to_exceed_the_bound() -> None:
    ops = [*THREE, got("a", 8, 9), wrote("other", 10, 11), got("other", 12, 13)]
    check = check_staleness(history(*ops), versions_max=1)
    assert check.evidence == (0, 2, 4, 8)

    check = check_staleness(history(*ops), versions_max=0)
    assert check.evidence == (0, 2, 8)
    assert "saw 'a', 2 versions and 5ms behind: the set by c2 (op 2) of 'b'" in check.because


def test_by_versions_the_order_is_the_stores_own() -> None:
    ops = [wrote("a", 0, 1, version=9), wrote("b", 2, 3, version=5), got("a", 4, 5, version=9)]
    assert check_staleness(history(*ops)).figures["behind"] == 0

    ops[2] = got("b", 4, 5, version=5)
    check = check_staleness(history(*ops), versions_max=0)
    assert check.evidence == (0, 4)
    assert "saw version 5 ('b'), 1 version and" in check.because


def test_unknown_and_failed_writes_are_missed_by_nobody() -> None:
    ops = [wrote("a", 0, 1), wrote("b", 2, 3, "info"), wrote("c", 4, 5, "fail"), got("a", 8, 9)]
    assert check_staleness(history(*ops)).figures["behind"] == 0


def test_how_likely_a_get_is_behind_by_the_time_since_the_write() -> None:
    ops = [*THREE, got("b", 6, 7), got("c", 200, 201), got("c", 300, 301)]
    rows = check_staleness(history(*ops)).figures["by_time_since_write"]

    assert [(row["since_write_up_to_us"], row["reads"], row["behind"]) for row in rows] == [
        (1_000, 1, 1),
        (200_000, 1, 0),
        (500_000, 1, 0),
    ]


def test_nothing_to_measure_is_unknown() -> None:
    check = run_checks(history(got(None, 0, 1), wrote("a", 2, 3)), ("staleness",))[0]
    assert (check.verdict, check.judged) == (Verdict.UNKNOWN, 0)


def behind(get: Op, ops: list[Op]) -> list[Op]:
    """Return the writes that a get missed, by going through all of them."""
    writers = [one for one in ops if one.f != "get" and one.outcome != "fail"]
    if get.value is None:
        writers = [one for one in writers if one.f == "delete"]
    else:
        writers = [one for one in writers if one.f == "set" and one.value == get.value]
    begun = [one for one in writers if get.end is None or one.start < get.end]
    acknowledged = [one for one in ops if one.f != "get" and one.outcome == "ok"]
    ended = [one for one in acknowledged if one.end is not None and one.end < get.start]
    if get.version:
        return [one for one in ended if one.version > get.version]
    return [
        one
        for one in ended
        if all(other.end is not None and other.end < one.start for other in begun)
    ]


def test_the_figures_are_what_counting_gives() -> None:
    rng = Rng(3)
    most = 0
    for n in range(DRAWN):
        places = rng.sample(range(80), 40)
        ops = []
        for a, b in zip(places[::2], places[1::2], strict=True):
            f = rng.choice(["get", "get", "set", "set", "delete"])
            value = f"v{a % 8}" if f == "set" else None
            outcome = rng.choice(["ok", "ok", "ok", "info", "fail"]) if f == "set" else "ok"
            ops.append(op(f, value, min(a, b), max(a, b), outcome))
        writes = [one for one in ops if one.f == "set" and one.outcome != "fail"]
        for one in ops:
            if one.f == "get":
                seen = rng.choice([None, *(w for w in writes if w.start < (one.end or 0))])
                one.value = seen.value if seen else None
            one.version = 0 if n % 2 or one.value is None else 1 + int(one.value[1:])
        missed = [found for one in ops if one.f == "get" and (found := behind(one, ops))]
        figures = check_staleness(history(*ops)).figures

        assert figures.get("behind", 0) == len(missed)
        assert figures.get("versions_max", 0) == max(map(len, missed), default=0)
        most = max(most, len(missed))

    assert most > 3


def test_counts_are_those_of_a_list() -> None:
    rng = Rng(4)
    counts, added = Counts(50), []
    for _ in range(500):
        rank = rng.randrange(50)
        counts.add(rank)
        added.append(rank)
        asked = rng.randrange(51)
        assert counts.from_rank(asked) == sum(one >= asked for one in added)
