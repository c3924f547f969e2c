"""Session guarantees: dialogues, and the definition itself on small histories, by brute force."""

from __future__ import annotations

from itertools import permutations

import pytest

from kvlab.check import GROUPS, Verdict, run_checks
from kvlab.check.sessions import GUARANTEES
from kvlab.history import History, Op
from kvlab.rng import Rng

from .register import history, op

VALID, INVALID, UNKNOWN = Verdict.VALID, Verdict.INVALID, Verdict.UNKNOWN
DRAWN = 800


def by(client: str, f: str, value: str | None, start: int, end: int, outcome="ok", **more) -> Op:
    one = op(f, value, start, end, outcome, **more)
    one.client = client
    return one


def verdicts(*ops: Op) -> dict[str, Verdict]:
    return {one.name: one.verdict for one in run_checks(history(*ops), GROUPS["sessions"])}


def judged(name: str, *ops: Op):
    return run_checks(history(*ops), (name,))[0]


def test_each_guarantee_is_broken_alone() -> None:
    old = by("b", "set", "old", 0, 1, version=1)
    cases = {
        "read-your-writes": [
            by("a", "set", "mine", 2, 3, version=2),
            by("a", "get", "old", 4, 5, version=1),
        ],
        "monotonic-reads": [
            by("b", "set", "new", 2, 3, version=2),
            by("a", "get", "new", 4, 5, version=2),
            by("a", "get", "old", 6, 7, version=1),
        ],
        "monotonic-writes": [
            by("a", "set", "x", 2, 3, version=9),
            by("a", "set", "y", 4, 5, version=8),
            by("c", "get", "y", 6, 7, version=8),
        ],
        "writes-follow-reads": [
            by("b", "set", "x", 2, 3, version=9),
            by("a", "get", "x", 4, 5, version=9),
            by("a", "set", "y", 6, 7, version=8),
            by("c", "get", "y", 8, 9, version=8),
        ],
    }
    for name, ops in cases.items():
        found = verdicts(old, *ops)
        assert {one for one, verdict in found.items() if verdict is INVALID} == {name}


def test_a_write_that_the_store_moved_up_is_no_violation() -> None:
    """A told version is a lower bound; only a get that saw it there makes it the place."""
    ops = [by("a", "set", "x", 0, 1, version=9), by("a", "set", "y", 2, 3, version=8)]
    assert judged("monotonic-writes", *ops).verdict is UNKNOWN
    seen_higher = by("b", "get", "y", 4, 5, version=10)
    assert judged("monotonic-writes", *ops, seen_higher).verdict is UNKNOWN
    seen_there = by("b", "get", "y", 6, 7, version=8)
    assert judged("monotonic-writes", *ops, seen_there).evidence == (0, 2, 6)
    assert judged("monotonic-writes", *ops, seen_higher, seen_there).verdict is UNKNOWN


def test_what_the_store_orders_by_version_is_not_stale_by_the_clock() -> None:
    """A slow clock's write is replaced by what had ended before it: the store says so."""
    ops = [
        by("b", "set", "other", 0, 1, version=9),
        by("a", "set", "mine", 2, 3, version=5),
        by("a", "get", "other", 4, 5, version=9),
    ]

    assert judged("read-your-writes", *ops).verdict is VALID


def test_side_by_side_has_no_order() -> None:
    write = by("a", "set", "mine", 0, 5)
    assert verdicts(write, by("a", "get", None, 1, 2))["read-your-writes"] is UNKNOWN
    assert verdicts(write, by("a", "get", "x", 6, 9), by("b", "set", "x", 1, 8)) == {
        "read-your-writes": VALID,
        "monotonic-reads": UNKNOWN,
        "monotonic-writes": UNKNOWN,
        "writes-follow-reads": UNKNOWN,
    }


def test_an_unknown_write_may_have_come_late() -> None:
    lost = by("b", "set", "maybe", 0, 1, "info")
    mine, read = by("a", "set", "mine", 2, 3), by("a", "get", "maybe", 4, 5)

    assert judged("read-your-writes", lost, mine, read).verdict is VALID


def test_a_deleted_key_may_be_found_empty_and_no_other() -> None:
    ops = [by("a", "set", "mine", 0, 1), by("a", "get", None, 4, 5)]
    assert judged("read-your-writes", *ops).evidence == (0, 4)
    assert judged("read-your-writes", *ops, by("b", "delete", None, 2, 3)).verdict is VALID


def test_the_sentence_names_what_is_older() -> None:
    ops = [by("b", "set", "old", 0, 1), by("a", "set", "mine", 2, 3), by("a", "get", "old", 4, 5)]

    assert judged("read-your-writes", *ops).because == (
        "key k: the get by a (op 4) at 0.005000 s saw 'old', which is older than 'mine', which the"
        " same client wrote before (op 2, ended at 0.003000 s)"
    )


def test_counted_values_are_judged_by_version_alone() -> None:
    ops = [by("a", "incr", None, 0, 1), by("a", "get", "0", 2, 3)]
    assert judged("read-your-writes", *ops).verdict is UNKNOWN
    ops[0].version, ops[1].version = 8, 7
    assert judged("read-your-writes", *ops).verdict is INVALID


