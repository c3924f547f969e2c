"""ScenarioSpec -> the text of a scenario file, short enough to be read.

It checks nothing: what `parse_scenario` would refuse is written all the same, as it is.

Invariants:

1. Equal specs have the same text.
2. Name, seed and nodes are always there; else what is not said has its default.
3. An operation, a fault and a clock are never spread over lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

from kvlab.spec.cluster_file import VERSIONS
from kvlab.spec.scenario import (
    VERBS,
    FaultSpec,
    OperationSpec,
    PhaseSpec,
    ScenarioSpec,
    WorkloadSpec,
)
from kvlab.spec.scenario_items import is_word
from kvlab.units import format_bandwidth, format_duration, format_size

LINE_CHARS: Final = 100
"""Longer than this, clocks have a line each."""

_DEFAULT: Final = ScenarioSpec()
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_YAML_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""What YAML takes for something other than a text."""
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}

Show = Callable[[Any], str]
Pair = tuple[str, str]


def render_scenario(spec: ScenarioSpec, *, comment: str = "") -> str:
    """Print a scenario as a file that reads back to an equal one, below a comment if there is one."""
    return "\n".join([*_comment(comment), *_lines(spec)]) + "\n"


def _comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"# {''.join(char if char.isprintable() else ' ' for char in line)}".rstrip()


def _lines(spec: ScenarioSpec) -> Iterator[str]:
    yield f"version: {VERSIONS[0]}"
    yield f"name: {_text(spec.name)}"
    yield f"seed: {spec.seed}"
    yield f"nodes: {spec.nodes}"
    copies = (spec.copies, spec.r, spec.w)
    if copies != (_DEFAULT.copies, _DEFAULT.r, _DEFAULT.w):
        # All three: what r and w are for another n need not be known to read this.
        yield f"replication: {{n: {spec.copies}, r: {spec.r}, w: {spec.w}}}"
    if spec.ranges != _DEFAULT.ranges:
        yield f"ranges: {spec.ranges}"
    if spec.ns != _DEFAULT.ns:
        yield f"ns: {spec.ns}"
    if spec.sync != _DEFAULT.sync:
        yield f"sync: {spec.sync}"
    yield from (f"{key}: {text}" for key, text in _differing(spec, _DEFAULT, _DISK))
    network = _differing(spec, _DEFAULT, _NETWORK)
    if network:
        yield f"network: {_flow(network)}"
    yield from _clocks(spec.clocks)
    yield from (f"{key}: {text}" for key, text in _differing(spec, _DEFAULT, _TIMES))
    workload = _workload(spec.workload)
    if workload:
        yield f"workload: {_flow(workload)}"
    yield from _list("operations", map(_operation, spec.operations))
    yield from _list("phases", map(_phase, spec.phases))
    yield from _list("faults", map(_fault, spec.faults))
    guards = _differing(spec.guards, _DEFAULT.guards, _GUARDS)
    if guards:
        yield f"guards: {_flow(guards)}"
    if spec.checks:
        yield f"checks: [{', '.join(map(_text, spec.checks))}]"
    yield from (f"{key}: {text}" for key, text in _differing(spec, _DEFAULT, _EXPECT))
    if spec.folder:
        yield f"folder: {_text(spec.folder)}"
    if spec.cluster is not None:
        yield "cluster:"
        yield from (f"  {line}" for line in spec.cluster.to_yaml().splitlines())


def _list(key: str, items: Iterable[Iterable[Pair]]) -> Iterator[str]:
    lines = [f"  - {_flow(item)}" for item in items]
    yield from [f"{key}:", *lines] if lines else ()


def _phase(phase: PhaseSpec) -> Iterator[Pair]:
    yield "name", _text(phase.name)
    yield "for", _duration(phase.span_us)


def _clocks(clocks: dict[str, int]) -> Iterator[str]:
    # Shorter names first, so that server2 comes before server10.
    names = sorted(clocks, key=lambda name: (len(name), name))
    pairs = [(_text(name), _duration(clocks[name])) for name in names]
    line = f"clocks: {_flow(pairs)}"
    if pairs and len(line) <= LINE_CHARS:
        yield line
    elif pairs:
        yield "clocks:"
        yield from (f"  {name}: {offset}" for name, offset in pairs)


def _workload(workload: WorkloadSpec) -> list[Pair]:
    pairs = _differing(workload, _DEFAULT.workload, WORKLOAD_FIELDS)
    default = _DEFAULT.workload
    shares = {verb: getattr(workload, verb) for verb in VERBS}
    if shares != {verb: getattr(default, verb) for verb in VERBS}:
        mix = _flow((name, _number(share)) for name, share in shares.items() if share)
        pairs.append(("mix", mix))
    return pairs


