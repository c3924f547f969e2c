"""The document of what is caught: made of what `bugs` and `alarms` printed as JSON. It runs nothing."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kvendure.bugs import BUGS

DOCUMENT = """# What is caught on real processes

<!-- Made by scripts/endure detection; do not edit. -->

Each bug is planted in real nodes, and `kvlab run` judges a scenario of a few seconds with them.
A bug is caught where the verdict is `invalid`. Intervals are of 95 % (Wilson).
The scenarios are in `scripts/endure.d/kvendure/scenarios`.
The bugs are some of [the simulator](mutants.md), one that only real disks show (`planted_node.py`
beside the scenarios), and `kvlab.examples.naive`, a server of its own.

| bug | what is wrong | scenario | caught | rate | 95 % | by |
|---|---|---|---|---|---|---|
{bugs}

The true store in the same scenarios must never be called `invalid`.
Of {tried} runs {alarms} were ({low:.1%} to {high:.1%}), and {unknown} came to no verdict.

| scenario | runs | verdicts |
|---|---|---|
{scenarios}

To make this page again:

```sh no-run
scripts/endure bugs --count {count} --json > bugs.json
scripts/endure alarms --count {tried} --json > alarms.json
scripts/endure detection bugs.json alarms.json > docs/reference/detection.md
```
"""


def detection(options: argparse.Namespace) -> int:
    """Print the document."""
    bugs, alarms = _read(options.bugs_json, "bugs"), _read(options.alarms_json, "alarms")
    rows = bugs["facts"]["bugs"]
    low, high = alarms["interval"]
    scenarios = [
        f"| {name} | {sum(counts.values())} | {_counts(counts)} |"
        for name, counts in alarms["facts"]["verdicts"].items()
    ]
    text = DOCUMENT.format(
        bugs="\n".join(map(_row, rows)),
        count=max(row["runs"] for row in rows),
        alarms=alarms["failed"],
        tried=alarms["tried"],
        unknown=len(alarms["unknown"]),
        low=low,
        high=high,
        scenarios="\n".join(scenarios),
    )
    print(text, end="")
    return 0


def _read(path: Path, campaign: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"cannot read {path}: {error}")
    if document.get("campaign") != campaign:
        sys.exit(f"{path} is not what scripts/endure {campaign} --json printed")
    return document


def _row(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    cells = (
        f"`{one['bug']}`", BUGS[one["bug"]].sin, one["scenario"], f"{one['caught']} of {one['runs']}",
        f"{one['caught'] / one['runs']:.0%}", f"{low:.0%} to {high:.0%}",
        _counts(one["checks"]) or "nothing",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _counts(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered)
