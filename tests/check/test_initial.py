"""What keys held before a history: judged as if it had been written first."""

from __future__ import annotations

import pytest

from kvlab.check import EXTRA, Verdict, check_linear, check_lost, check_reads
from kvlab.check.columns import Table, columns_of
from kvlab.check.initial import CLIENT, with_initial
from kvlab.history import History, Op

from .register import history, op

VALID, INVALID = Verdict.VALID, Verdict.INVALID


def begun(value: str, *ops: Op) -> Table:
    return with_initial(Table(columns_of(history(*ops))), value)


def test_a_read_of_what_was_there_before_is_explained() -> None:
    read, write = op("get", "0", 0, 1), op("set", "1", 2, 3)
    assert check_linear(history(read, write)).verdict is INVALID
    table = begun("0", read, write)
    assert check_linear(table).verdict is VALID
    assert check_reads(table).verdict is VALID
    assert check_linear(begun("0", write, op("get", "0", 4, 5))).verdict is INVALID
    assert check_linear(begun("0", op("get", None, 0, 1))).verdict is INVALID


def test_places_stay_unique_and_lead_back_to_the_operations() -> None:
    table = begun("x", op("set", "1", 0, 3), op("get", None, 1, 2, key="l"), op("set", "2", 4, 5))
    places = [(one.start, one.end) for one in table.ops]
    assert [one.client for one in table.ops][:2] == [CLIENT, CLIENT]
    assert places == [(0, 1), (2, 3), (4, 7), (5, 6), (8, 9)]
    assert [one.value for one in table.at([4, 8])] == ["1", "2"]


def test_a_final_read_of_what_was_there_before_is_not_lost_and_of_nothing_is() -> None:
    for value, verdict in (("x", VALID), (None, INVALID)):
        read = op("get", value, 4, 5)
        read.final = True
        assert check_lost(begun("x", read)).verdict is verdict


@pytest.mark.parametrize(("seen", "verdict"), [("7", VALID), ("2", INVALID), ("8", INVALID)])
def test_counters_and_texts_stay_what_they_are(seen: str, verdict: Verdict) -> None:
    table = begun("5", op("incr", "2", 0, 1), op("get", seen, 2, 3))
    assert EXTRA["counter"](table).verdict is verdict
    assert check_linear(table).verdict is verdict
    text = begun("a,", op("append", "b,", 0, 1), op("get", "a,b,", 2, 3))
    assert EXTRA["append"](text).verdict is VALID


def test_an_empty_history_stays_one() -> None:
    assert len(with_initial(Table(columns_of(History(()))), "x").ops) == 0
