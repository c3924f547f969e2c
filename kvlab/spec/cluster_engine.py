"""The `engine` of cluster.yaml -> EngineSpec: kvlab's own node, or a command for any server.

It starts nothing and looks for no program: whether there is one is found out where it would run.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Final, cast

import yaml

from kvlab.spec.cluster import EngineSpec, NodeSpec, Probe, Protocol
from kvlab.spec.document import is_null, join, line_of, shown, shown_text
from kvlab.spec.section import Section, either
from kvlab.spec.template import PLACEHOLDERS, SOCKET, placeholders_of

PROTOCOLS: Final = ("json", "resp")
PROBES: Final = ("get", "ping", "connect")
QUESTIONS: Final = ("STATUS", "LEAVE", "CAS", "INCR", "APPEND")
ENV_COUNT_MAX: Final = 100
ENV_RESERVED: Final = "KVLAB_"
"""Marks of a cluster's processes begin so."""

_KEYS: Final = ("command", "join", "protocol", "probe", "knows", "env")
_SAMPLE: Final = '"./server --listen {host}:{port} --peers {peers}"'
_ADVICE: Final = f"write kvlab, or the command of a server of your own: {{command: {_SAMPLE}}}"
_WORDS_ADVICE: Final = f"write a command, such as {_SAMPLE}, or a list of words"
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PORT_WORDS: Final = ("port", SOCKET)
_DEFAULT: Final = EngineSpec()


def read_engine(file: Section, nodes: Sequence[NodeSpec]) -> EngineSpec:
    """Read `engine`; `nodes` tell whether the servers must be told their ports."""
    node = file.get("engine")
    if node is None:
        return _DEFAULT
    if not isinstance(node, yaml.MappingNode):
        if file.text("engine") != _DEFAULT.name:
            file.wrong("engine", _ADVICE)
        return _DEFAULT
    section = file.section("engine", _KEYS, sample=f"{{command: {_SAMPLE}}}")
    if section.get("command") is None:
        section.wrong("command", _WORDS_ADVICE)
    command, joining = _words(section, "command"), _words(section, "join")
    env = _env(section)
    told = [name for _, value in env for name in placeholders_of(value)]
    if command and any(not one.port for one in nodes):
        _check_port(section, "command", command, told)
    if joining:
        _check_port(section, "join", joining, told)
    protocol = cast("Protocol", section.choice("protocol", _DEFAULT.protocol, PROTOCOLS))
    usual = "ping" if protocol == "resp" else "get"
    return EngineSpec(
        command=command,
        join=joining,
        protocol=protocol,
        probe=cast("Probe", section.choice("probe", usual, PROBES)),
        knows=_knows(section, protocol),
        env=env,
    )


def _words(section: Section, key: str) -> tuple[str, ...]:
    """Read a command: a text, split as a shell would, or a list of words."""
    node = section.get(key)
    if node is None:
        return ()
    if isinstance(node, yaml.SequenceNode):
        words = _listed(section, key, node)
    else:
        try:
            words = shlex.split(section.text(key) or "")
        except ValueError as error:
            complaint = f", where a quote or a backslash has no end ({error})".lower()
            section.wrong(key, "close it, or write a list of words", complaint=complaint)
            return ()
    if not words or not words[0]:
        section.wrong(key, _WORDS_ADVICE)
        return ()
    _check_words(section, key, words, PLACEHOLDERS)
    return tuple(words)


def _listed(section: Section, key: str, node: yaml.SequenceNode) -> list[str]:
    words = []
    for index, item in enumerate(node.value, start=1):
        if isinstance(item, yaml.ScalarNode) and not is_null(item):
            words.append(item.value)
            continue
        said = f"{join(section.path, key)}[{index}] is {shown(item)}"
        section.problems.add(line_of(item), f"{said}; write a word, in quotes if it has braces")
        words.append("?")
    return words


def _check_words(section: Section, key: str, words: Iterable[str], known: Iterable[str]) -> None:
    """Report placeholders that are none, and what no program can be given."""
    name, line, names = join(section.path, key), section.line_of(key), list(known)
    for word in words:
        if "\0" in word:
            said = f"{name} has a NUL character"
            section.problems.add(line, f"{said}; no program can be given one, take it out")
        for found in placeholders_of(word):
            if found in names:
                continue
            near = difflib.get_close_matches(found, names, n=1)
            there = ", ".join(f"{{{one}}}" for one in names)
            advice = f"did you mean {{{near[0]}}}?" if near else f"there are {there}"
            said = f"{name} has {{{found}}}, which is no placeholder"
            section.problems.add(line, f"{said}; {advice} (for braces themselves: {{{{{found}}}}})")


def _check_port(section: Section, key: str, words: Sequence[str], told: Sequence[str]) -> None:
    names = [*told, *(name for word in words for name in placeholders_of(word))]
    if not any(name in _PORT_WORDS for name in names):
        section.wrong(
            key,
            "write {host}:{port} where it takes its address",
            complaint=", which does not tell the server its port",
        )


def _knows(section: Section, protocol: Protocol) -> tuple[str, ...]:
    node = section.get("knows")
    if node is None:
        return _DEFAULT.knows
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    found = []
    for item in items:
        word = item.value.upper() if isinstance(item, yaml.ScalarNode) else ""
        if word in QUESTIONS:
            found.append(word)
        else:
            said = f"{join(section.path, 'knows')} has {shown(item)}"
            section.problems.add(line_of(item), f"{said}; write {either(QUESTIONS)}")
    if found and protocol != "json":
        section.wrong("knows", "leave it out", complaint=", but these are questions in JSON")
    return tuple(one for one in QUESTIONS if one in found)


def _env(section: Section) -> tuple[tuple[str, str], ...]:
    node = section.get("env")
    if node is None or is_null(node):
        return ()
    if not isinstance(node, yaml.MappingNode):
        section.wrong("env", "write names and values, such as env: {LOG_LEVEL: debug}")
        return ()
    found = []
    for key, value in node.value[:ENV_COUNT_MAX]:
        name = join(section.path, f"env.{shown_text(key.value)}")
        if not _ENV_NAME.fullmatch(key.value) or key.value.startswith(ENV_RESERVED):
            advice = f"write letters, digits and _, and not {ENV_RESERVED} in front"
            section.problems.add(line_of(key), f"{name} cannot name a variable; {advice}")
        elif not isinstance(value, yaml.ScalarNode):
            section.problems.add(line_of(value), f"{name} is {shown(value)}; write a text")
        else:
            found.append((key.value, "" if is_null(value) else value.value))
    if len(node.value) > ENV_COUNT_MAX:
        said = f" of {len(node.value)} variables"
        section.wrong("env", f"write at most {ENV_COUNT_MAX}", complaint=said)
    known = [name for name in PLACEHOLDERS if name != SOCKET]
    _check_words(section, "env", [value for _, value in found], known)
    return tuple(found)
