"""The verb check: judge a history of anybody's, or a run directory, and say why.

It reads files, calls kvlab.check and prints.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from kvlab import __version__, units
from kvlab.check import CHECKERS, SUMMARIES, Check, Options, Verdict, run_checks
from kvlab.check.logs import NAME as LOGS
from kvlab.check.logs import check_logs
from kvlab.cli import out
from kvlab.cli.check_names import asked_checks, asked_names, check_promise, promised_checks
from kvlab.cli.options import Json
from kvlab.errors import InvalidError, UnknownError, UsageError, VacuousError
from kvlab.experiment import Judgement, Plan, Record, guards_of, judge
from kvlab.history import Event, decode_events
from kvlab.report.check import evidence_table, figures_tables, list_table, operation, size_text
from kvlab.report.demo import checks_table
from kvlab.rundir import BLOCK_BYTES, SPEC, RunDir, blocks_of, history_path, lines_of

if TYPE_CHECKING:
    from kvlab.check.reading import Reading

STDIN = "-"
# What the clocks of the nodes of one machine may differ by, where a store orders writes by them.
CLOCK_ERROR_US = 1_000


class _Case(msgspec.Struct):
    """What is to be judged, and all that is known about it."""

    path: Path
    name: str  # for a person
    reading: Reading
    run: RunDir | None = None
    plan: Plan | None = None
    faults: list[dict[str, Any]] | None = None

    @property
    def events(self) -> list[Event]:
        """Read the events of a run once more, one by one: scenarios are small."""
        assert self.run is not None
        return decode_events(b"".join(blocks_of(history_path(self.run.path))))

    @property
    def healed_us(self) -> int | None:
        """Return when the last fault was over, or None if none is known."""
        ends = [line["until_us"] for line in self.faults or [] if line.get("done", True)]
        return max(ends, default=None)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("check")(check)


def check(
    path: Annotated[
        Path | None,
        typer.Argument(help="A run directory, a history file, or - for standard input."),
    ] = None,
    *,
    checks: Annotated[
        list[str] | None,
        typer.Option(
            "--check", metavar="NAME,...", help="What to judge: names of --list, sessions, or all."
        ),
    ] = None,
    list_checks: Annotated[bool, typer.Option("--list", help="List the checks.")] = False,
    ns: Annotated[
        str,
        typer.Option(
            "--ns", help="What the store promises: eventual or linear.", show_default=False
        ),
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="What clients did: register, set, counter, append or cart.",
            show_default=False,
        ),
    ] = "",
    initial: Annotated[
        str | None,
        typer.Option(
            "--initial", metavar="VALUE", help="What every key held before.", show_default="nothing"
        ),
    ] = None,
    clock_error: Annotated[
        str,
        typer.Option(
            help="lost: what the store's clocks may differ by.",
            show_default="1ms where the history tells versions, else 0",
        ),
    ] = "",
    budget: Annotated[
        int, typer.Option(help="linear: steps of search before a key is unknown.")
    ] = 500_000,
    max_versions: Annotated[
        int | None, typer.Option(help="staleness: versions that a read may be behind.")
    ] = None,
    max_age: Annotated[
        str, typer.Option(help="staleness: for how long a read may be behind.")
    ] = "",
    max_gap: Annotated[
        str, typer.Option(help="availability: the longest time without a success.")
    ] = "",
    max_heal: Annotated[
        str, typer.Option(help="availability: time to the first success after the last fault.")
    ] = "",
    healed: Annotated[
        str,
        typer.Option(
            help="availability, liveness: when the last fault was over, by the history's clock.",
            show_default="as faults.jsonl of a run directory says",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Judge a recorded history: what was lost, stale or out of order, and why.

    The history is one JSON object a line, of kvlab or of anybody. A wrong one is explained by the
    fewest operations that show it. Exit codes: 0 valid, 1 invalid, 3 unknown, 4 nothing to judge.

    Examples:
      kvlab check history.jsonl                    what every store promises
      kvlab check history.jsonl --check linear     one order explains all that was seen
      kvlab check run --check sessions,staleness   more questions about a run of kvlab sim --out run
      kvlab check run --check all --json
      kvlab check h.jsonl --ns linear --initial 0  a linear store where every key was 0 before
      kvlab check h.jsonl --model counter          what its increments must have come to
      kvlab check --list
    """
    if list_checks:
        _list(as_json=as_json)
        return
    if path is None:
        raise UsageError("name what to check", hint="kvlab check history.jsonl, or --list")
    check_promise(ns, model, checks)
    names = asked_checks(checks) or promised_checks(ns, model)
    clock_error_us = _duration("--clock-error", clock_error)
    options: dict[str, dict[str, Any]] = {
        "linear": {"budget_steps": _at_least("--budget", budget, 1)},
        "staleness": {
            "versions_max": _at_least("--max-versions", max_versions, 0),
            "age_us_max": _duration("--max-age", max_age),
        },
        "liveness": {},
        "availability": {
            "gap_us_max": _duration("--max-gap", max_gap),
            "heal_us_max": _duration("--max-heal", max_heal),
        },
    }
    healed_us = _duration("--healed", healed)
    case = _case(path)
    if initial is not None:
        case = _begun(case, initial)
    healed_us = case.healed_us if healed_us is None else healed_us
    if healed_us is None and max_heal:
        raise UsageError(
            "--max-heal needs to know when the last fault was over", hint="add --healed 12s"
        )
    options["lost"] = {"clock_error_us": _clock_error(clock_error_us, case)}
    options["availability"]["healed_us"] = options["liveness"]["healed_us"] = healed_us
    results = _judge(case, names, options)
    judgement = _judgement(case, results, by_name=asked_names(checks))
    if as_json:
        out.show_json(_document(case, judgement, f"kvlab check {path}"))
    else:
        _show(case, judgement, names)
    raise typer.Exit(_exit_code(judgement))