def _operation(one: OperationSpec) -> Iterator[Pair]:
    yield "at", _duration(one.at_us)
    yield "client", _text(one.client)
    words, fields = [one.verb], list[Pair]()
    # The words of `do` have an order: behind a key that is no word there is no place for a value.
    for name, text in (("key", one.key), ("value", one.value)):
        if name == "value" and one.verb in ("get", "delete", "incr") and not text:
            continue
        if is_word(text) and not fields:
            words.append(text)
        else:
            fields.append((name, _text(text)))
    yield "do", _text(" ".join(words))
    yield from fields
    yield from _differing(one, _OPERATION_DEFAULT, _OPERATION)


def _fault(one: FaultSpec) -> Iterator[Pair]:
    yield "at", _duration(one.at_us)
    yield from _differing(one, _FAULT_DEFAULT, _FAULT_TIMES)
    yield "kind", _text(one.kind)
    yield from _differing(one, _FAULT_DEFAULT, _FAULT)


def _differing(spec: Any, default: Any, fields: Iterable[tuple[str, str, Show]]) -> list[Pair]:
    """Print the fields that are not as in `default`, each with the key that it has in the file."""
    return [
        (key, show(getattr(spec, name)))
        for key, name, show in fields
        if getattr(spec, name) != getattr(default, name)
    ]


def _flow(pairs: Iterable[Pair]) -> str:
    return f"{{{', '.join(f'{key}: {text}' for key, text in pairs)}}}"


def _text(text: str) -> str:
    """Print a text as it is where YAML reads it so, else in quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS:
        return text
    if text.isprintable() and not set(text) & {'"', "\\"}:
        return f'"{text}"'
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(char: str) -> str:
    if char in _ESCAPES or char.isprintable():
        return _ESCAPES.get(char, char)
    code = ord(char)
    return (
        f"\\x{code:02x}"
        if code <= 0xFF
        else f"\\u{code:04x}"
        if code <= 0xFFFF
        else f"\\U{code:08x}"
    )


def _number(value: float) -> str:
    """Print a number with all its digits and without an exponent."""
    return f"{Decimal(repr(value)):f}".removesuffix(".0")


def _duration(us: int) -> str:
    return format_duration(us, exact=True)


def _size(size_bytes: int) -> str:
    return format_size(size_bytes, exact=True)


def _bandwidth(bytes_per_s: int) -> str:
    return format_bandwidth(bytes_per_s, exact=True)


def _boolean(value: bool) -> str:
    return "true" if value else "false"


_NETWORK: Final = (("latency", "latency_us", _duration), ("jitter", "jitter_us", _duration))
_DISK: Final = (("fsync", "fsync_us", _duration), ("dead_after", "dead_after_us", _duration))
_TIMES: Final = (("time", "time_us", _duration), ("settle", "settle_us", _duration))
WORKLOAD_FIELDS: Final = (
    ("kind", "kind", _text),
    ("operations", "operations", str),
    ("clients", "clients", str),
    ("keys", "keys", str),
    ("for", "span_us", _duration),
    ("timeout", "timeout_us", _duration),
    ("value", "value_bytes", _size),
    ("level", "level", _text),
)
_OPERATION: Final = (
    ("expected", "expected", _text),
    ("node", "node", _text),
    ("level", "level", _text),
    ("meta", "meta", _boolean),
    ("again", "again", _boolean),
    ("timeout", "timeout_us", _duration),
)
_OPERATION_DEFAULT: Final = OperationSpec(at_us=0, client="", verb="", key="")
_FAULT_TIMES: Final = (
    ("for", "for_us", _duration),
    ("every", "every_us", _duration),
    ("times", "times", str),
    ("jitter", "vary_us", _duration),
)
_FAULT: Final = (
    ("targets", "targets", _text),
    ("groups", "groups", _text),
    ("shape", "shape", _text),
    ("from", "source", _text),
    ("to", "target", _text),
    ("cut", "cut", _boolean),
    ("mode", "mode", _text),
    ("connect", "connect", _text),
    ("latency", "latency_us", _duration),
    ("jitter", "jitter_us", _duration),
    ("bandwidth", "bandwidth_bps", _bandwidth),
    ("by", "by_us", _duration),
    ("cpu", "cpu", _number),
)
_GUARDS: Final = (
    ("phase_ok", "phase_ok", str),
    ("ok_share", "ok_share", _number),
    ("faults", "bite", _text),
)
_EXPECT: Final = (("expect", "expect", _text),)
_FAULT_DEFAULT: Final = FaultSpec(kind="", at_us=0)
