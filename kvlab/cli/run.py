"""The verb run: a scenario on real processes, from the file to the verdict. And replay: once more.

It parses, calls kvlab.lab.run and prints. The files of a run are kvlab.rundir's.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvlab import __version__, units
from kvlab.check.verdict import Verdict
from kvlab.cli import out
from kvlab.cli.cluster import read_spec
from kvlab.cli.live import Progress
from kvlab.cli.options import Json
from kvlab.cli.record import page_of, read_record
from kvlab.cli.scenarios import about, drawn, read_scenario, shipped
from kvlab.errors import InvalidError, UnknownError, UsageError, VacuousError
from kvlab.experiment import Judgement, Plan, is_as_expected, make_plan
from kvlab.rng import fresh_seed
from kvlab.rundir import Journal, RunDir, new_run
from kvlab.spec.scenario import LINEAR_VERBS, on_cluster

if TYPE_CHECKING:
    from kvlab.lab.run import Outcome
    from kvlab.lab.run_judge import Judged
    from kvlab.report.series import PhaseFigures
    from kvlab.spec.scenario import ScenarioSpec

STAMP = "%Y%m%d-%H%M%S"
UTC = "%Y-%m-%dT%H:%M:%S"  # as JUnit XML has it

NoReport = Annotated[
    bool, typer.Option("--no-report", help="Leave report.html out, which takes about a second.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for the files of the run.",
        show_default="runs/NAME/TIME",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("run")(run)
    app.command("replay")(replay)


def run(
    scenario: Annotated[
        str | None, typer.Argument(help="A file, or a name of --list.", show_default=False)
    ] = None,
    *,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Another seed than the file's.")
    ] = None,
    ns: Annotated[
        str, typer.Option("--ns", help="Another namespace: eventual or linear.", show_default=False)
    ] = "",
    swarm: Annotated[
        bool, typer.Option("--swarm", help="Draw cluster, load and faults from the seed.")
    ] = False,
    nemesis: Annotated[
        Path | None,
        typer.Option("--nemesis", metavar="FILE", help="Python with: async def nemesis(run)."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "-f", "--file", metavar="FILE", help="Run it on the cluster of this cluster.yaml."
        ),
    ] = None,
    directory: Out = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would happen when, and start nothing.")
    ] = False,
    list_all: Annotated[
        bool, typer.Option("--list", help="List the scenarios of the package.")
    ] = False,
    no_report: NoReport = False,
    as_json: Json = False,
) -> None:
    """Run a scenario on real processes: a cluster of its own, clients, faults, and a verdict.

    The same seed gives the same plan and the same operations. Everything is undone at the end;
    nothing is left running, however it ends. Exit codes: 0 as the scenario expects, 1 not so,
    3 unknown, 4 it proved nothing (too little succeeded, a fault without effect), 5 the machine.

    Examples:
      kvlab run --list
      kvlab run kill-minority
      kvlab run scenario.yaml --seed 7 --out out
      kvlab run everything-at-once --dry-run
      kvlab run --swarm --seed 7
      kvlab run scenario.yaml --nemesis my.py
      kvlab run kill-minority -f cluster.yaml       servers by others, on free ports
    """
    if list_all:
        _list(as_json=as_json)
        return
    if (scenario is None) is not swarm:
        raise UsageError("name a scenario", hint="kvlab run kill-minority, --list, or --swarm")
    if swarm and file is not None:
        raise UsageError("--swarm draws the cluster too", hint="leave -f out, or name a scenario")
    if swarm and ns:
        raise UsageError("--swarm draws the namespace too", hint="leave --ns out")
    if scenario is not None:
        spec, what = _changed(read_scenario(scenario), seed, ns), scenario
    else:
        spec, what = drawn(fresh_seed() if seed is None else seed), "--swarm"
    if file is not None:
        spec = on_cluster(spec, read_spec(file), str(file.parent.absolute()))
    plan = make_plan(spec)
    repeat = f"kvlab run {what} --seed {spec.seed}" + (f" --ns {ns}" if ns else "")
    repeat += f" -f {file}" if file is not None else ""
    if dry_run:
        _show_plan(plan, repeat, as_json=as_json)
        return
    repeat += f" --nemesis {nemesis}" if nemesis else ""
    _perform(plan, directory, repeat, nemesis, page=not no_report, as_json=as_json)


def replay(
    run_directory: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a run, such as runs/NAME/latest.")
    ],
    *,
    directory: Out = None,
    no_report: NoReport = False,
    as_json: Json = False,
) -> None:
    """Run once more what a run did: its operations, and its faults as they really were.

    Targets and times of faults are those of the run's faults.jsonl. What real processes make of them
    is up to them: the same input, not always the same history.

    Examples:
      kvlab replay runs/kill-minority/latest
    """
    given = RunDir(run_directory)
    text, lines = given.read("spec.yaml"), given.faults()
    if text is None or lines is None:
        raise UsageError(
            f"{run_directory} is not the folder of a run", hint="name one that kvlab run wrote"
        )
    from kvlab.spec.scenario_file import parse_scenario

    spec = parse_scenario(text, source=str(run_directory / "spec.yaml"))
    done = [line for line in lines if line.get("done", True)]
    plan, repeat = make_plan(spec).with_faults(done), f"kvlab replay {run_directory}"
    _perform(plan, directory, repeat, None, page=not no_report, as_json=as_json)


def _changed(spec: ScenarioSpec, seed: int | None, ns: str) -> ScenarioSpec:
    if ns not in ("", "eventual", "linear"):
        raise UsageError(f"--ns is eventual or linear, not {ns}")
    changed = replace(spec, ns=ns or spec.ns, seed=spec.seed if seed is None else seed)
    if changed.ns == "eventual" and spec.workload.verbs.intersection(LINEAR_VERBS):
        raise UsageError("cas, incr and append need ns: linear", hint="leave --ns out")
    return changed


# -- a run --------------------------------------------------------------------------------------


def _perform(
    plan: Plan,
    directory: Path | None,
    repeat: str,
    nemesis: Path | None,
    *,
    page: bool,
    as_json: bool,
) -> None:
    """Run a plan, judge it, write and show what it came to."""
    from kvlab.lab.load_loop import run_fresh
    from kvlab.lab.run import Run
    from kvlab.lab.run_faults import check_real
    from kvlab.lab.run_judge import judge_run
    from kvlab.lab.run_nemesis import load_nemesis
    from kvlab.report.junit import cases_of_run, junit_xml
    from kvlab.report.percentiles import percentile_text
    from kvlab.spec.scenario_file import render_scenario

    spec = plan.spec
    check_real(plan)
    function = load_nemesis(nemesis) if nemesis is not None else None
    stamp, utc = time.strftime(STAMP), time.strftime(UTC, time.gmtime())
    files = RunDir.create(directory) if directory is not None else new_run(spec.name, stamp)
    progress = Progress(files.path, quiet=as_json)
    progress.say(f"{spec.name}: {spec.nodes} nodes, seed {spec.seed}, files in {files.path}")
    try:
        with Journal(files, render_scenario(spec)) as journal, progress:
            outcome = run_fresh(
                _ended_by_sigterm(Run(plan, files.state, journal, progress.say, function).run())
            )
    except KeyboardInterrupt:
        out.progress(f"interrupted: nothing is left running; what was seen is in {files.path}")
        raise
    finally:
        files.keep_logs()
    progress.say("judging the history")
    if function is not None:  # what was promised depends on what it did
        plan = plan.with_faults(outcome.record.faults)
    judged = judge_run(plan, outcome.record, outcome.healed_us, files)
    document = judged.judgement.to_builtins(
        seed=spec.seed, reproduce=repeat, environment=environment()
    )
    document["expect"] = spec.expect
    document["load"] = judged.load
    files.write_ring(outcome.ring)
    files.keep_latencies(percentile_text(judged.latencies_us))
    files.finish(outcome.record.faults, document)
    cases = cases_of_run(spec.name, document)
    files.write_junit(junit_xml(spec.name, cases, timestamp=utc, took_us=outcome.took_us))
    record = read_record(files)
    made = {"report": str(files.write_report(page_of(record)))} if page else {}
    if as_json:
        out.show_json(document | {"run": str(files.path)} | made)
    else:
        _show(plan, outcome, judged, record.figures(), files.path, repeat)
    raise typer.Exit(_exit_code(judged.judgement, spec.expect))


async def _ended_by_sigterm(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Let SIGTERM end the work as Ctrl-C does: everything is undone first."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if task.cancelled():
            raise KeyboardInterrupt from None
        raise


def _show(
    plan: Plan,
    outcome: Outcome,
    judged: Judged,
    phases: Sequence[PhaseFigures],
    path: Path,
    repeat: str,
) -> None:
    from kvlab.report.demo import checks_table
    from kvlab.report.phases import phase_latency_table
    from kvlab.report.sim import faults_table

    spec, judgement = plan.spec, judged.judgement
    work = sum(map(len, plan.operations.values()))
    copies = f"{spec.copies} copies (r {spec.r}, w {spec.w})"
    if spec.is_of_others and spec.cluster is not None:
        copies = f"servers by others ({spec.cluster.name})"
    out.say(
        f"{spec.name}: {spec.nodes} nodes, {copies}, {spec.ns}, {work} operations,"
        f" took {units.format_duration(outcome.took_us)}"
    )
    out.say("")
    if outcome.record.faults:
        out.show(faults_table(outcome.record.faults))
        out.say("")
    out.show(phase_latency_table(phases), checks_table(judgement.checks))
    out.say("")
    load = judged.load
    p50, p99, most = (
        units.format_duration(load[f"late_us_{one}"]) for one in ("p50", "p99", "max")
    )
    out.say(
        f"load: {load['operations']} operations, begun {p50} late in the median, {p99} at 99 %,"
        f" {most} at most; {load['not_sent']} could not be sent in time"
    )
    for name, said in judgement.guards.items():
        if said:
            out.say(f"guard {name}: {said}")
    expected = "" if spec.expect == "valid" else f" (expected: {spec.expect})"
    out.say(f"verdict: {judgement.verdict.value}{expected} - {judgement.because}")
    out.say(f"reproduce: {repeat}")
    out.next_step(f"kvlab report {path} --open", f"kvlab replay {path}")


def _exit_code(judgement: Judgement, expect: str) -> int:
    if is_as_expected(judgement.verdict, expect):
        return 0
    if judgement.verdict is not Verdict.UNKNOWN:
        return InvalidError.exit_code
    doubtful = any(one.verdict is Verdict.UNKNOWN for one in judgement.checks)
    return UnknownError.exit_code if doubtful else VacuousError.exit_code


def environment() -> dict[str, str]:
    """Return what a verdict says of where it was found."""
    return {
        "kvlab": __version__,
        "python": platform.python_version(),
        "world": "real",
        "processors": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.2f}",
    }


# -- what is there to run -----------------------------------------------------------------------


def _show_plan(plan: Plan, repeat: str, *, as_json: bool) -> None:
    if as_json:
        out.show_json({"schema": 1, **plan.to_builtins()})
        return
    from kvlab.report.run import plan_table

    work = sum(map(len, plan.operations.values()))
    out.show(plan_table(plan))
    out.say("")
    out.say(
        f"{work} operations by {len(plan.operations)} clients; judged by {', '.join(plan.checks)}"
    )
    out.next_step(repeat)


def _list(*, as_json: bool) -> None:
    from kvlab.lab.run_faults import UNREAL
    from kvlab.report.run import scenarios_table

    rows = []
    for name, path in shipped().items():
        spec = read_scenario(name)
        unreal = any(fault.kind in UNREAL for fault in spec.faults)
        rows.append((name, spec.time_us, "sim" if unreal else "run, sim", about(path)))
    if as_json:
        listed = [
            {"name": name, "time_us": time_us, "runs": runs.split(", "), "about": said}
            for name, time_us, runs, said in rows
        ]
        out.show_json({"schema": 1, "scenarios": listed})
        return
    out.show(
        scenarios_table(
            [
                (name, units.format_duration(time_us), runs, said)
                for name, time_us, runs, said in rows
            ]
        )
    )
    out.next_step(f"kvlab run {rows[0][0]}", f"kvlab sim --scenario {rows[0][0]}")