def _exit_code(judgement: Judgement) -> int:
    if judgement.verdict is Verdict.INVALID:
        return InvalidError.exit_code
    if judgement.verdict is Verdict.VALID:
        return 0
    vacuous = not any(one.judged for one in judgement.checks) or any(judgement.guards.values())
    return VacuousError.exit_code if vacuous else UnknownError.exit_code


# -- what is to be judged -----------------------------------------------------------------------


def _case(path: Path) -> _Case:
    from kvlab.check.reading import read_history

    if str(path) == STDIN:
        name = "standard input"
        return _Case(path, name, read_history(_stdin(), name=name))
    file = history_path(path)
    reading = read_history(blocks_of(file), name=str(file))
    case = _Case(path, str(path), reading)
    if path.is_dir():
        case.run = RunDir(path)
        case.faults = case.run.faults()
        case.plan = _plan(case.run, case.faults or [])
    return case


def _begun(case: _Case, value: str) -> _Case:
    """Let every key of a history that somebody else recorded begin with a value."""
    from kvlab.check.initial import CLIENT, with_initial

    if case.run is not None:
        raise UsageError(
            "--initial is for bare histories: keys of a run begin absent",
            hint="name its history.jsonl to have it judged as one",
        )
    table = with_initial(case.reading.table, value)
    last = 2 * len(table.columns.keys) - 1
    note = f"every key begins with {value!r}: events 0 to {last}, by {CLIENT}, stand for that"
    notes = (*case.reading.notes, note)
    reading = msgspec.structs.replace(case.reading, table=table, notes=notes)
    return msgspec.structs.replace(case, reading=reading)


def _stdin() -> Iterator[bytes]:
    while block := sys.stdin.buffer.read(BLOCK_BYTES):
        yield block


def _plan(run: RunDir, faults: list[dict[str, Any]]) -> Plan | None:
    """Return what was to happen in a run, or None if it does not say so.

    A nemesis did what no scenario says: what it did counts as planned.
    """
    from kvlab.experiment import make_plan
    from kvlab.spec.scenario_file import parse_scenario

    text = run.read(SPEC)
    if not text:
        return None
    plan = make_plan(parse_scenario(text, source=str(run.path / SPEC)))
    return plan if len(plan.faults) >= len(faults) else plan.with_faults(faults)


# -- the judgement ------------------------------------------------------------------------------


