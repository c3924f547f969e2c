"""Campaigns `bugs` and `alarms`: each planted bug is caught on real processes, the true store never.

Each bug has the scenario that presses on it. All goes through `kvlab run`, from the file to the
verdict; `alarms` runs the true store through the same scenarios.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kvendure import marks
from kvendure.campaign import Campaign, at_once
from kvendure.planted_node import sin_of
from kvlab.sim.rates import wilson

SCENARIOS = Path(__file__).parent / "scenarios"
RUN_S = 300.0
NAIVE = "naive"  # kvlab.examples.naive: not a node of kvlab with a bug, but a server of its own
TRUE_STORE = ("kvlab", "run")
RATE = 0.95  # of the runs, at least, must catch a bug
PLAIN_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug and the scenario that presses on it."""

    name: str
    scenario: str

    @property
    def sin(self) -> str:
        """Return what it does wrong, in one sentence."""
        if self.name == NAIVE:
            return (
                "Success is said at once, the others are told later, and nothing is kept on disk."
            )
        return sin_of(self.name)

    @property
    def command(self) -> tuple[str, ...]:
        """Return what runs a scenario with it."""
        if self.name == NAIVE:
            return (*TRUE_STORE, "-f", str(Path(__file__).with_name("naive.yaml")))
        return ("kvendure.planted", self.name, "run")


_ALL = (
    Bug("written-late", "dark"),
    Bug("first-answer-is-enough", "late"),
    Bug("degraded-in-silence", "apart"),
    Bug("never-compared", "unread"),
    Bug("failure-as-success", "apart-quorum"),
    Bug("doubt-denied", "doubtful"),
    Bug("tombstone-forgotten", "missed"),
    Bug("replies-reversed", "calm"),
    Bug("last-to-arrive-wins", "crossing"),
    Bug("no-second-round", "skewed"),
    Bug("ready-at-once", "growing"),
    Bug("dropped-before-the-switch", "growing"),
    Bug("newcomers-unasked", "growing"),
    Bug("read-at-home", "linear-bridge"),
    Bug("blind-retry", "linear-apart"),
    Bug("registers-left-behind", "linear-growing"),
    Bug(NAIVE, "missed"),
)
BUGS = {one.name: one for one in _ALL}


@dataclass
class Tally:
    """What came of the runs of one bug, or of one scenario."""

    runs: int = 0
    caught: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    missed: list[int] = field(default_factory=list)  # seeds


class Broken(Exception):  # noqa: N818 - it is the outcome of a run
    """A run came to no verdict."""


def judged(command: tuple[str, ...], scenario: str, seed: int, folder: Path) -> dict[str, Any]:
    """Run a scenario; return its verdict.json. Raises Broken."""
    mark = marks.new_mark()
    path, files = SCENARIOS / f"{scenario}.yaml", folder / f"{mark}"
    argv = [sys.executable, "-P", "-m", *command, str(path), "--seed", str(seed)]
    try:
        done = subprocess.run(
            [*argv, "--out", str(files), "--json"],
            cwd=folder,
            env=marks.environment(mark),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Broken(f"no verdict in {RUN_S:g} s") from late
    finally:
        marks.end_all(mark)
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise Broken(" ".join(done.stderr.split())[-400:]) from error
    if document["verdict"] != "invalid":
        shutil.rmtree(files, ignore_errors=True)
    return document


def bugs(options: argparse.Namespace) -> int:
    """Run each bug so many times; a trial is a bug, which must be caught often enough."""
    chosen = [BUGS[name] for name in options.bugs or BUGS]
    told = Campaign(
        "bugs", f"a planted bug is caught in {RATE:.0%} of its runs", len(chosen), options.json
    )
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="kvlab-bugs-") as place:
        try:
            for bug in chosen:
                tally = tallies[bug.name] = Tally()
                _runs(bug.command, bug.scenario, tally, options, Path(place))
                rate = tally.caught / tally.runs
                missed = f"{bug.name} was caught in {tally.caught} of {tally.runs} runs"
                told.note("" if rate >= RATE else f"{missed} of {bug.scenario}")
                told.say(f"{missed} of {bug.scenario}: {dict(tally.checks)}", at_once=True)
        except KeyboardInterrupt:
            told.interrupted = True
    rows = [(BUGS[name], tally) for name, tally in tallies.items() if tally.runs]
    if options.json:
        told.facts["bugs"] = [_fact(*row) for row in rows]
    else:
        _print(rows)
    return told.close()


