"""The results of runs as JUnit XML, as CI servers read it. Pure: documents in, text out.

It reads no file, and does not say whether a run passed: `experiment` does.

Invariants:

1. Any text in it makes a well-formed document: what XML 1.0 forbids is written as an escape.
2. `failures` counts what is certainly wrong (invalid), `errors` what is not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

FAILURE = "failure"
ERROR = "error"
SKIPPED = "skipped"
# Carriage returns are allowed, but a parser makes newlines of them.
_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """One test case: a check of a run, or a whole run."""

    name: str
    classname: str
    took_us: int = 0
    outcome: str = ""  # FAILURE, ERROR, SKIPPED, or "": passed
    kind: str = ""  # a word for what went wrong
    because: str = ""  # one sentence; of a case that passed, too
    details: str = ""  # more lines, such as how to repeat it


def clean(text: str) -> str:
    """Return a text with what XML 1.0 cannot hold written as an escape."""
    return _FORBIDDEN.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def junit_xml(name: str, cases: Sequence[Case], *, took_us: int, timestamp: str = "") -> str:
    """Return a document with one suite; `timestamp` as ISO 8601 without a zone, in UTC.

    A simulated run has none: the same seed, the same bytes.
    """
    counts = {"tests": str(len(cases))}
    for key, outcome in (("failures", FAILURE), ("errors", ERROR), ("skipped", SKIPPED)):
        counts[key] = str(sum(case.outcome == outcome for case in cases))
    counts["time"] = _seconds(took_us)
    root = ET.Element("testsuites", {"name": clean(name), **counts})
    suite = ET.SubElement(root, "testsuite", {"name": clean(name), **counts})
    if timestamp:
        suite.set("timestamp", timestamp)
    for case in cases:
        _add(suite, case)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, "unicode")}\n'


def _add(suite: ET.Element, case: Case) -> None:
    attributes = {"classname": clean(case.classname), "name": clean(case.name)}
    element = ET.SubElement(suite, "testcase", {**attributes, "time": _seconds(case.took_us)})
    text = clean("\n".join(line for line in (case.because, case.details) if line))
    if not case.outcome:
        if text:
            ET.SubElement(element, "system-out").text = text
        return
    said = ET.SubElement(element, case.outcome, {"message": clean(case.because)})
    if case.outcome != SKIPPED:
        said.set("type", clean(case.kind))
    said.text = text


def _seconds(us: int) -> str:
    return f"{us / 1e6:.3f}"


def cases_of_run(name: str, verdict: Mapping[str, Any]) -> list[Case]:
    """Return a case for each check and guard of a verdict.json, as it was expected."""
    expect, repeat = verdict.get("expect", "valid"), f"reproduce: {verdict.get('reproduce', '')}"
    cases = [
        _case_of_check(name, check, told, repeat, fails=expect == "valid")
        for check, told in verdict["checks"].items()
    ]
    for guard, said in verdict["guards"].items():
        broken = said != "holds"
        cases.append(
            Case(
                name=f"guard: {guard}",
                classname=name,
                outcome=ERROR if broken else "",
                kind="vacuous" if broken else "",
                because=str(said),
                details=repeat if broken else "",
            )
        )
    if expect == "invalid" and verdict["verdict"] == "valid":
        said = "expected invalid, but all checks hold"
        cases.append(Case("expected", name, 0, FAILURE, "valid", said, repeat))
    return cases


def _case_of_check(
    name: str, check: str, told: Mapping[str, Any], repeat: str, *, fails: bool
) -> Case:
    """A violation fails only where none was expected; what is unknown never passes."""
    outcome = {"invalid": FAILURE if fails else "", "unknown": ERROR}.get(told["verdict"], "")
    details = [] if told["verdict"] == "valid" else [repeat]
    if told.get("evidence"):
        places = ", ".join(map(str, told["evidence"]))
        details.insert(0, f"evidence in history.jsonl, by i: {places}")
    return Case(
        name=check,
        classname=name,
        outcome=outcome,
        kind=told["verdict"],
        because=told["because"],
        details="\n".join(details),
    )
