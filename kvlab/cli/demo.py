"""`kvlab demo`: the whole main job in half a minute. The sequence itself is `lab.demo`."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from kvlab.cli import out
from kvlab.cli.cluster import read_spec
from kvlab.cli.options import DEFAULT_FILE, File, Json

KEYS = 2000
FALLBACK = "name: demo\nnodes: 5\n"  # where there is no cluster.yaml


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo")(demo)


def demo(
    *,
    keys: Annotated[int, typer.Option(min=100, max=200_000, help="Keys to load.")] = KEYS,
    seed: Annotated[int | None, typer.Option(help="Repeat the choices of an earlier run.")] = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the history of all operations.")
    ] = None,
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Start, load, break, heal and inspect a cluster by itself.

    Brings up the nodes of cluster.yaml on free ports, loads keys, kills server2 under load and
    brings it back, cuts the network in two and heals it, adds a node, and checks that no
    acknowledged write was lost. Nothing is left running. Exit code 0 only if the verdict is valid.

    Examples:
      kvlab demo
      kvlab demo --keys 20000 --history demo.jsonl
      kvlab demo --json
    """
    from kvlab.lab.demo import Demo
    from kvlab.lab.load_loop import run_fresh
    from kvlab.lab.reap import find_processes
    from kvlab.rng import fresh_seed
    from kvlab.spec import parse_cluster

    if file == DEFAULT_FILE and not file.exists():
        out.progress(f"note: there is no {file} here; the demonstration takes five equal nodes")
        spec = parse_cluster(FALLBACK)
    else:
        spec = read_spec(file)
    chosen = fresh_seed() if seed is None else seed
    directory = Path(tempfile.mkdtemp(prefix="kvlab-demo-"))
    show = _Show(quiet=json)

    async def play() -> Any:
        run = Demo(
            spec,
            directory / "state",
            keys=keys,
            seed=chosen,
            report=show.step,
            history=history,
            folder=file.parent,
        )
        with run.log:
            return await run.run()

    try:
        outcome = run_fresh(play())
        left = find_processes(directory / "state")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    show.verdict(outcome, left=len(left), as_json=json)
    raise typer.Exit(_exit_code(outcome, left=len(left)))


class _Show:
    """Says each step in a line or a table as it happens; with `quiet` only the end is shown."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._began = time.monotonic()
        self._steps = 0

    def step(self, name: str, value: Any) -> None:
        """Show one step of the demonstration."""
        if not self._quiet:
            getattr(self, f"_{name}")(value)

    def _head(self, text: str) -> None:
        self._steps += 1
        out.say(f"\n[{time.monotonic() - self._began:4.1f} s] {self._steps}. {text}")

    def _start(self, value: dict[str, Any]) -> None:
        out.say(f"kvlab demo: {value['nodes']} real node processes on this machine, then trouble")

    def _up(self, status: dict[str, Any]) -> None:
        from kvlab.report.status import status_table

        self._head("The cluster is up: every node answers and sees all others.")
        out.show(status_table(status))

    def _loaded(self, result: Any) -> None:
        rate = result.answered * 1e6 / max(result.elapsed_us, 1)
        self._head(f"Loaded {result.answered:,} keys ({rate:,.0f}/s), each on three nodes.")

    def _ring(self, value: dict[str, Any]) -> None:
        from kvlab.cli.ring import held_ranges
        from kvlab.report.ring import ring_report, ring_table
        from kvlab.ring.cluster_map import ClusterMap

        cluster_map = ClusterMap.from_builtins(value["map"])
        out.show(ring_table(ring_report(cluster_map, held_ranges(value["held"]))))

    def _killed(self, proof: Any) -> None:
        self._head(f"Killed {proof.id} (pid {proof.pid}, SIGKILL) while clients read and write.")

    def _restarted(self, value: dict[str, Any]) -> None:
        from kvlab.units import format_duration

        refilled = format_duration(value["refilled_us"])
        back = f"{value['node']} is back as pid {value['proof'].pid}"
        if value["kept"]:
            out.say(
                f"{back} with the data on its disk; what it had missed was fetched in {refilled}"
            )
        else:
            out.say(
                f"{back}; the others refilled its memory in {refilled}, and only then it counts as"
                " a replica again"
            )

    def _split(self, value: dict[str, Any]) -> None:
        from kvlab.units import format_size

        sides = " | ".join(",".join(group) for group in value["groups"])
        self._head(f"Cut the network: {sides}")
        out.say(f"held back between the sides: {format_size(value['held_bytes'])}")

    def _healed(self, value: dict[str, Any]) -> None:
        from kvlab.units import format_duration

        out.say(
            f"healed; every node sees all others again after {format_duration(value['took_us'])}"
        )

    def _added(self, value: dict[str, Any]) -> None:
        from kvlab.report.moves import changes_table, merge_moves, moves_table

        self._head(f"Added {value['node']} while clients go on. What moved, against the minimum:")
        merged = merge_moves(value["moves"].values())
        joins = [one for one in merged["changes"] if one["change"] == "join"]
        changes = changes_table({"changes": joins}, held_keys=value["held_keys"])
        out.show(moves_table({"changes": joins}), changes)

    def _down(self, _value: dict[str, Any]) -> None:
        self._head("All keys were read back from all their replicas; the cluster is down.")

    def verdict(self, outcome: Any, *, left: int, as_json: bool) -> None:
        """Show what clients saw, what the checks say, and the verdict."""
        if as_json:
            out.show_json(_builtins(outcome, left=left))
            return
        from kvlab.report.demo import checks_table, phases_table

        out.say("")
        out.show(phases_table(outcome.phases), checks_table(outcome.checks))
        out.say("")
        if left:
            out.say(f"{left} processes were left behind; kvlab reap ends them")
        else:
            out.say("left running: nothing")
        out.say(f"took {time.monotonic() - self._began:.1f} s, seed {outcome.seed}")
        out.say(f"verdict: {outcome.verdict.value} - {outcome.because}")
        out.next_step("kvlab up", "kvlab demo --help")


def _builtins(outcome: Any, *, left: int) -> dict[str, Any]:
    from msgspec import to_builtins

    return {
        "schema": 1,
        "verdict": outcome.verdict.value,
        "because": outcome.because,
        "checks": {check.name: check.to_builtins() for check in outcome.checks},
        "guards": {"vacuous": outcome.vacuous, "left_processes": left},
        "phases": to_builtins(outcome.phases),
        "operations": outcome.operations,
        "acknowledged_writes": outcome.acknowledged,
        "seed": outcome.seed,
        "reproduce": f"kvlab demo --seed {outcome.seed} --keys {outcome.keys}",
    }


def _exit_code(outcome: Any, *, left: int) -> int:
    from kvlab.errors import InfraError, InvalidError, UnknownError, VacuousError

    if outcome.verdict.value == "invalid":
        return InvalidError.exit_code
    if outcome.vacuous:
        return VacuousError.exit_code
    if outcome.verdict.value == "unknown":
        return UnknownError.exit_code
    return InfraError.exit_code if left else 0
