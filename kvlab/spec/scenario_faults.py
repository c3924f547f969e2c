"""The `faults` of a scenario file, those of its phases included: one mapping each -> FaultSpec.

It does not know which nodes there are: it sees that a name could be one, `experiment` that it is.

Invariants:

1. A fault has only what its kind can have (KEYS_OF_KIND), and all that it needs.
2. Nothing begins or ends after the scenario's time, nor after the phase in which it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from kvlab.spec.cluster_nodes import is_name
from kvlab.spec.scenario import FAULT_KINDS, SECOND_US, FaultSpec
from kvlab.spec.scenario_items import (
    TIME_US_MAX,
    is_node_name,
    read_at,
    read_items,
    read_text,
)
from kvlab.spec.section import Section, either
from kvlab.units import format_duration, parse_bandwidth

FAULTS_MAX: Final = 1_000
TIMES_MAX: Final = 1_000
LATENCY_US_MAX: Final = 3600 * SECOND_US
"""An hour: longer delays are a cut."""
EVERY_US_MIN: Final = 1_000
CPU_MIN: Final = 0.01
CPU_MAX: Final = 0.99
NESTING_MAX: Final = 8
"""Levels of not(...) in a selector."""
SELECTOR_CHARS_MAX: Final = 64_000
"""Longer texts are no selectors."""

MODES: Final = ("hold", "reset")
CONNECTS: Final = ("accept", "refuse", "hang")
SHAPES: Final = ("halves", "isolate", "minority", "bridge", "majorities-ring")
_WHEN: Final = ("at", "for", "every", "times")
_OFTEN: Final = (*_WHEN, "jitter", "kind")
KEYS_OF_KIND: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "kill": (*_OFTEN, "targets"),
        "power-cut": (*_OFTEN, "targets"),
        "stop": (*_OFTEN, "targets"),
        "wipe": (*_OFTEN, "targets"),
        "bit-flip": (*_OFTEN, "targets"),
        "disk-full": (*_OFTEN, "targets"),
        "sync-fail": (*_OFTEN, "targets"),
        "pause": (*_OFTEN, "targets"),
        "slow": (*_OFTEN, "targets", "cpu"),
        "partition": (*_OFTEN, "groups", "shape", "targets", "from", "to", "mode"),
        "link": (
            *(*_WHEN, "kind", "from", "to", "cut", "mode", "connect"),
            *("latency", "jitter", "bandwidth"),
        ),
        "reset": ("at", "every", "times", "jitter", "kind", "from", "to"),
        "skew": (*_OFTEN, "targets", "by"),
        "join": ("at", "kind", "targets"),
        "leave": ("at", "kind", "targets"),
    }
)
"""`jitter` is of the time at which a fault begins, but of a link it is that of the latency."""
FAULT_KEYS: Final = tuple(dict.fromkeys(key for keys in KEYS_OF_KIND.values() for key in keys))

_SELECTOR_TOKEN = re.compile(
    r"(?P<open>not\()|(?P<keyed>(?:owner|coordinator|replicas)\([^(),\s|]{1,128}\))"
    r"|(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)|(?P<other>[,)])|(?P<space>\s+)|(?P<bad>.)"
)
_SELECTOR_ADVICE: Final = (
    "write nodes, such as server1 or server1,server3,"
    " or one, minority, majority, all, each, not(server1), owner(k1) or replicas(k1)"
)
_GROUPS_ADVICE: Final = 'write groups with a bar between, such as "server1,server2 | server3"'
_NEEDED: Final = {
    "targets": _SELECTOR_ADVICE,
    "by": "write how far the clock steps, such as -80ms",
    "cpu": "write the share of a processor that is left, such as 0.2",
}
_FAULT: Final = FaultSpec(kind="", at_us=0)
"""Where the readers below find the defaults of a fault."""


def is_selector(text: str) -> bool:
    """Say whether a text can select nodes: names and words between commas, not(...) around."""
    if len(text) > SELECTOR_CHARS_MAX:
        return False
    depth, wants_term = 0, True
    for token in _SELECTOR_TOKEN.finditer(text):
        said = token[0]
        if token["space"]:
            continue
        if token["open"] or token["name"] or token["keyed"]:
            if not wants_term or (token["name"] and not is_name(said)):
                return False
            depth += bool(token["open"])
            wants_term = bool(token["open"])
        elif token["bad"] or wants_term:
            return False
        elif said == ",":
            wants_term = True
        else:
            depth -= 1
        if not 0 <= depth <= NESTING_MAX:
            return False
    return depth == 0 and not wants_term


def is_groups(text: str) -> bool:
    """Say whether a text can split nodes: names between commas, sides between bars, no name twice."""
    if len(text) > SELECTOR_CHARS_MAX:
        return False
    sides = [{name.strip() for name in side.split(",")} for side in text.split("|")]
    names = [name for side in sides for name in sorted(side)]
    return all(is_name(name) for name in names) and len(names) == len(set(names))


def read_faults(
    file: Section, end_us: int, *, phase_from_us: int | None = None
) -> tuple[FaultSpec, ...]:
    """Read `faults`; with problems, return what was understood.

    Those of a phase count from its beginning, last until its end where they do not say how long,
    and are returned with the times of the run.
    """

    def read(section: Section) -> FaultSpec:
        if phase_from_us is None:
            return _fault(section, end_us, within="time")
        return _of_phase(_fault(section, end_us, within="phase"), phase_from_us, end_us)

    sample = "{at: 2s, for: 1s, kind: kill, targets: server2}"
    return read_items(file, "faults", FAULT_KEYS, FAULTS_MAX, sample, read)


def _of_phase(fault: FaultSpec, from_us: int, span_us: int) -> FaultSpec:
    if not fault.kind:
        return fault
    if "for" in KEYS_OF_KIND[fault.kind] and not fault.for_us:
        fault = replace(fault, for_us=max(1, span_us - fault.at_us))
    times = fault.times_within(span_us) if fault.every_us else 0
    return replace(fault, at_us=from_us + fault.at_us, times=times)


def _fault(section: Section, end_us: int, *, within: str) -> FaultSpec:
    kind = section.text("kind") or ""
    if kind not in FAULT_KINDS:
        section.wrong("kind", f"write {either(FAULT_KINDS)}")
        return _FAULT
    before = len(section.problems.found)
    _check_keys(section, kind)
    at_us = read_at(section, end_us, within=within)
    if within == "phase" and at_us == end_us:
        section.wrong("at", "write an earlier time", complaint=", where the phase ends")
    jitter_us = section.duration("jitter", 0, low_us=0, high_us=LATENCY_US_MAX)
    fault = FaultSpec(
        kind=kind,
        at_us=at_us,
        for_us=_for(section, at_us, end_us, within),
        targets=_joiner(section) if kind == "join" else _selector(section, "targets"),
        groups=read_text(section, "groups", is_groups, _GROUPS_ADVICE),
        shape=section.choice("shape", _FAULT.shape, SHAPES),
        source=_selector(section, "from"),
        target=_selector(section, "to"),
        cut=section.boolean("cut", _FAULT.cut),
        mode=section.choice("mode", _FAULT.mode, MODES),
        connect=section.choice("connect", _FAULT.connect, CONNECTS),
        latency_us=section.duration("latency", _FAULT.latency_us, low_us=0, high_us=LATENCY_US_MAX),
        jitter_us=jitter_us if kind == "link" else 0,
        bandwidth_bps=section.quantity("bandwidth", _FAULT.bandwidth_bps, parse_bandwidth),
        by_us=section.duration("by", _FAULT.by_us, low_us=-TIME_US_MAX, high_us=TIME_US_MAX),
        cpu=section.number("cpu", _FAULT.cpu, low=CPU_MIN, high=CPU_MAX),
        every_us=section.duration("every", 0, low_us=EVERY_US_MIN, high_us=TIME_US_MAX),
        times=section.integer("times", _FAULT.times, low=1, high=TIMES_MAX),
        vary_us=0 if kind == "link" else jitter_us,
    )
    if len(section.problems.found) == before:
        _check_effect(section, fault)
        _check_repeats(section, fault, end_us, within)
    return fault


def _check_effect(section: Section, fault: FaultSpec) -> None:
    if fault.kind == "skew" and not fault.by_us:
        section.wrong("by", _NEEDED["by"])
    does = (fault.cut, fault.connect != _FAULT.connect, fault.latency_us, fault.jitter_us)
    if fault.kind == "link" and not any((*does, fault.bandwidth_bps)):
        said = f"{section.path} changes nothing; write what the link does, such as latency: 50ms"
        section.problems.add(section.line, said)
    if fault.kind == "partition":
        _check_partition(section, fault)


def _check_partition(section: Section, fault: FaultSpec) -> None:
    one_way = bool(fault.source or fault.target)
    if bool(fault.groups) + bool(fault.shape) + one_way != 1:
        said = f"write groups, or shape ({either(SHAPES)}), or from and to"
        section.problems.add(section.line, f"{section.path} splits nothing or twice; {said}")
    elif one_way and not (fault.source and fault.target):
        section.wrong("to" if fault.source else "from", _SELECTOR_ADVICE)
    if fault.targets and fault.shape != "isolate":
        section.wrong("targets", "leave it out, or write shape: isolate")


def _check_repeats(section: Section, fault: FaultSpec, end_us: int, within: str) -> None:
    if not fault.every_us:
        for key in ("times", "jitter"):
            if section.get(key) is not None and (key == "times" or fault.kind != "link"):
                section.wrong(key, "write every: too, such as every: 2s", complaint=" of one fault")
        return
    if "for" in KEYS_OF_KIND[fault.kind] and not fault.for_us:
        section.wrong("for", "write how long each time lasts, such as 500ms")
    elif fault.vary_us > fault.every_us:
        section.wrong("jitter", "write at most what every says")
    elif fault.times > (most := replace(fault, times=0).times_within(end_us)):
        section.wrong("times", f"write at most {most}, or a longer {within}")


def _check_keys(section: Section, kind: str) -> None:
    keys = KEYS_OF_KIND[kind]
    for key in FAULT_KEYS:
        if section.get(key) is not None and key not in keys:
            complaint = f", but {kind} has no {key}"
            section.wrong(key, f"leave it out (it has {', '.join(keys)})", complaint=complaint)
    for key, advice in _NEEDED.items():
        if section.get(key) is None and key in keys and kind != "partition":
            section.wrong(key, advice)


def _for(section: Section, at_us: int, end_us: int, within: str) -> int:
    for_us = section.duration("for", _FAULT.for_us, low_us=1, high_us=TIME_US_MAX)
    if at_us <= end_us < at_us + for_us:
        left = format_duration(end_us - at_us, exact=True)
        advice = (
            f"write at most {left}, or a longer {within}, or leave it out: until {within} is over"
        )
        section.wrong("for", advice, complaint=f", which ends after {within}")
    return for_us


def _selector(section: Section, key: str) -> str:
    return read_text(section, key, is_selector, _SELECTOR_ADVICE)


def _joiner(section: Section) -> str:
    return read_text(section, "targets", is_node_name, "write one new name, such as server6")
