"""The lists of a scenario file: its `operations` and its `faults`, one mapping each -> values.

It does not know which nodes there are: it sees that a name could be one, `experiment` that it is.

Invariants:

1. A fault has only what its kind can have (KEYS_OF_KIND), and all that it needs.
2. Nothing begins or ends after the scenario's time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import yaml

from kvlab.spec.cluster_nodes import NAME_ADVICE, SELECTORS, is_name
from kvlab.spec.document import is_null, join, line_of, shown
from kvlab.spec.scenario import (
    FAULT_KINDS,
    LEVELS,
    SECOND_US,
    VERBS,
    FaultSpec,
    OperationSpec,
)
from kvlab.spec.section import Section, either
from kvlab.units import format_duration, parse_bandwidth

OPERATIONS_MAX: Final = 20_000
FAULTS_MAX: Final = 1_000
TIME_US_MAX: Final = 24 * 3600 * SECOND_US
"""A day: the longest that a run, or anything in it, takes; and the most that a clock is off."""
TIMEOUT_US_MIN: Final = 1_000
TIMEOUT_US_MAX: Final = 3600 * SECOND_US
LATENCY_US_MAX: Final = 3600 * SECOND_US
"""An hour: longer delays are a cut."""
NESTING_MAX: Final = 8
"""Levels of not(...) in a selector."""
SELECTOR_CHARS_MAX: Final = 64_000
"""Longer texts are no selectors."""

OPERATION_KEYS: Final = (
    *(
        "at",
        "client",
        "do",
        "key",
        "value",
        "expected",
        "node",
        "level",
        "meta",
        "again",
        "timeout",
    ),
)
MODES: Final = ("hold", "reset")
CONNECTS: Final = ("accept", "refuse", "hang")
KEYS_OF_KIND: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "kill": ("at", "for", "kind", "targets"),
        "power-cut": ("at", "for", "kind", "targets"),
        "wipe": ("at", "for", "kind", "targets"),
        "bit-flip": ("at", "for", "kind", "targets"),
        "disk-full": ("at", "for", "kind", "targets"),
        "sync-fail": ("at", "for", "kind", "targets"),
        "pause": ("at", "for", "kind", "targets"),
        "partition": ("at", "for", "kind", "groups", "mode"),
        "link": (
            *("at", "for", "kind", "from", "to", "cut", "mode", "connect"),
            *("latency", "jitter", "bandwidth"),
        ),
        "reset": ("at", "kind", "from", "to"),
        "skew": ("at", "for", "kind", "targets", "by"),
        "join": ("at", "kind", "targets"),
        "leave": ("at", "kind", "targets"),
    }
)
FAULT_KEYS: Final = tuple(dict.fromkeys(key for keys in KEYS_OF_KIND.values() for key in keys))

_Item = TypeVar("_Item")
_NUMBER = re.compile(r"-?\d{1,18}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SELECTOR_TOKEN = re.compile(
    r"(?P<open>not\()|(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)|(?P<other>[,)])|(?P<space>\s+)|(?P<bad>.)"
)
_SELECTOR_ADVICE: Final = (
    "write nodes, such as server1 or server1,server3,"
    " or one, minority, majority, all or not(server1)"
)
_GROUPS_ADVICE: Final = 'write groups with a bar between, such as "server1,server2 | server3"'
_CLIENT_ADVICE: Final = f"{NAME_ADVICE} c1"
_DO_ADVICE: Final = (
    'write "get k1", "set k1 v1", "delete k1", "cas k1 v2", "incr k1 1" or "append k1 v1", and a text'
    " with spaces or quotes as a field of its own, key: or value:"
)
_NEEDED: Final = {
    "targets": _SELECTOR_ADVICE,
    "groups": _GROUPS_ADVICE,
    "by": "write how far the clock steps, such as -80ms",
}
_OPERATION: Final = OperationSpec(at_us=0, client="", verb="get", key="")
_FAULT: Final = FaultSpec(kind="", at_us=0)
"""Where the readers below find the defaults of an operation and of a fault."""


def is_word(text: str) -> bool:
    """Say whether a key or value can stand in `do`: one word, without quotes and backslashes."""
    return bool(text) and text.isprintable() and not set(text) & set(" \"'\\")


def is_selector(text: str) -> bool:
    """Say whether a text can select nodes: names and words between commas, not(...) around."""
    if len(text) > SELECTOR_CHARS_MAX:
        return False
    depth, wants_term = 0, True
    for token in _SELECTOR_TOKEN.finditer(text):
        said = token[0]
        if token["space"]:
            continue
        if token["open"] or token["name"]:
            if not wants_term or not (token["open"] or is_name(said)):
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


def is_node_name(text: str) -> bool:
    """Say whether a text can name one node."""
    return is_name(text) and text.lower() not in SELECTORS


def read_operations(file: Section, time_us: int) -> tuple[OperationSpec, ...]:
    """Read `operations`; with problems, return what was understood."""

    def read(section: Section) -> OperationSpec:
        return _operation(section, time_us)

    sample = '{at: 1ms, client: c1, do: "set k1 v1"}'
    return _items(file, "operations", OPERATION_KEYS, OPERATIONS_MAX, sample, read)


def read_faults(file: Section, time_us: int) -> tuple[FaultSpec, ...]:
    """Read `faults`; with problems, return what was understood."""

    def read(section: Section) -> FaultSpec:
        return _fault(section, time_us)

    sample = "{at: 2s, for: 1s, kind: kill, targets: server2}"
    return _items(file, "faults", FAULT_KEYS, FAULTS_MAX, sample, read)


def _items(
    file: Section,
    key: str,
    keys: tuple[str, ...],
    count_max: int,
    sample: str,
    read: Callable[[Section], _Item],
) -> tuple[_Item, ...]:
    node = file.get(key)
    if node is None or is_null(node):
        return ()
    if not isinstance(node, yaml.SequenceNode):
        file.wrong(key, f"write a list, each line of it such as - {sample}")
        return ()
    if len(node.value) > count_max:
        file.wrong(key, f"write at most {count_max}", complaint=f" of {len(node.value)}")
        return ()
    found = []
    for index, item in enumerate(node.value, start=1):
        path, line = f"{join(file.path, key)}[{index}]", line_of(item)
        if isinstance(item, yaml.MappingNode):
            found.append(read(Section(file.problems, path, item, keys, line=line)))
        else:
            file.problems.add(line, f"{path} is {shown(item)}; write {sample}")
    return tuple(found)


# -- operations ---------------------------------------------------------------------------------


def _operation(section: Section, time_us: int) -> OperationSpec:
    verb, key, value = _do(section)
    if section.get("client") is None:
        section.wrong("client", _CLIENT_ADVICE)
    return OperationSpec(
        at_us=_at(section, time_us),
        client=_text(section, "client", is_name, _CLIENT_ADVICE),
        verb=verb,
        key=key,
        value=value,
        expected=_expected(section, verb),
        node=_text(section, "node", is_node_name, f"{NAME_ADVICE} server1"),
        level=section.choice("level", _OPERATION.level, [level for level in LEVELS if level]),
        meta=section.boolean("meta", _OPERATION.meta),
        again=section.boolean("again", _OPERATION.again),
        timeout_us=section.duration(
            "timeout", _OPERATION.timeout_us, low_us=TIMEOUT_US_MIN, high_us=TIMEOUT_US_MAX
        ),
    )


def _do(section: Section) -> tuple[str, str, str]:
    """Read verb, key and value: all in `do`, or key and value as fields of their own."""
    words = (section.text("do") or "").split()
    verb = words[0].lower() if words else ""
    length_max = 2 if verb in ("get", "delete") else 3
    if verb not in VERBS or len(words) > length_max or not all(is_word(word) for word in words):
        section.wrong("do", _DO_ADVICE)
        return _OPERATION.verb, _OPERATION.key, _OPERATION.value
    key = _word_or_field(section, "key", words[1:2])
    if verb == "incr" and not words[2:] and section.get("value") is None:
        return verb, key, _OPERATION.value
    if verb not in ("get", "delete"):
        value = _word_or_field(section, "value", words[2:])
        if verb == "incr" and not _NUMBER.fullmatch(value):
            section.wrong("do", 'write a whole number, such as "incr k1 2"')
        return verb, key, value
    if section.get("value") is not None:
        section.wrong("value", "leave it out", complaint=f", but a {verb} has no value")
    return verb, key, _OPERATION.value


def _expected(section: Section, verb: str) -> str:
    node = section.get("expected")
    if node is None:
        return _OPERATION.expected
    if verb != "cas" and verb in VERBS:
        section.wrong("expected", "leave it out", complaint=f", but a {verb} expects nothing")
    if not isinstance(node, yaml.ScalarNode) or _SURROGATE.search(node.value):
        section.wrong("expected", "write a text, with quotes around it")
        return ""
    return str(node.value)


def _word_or_field(section: Section, key: str, words: list[str]) -> str:
    """Return the text that `do` or the field gives; one of them, not both."""
    node = section.get(key)
    if node is None:
        if not words:
            section.wrong(key, f"write it in do, or as {key}: with quotes around it")
        return "".join(words)
    if words:
        section.wrong(key, "keep one of the two", complaint=f", but do gives a {key} too")
    if not isinstance(node, yaml.ScalarNode):
        section.wrong(key, "write a text, with quotes around it")
        return ""
    if _SURROGATE.search(node.value):
        section.wrong(key, "write whole characters", complaint=", half of a surrogate pair in it")
    return str(node.value)


# -- faults -------------------------------------------------------------------------------------


def _fault(section: Section, time_us: int) -> FaultSpec:
    kind = section.text("kind") or ""
    if kind not in FAULT_KINDS:
        section.wrong("kind", f"write {either(FAULT_KINDS)}")
        return _FAULT
    before = len(section.problems.found)
    _check_keys(section, kind)
    at_us = _at(section, time_us)
    fault = FaultSpec(
        kind=kind,
        at_us=at_us,
        for_us=_for(section, at_us, time_us),
        targets=_joiner(section) if kind == "join" else _selector(section, "targets"),
        groups=_text(section, "groups", is_groups, _GROUPS_ADVICE),
        source=_selector(section, "from"),
        target=_selector(section, "to"),
        cut=section.boolean("cut", _FAULT.cut),
        mode=section.choice("mode", _FAULT.mode, MODES),
        connect=section.choice("connect", _FAULT.connect, CONNECTS),
        latency_us=section.duration("latency", _FAULT.latency_us, low_us=0, high_us=LATENCY_US_MAX),
        jitter_us=section.duration("jitter", _FAULT.jitter_us, low_us=0, high_us=LATENCY_US_MAX),
        bandwidth_bps=section.quantity("bandwidth", _FAULT.bandwidth_bps, parse_bandwidth),
        by_us=section.duration("by", _FAULT.by_us, low_us=-TIME_US_MAX, high_us=TIME_US_MAX),
    )
    if len(section.problems.found) == before:
        _check_effect(section, fault)
    return fault


def _check_effect(section: Section, fault: FaultSpec) -> None:
    if fault.kind == "skew" and not fault.by_us:
        section.wrong("by", _NEEDED["by"])
    does = (fault.cut, fault.connect != _FAULT.connect, fault.latency_us, fault.jitter_us)
    if fault.kind == "link" and not any((*does, fault.bandwidth_bps)):
        said = f"{section.path} changes nothing; write what the link does, such as latency: 50ms"
        section.problems.add(section.line, said)


def _check_keys(section: Section, kind: str) -> None:
    keys = KEYS_OF_KIND[kind]
    for key in FAULT_KEYS:
        if section.get(key) is not None and key not in keys:
            complaint = f", but {kind} has no {key}"
            section.wrong(key, f"leave it out (it has {', '.join(keys)})", complaint=complaint)
    for key, advice in _NEEDED.items():
        if section.get(key) is None and key in keys:
            section.wrong(key, advice)


def _at(section: Section, time_us: int) -> int:
    if section.get("at") is None:
        section.wrong("at", "write when it begins, such as 2s")
    at_us = section.duration("at", 0, low_us=0, high_us=TIME_US_MAX)
    if at_us > time_us:
        time = format_duration(time_us, exact=True)
        section.wrong("at", f"write at most {time}, or a longer time", complaint=", after time")
    return at_us


def _for(section: Section, at_us: int, time_us: int) -> int:
    for_us = section.duration("for", _FAULT.for_us, low_us=1, high_us=TIME_US_MAX)
    if at_us <= time_us < at_us + for_us:
        left = format_duration(time_us - at_us, exact=True)
        advice = f"write at most {left}, or a longer time, or leave it out: until time is over"
        section.wrong("for", advice, complaint=", which ends after time")
    return for_us


def _selector(section: Section, key: str) -> str:
    return _text(section, key, is_selector, _SELECTOR_ADVICE)


def _joiner(section: Section) -> str:
    return _text(section, "targets", is_node_name, "write one new name, such as server6")


def _text(section: Section, key: str, is_right: Callable[[str], bool], advice: str) -> str:
    """Return a text, "" where the file is silent."""
    if section.get(key) is None:
        return ""
    text = section.text(key) or ""
    if not is_right(text):
        section.wrong(key, advice)
    return text