# -- by brute force -----------------------------------------------------------------------------


def holds(ops: list[Op], name: str) -> bool:
    """Say whether for each client some order of the writes keeps what it was promised.

    The order keeps to versions where both are told, else to time. Values are unique here, so each
    get has one write, or the beginning.
    """
    writes = [one for one in ops if one.f == "set" and one.outcome != "fail"]
    write_of = {one.value: number for number, one in enumerate(writes)}
    wanted: dict[str, list[tuple[int, int]]] = {one.client: [] for one in ops}
    for earlier in ops:
        for later in ops:
            if earlier.client != later.client or earlier.outcome != "ok" or later.outcome != "ok":
                continue
            if earlier.end is None or earlier.end >= later.start:
                continue
            if (earlier.f, later.f) == PAIRS[name] and is_placed(later, ops):
                wanted[later.client].append(
                    (write_of.get(earlier.value, -1), write_of.get(later.value, -1))
                )
    return all(any(True for _ in orders(writes, some)) for some in wanted.values())


def is_placed(one: Op, ops: list[Op]) -> bool:
    """Say whether the place of an operation was seen: of a get it always is."""
    return one.f == "get" or any(
        get.f == "get" and get.value == one.value and get.start > (one.end or 0) for get in ops
    )


PAIRS = {
    "read-your-writes": ("set", "get"),
    "monotonic-reads": ("get", "get"),
    "monotonic-writes": ("set", "set"),
    "writes-follow-reads": ("get", "set"),
}


def orders(writes: list[Op], wanted: list[tuple[int, int]]):
    for order in permutations(range(len(writes))):
        place = {number: at for at, number in enumerate(order)} | {-1: -1}
        if all(place[one] <= place[other] for one, other in wanted) and all(
            not older(writes[other], writes[one])
            for at, one in enumerate(order)
            for other in order[at + 1 :]
        ):
            yield order


def older(one: Op, other: Op) -> bool:
    if one.version and other.version:
        return one.version < other.version
    return one.end is not None and one.end < other.start


def drawn(rng: Rng, *, versions: bool) -> list[Op]:
    """Draw three clients, each doing one thing after the other, on a store that is often behind."""
    ops: list[Op] = []
    last: dict[str, Op] = {}
    for place in range(0, 2 * rng.randint(3, 8), 2):
        client = rng.choice("abc")
        f = rng.choice(["set", "get"])
        start = max(place, (last[client].end or 0) + 1 if client in last else 0)
        one = by(client, f, f"v{place}" if f == "set" else None, start, start + rng.randint(1, 5))
        while any(one.start in (other.start, other.end) for other in ops):
            one.start += 1
        one.end = max(one.end or 0, one.start + 1)
        while any(one.end in (other.start, other.end) for other in ops):
            one.end += 1
        one.op = one.start
        one.outcome = rng.choice(["ok", "ok", "ok", "info"]) if f == "set" else "ok"  # type: ignore[assignment]
        last[client] = one
        ops.append(one)
    writes = [one for one in ops if one.f == "set"]
    for rank, one in enumerate(rng.sample(writes, len(writes))):
        one.version = (rank + 1) if versions else 0
    for one in ops:
        if one.f == "get":
            begun = [None, *(w for w in writes if w.start < (one.end or 0))]
            seen = rng.choice(begun)
            one.value = seen.value if seen else None
            one.version = seen.version if seen and versions else 0
    for one in ops:
        if one.outcome == "info":
            one.end = None
    return ops


@pytest.mark.parametrize("guarantee", GUARANTEES, ids=lambda one: one.name)
@pytest.mark.parametrize("versions", [False, True])
def test_a_guarantee_is_broken_exactly_when_no_order_keeps_it(guarantee, versions) -> None:
    rng = Rng(1, guarantee.name)
    met = set()
    for _ in range(DRAWN):
        ops = drawn(rng, versions=versions)
        if sum(one.f == "set" for one in ops) > 5:
            continue
        check = judged(guarantee.name, *ops)
        met.add(check.verdict)
        if check.verdict is UNKNOWN:
            continue
        assert (check.verdict is VALID) is holds(ops, guarantee.name), (ops, check.because)
        if check.evidence:
            shown = [one for one in ops if one.start in check.evidence]
            # A told version speaks for itself; a value needs the write that it is of.
            assert versions or not holds(shown, guarantee.name)
            assert judged(guarantee.name, *shown).verdict is INVALID

    by_time = guarantee.later.__name__ == "is_read"
    assert met == ({VALID, INVALID, UNKNOWN} if versions or by_time else {UNKNOWN})


def test_the_same_history_as_rows_is_judged_the_same() -> None:
    from kvlab.check.columns import Table, columns_of

    rng = Rng(2)
    for _ in range(100):
        given = history(*drawn(rng, versions=rng.random() < 0.5))
        assert isinstance(given, History)
        table = Table(columns_of(given))
        names = GROUPS["sessions"]
        assert run_checks(table, names) == run_checks(given, names)
