"""One run without I/O: a scenario becomes a plan, what happens becomes a record, a record a verdict.

It starts no node, sends nothing and reads no clock. A world that is simulated or real carries the
plan out and tells what came back; the same plan and judgement serve both.

    plan         scenario -> Plan: who does what when
    phases       what clients saw in each phase
    judgement    checks and guards -> Judgement
"""

from kvlab.experiment.judgement import (
    Judgement,
    Record,
    clock_error_us,
    guards_of,
    is_as_expected,
    judge,
    judge_history,
    judge_promise,
    with_weak_acknowledgements,
)
from kvlab.experiment.phases import PhaseCount, count_phases
from kvlab.experiment.plan import Plan, make_plan

__all__ = [
    "Judgement",
    "PhaseCount",
    "Plan",
    "Record",
    "clock_error_us",
    "count_phases",
    "guards_of",
    "is_as_expected",
    "judge",
    "judge_history",
    "judge_promise",
    "make_plan",
    "with_weak_acknowledgements",
]
