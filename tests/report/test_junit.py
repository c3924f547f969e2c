"""JUnit XML: any text parses back, and a verdict becomes the cases that CI shows."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.report.junit import ERROR, FAILURE, SKIPPED, Case, cases_of_run, clean, junit_xml

texts = st.text(st.characters() | st.sampled_from("\0\x1f\r\n\t\x85\ud800\ufffe<>&'\"]"))
cases = st.builds(
    Case,
    name=texts,
    classname=texts,
    took_us=st.integers(0, 10**12),
    outcome=st.sampled_from(["", FAILURE, ERROR, SKIPPED]),
    kind=texts,
    because=texts,
    details=texts,
)


def parsed(name: str, given: list[Case]) -> ET.Element:
    text = junit_xml(name, given, timestamp="2026-01-02T03:04:05", took_us=1_500_000)
    root = ET.fromstring(text.encode())
    assert root.tag == "testsuites"
    (suite,) = root
    return suite


@given(texts, st.lists(cases, max_size=4))
def test_any_text_parses_back(name: str, given: list[Case]) -> None:
    suite = parsed(name, given)

    assert suite.get("name") == clean(name)
    assert suite.get("time") == "1.500"
    for outcome, key in ((FAILURE, "failures"), (ERROR, "errors"), (SKIPPED, "skipped")):
        assert int(suite.get(key, "")) == sum(case.outcome == outcome for case in given)
    for case, element in zip(given, suite, strict=True):
        assert element.get("name") == clean(case.name)
        assert element.get("classname") == clean(case.classname)
        told = clean("\n".join(line for line in (case.because, case.details) if line))
        if case.outcome:
            (said,) = element
            assert said.tag == case.outcome
            assert said.get("message") == clean(case.because)
            assert (said.text or "") == told
        else:
            assert "".join(said.text or "" for said in element) == told


@given(texts)
def test_only_what_xml_forbids_is_changed(text: str) -> None:
    allowed = "".join(char for char in text if char.isprintable() and char.isascii())
    assert clean(allowed) == allowed
    assert clean(clean(text)) == clean(text)


def test_what_is_forbidden_can_still_be_read() -> None:
    assert clean("a\0b\x1b[31m\ud800\uffff\r\n\t\U0001f600") == (
        "a\\x00b\\x1b[31m\\ud800\\uffff\\x0d\n\t\U0001f600"
    )


def verdict(name: str, lost: str, guard: str = "holds", expect: str = "valid") -> dict:
    return {
        "verdict": name,
        "expect": expect,
        "reproduce": "kvlab run x --seed 7",
        "checks": {
            "reads": {"verdict": "valid", "because": "all hold", "evidence": []},
            "lost": {"verdict": lost, "because": "k1 is gone", "evidence": [3, 9]},
        },
        "guards": {"faults": guard},
    }


@pytest.mark.parametrize(
    ("document", "bad"),
    [
        (verdict("valid", "valid"), {}),
        (verdict("invalid", "invalid"), {"lost": FAILURE}),
        (verdict("unknown", "unknown"), {"lost": ERROR}),
        (verdict("unknown", "valid", guard="none bit"), {"guard: faults": ERROR}),
        (verdict("invalid", "invalid", expect="invalid"), {}),
        (verdict("valid", "valid", expect="invalid"), {"expected": FAILURE}),
        (verdict("unknown", "unknown", expect="invalid"), {"lost": ERROR}),
        (verdict("invalid", "invalid", expect="any"), {}),
        (verdict("valid", "valid", expect="any"), {}),
    ],
)
def test_a_check_fails_only_where_that_was_not_expected(document, bad) -> None:
    found = cases_of_run("run", document)

    assert {case.name: case.outcome for case in found if case.outcome} == bad
    assert [case.name for case in found][:3] == ["reads", "lost", "guard: faults"]


def test_a_failure_says_why_where_and_how_to_repeat_it() -> None:
    suite = parsed("run", cases_of_run("run", verdict("invalid", "invalid")))

    failure = suite.find("testcase[@name='lost']/failure")
    assert failure is not None
    assert failure.attrib == {"message": "k1 is gone", "type": "invalid"}
    assert failure.text == (
        "k1 is gone\nevidence in history.jsonl, by i: 3, 9\nreproduce: kvlab run x --seed 7"
    )
