"""The verb sim: run seeds of the simulated world and say what they came to.

It parses, calls kvlab.sim and prints. One seed is shown in full, many are added up.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvlab import units
from kvlab.check.verdict import Verdict
from kvlab.cli import out
from kvlab.cli.options import Json
from kvlab.cli.scenarios import read_scenario
from kvlab.cli.sim_many import environment, run_campaign
from kvlab.cli.sim_pool import Job, cores
from kvlab.errors import InvalidError, UnknownError, UsageError

if TYPE_CHECKING:
    from kvlab.sim.run import Outcome
    from kvlab.spec.scenario import ScenarioSpec

SEEDS = "1-100"
SEEDS_MAX = 10**9
EXIT_CODES = {
    Verdict.VALID: 0,
    Verdict.INVALID: InvalidError.exit_code,
    Verdict.UNKNOWN: UnknownError.exit_code,
}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("sim")(sim)


def sim(
    *,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Which seeds, as 1-1000.", show_default=SEEDS)
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="One seed, shown in full.")] = None,
    duration: Annotated[
        str | None, typer.Option("--time", help="Begin no more seeds after so long.")
    ] = None,
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", help="Processes.", show_default="one per core")
    ] = 0,
    scenario: Annotated[
        str | None,
        typer.Option(
            "--scenario", help="Run this file, or one of kvlab run --list, in place of drawn ones."
        ),
    ] = None,
    swarm: Annotated[
        bool, typer.Option("--swarm", help="Draw cluster, load and faults from the seed (default).")
    ] = False,
    nodes: Annotated[int, typer.Option("--nodes", help="Nodes, in place of a drawn number.")] = 0,
    operations: Annotated[
        int, typer.Option("--operations", help="Operations, in place of a drawn number.")
    ] = 0,
    mutant: Annotated[str, typer.Option("--mutant", help="Plant this bug into every node.")] = "",
    mutants: Annotated[bool, typer.Option("--mutants", help="List the bugs to plant.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Print every message of the run.")] = False,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Reduce a failing run to the least that fails.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--out", help="Write the files of the run into this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the nodes in a simulated world: thousands of seeds, repeatable.

    Clients, network, clocks and faults are simulated; the nodes are the real ones. The same seed gives
    the same history. Exit codes: 0 all valid, 1 something invalid, 3 something unknown.

    Examples:
      kvlab sim --seeds 1-1000                 a swarm of drawn scenarios
      kvlab sim --time 60s --jobs 2            as many seeds as a minute allows
      kvlab sim --seed 4711 --out run          one seed, with its files
      kvlab sim --seed 4711 --trace | less     message by message
      kvlab sim --seed 3 --mutant never-fenced --shrink
      kvlab sim --scenario run/spec.yaml       what was written, again
    """
    if mutants:
        _list_mutants(as_json=as_json)
        return
    if swarm and scenario is not None:
        raise UsageError("--swarm draws scenarios, --scenario reads one", hint="give one of them")
    if seed is not None and seeds is not None:
        raise UsageError("--seed and --seeds say two things", hint="give one of them")
    _check_counts(jobs, nodes, operations)
    read = read_scenario(scenario) if scenario is not None else None
    if read is not None and read.cluster is not None:
        raise UsageError(
            f"{scenario} runs on a cluster of its own, and only kvlab's own nodes can be simulated",
            hint="kvlab run, or leave cluster: out",
        )
    if read is not None and read.workload.kind == "cart":
        raise UsageError(
            "clients of the simulator do not decide by what they read, as those of a cart do",
            hint=f"kvlab run {scenario}",
        )
    job = Job(scenario=read, nodes=nodes, operations=operations, mutant=_known(mutant))
    single = seed is not None or (read is not None and seeds is None and duration is None)
    if not single:
        if trace or shrink or directory is not None:
            raise UsageError("--trace, --shrink and --out look at one run", hint="add --seed N")
        wanted: Iterable[int] = count(1) if duration and not seeds else _parse_seeds(seeds or SEEDS)
        until = time.monotonic() + _seconds(duration) if duration else math.inf
        file = scenario or ""
        verdict = run_campaign(
            job, wanted, jobs=jobs or cores(), until=until, file=file, as_json=as_json
        )
        raise typer.Exit(EXIT_CODES[verdict])
    spec = job.spec(seed if seed is not None else read.seed if read is not None else 1)
    repeat = job.repeat(spec.seed, scenario or "")
    if shrink:
        spec = _shrink(spec, job, directory or Path(f"sim-{spec.seed}"))
        repeat = f"kvlab sim --scenario {directory or f'sim-{spec.seed}'}/spec.yaml"
        repeat += f" --mutant {mutant}" if mutant else ""
    _one(spec, job, repeat, directory if not shrink else None, trace=trace, as_json=as_json)


# -- one run ------------------------------------------------------------------------------------


def _one(
    spec: ScenarioSpec,
    job: Job,
    repeat: str,
    directory: Path | None,
    *,
    trace: bool,
    as_json: bool,
) -> None:
    from kvlab.sim.run import run

    with _planted(job.mutant):
        outcome = _traced(spec) if trace else run(spec)
    document = outcome.judgement.to_builtins(
        seed=spec.seed, reproduce=repeat, environment=environment()
    )
    if directory is not None:
        _write(directory, outcome, document)
    if as_json:
        out.show_json(document)
    elif not trace:
        _show(outcome, repeat, directory)
    raise typer.Exit(EXIT_CODES[outcome.judgement.verdict])


