"""Judges a run on real processes by its files, and by what it saw itself."""

from __future__ import annotations

from dataclasses import dataclass

from kvlab.check.logs import check_logs
from kvlab.experiment import (
    Judgement,
    PhaseCount,
    Plan,
    Record,
    count_phases,
    guards_of,
    judge,
    judge_history,
)
from kvlab.experiment.lateness import latencies_of, lateness_of
from kvlab.history import decode_events
from kvlab.rundir import RunDir, blocks_of, history_path, lines_of


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run came to, what clients saw in each phase, and how late they asked."""

    judgement: Judgement
    phases: list[PhaseCount]
    load: dict[str, int]  # how many operations were due, and how late they were begun
    latencies_us: list[int]  # of what succeeded, from when it was due, the shortest first


def judge_run(plan: Plan, record: Record, healed_us: int, files: RunDir) -> Judged:
    """Run the checks of a plan. Raises SpecError if the history contradicts itself."""
    events = decode_events(b"".join(blocks_of(history_path(files.path))))
    logs = check_logs({name: lines_of(path) for name, path in files.logs().items()})
    checks = [*record.checks, logs, *judge_history(plan, events, healed_us=healed_us)]
    judgement = judge(checks, guards_of(plan, events, record))
    return Judged(
        judgement, count_phases(plan, events).phases, lateness_of(events), latencies_of(events)
    )
