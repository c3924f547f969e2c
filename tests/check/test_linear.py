"""The verdicts of linearizability: golden histories, budgets, and what is said and shown."""

from __future__ import annotations

import pytest

from kvlab.check import CHECKERS, EXTRA, Verdict, check_linear, run_checks

from .register import history, op

VALID, INVALID, UNKNOWN = Verdict.VALID, Verdict.INVALID, Verdict.UNKNOWN

# Name: the verdict, the operations, and the places of those that show what is wrong.
GOLDEN = {
    "one after the other": (
        VALID,
        [op("set", "a", 0, 1), op("get", "a", 2, 3), op("delete", None, 4, 5)],
        (),
    ),
    "absent before the first write": (VALID, [op("get", None, 0, 1), op("set", "a", 2, 3)], ()),
    "a get beside its write": (VALID, [op("set", "a", 0, 3), op("get", "a", 1, 2)], ()),
    "two writes at once, seen in any order": (
        VALID,
        [op("set", "a", 0, 3), op("set", "b", 1, 2), op("get", "a", 4, 5)],
        (),
    ),
    "stale read": (
        INVALID,
        [op("set", "a", 0, 1), op("set", "b", 2, 3), op("get", "a", 4, 5)],
        (0, 2, 4),
    ),
    "lost write": (INVALID, [op("set", "a", 0, 1), op("get", None, 2, 3)], (0, 2)),
    "value from nowhere": (INVALID, [op("set", "a", 0, 1), op("get", "x", 2, 3)], (2,)),
    "value from the future": (INVALID, [op("get", "a", 0, 1), op("set", "a", 2, 3)], (0, 2)),
    "value of a failed write": (
        INVALID,
        [op("set", "a", 0, 1, "fail", error="BUSY"), op("get", "a", 2, 3)],
        (0, 2),
    ),
    "new, then old while the write goes on": (  # read skew in time
        INVALID,
        [op("set", "a", 0, 1), op("set", "b", 2, 9), op("get", "b", 3, 4), op("get", "a", 5, 6)],
        (0, 2, 3, 5),
    ),
    "there, then absent while the first write goes on": (
        INVALID,
        [op("set", "a", 0, 9), op("get", "a", 1, 2), op("get", None, 3, 4)],
        (0, 1, 3),
    ),
    "back and forth between two writes": (  # non-monotonic reads
        INVALID,
        [
            *[op("set", "a", 0, 20), op("set", "b", 1, 21), op("get", "a", 2, 3)],
            *[op("get", "b", 4, 5), op("get", "a", 6, 7)],
        ],
        (0, 1, 2, 4, 6),
    ),
    "split brain: each side sees only its own": (
        INVALID,
        [
            *[op("set", "left", 0, 1), op("set", "right", 2, 3)],
            *[op("get", "left", 4, 5), op("get", "right", 6, 7)],
        ],
        (0, 2, 4),
    ),
    "split brain from the same moment on": (
        INVALID,
        [
            *[op("set", "l", 0, 3), op("set", "r", 1, 2), op("get", "l", 4, 5)],
            *[op("get", "r", 6, 7), op("get", "l", 8, 9)],
        ],
        (0, 1, 6, 8),
    ),
    "lost update: both changed the same value": (
        INVALID,
        [
            *[op("set", "0", 0, 1), op("cas", "1", 2, 5, expected="0")],
            op("cas", "2", 3, 4, expected="0"),
        ],
        (0, 2, 3),
    ),
    "one after the other changed it": (
        VALID,
        [
            *[op("set", "0", 0, 1), op("cas", "1", 2, 5, expected="0")],
            *[op("cas", "2", 3, 4, expected="1"), op("get", "2", 6, 7)],
        ],
        (),
    ),
    "created only where nothing was": (
        INVALID,
        [op("set", "a", 0, 1), op("cas", "b", 2, 3)],
        (0, 2),
    ),
    "a deleted value is back": (
        INVALID,
        [op("set", "a", 0, 1), op("delete", None, 2, 3), op("get", "a", 4, 5)],
        (0, 2, 4),
    ),
    "deleted, and somebody may have written it again": (
        VALID,
        [
            *[op("set", "a", 0, 1), op("delete", None, 2, 3)],
            *[op("set", "a", 4, 5, "info"), op("get", "a", 6, 7)],
        ],
        (),
    ),
    "a delete of something finds nothing": (
        INVALID,
        [op("set", "a", 0, 1), op("delete", None, 2, 3, "fail")],
        (0, 2),
    ),
    "a delete of something is refused": (
        VALID,
        [
            op("set", "a", 0, 1),
            op("delete", None, 2, 3, "fail", error="BUSY"),
            op("get", "a", 4, 5),
        ],
        (),
    ),
    "a write of unknown end appears late": (
        VALID,
        [op("set", "a", 0, 1, "info"), op("get", None, 2, 3), op("get", "a", 4, 5)],
        (),
    ),
    "and does not go away again": (
        INVALID,
        [op("set", "a", 0, 1, "info"), op("get", "a", 2, 3), op("get", None, 4, 5)],
        (0, 2, 4),
    ),
    "a change of unknown end explains two gets": (
        VALID,
        [
            *[op("set", "a", 0, 1), op("cas", "b", 2, 3, "info", expected="a")],
            *[op("get", "a", 4, 5), op("get", "b", 6, 7)],
        ],
        (),
    ),
    "two of unknown end explain a way back": (
        VALID,
        [
            *[op("set", "a", 0, 1), op("set", "b", 2, 3, "info"), op("get", "b", 6, 7)],
            *[op("set", "a", 4, 5, "info"), op("get", "a", 8, 9)],
        ],
        (),
    ),
    "a count that lost one": (
        INVALID,
        [op("incr", None, 0, 1), op("incr", "2", 2, 3), op("get", "2", 4, 5)],
        (0, 2, 4),
    ),
    "a count that may have been counted twice": (
        VALID,
        [op("incr", None, 0, 1), op("incr", "1", 2, 3, "info"), op("get", "2", 4, 5)],
        (),
    ),
    "a number that is none": (
        INVALID,
        [op("set", "x", 0, 1), op("incr", None, 2, 3), op("get", "1", 4, 5)],
        (0, 2),
    ),
    "texts in the wrong order": (
        INVALID,
        [op("append", "a", 0, 1), op("append", "b", 2, 3), op("get", "ba", 4, 5)],
        (0, 2, 4),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_histories_have_their_verdict_and_evidence(name):
    verdict, ops, evidence = GOLDEN[name]
    check = check_linear(history(*ops))

    assert check.verdict is verdict, check.because
    assert check.evidence == evidence
    assert check.violations == (verdict is INVALID)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stale read", ["found 'a', yet the set by c2 (op 2)", "was acknowledged at 0.003000 s"]),
        ("lost write", ["found nothing, yet", "with no delete before or beside it"]),
        ("value from nowhere", ["found 'x', which nobody wrote"]),
        ("value from the future", ["before the set by c2 (op 2) began to write it"]),
        ("value of a failed write", ["was told had not been written (BUSY)"]),
        (
            "new, then old while the write goes on",
            ["'a' must be older than 'b', for the set by c0 (op 0) ended before", "and newer, for"],
        ),
        (
            "there, then absent while the first write goes on",
            ["found nothing, yet the get by c1 (op 1) ended before it began, with 'a' there"],
        ),
        (
            "lost update: both changed the same value",
            ["no order of these 3 operations", "c2 (op 2) changed '0' to '1'"],
        ),
        ("a count that lost one", ["c0 (op 0) added 1; c2 (op 2) added '2'; c4 (op 4) found '2'"]),
    ],
)
def test_a_sentence_says_why_no_order_explains_it(name, words):
    because = check_linear(history(*GOLDEN[name][1])).because

    assert because.startswith("key k: ")
    assert all(some in because for some in words), because