def _traced(spec: ScenarioSpec) -> Outcome:
    from kvlab.report.lanes import lanes_lines
    from kvlab.sim.run import run
    from kvlab.sim.trace import Tracer

    tracer = Tracer()
    outcome = run(spec, trace=tracer)
    for line in lanes_lines(tracer.rows):
        out.say(line)
    if tracer.dropped:
        out.say(f"... and {tracer.dropped:,} more events")
    out.say(f"verdict: {outcome.judgement.verdict.value} - {outcome.judgement.because}")
    return outcome


def _show(outcome: Outcome, repeat: str, directory: Path | None) -> None:
    from kvlab.report.demo import checks_table
    from kvlab.report.sim import faults_table

    spec, judgement = outcome.spec, outcome.judgement
    work = sum(map(len, outcome.plan.operations.values()))
    out.say(
        f"{spec.name}: {spec.nodes} nodes, {spec.copies} copies (r {spec.r}, w {spec.w}),"
        f" {work} operations, {units.format_duration(outcome.sim_us)} simulated"
    )
    out.say("")
    if outcome.record.faults:
        out.show(faults_table(outcome.record.faults))
        out.say("")
    out.show(checks_table(judgement.checks))
    out.say("")
    for name, said in judgement.guards.items():
        if said:
            out.say(f"guard {name}: {said}")
    out.say(f"verdict: {judgement.verdict.value} - {judgement.because}")
    if directory is not None:
        out.next_step(f"kvlab sim --scenario {directory}/spec.yaml")
    elif judgement.verdict is Verdict.INVALID:
        hints = [f"{repeat} --trace"]
        if not outcome.spec.operations:  # those of a run that was made small are written out
            hints.insert(0, f"{repeat} --shrink")
        out.next_step(*hints)
    else:
        out.next_step(f"{repeat} --out DIR", "kvlab sim --seeds 1-1000")


def _write(directory: Path, outcome: Outcome, document: dict[str, Any]) -> None:
    from kvlab.report.junit import cases_of_run, junit_xml
    from kvlab.rundir import RunDir
    from kvlab.spec.scenario_file import render_scenario

    files, name = RunDir.create(directory), outcome.spec.name
    files.write(
        spec=render_scenario(outcome.spec),
        history=outcome.history,
        faults=outcome.record.faults,
        verdict=document,
    )
    files.write_junit(junit_xml(name, cases_of_run(name, document), took_us=outcome.sim_us))


def _shrink(spec: ScenarioSpec, job: Job, directory: Path) -> ScenarioSpec:
    from kvlab.sim.run import run
    from kvlab.sim.shrink import shrink

    with _planted(job.mutant):
        result = shrink(spec, progress=_shrink_progress)
        outcome = run(result.spec)
    document = outcome.judgement.to_builtins(
        seed=spec.seed,
        reproduce=f"kvlab sim --scenario {directory}/spec.yaml",
        environment=environment(),
    )
    _write(directory, outcome, document)
    before, after = result.before, result.after
    out.progress(
        f"{before.operations} operations and {before.faults} faults on {before.nodes} nodes became"
        f" {after.operations}, {after.faults} and {after.nodes} in {result.runs} runs;"
        f" written to {directory}/spec.yaml"
    )
    return result.spec


def _shrink_progress(what: str, now: int, runs: int) -> None:
    out.progress(f"{what}: {now} left after {runs} runs")


# -- arguments ----------------------------------------------------------------------------------


def _parse_seeds(text: str) -> range:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not 0 <= first <= last <= SEEDS_MAX:
        raise UsageError(f'"{text}" are no seeds', hint="write a range like 1-1000, or one number")
    return range(first, last + 1)


def _seconds(text: str) -> float:
    try:
        return units.parse_duration(text) / 1e6
    except units.UnitError as error:
        raise UsageError(f"--time: {error}") from None


def _check_counts(jobs: int, nodes: int, operations: int) -> None:
    for name, value, most in (
        ("--jobs", jobs, 256),
        ("--nodes", nodes, 50),
        ("--operations", operations, 100_000),
    ):
        if not 0 <= value <= most:
            raise UsageError(f"{name} is a number from 1 to {most}, not {value}")


def _known(name: str) -> str:
    if name:
        from kvlab.sim.mutants import mutant

        mutant(name)
    return name


def _planted(name: str) -> Any:
    if not name:
        return nullcontext()
    from kvlab.sim.mutants import planted

    return planted(name)


def _list_mutants(*, as_json: bool) -> None:
    from kvlab.report.sim import mutants_table
    from kvlab.sim.mutants import MUTANTS

    if as_json:
        listed = [
            {"name": one.name, "sin": one.sin, "caught_by": list(one.caught_by)}
            for one in MUTANTS.values()
        ]
        out.show_json({"schema": 1, "mutants": listed})
        return
    rows = [(one.name, one.sin, ", ".join(one.caught_by)) for one in MUTANTS.values()]
    out.show(mutants_table(rows))
    out.next_step(f"kvlab sim --mutant {rows[0][0]}")
