"""The `phases`, `guards`, `checks` and the expectation of a scenario file -> values.

It judges nothing, and does not know which checks there are: `experiment` does.

Invariant: phases lie end to end, from 0 to the scenario's time.
"""

from __future__ import annotations

from typing import Final

import yaml

from kvlab.spec.cluster_nodes import NAME_ADVICE, is_name
from kvlab.spec.document import is_null, join, line_of, shown
from kvlab.spec.scenario import BITES, FaultSpec, GuardsSpec, PhaseSpec
from kvlab.spec.scenario_faults import read_faults
from kvlab.spec.scenario_items import TIME_US_MAX, read_items, read_text
from kvlab.spec.section import Section

PHASES_MAX: Final = 100
SPAN_US_MIN: Final = 1_000
PHASE_OK_MAX: Final = 1_000_000
CHECKS_MAX: Final = 50

_PHASE_KEYS: Final = ("name", "for", "faults")
_NAME_ADVICE: Final = f"{NAME_ADVICE} split"
_CHECKS_ADVICE: Final = "write names of kvlab check --list, such as [lost, sessions]"
_DEFAULT: Final = GuardsSpec()


def read_phases(file: Section) -> tuple[tuple[PhaseSpec, ...], tuple[FaultSpec, ...]]:
    """Read `phases`, and the faults in them with the times of the run."""
    faults: list[FaultSpec] = []
    begins_us = 0

    def read(section: Section) -> PhaseSpec:
        nonlocal begins_us
        before = len(section.problems.found)
        for key, advice in (("name", _NAME_ADVICE), ("for", "write how long it lasts: 5s")):
            if section.get(key) is None:
                section.wrong(key, advice)
        name = read_text(section, "name", is_name, _NAME_ADVICE)
        span_us = section.duration("for", SPAN_US_MIN, low_us=SPAN_US_MIN, high_us=TIME_US_MAX)
        end_us = span_us if len(section.problems.found) == before else TIME_US_MAX
        faults.extend(read_faults(section, end_us, phase_from_us=begins_us))
        begins_us += span_us
        return PhaseSpec(name=name, span_us=span_us)

    sample = "{name: calm, for: 2s}"
    phases = read_items(file, "phases", _PHASE_KEYS, PHASES_MAX, sample, read)
    if begins_us > TIME_US_MAX:
        file.wrong("phases", "write phases that are over within a day")
    return phases, tuple(faults)


def read_guards(file: Section) -> GuardsSpec:
    """Read `guards`."""
    guards = file.section("guards", ("phase_ok", "ok_share", "faults"), sample="{faults: all}")
    return GuardsSpec(
        phase_ok=guards.integer("phase_ok", _DEFAULT.phase_ok, low=0, high=PHASE_OK_MAX),
        ok_share=guards.number("ok_share", _DEFAULT.ok_share, low=0, high=1),
        bite=guards.choice("faults", _DEFAULT.bite, BITES),
    )


def read_checks(file: Section) -> tuple[str, ...]:
    """Read the names of `checks`, each once."""
    node = file.get("checks")
    if node is None or is_null(node):
        return ()
    if not isinstance(node, yaml.SequenceNode) or len(node.value) > CHECKS_MAX:
        file.wrong("checks", _CHECKS_ADVICE)
        return ()
    names = []
    for item in node.value:
        if isinstance(item, yaml.ScalarNode) and is_name(item.value):
            names.append(str(item.value))
        else:
            path = join(file.path, "checks")
            file.problems.add(line_of(item), f"{path} has {shown(item)}; {_CHECKS_ADVICE}")
    return tuple(dict.fromkeys(names))
