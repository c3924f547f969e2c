"""scripts/bench: measure kvlab beside its peers, at quiet times, and print one table."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from rich.console import Console

from kvbench import facts, show
from kvbench.bench import ROUNDS, Bench
from kvbench.clients import Clients
from kvbench.gate import FOREIGN_MAX, Gate
from kvbench.row_check import check
from kvbench.row_load import load
from kvbench.row_node import latency, node
from kvbench.row_quorum import quorum
from kvbench.row_ring import ring
from kvbench.row_shim import shim
from kvbench.row_start import start
from kvbench.row_store import store
from kvbench.stage import NotAvailable, Stage

ROWS: dict[str, tuple[Callable[[Bench], None], str]] = {
    "node": (node, "one node, JSON, beside redis and valkey: rates at 50 connections"),
    "latency": (latency, "the same: the median of one connection"),
    "quorum": (quorum, "writes held by 2 of 3 processes, beside redis SET + WAIT 1"),
    "store": (store, "what RESP, the disk, copies and the linear namespace cost; durable writes"),
    "start": (start, "a 3-node cluster from nothing, beside valkey, redis, etcd; 50 nodes"),
    "shim": (shim, "the link proxy beside haproxy and toxiproxy; the error of delays"),
    "ring": (ring, "lookups beside uhashring; evenness and movement beside theory"),
    "check": (check, "a million operations read and judged"),
    "load": (load, "the load generator beside redis-benchmark"),
}
EXIT_FAILED = 5
EXIT_INTERRUPTED = 130


def main() -> int:
    """Run the rows asked for; return the exit status."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else show.PLAIN_WIDTH)
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    with Stage() as stage:
        bench = Bench(
            stage=stage,
            gate=Gate(stage.pids, enabled=not options.quick),
            clients=Clients(stage),
            rounds=options.rounds or (1 if options.quick else ROUNDS),
            quick=options.quick,
            console=Console(stderr=True),
        )
        interrupted, failed = False, False
        try:
            for name in options.rows or list(ROWS):
                failed |= not _row(bench, name)
        except KeyboardInterrupt:
            interrupted = True
            bench.note("interrupted: the table is of what was measured until then")
    _close(bench, time.monotonic() - began)
    about = facts.collect() | {"client": bench.clients.neutral}
    show.print_all(console, bench.lines, about, bench.notes)
    if options.json:
        lines = [line.to_builtins() for line in bench.lines]
        document = {
            "facts": about,
            "quick": bench.quick,
            "rounds": bench.rounds,
            "lines": lines,
            "notes": bench.notes,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return EXIT_INTERRUPTED if interrupted else EXIT_FAILED if failed else 0


def _row(bench: Bench, name: str) -> bool:
    """Measure one row and end what it started; False when it failed, which a note explains."""
    bench.console.rule(name)
    try:
        ROWS[name][0](bench)
    except NotAvailable as missing:
        bench.note(f"{name} is left out: {missing}")
    except Exception as error:  # noqa: BLE001 - a row that breaks must not cost the others
        bench.note(f"{name} FAILED: {type(error).__name__}: {error}")
        return False
    finally:
        bench.stage.end_all()
    return True


def _close(bench: Bench, took_s: float) -> None:
    gate = bench.gate
    bench.note(
        f"took {took_s:.0f} s, {bench.rounds} rounds; waited {gate.waited_s:.0f} s for a quiet"
        f" machine, repeated {gate.repeats} runs"
    )
    if bench.quick:
        bench.note("--quick: no gate and runs of a blink: these are no measurements")
    elif gate.budget_s <= 0:
        bench.note(
            "the machine was never quiet for long: lines marked noisy had foreign load above"
            f" {FOREIGN_MAX:.0%} of a core"
        )


def _options() -> argparse.Namespace:
    rows = "\n".join(f"  {name:9}{text}" for name, (_, text) in ROWS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure kvlab beside its peers, at quiet times, interleaved.",
        epilog=f"rows:\n{rows}\n\nA peer that is not installed is left out, with a note.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="what to measure (default: all)")
    parser.add_argument("--rounds", type=int, help=f"rounds ({ROUNDS}, or 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="try it out: tiny runs, no gate")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON, too")
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; rows are {', '.join(ROWS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return options


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
