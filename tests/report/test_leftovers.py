from __future__ import annotations

from kvlab.report.leftovers import leftovers_table
from kvlab.report.table import plain


def test_the_leftovers_table_in_a_pipe() -> None:
    answer = {
        "dry_run": True,
        "processes": [{"pid": 12, "name": "python", "state": "/x/.kvlab/demo"}],
        "files": ["/x/.kvlab/demo/lock"],
    }
    expected = """\
would be ended or removed: 2
KIND     PID  NAME    WHERE
process   12  python  /x/.kvlab/demo
file       -  -       /x/.kvlab/demo/lock"""

    assert plain(leftovers_table(answer)) == expected


def test_nothing_left_is_said_in_a_line() -> None:
    answer = {"dry_run": False, "processes": [], "files": []}

    assert plain(leftovers_table(answer)) == "nothing was left behind"
