"""Runs kvlab's load generator once: `python -m kvbench.loadrun PLAN_AS_JSON [HISTORY_FILE]`.

It is the generator as `kvlab bench` runs it, without the tables: the CPU is that of the run alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from kvlab.lab.load import run_load
from kvlab.lab.load_history import HistoryLog
from kvlab.lab.load_loop import run_fresh
from kvlab.lab.load_plan import LoadPlan
from kvlab.report.latency import summarize


def main(argv: list[str]) -> None:
    """Run and print one line of JSON."""
    plan = msgspec.json.decode(argv[0], type=LoadPlan)
    log = HistoryLog(Path(argv[1])) if len(argv) > 1 else None
    try:
        result = run_fresh(run_load(plan, log=log))
    finally:
        if log is not None:
            log.close()
    seconds = result.elapsed_us / 1e6
    summary = summarize(result.service.values_us, result.service.counts)
    figures = {
        "ops": result.answered,
        "seconds": seconds,
        "errors": result.failed + result.missing,
        "p50_us": summary.p50_us,
        "cpu_s": result.generator_busy * seconds,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