def test_what_happened_besides_is_not_part_of_the_evidence():
    wrong = [op("set", "a", 100, 101), op("cas", "b", 102, 103, expected="c")]
    noise = [op("set", "c", n, n + 1) for n in range(0, 100, 2)]
    beside = [op("get", "c", n, n + 1) for n in range(98, 100, 2)]
    check = check_linear(history(*noise[:-1], *beside, *wrong, op("set", "c", 200, 201)))

    assert check.verdict is INVALID
    assert set(check.evidence) >= {100, 102}
    assert len(check.evidence) == 51, "every set of c may explain what the cas saw"


def test_keys_are_judged_alone_and_the_smallest_evidence_is_shown():
    check = check_linear(
        history(
            *[op("set", "a", 0, 1, key="x"), op("set", "b", 2, 3, key="x")],
            *[op("get", "a", 4, 5, key="x"), op("get", "y", 6, 7, key="y")],
            *[op("set", "z", 8, 9, key="z"), op("get", "z", 10, 11, key="z")],
        )
    )

    assert (check.verdict, check.judged, check.violations) == (INVALID, 3, 2)
    assert check.evidence == (6,)
    assert check.because.endswith("nobody wrote (and 1 more)")


def test_where_nobody_saw_anything_nothing_is_known():
    for ops in (
        [],
        [op("set", "a", 0, 1)],
        [op("set", "a", 0, 1), op("get", None, 2, 3, "info")],
        [op("incr", None, 0, 1), op("delete", None, 2, 3)],
        [op("get", None, 0, 1, "fail", error="TIMEOUT")],
    ):
        check = check_linear(history(*ops))
        assert (check.verdict, check.judged) == (UNKNOWN, 0)
        assert check.because == "nobody saw a value"


