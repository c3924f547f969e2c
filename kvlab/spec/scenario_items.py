"""The lists of a scenario file, one mapping an item -> values; and its `operations`.

It does not know which nodes there are: it sees that a name could be one, `experiment` that it is.
Faults are scenario_faults.py's.

Invariant: nothing begins after the scenario's time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

import yaml

from kvlab.spec.cluster_nodes import NAME_ADVICE, SELECTORS, is_name
from kvlab.spec.document import is_null, join, line_of, shown
from kvlab.spec.scenario import LEVELS, SECOND_US, VERBS, OperationSpec
from kvlab.spec.section import Section
from kvlab.units import format_duration

OPERATIONS_MAX: Final = 20_000
TIME_US_MAX: Final = 24 * 3600 * SECOND_US
"""A day: the longest that a run, or anything in it, takes; and the most that a clock is off."""
TIMEOUT_US_MIN: Final = 1_000
TIMEOUT_US_MAX: Final = 3600 * SECOND_US
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
_Item = TypeVar("_Item")
_NUMBER = re.compile(r"-?\d{1,18}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CLIENT_ADVICE: Final = f"{NAME_ADVICE} c1"
_DO_ADVICE: Final = (
    'write "get k1", "set k1 v1", "delete k1", "cas k1 v2", "incr k1 1" or "append k1 v1", and a text'
    " with spaces or quotes as a field of its own, key: or value:"
)
_OPERATION: Final = OperationSpec(at_us=0, client="", verb="get", key="")
"""Where the readers below find the defaults of an operation."""


def is_word(text: str) -> bool:
    """Say whether a key or value can stand in `do`: one word, without quotes and backslashes."""
    return bool(text) and text.isprintable() and not set(text) & set(" \"'\\")


def is_node_name(text: str) -> bool:
    """Say whether a text can name one node."""
    return is_name(text) and text.lower() not in SELECTORS


def read_operations(file: Section, time_us: int) -> tuple[OperationSpec, ...]:
    """Read `operations`; with problems, return what was understood."""

    def read(section: Section) -> OperationSpec:
        return _operation(section, time_us)

    sample = '{at: 1ms, client: c1, do: "set k1 v1"}'
    return read_items(file, "operations", OPERATION_KEYS, OPERATIONS_MAX, sample, read)


def read_items(
    file: Section,
    key: str,
    keys: tuple[str, ...],
    count_max: int,
    sample: str,
    read: Callable[[Section], _Item],
) -> tuple[_Item, ...]:
    """Read the list at `key`; with problems, return what was understood."""
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
        at_us=read_at(section, time_us),
        client=read_text(section, "client", is_name, _CLIENT_ADVICE),
        verb=verb,
        key=key,
        value=value,
        expected=_expected(section, verb),
        node=read_text(section, "node", is_node_name, f"{NAME_ADVICE} server1"),
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


def read_at(section: Section, end_us: int, *, within: str = "time") -> int:
    """Read when something begins, at most at the end of what it happens within."""
    if section.get("at") is None:
        section.wrong("at", "write when it begins, such as 2s")
    at_us = section.duration("at", 0, low_us=0, high_us=TIME_US_MAX)
    if at_us > end_us:
        end = format_duration(end_us, exact=True)
        section.wrong(
            "at", f"write at most {end}, or a longer {within}", complaint=f", after {within}"
        )
    return at_us


def read_text(section: Section, key: str, is_right: Callable[[str], bool], advice: str) -> str:
    """Return a text, "" where the file is silent."""
    if section.get(key) is None:
        return ""
    text = section.text(key) or ""
    if not is_right(text):
        section.wrong(key, advice)
    return text