def _judge(case: _Case, names: tuple[str, ...] | None, options: Options) -> list[Check]:
    """Run the checks asked for; unasked, what the store promises in this run, or everywhere."""
    promised = case.plan.checks if case.plan else CHECKERS
    asked = names or tuple(name for name in SUMMARIES if name in promised)
    found = run_checks(case.reading.table, tuple(name for name in asked if name != LOGS), options)
    if LOGS in asked:
        found.append(_logs(case))
    if case.plan is None or "lost" not in asked:
        return found
    # A scenario says what its clocks do, and which acknowledgements were no promise.
    from kvlab.experiment import judge_promise

    lost = judge_promise("lost", case.plan, case.events)
    return [lost if one.name == "lost" else one for one in found]


def _logs(case: _Case) -> Check:
    logs = case.run.logs() if case.run else {}
    return check_logs({name: lines_of(path) for name, path in logs.items()})


def _judgement(case: _Case, checks: list[Check], *, by_name: set[str]) -> Judgement:
    """Put the checks together; one with nothing to judge counts only if it was asked for by name."""
    counted = [one for one in checks if one.name in by_name or one.judged]
    guards: dict[str, str] = {}
    if case.plan is not None and case.faults is not None:
        guards = guards_of(case.plan, case.events, Record(faults=case.faults))
    if not counted:
        because = f"nothing could be judged: {checks[0].because}"
        return Judgement(Verdict.UNKNOWN, because, checks, guards)
    judgement = judge(counted, guards)
    silent = [one.name for one in checks if one not in counted]
    if silent and judgement.verdict is Verdict.VALID:
        judgement.because += f"; {', '.join(silent)} had nothing to judge"
    judgement.checks = checks
    return judgement


def _document(case: _Case, judgement: Judgement, reproduce: str) -> dict[str, Any]:
    """Return verdict.json, with the operations of the evidence spelled out."""
    verdict = case.run.verdict() if case.run else {}
    document = judgement.to_builtins(
        seed=verdict.get("seed", 0),
        reproduce=verdict.get("reproduce") or reproduce,
        environment={"kvlab": __version__, "python": platform.python_version()},
    )
    for one in judgement.checks:
        ops = case.reading.table.at(one.evidence)
        document["checks"][one.name]["operations"] = [operation(op) for op in ops]
    columns = case.reading.table.columns
    document["history"] = {
        "name": case.name,
        "operations": len(columns),
        "keys": len(columns.keys),
        "clients": len(columns.clients),
        "notes": list(case.reading.notes),
    }
    return document  # type: ignore[no-any-return]


def _show(case: _Case, judgement: Judgement, names: tuple[str, ...] | None) -> None:
    columns = case.reading.table.columns
    out.say(f"{case.name}: {size_text(len(columns), len(columns.clients), len(columns.keys))}")
    for note in case.reading.notes:
        out.say(f"note: {note}")
    out.say("")
    out.show(checks_table(judgement.checks))
    for one in judgement.checks:
        tables = figures_tables(one)
        if one.evidence:
            tables.insert(0, evidence_table(one, case.reading.table.at(one.evidence)))
        for each in tables:
            out.say("")
            out.show(each)
    out.say("")
    for name, said in judgement.guards.items():
        if said:
            out.say(f"guard {name}: {said}")
    out.say(f"verdict: {judgement.verdict.value} - {judgement.because}")
    again = f"kvlab check {case.path}"
    more = "--check linear" if names is None else "--json"
    out.next_step(f"{again} {more}", "kvlab check --list")


# -- arguments ----------------------------------------------------------------------------------


def _duration(option: str, text: str) -> int | None:
    if not text:
        return None
    try:
        return units.parse_duration(text)
    except units.UnitError as error:
        raise UsageError(f"{option}: {error}") from None


def _at_least(option: str, value: int | None, least: int) -> int | None:
    if value is not None and value < least:
        raise UsageError(f"{option} is a number from {least} up, not {value}")
    return value


def _clock_error(given_us: int | None, case: _Case) -> int:
    if given_us is not None:
        return given_us
    return CLOCK_ERROR_US if case.reading.table.columns.version.any() else 0


def _list(*, as_json: bool) -> None:
    if as_json:
        listed = [
            {"name": name, "unasked": name in CHECKERS, "asks": said}
            for name, said in SUMMARIES.items()
        ]
        out.show_json({"schema": 1, "checks": listed})
        return
    out.show(list_table(SUMMARIES, tuple(CHECKERS)))
    out.next_step("kvlab check history.jsonl --check linear")
