"""One mapping of a file, asked for typed values; what is wrong becomes a problem, never a raise.

It has no defaults of its own and knows no field: the callers (cluster_file.py) bring both.

Invariants:

1. A question about a key always gets a usable value: the default, when the file is silent or wrong.
   So reading goes on, and every problem is found in one pass.
2. Whenever a default stands in for something wrong, there is a problem that says so.
3. Values are judged by their text: `name: on` is the name "on", whatever YAML makes of it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Final

import yaml

from kvlab.spec.document import Problems, is_null, join, line_of, shown, shown_text
from kvlab.units import UnitError, format_duration, parse_duration

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,30})?")
_SIGNED = re.compile(r"\s*(?P<sign>[+-])(?P<size>[0-9.].*)")
_BOOLEANS: Final = {"true": True, "false": False}


class Section:
    """A mapping at `path` with the keys that it may have; `node` None stands for an absent one."""

    def __init__(
        self,
        problems: Problems,
        path: str,
        node: yaml.MappingNode | None,
        keys: Sequence[str],
        *,
        line: int,
    ) -> None:
        self.problems = problems
        self.path = path
        self.line = line
        self._values: dict[str, yaml.Node] = {}
        for key, value in node.value if node is not None else ():
            if key.value in keys:
                self._values[key.value] = value
            else:
                self._unknown_key(key, keys)

    def get(self, key: str) -> yaml.Node | None:
        """Return the value of a key as a node of the tree, or None if the file does not say."""
        return self._values.get(key)

    def line_of(self, key: str) -> int:
        """Return the line of a key's value, or that of the section if the file does not say."""
        node = self.get(key)
        return self.line if node is None else line_of(node)

    def wrong(self, key: str, advice: str, *, complaint: str = "") -> None:
        """Report the value of `key`: what it is, why that is wrong, what to write."""
        node = self.get(key)
        name, line = join(self.path, key), self.line_of(key)
        if node is None:
            self.problems.add(line, f"{name} is missing; {advice}")
        else:
            self.problems.add(line, f"{name} is {shown(node)}{complaint}; {advice}")

    def section(self, key: str, keys: Sequence[str], *, sample: str) -> Section:
        """Return the mapping at `key`; an absent or empty one has no values."""
        node = self.get(key)
        if node is not None and not is_null(node) and not isinstance(node, yaml.MappingNode):
            self.wrong(key, f"write keys and values, such as {key}: {sample}")
        mapping = node if isinstance(node, yaml.MappingNode) else None
        path = join(self.path, key)
        return Section(self.problems, path, mapping, keys, line=self.line_of(key))

    def text(self, key: str) -> str | None:
        """Return the text of a scalar, or None if the file does not say or says no text."""
        node = self.get(key)
        if isinstance(node, yaml.ScalarNode) and not is_null(node) and node.value:
            return str(node.value)
        return None

    def integer(self, key: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""
        if self.get(key) is None:
            return default
        text = self.text(key) or ""
        if _INTEGER.fullmatch(text) and low <= int(text) <= high:
            return int(text)
        self.wrong(key, f"write a whole number from {low} to {high}")
        return default

    def number(self, key: str, default: float, *, low: float, high: float) -> float:
        """Return a number from `low` to `high`."""
        if self.get(key) is None:
            return default
        text = self.text(key) or ""
        if _NUMBER.fullmatch(text) and low <= float(text) <= high:
            return float(text)
        self.wrong(key, f"write a number from {low:g} to {high:g}")
        return default

    def boolean(self, key: str, default: bool) -> bool:
        """Return true or false."""
        if self.get(key) is None:
            return default
        text = (self.text(key) or "").lower()
        if text not in _BOOLEANS:
            self.wrong(key, "write true or false")
        return _BOOLEANS.get(text, default)

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        """Return one of `choices`."""
        if self.get(key) is None:
            return default
        text = self.text(key) or ""
        if text in choices:
            return text
        self.wrong(key, f"write {either(choices)}")
        return default

    def duration(self, key: str, default_us: int, *, low_us: int, high_us: int) -> int:
        """Return a duration with a unit, in microseconds."""
        node = self.get(key)
        if node is None:
            return default_us
        value_us = self.read_duration(node, join(self.path, key), low_us=low_us, high_us=high_us)
        return default_us if value_us is None else value_us

    def read_duration(self, node: yaml.Node, name: str, *, low_us: int, high_us: int) -> int | None:
        """Return the duration in `node`, in microseconds, or None and a problem.

        Where the least is below zero, the text may have a sign.
        """
        if not isinstance(node, yaml.ScalarNode) or is_null(node):
            self.problems.add(
                line_of(node), f"{name} is {shown(node)}; {_duration_advice(low_us, high_us)}"
            )
            return None
        sign, size = _split_sign(node.value) if low_us < 0 else (1, node.value)
        try:
            value_us = sign * parse_duration(size)
        except UnitError as error:
            said = f"{name} is {shown(node)}, which {error.complaint}; {error.advice}"
            self.problems.add(line_of(node), said)
            return None
        if low_us <= value_us <= high_us:
            return value_us
        self.problems.add(
            line_of(node), f"{name} is {shown(node)}; {_duration_advice(low_us, high_us)}"
        )
        return None

    def quantity(self, key: str, default: int, parse: Callable[[str], int]) -> int:
        """Return what a `parse_` function of units.py makes of a text."""
        if self.get(key) is None:
            return default
        try:
            return parse(self.text(key) or "")
        except UnitError as error:
            self.wrong(key, error.advice, complaint=f", which {error.complaint}")
            return default

    def _unknown_key(self, key: yaml.ScalarNode, keys: Sequence[str]) -> None:
        near = difflib.get_close_matches(key.value.lower(), keys, n=1)
        advice = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(keys)}"
        name = join(self.path, shown_text(key.value))
        self.problems.add(line_of(key), f"{name} is not a key here; {advice}")


def either(choices: Sequence[str]) -> str:
    """Print choices as a, b or c."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def _duration_advice(low_us: int, high_us: int) -> str:
    low, high = format_duration(low_us, exact=True), format_duration(high_us, exact=True)
    return f"write a duration from {low} to {high}, such as {sample_duration(low_us)}"


def _split_sign(text: str) -> tuple[int, str]:
    """Return the sign of a text and the rest; a second sign stays, and is no number."""
    found = _SIGNED.fullmatch(text)
    if found is None:
        return 1, text
    return -1 if found["sign"] == "-" else 1, found["size"]


def sample_duration(low_us: int) -> str:
    """Return a duration above `low_us` that reads well in an example."""
    if low_us < 0:
        return "-80ms"
    samples = ("200ms", "5s", "1m")
    return next((text for text in samples if parse_duration(text) >= low_us), "1h")
