"""Gaps, liveness, agreement of final reads, and logs: small histories read aloud."""

from __future__ import annotations

import pytest

from kvlab.check import Check, Verdict, run_checks
from kvlab.check.availability import check_availability, check_liveness
from kvlab.check.converged import check_converged
from kvlab.check.logs import check_logs
from kvlab.history import Op

from .register import history, op

VALID, INVALID, UNKNOWN = Verdict.VALID, Verdict.INVALID, Verdict.UNKNOWN


def asked(start: int, end: int, outcome: str = "ok") -> Op:
    return op("set", "v", start, end, outcome)


def gaps(*ops: Op) -> list[tuple[int, int]]:
    """Return beginnings and lengths in milliseconds, the longest first."""
    rows = check_availability(history(*ops)).figures["longest_gaps"]
    return [(row["began_us"] // 1000, row["gap_us"] // 1000) for row in rows]


def test_a_gap_lies_between_two_successes_while_somebody_asks() -> None:
    assert gaps(asked(0, 1), asked(2, 8, "fail"), asked(9, 20)) == [(2, 18), (0, 1)]


def test_time_in_which_nobody_asks_is_no_gap() -> None:
    assert gaps(asked(0, 1), asked(100, 102)) == [(100, 2), (0, 1)]


def test_a_gap_may_last_to_the_end() -> None:
    assert gaps(asked(0, 1), asked(5, 30, "info")) == [(5, 25), (0, 1)]


def test_an_operation_that_never_came_back_keeps_asking() -> None:
    lost = asked(2, 3, "info")
    lost.end_us = None
    assert gaps(asked(0, 1), lost, asked(50, 51))[0] == (2, 49)


def test_a_bound_on_gaps_shows_the_successes_around_the_longest() -> None:
    ops = [asked(0, 1), asked(2, 8, "fail"), asked(9, 20), asked(21, 22)]
    check = check_availability(history(*ops), gap_us_max=10_000)
    assert (check.verdict, check.evidence, check.violations) == (INVALID, (0, 9), 1)
    assert check.because == (
        "the longest time without a success was 18ms, from 0.002000 s on, and 10ms are allowed"
    )
    assert check_availability(history(*ops), gap_us_max=18_000).verdict is VALID


def test_a_delete_of_nothing_is_a_success() -> None:
    figures = check_availability(history(op("delete", None, 0, 1, "fail"))).figures
    assert (figures["succeeded"], figures["failed"]) == (1, 0)
    figures = check_availability(history(op("delete", None, 0, 1, "fail", error="BUSY"))).figures
    assert (figures["succeeded"], figures["failed"]) == (0, 1)


def test_the_first_success_after_the_last_fault_is_timed() -> None:
    ops = history(asked(0, 1), asked(12, 18, "fail"), asked(19, 25))
    check = check_availability(ops, healed_us=10_000, heal_us_max=12_000)
    assert check.verdict is INVALID
    assert check.figures["first_success_after_heal_us"] == 13_000
    assert check.evidence == (12,)
    assert check_availability(ops, healed_us=10_000, heal_us_max=13_000).verdict is VALID


@pytest.mark.parametrize(
    ("ops", "healed_us", "verdict"),
    [
        ([asked(0, 1), asked(5, 6)], 4_000, VALID),
        ([asked(0, 1), asked(5, 6, "fail")], 4_000, INVALID),
        ([asked(0, 1), asked(5, 6, "info")], 4_000, INVALID),
        ([asked(0, 1)], 4_000, UNKNOWN),
        ([asked(0, 1, "fail"), asked(5, 6)], None, VALID),
        ([asked(0, 1, "fail")], None, INVALID),
        ([], None, UNKNOWN),
    ],
)
def test_something_succeeds_after_the_last_fault(ops, healed_us, verdict) -> None:
    check = check_liveness(history(*ops), healed_us=healed_us)
    assert check.verdict is verdict
    assert bool(check.evidence) is (verdict is INVALID)


def test_an_empty_history_has_no_availability() -> None:
    assert run_checks(history(), ("availability",))[0].verdict is UNKNOWN


# -- final reads agree --------------------------------------------------------------------------


def final(value: str | None, start: int, node: str) -> Op:
    read = op("get", value, start, start + 1)
    read.final, read.node = True, node
    return read


def agree(*ops: Op) -> Check:
    return check_converged(history(*ops))


def test_final_reads_that_disagree_show_it() -> None:
    check = agree(asked(0, 1), final("v", 4, "server1"), final(None, 6, "server2"))
    assert (check.verdict, check.evidence, check.judged) == (INVALID, (4, 6), 1)
    assert check.because == (
        "key k: two final reads from server1 and server2 disagree: the get by c4 (op 4) at 0.005000 s"
        " found 'v', the get by c6 (op 6) at 0.007000 s found nothing"
    )


def test_final_reads_that_agree_are_valid() -> None:
    assert agree(asked(0, 1), final("v", 4, "a"), final("v", 6, "b")).verdict is VALID


@pytest.mark.parametrize(
    "ops",
    [
        [asked(0, 1), final("v", 4, "a")],
        [asked(0, 5), final("v", 4, "a"), final(None, 7, "b")],
        [asked(0, 1, "info"), final(None, 4, "a"), final("v", 6, "b")],
        [asked(0, 1), op("get", "v", 4, 5), op("get", None, 6, 7)],
    ],
)
def test_what_may_have_changed_in_between_is_not_judged(ops: list[Op]) -> None:
    assert (agree(*ops).verdict, agree(*ops).judged) == (UNKNOWN, 0)


# -- logs ---------------------------------------------------------------------------------------


def test_a_traceback_in_a_log_is_found() -> None:
    logs = {"server1": ["up\n"], "server2": ["up\n", "Traceback (most recent call last):\n"]}
    check = check_logs(logs)
    assert (check.verdict, check.judged, check.violations) == (INVALID, 3, 1)
    assert check.because.startswith("the log of server2, line 2, has 'Traceback")


def test_quiet_logs_are_valid_and_none_are_unknown() -> None:
    assert check_logs({"server1": ["up\n", "down\n"]}).verdict is VALID
    assert check_logs({"server1": []}).verdict is VALID, "a server may say nothing"
    assert check_logs({}).verdict is UNKNOWN