def test_the_rung_that_decided_is_told():
    simple = [op("set", "a", 0, 1, key="x"), op("get", "a", 2, 3, key="x")]
    twice = [op("set", "a", n, n + 1, key="y") for n in (4, 6)] + [op("get", "a", 8, 9, key="y")]
    check = check_linear(history(*simple, *twice))

    assert (
        check.because == "an order explains all that was seen of 2 keys (1 by zones, 1 by search)"
    )


def tangle(key: str, begin: int, count: int = 16) -> list:
    """So many different writes at once, and a value that only two equal ones can explain."""
    ops = [op("incr", str(1 << n), begin + n, begin + 99, key=key) for n in range(count)]
    return [*ops, op("get", "0", begin + 100, begin + 101, key=key)]


def test_over_budget_is_unknown_and_the_same_each_time():
    checks = [check_linear(history(*tangle("k", 0)), budget_steps=3_000) for _ in range(2)]

    assert checks[0] == checks[1]
    assert (checks[0].verdict, checks[0].judged) == (UNKNOWN, 0)
    assert checks[0].because == "1 of 1 keys were not decided within 3000 steps of search"


def test_a_hard_key_does_not_keep_others_from_being_judged():
    counted = [op("incr", None, 1000, 1001, key="easy"), op("get", "1", 1002, 1003, key="easy")]
    check = check_linear(history(*tangle("hard", 0), *counted), budget_steps=20_000)
    assert (check.verdict, check.judged) == (UNKNOWN, 1)

    counted[1].value = "2"
    check = check_linear(history(*tangle("hard", 0), *counted), budget_steps=20_000)
    assert (check.verdict, check.evidence) == (INVALID, (1000, 1002))


def test_it_runs_only_when_asked_for():
    ops = history(op("set", "a", 0, 1), op("set", "b", 2, 3), op("get", "a", 4, 5))

    assert not CHECKERS.keys() & EXTRA.keys()
    assert [check.name for check in run_checks(ops)] == ["lost", "reads"]
    assert [check.name for check in run_checks(ops, tuple(EXTRA))] == list(EXTRA)
    assert run_checks(ops, ("linear",))[0].verdict is INVALID
