"""Histories made by hand, each with one lesson; the name of a file says which check judges it how."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvlab.check import CHECKERS, EXTRA, Verdict, run_checks
from kvlab.check.reading import read_history
from kvlab.history import load

FILES = sorted((Path(__file__).parent.parent / "golden").glob("*.jsonl"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_history_is_judged_as_its_name_says(path: Path) -> None:
    _, name, verdict = path.stem.split(".")
    data = path.read_bytes()
    table = read_history([data]).table
    check = run_checks(table, (name,))[0]

    assert check.verdict is Verdict(verdict), check.because
    assert check == run_checks(load(data), (name,))[0], "in memory or as columns is the same"
    assert bool(check.evidence) is (check.verdict is Verdict.INVALID)
    assert check.violations == (check.verdict is Verdict.INVALID) or check.violations > 1


def test_the_evidence_alone_is_wrong_too() -> None:
    for path in FILES:
        _, name, verdict = path.stem.split(".")
        if verdict == "valid" or name == "counter":  # whose proof is the sum of all increments
            continue
        table = read_history([path.read_bytes()]).table
        evidence = run_checks(table, (name,))[0].evidence
        kept = {(op.client, op.op) for op in table.at(evidence)}
        lines = path.read_bytes().splitlines(keepends=True)
        few = [line for line in lines if any(_is_of(line, *one) for one in kept)]
        check = run_checks(read_history(few).table, (name,))[0]

        assert check.verdict is Verdict.INVALID, path.stem


def _is_of(line: bytes, client: str, op: int) -> bool:
    return f'"client": "{client}", "op": {op},'.encode() in line


def test_every_check_of_histories_has_a_golden_one() -> None:
    judged = {path.stem.split(".")[1] for path in FILES}

    assert (CHECKERS.keys() | EXTRA.keys()) - judged == {"staleness", "availability"}
