"""The verb bench: drive load at a cluster or server and print what was measured.

It parses, calls kvlab.lab.load and prints; what is sent and measured is decided there.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from kvlab import units
from kvlab.cli import out
from kvlab.cli.access import PasswordFile, Tls, TlsCa, find_access
from kvlab.cli.options import DEFAULT_FILE, File, Json
from kvlab.errors import InfraError, UsageError
from kvlab.rng import fresh_seed
from kvlab.workload.mix import PRESETS, SCAN_NOTE, preset
from kvlab.workload.values import base36

if TYPE_CHECKING:
    from kvlab.lab.load_history import HistoryLog
    from kvlab.lab.load_plan import LoadPlan
    from kvlab.lab.load_result import LoadResult, Progress

T = TypeVar("T")
EXIT_INTERRUPTED = 130
DEFAULT_TIME = "10s"
WORKLOAD_HELP = "YCSB workload: " + ", ".join(f"{p.letter} {p.title}" for p in PRESETS.values())
LEVELS = ("available", "one", "quorum", "all", "atomic")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("bench")(bench)


def bench(
    *,
    workload: Annotated[
        str, typer.Option("--workload", help=f"{WORKLOAD_HELP}. In e {SCAN_NOTE}.")
    ] = "a",
    keys: Annotated[int, typer.Option("--keys", help="How many keys are loaded and used.")] = 1000,
    value_size: Annotated[str, typer.Option("--value-size", help="Size of a value.")] = "100b",
    distribution: Annotated[
        str | None,
        typer.Option(
            "--distribution",
            help="uniform, zipfian, latest or sequential.",
            show_default="the workload's own",
        ),
    ] = None,
    clients: Annotated[int, typer.Option("-c", "--clients", help="Connections.")] = 50,
    pipeline: Annotated[
        int, typer.Option("-P", "--pipeline", help="Requests in flight per connection.")
    ] = 1,
    processes: Annotated[int, typer.Option("--processes", help="Generator processes.")] = 1,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            help="Open loop: operations due per second, such as 5000/s, sent whether or not earlier"
            " ones were answered. Response times count from when each was due.",
            show_default="closed loop: as fast as answers come",
        ),
    ] = None,
    arrival: Annotated[
        str, typer.Option("--arrival", help="Open loop: poisson or constant arrivals.")
    ] = "poisson",
    time: Annotated[
        str | None, typer.Option("--time", help="How long to run.", show_default=DEFAULT_TIME)
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", help="Stop after this many requests.")
    ] = None,
    timeout: Annotated[str, typer.Option("--timeout", help="Longest wait for a reply.")] = "5s",
    level: Annotated[
        str | None,
        typer.Option("--level", help=", ".join(LEVELS) + ".", show_default="available"),
    ] = None,
    addr: Annotated[
        list[str] | None,
        typer.Option(
            "--addr",
            metavar="HOST:PORT",
            help="A server to load, ours or another that speaks the JSON lines; repeatable.",
            show_default="the running cluster of --file",
        ),
    ] = None,
    file: File = DEFAULT_FILE,
    load: Annotated[
        bool, typer.Option("--load/--no-load", help="Write every key once before the run.")
    ] = True,
    history: Annotated[
        Path | None,
        typer.Option(
            "--history", help="Record every request, preload and final reads, for a check."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Same seed, same requests.", show_default="drawn and printed"),
    ] = None,
    password_file: PasswordFile = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    json: Json = False,
) -> None:
    """Drive load at a cluster or server and measure it.

    Requests are spread over connections to all nodes. Latencies are exact to a microsecond; failed
    requests are counted by kind and are in no latency.

    \b
    Examples:
      kvlab bench
      kvlab bench --workload c -P 16 --time 5s
      kvlab bench --rate 5000/s --time 30s
      kvlab bench --addr 127.0.0.1:8081 --count 100000 --json
      kvlab bench --history run.jsonl --keys 100
    """  # noqa: D301 - click needs the character itself
    from kvlab.lab.load_plan import LoadPlan

    if count is None and time is None:
        time = DEFAULT_TIME
    if level is not None and level not in LEVELS:
        raise UsageError(f"--level {level} is not known", hint=f"write {', '.join(LEVELS)}")
    if history is not None and not load:
        raise UsageError(
            "--history needs the preload: what keys held before is not in the history",
            hint="leave out --no-load",
        )
    chosen_seed = fresh_seed() if seed is None else seed
    plan = LoadPlan(
        addresses=tuple(addr) if addr else _running(file),
        workload=preset(workload).letter,
        distribution=distribution,
        keys=keys,
        # Keys of its own: what an earlier run left under a name is not in this history.
        key_prefix="user" if history is None else f"h{base36(chosen_seed)}-",
        value_bytes=_parsed("--value-size", value_size, units.parse_size),
        clients=clients,
        pipeline=pipeline,
        processes=processes,
        rate=None if rate is None else _parsed("--rate", rate, units.parse_rate),
        arrival=arrival,  # type: ignore[arg-type]  # validate() refuses other texts
        time_us=None if time is None else _parsed("--time", time, units.parse_duration),
        count=count,
        timeout_us=_parsed("--timeout", timeout, units.parse_duration),
        level=level,
        seed=chosen_seed,
        access=find_access(bool(addr), file, password_file, tls, tls_ca),
    )
    plan.validate()
    _run(plan, preload=load, history=history, json=json)


def _run(plan: LoadPlan, *, preload: bool, history: Path | None, json: bool) -> None:
    from kvlab.lab.load_history import HistoryLog
    from kvlab.lab.load_loop import run_fresh

    log = None
    if history is not None:
        try:
            log = HistoryLog(history)
        except OSError as error:
            raise UsageError(f"cannot write {history}: {error.strerror}") from None
    try:
        result = run_fresh(_work(plan, preload=preload, log=log))
    finally:
        if log is not None:
            log.close()
    _print(plan, result, history, json=json)
    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


async def _work(plan: LoadPlan, *, preload: bool, log: HistoryLog | None) -> LoadResult:
    """Preload, run, and read at the end for a history; Ctrl-C ends each in order."""
    from kvlab.lab.load import load_keys, read_all, run_load
    from kvlab.lab.load_result import LoadResult

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    if preload:
        loaded = await _shown(
            f"load {plan.keys:,} keys",
            plan.keys,
            lambda hook: load_keys(
                plan.addresses,
                plan.keys,
                plan.value_bytes,
                key_prefix=plan.key_prefix,
                level=plan.level,
                seed=plan.seed,
                access=plan.access,
                timeout_us=plan.timeout_us,
                log=log,
                on_progress=hook,
                stop=stop,
            ),
        )
        if stop.is_set():
            return LoadResult(interrupted=True)
        if loaded.failed or loaded.answered < plan.keys:
            reasons = ", ".join(f"{count} {kind}" for kind, count in loaded.errors.items())
            raise InfraError(
                f"only {loaded.answered} of {plan.keys} keys could be loaded ({reasons})",
                hint="look at `kvlab status`, or go without: --no-load",
            )
    total = plan.count if plan.time_us is None else None
    result = await _shown(
        f"run workload {plan.workload}",
        total,
        lambda hook: run_load(plan, on_progress=hook, stop=stop, log=log),
        time_us=plan.time_us,
    )
    if log is not None and not stop.is_set():
        out.progress(f"read {len(log.keys):,} keys")
        await read_all(plan.addresses, log.keys, "quorum", access=plan.access, log=log, stop=stop)
    return result


async def _shown(
    title: str,
    total: int | None,
    work: Callable[[Callable[[Progress], None]], Awaitable[LoadResult]],
    *,
    time_us: int | None = None,
) -> LoadResult:
    """Run one step with a progress bar on a terminal, or one line on stderr in a pipe."""
    if not sys.stderr.isatty():
        out.progress(title)
        return await work(lambda _: None)
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    rate = TextColumn("{task.fields[rate]}")
    with Bar(*columns, rate, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=time_us or total, rate="")

        def hook(progress: Progress) -> None:
            per_second = progress.answered * 1_000_000 / max(progress.elapsed_us, 1)
            done = progress.elapsed_us if time_us else progress.answered
            failed = f", {progress.failed:,} errors" if progress.failed else ""
            bar.update(task, completed=done, rate=f"{per_second:,.0f}/s{failed}")

        return await work(hook)


def _print(plan: LoadPlan, result: LoadResult, history: Path | None, *, json: bool) -> None:
    from kvlab.report import bench as report

    if json:
        document = report.to_builtins(result)
        out.show_json({"workload": plan.workload, "seed": plan.seed, **document})
        return
    out.show(*report.tables(result, title(plan)))
    for note in result.notes:
        out.say(f"note: {note}")
    for warning in report.warnings(result):
        out.say(f"warning: {warning}")
    out.say(f"seed: {plan.seed}")
    if history is not None:
        out.say(f"history: {history}")
    out.next_step("kvlab status", "kvlab bench --help")


def title(plan: LoadPlan) -> str:
    """Return one line that says what was run."""
    chosen = preset(plan.workload)
    loop = "closed loop"
    if plan.rate is not None:
        loop = f"open loop, {plan.arrival} arrivals at {units.format_rate(plan.rate)}"
    parts = [
        f"workload {chosen.letter} ({chosen.title}: {chosen.mix.describe()})",
        plan.distribution or chosen.distribution,
        f"{plan.keys:,} keys of {units.format_size(plan.value_bytes)}",
        f"{plan.clients} connections x {plan.pipeline}",
        loop,
    ]
    if plan.processes > 1:
        parts.append(f"{plan.processes} generator processes")
    return ", ".join(parts)


def _running(file: Path) -> tuple[str, ...]:
    """Return `name=host:port` of every node of the running cluster. Raises NotRunningError."""
    from kvlab.lab.state import find_cluster

    running = find_cluster(file)
    if running.protocol != "json":
        node = next(iter(running.nodes.values()), None)
        where = f" -h {node.host} -p {node.port}" if node else ""
        raise UsageError(
            f"the servers of {running.name} speak RESP, and bench speaks JSON",
            hint=f"use a load generator of their own, such as: redis-benchmark{where}",
        )
    return tuple(f"{name}={node.host}:{node.port}" for name, node in running.nodes.items())


def _parsed(option: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except units.UnitError as error:
        raise UsageError(f"{option} {text!r} {error.complaint}", hint=error.advice) from None
