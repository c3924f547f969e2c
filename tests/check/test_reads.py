"""Reads return only what was written: in memory or as columns, the same is said."""

from __future__ import annotations

from kvlab.check import Verdict, check_reads
from kvlab.check.columns import Table, columns_of
from kvlab.rng import Rng

from .register import drawn, history, op


def test_arrays_and_operations_agree() -> None:
    rng = Rng(1)
    verdicts = set()
    for n in range(600):
        ops = drawn(rng, unique=n % 2 == 0)
        for one in ops:
            one.key = rng.choice(["k1", "k2"])
            if one.f == "get" and rng.random() < 0.1:
                one.value = rng.choice(["nowhere", "1", "v2"])
        given = history(*ops)
        check = check_reads(given)
        verdicts.add(check.verdict)

        assert check_reads(Table(columns_of(given))) == check

    assert verdicts == set(Verdict)


def test_a_long_value_is_cut_short_in_the_sentence() -> None:
    check = check_reads(history(op("get", "x" * 1000, 0, 1)))

    assert check.because.endswith("returned 'xxxxxxxxxxxxxxxxxxxxxxx…', which nobody wrote")