def _runs(
    command: tuple[str, ...], scenario: str, tally: Tally, options: argparse.Namespace, folder: Path
) -> None:
    quiet = Campaign(scenario, "", options.count)

    def trial(seed: int) -> str:
        try:
            document = judged(command, scenario, seed, folder)
        except Broken as broken:
            document = {"verdict": f"none: {broken}", "checks": {}}
        tally.runs += 1
        tally.verdicts[document["verdict"]] += 1
        bad = [name for name, one in document["checks"].items() if one["verdict"] == "invalid"]
        tally.checks.update(bad)
        if document["verdict"] == "invalid":
            tally.caught += 1
        else:
            tally.missed.append(seed)
        return ""

    first = options.seed
    at_once(options.jobs, range(first, first + options.count), trial, quiet)


def alarms(options: argparse.Namespace) -> int:
    """Run the true store through the scenarios in turn; a trial is a run, which must not be invalid."""
    told = Campaign("alarms", "the true store is never called invalid", options.count, options.json)
    names = options.scenarios or list(dict.fromkeys(bug.scenario for bug in _ALL))
    tallies = {name: Tally() for name in names}
    with tempfile.TemporaryDirectory(prefix="kvlab-alarms-") as place:

        def trial(number: int) -> str:
            scenario = names[number % len(names)]
            seed, tally = options.seed + number // len(names), tallies[scenario]
            try:
                document = judged(TRUE_STORE, scenario, seed, Path(place))
            except Broken as broken:
                document = {"verdict": "none", "because": str(broken)}
            tally.runs += 1
            tally.verdicts[document["verdict"]] += 1
            what = f"{scenario} --seed {seed}: {document['verdict']}: {document['because']}"
            if document["verdict"] == "invalid" and options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                shutil.move(document["run"], options.keep / f"{scenario}-{seed}")
            if document["verdict"] in ("unknown", "none"):
                told.doubt(what)
            return what if document["verdict"] == "invalid" else ""

        try:
            at_once(options.jobs, range(options.count), trial, told)
        except KeyboardInterrupt:
            told.interrupted = True
    told.facts = {
        "seeds from": options.seed,
        "verdicts": {name: dict(tally.verdicts) for name, tally in tallies.items() if tally.runs},
    }
    return told.close()


# -- tables -----------------------------------------------------------------------------------------

COLUMNS = ("bug", "what is wrong", "scenario", "caught", "rate", "95 %", "by")


def _fact(bug: Bug, tally: Tally) -> dict[str, Any]:
    return {
        "bug": bug.name, "scenario": bug.scenario, "runs": tally.runs, "caught": tally.caught,
        "interval": wilson(tally.caught, tally.runs), "verdicts": dict(tally.verdicts),
        "checks": dict(tally.checks), "missed seeds": sorted(tally.missed),
    }  # fmt: skip


def _cells(bug: Bug, tally: Tally) -> tuple[str, ...]:
    low, high = wilson(tally.caught, tally.runs)
    checks = ", ".join(f"{name} {count}" for name, count in tally.checks.most_common())
    return (
        bug.name, bug.sin, bug.scenario, f"{tally.caught} of {tally.runs}",
        f"{tally.caught / tally.runs:.0%}", f"{low:.0%} to {high:.0%}", checks or "nothing",
    )  # fmt: skip


def _print(rows: list[tuple[Bug, Tally]]) -> None:
    table = Table(box=None)
    for name in COLUMNS:
        table.add_column(name.upper())
    for bug, tally in rows:
        table.add_row(*_cells(bug, tally))
    console = Console()
    Console(width=None if console.is_terminal else PLAIN_WIDTH).print(table)
