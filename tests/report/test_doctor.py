from __future__ import annotations

from kvlab.report.doctor import doctor_table
from kvlab.report.table import plain


def test_advice_stands_below_the_answers() -> None:
    findings = [
        {"name": "loopback", "state": "ok", "said": "a byte takes 14us", "advice": ""},
        {"name": "disk", "state": "slow", "said": "a sync takes 90ms", "advice": "use interval"},
    ]

    assert plain(doctor_table(findings)) == (
        "1 of 2 answers are not as they should be\n"
        "QUESTION  STATE  FOUND\n"
        "loopback  ok     a byte takes 14us\n"
        "disk      slow   a sync takes 90ms\n"
        "disk: use interval"
    )


def test_a_machine_that_lacks_nothing_is_said_to_be_so() -> None:
    finding = {"name": "disk", "state": "ok", "said": "fast", "advice": ""}

    assert plain(doctor_table([finding])).startswith("this machine has all that clusters need\n")
