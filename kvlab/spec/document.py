"""YAML text -> a tree that knows its lines, or problems; with limits on everything.

It knows nothing of clusters: section.py asks the tree for values, and judges them.

Invariants:

1. A tree that is returned has one document, no anchors, no tags, no duplicate keys in its mappings,
   at most DEPTH_MAX levels and `nodes_max` nodes. Walking it recursively is safe.
2. No text makes this module raise.
3. A text is read once, in a time that grows as its length does, and not beyond the first limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from kvlab.errors import SpecError

TEXT_CHARS_MAX: Final = 64 * 1024
"""A hundred nodes with a line each are 10 kb; reading this many takes a third of a second."""
DEPTH_MAX: Final = 12
NODES_MAX: Final = 10_000
PROBLEMS_MAX: Final = 50
"""More problems than this help nobody; the rest is counted."""
SHOWN_CHARS_MAX: Final = 40
FAST_CHARS_MIN: Final = TEXT_CHARS_MAX + 1
"""From here on the parser in C reads, where it is there: ten times faster, in other words. Only of
characters that are no text it cannot say the line; then the other one reads again, and says it."""

_PLACEHOLDER = re.compile(r"\{[a-z_]+\}")
_NULL_TAG: Final = "tag:yaml.org,2002:null"
_TEXT_TAG: Final = "tag:yaml.org,2002:str"
_NULLS: Final = ("", "~", "null", "Null", "NULL")


@dataclass(slots=True)
class Problems:
    """Everything that is wrong with one file, collected while reading goes on."""

    source: str
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, sentence: str) -> None:
        """Note what is wrong on a line (from 1), and what to write instead."""
        self.found.append((line, sentence))

    def raise_if_any(self) -> None:
        """Raise one SpecError with all problems in the order of the file, if there are any."""
        if not self.found:
            return
        ordered = sorted(self.found, key=lambda problem: problem[0])
        lines = [f"{self.source}:{line}: {sentence}" for line, sentence in ordered[:PROBLEMS_MAX]]
        if len(ordered) > PROBLEMS_MAX:
            lines.append(f"{self.source}: and {len(ordered) - PROBLEMS_MAX} more problems")
        count = "1 problem" if len(ordered) == 1 else f"{len(ordered)} problems"
        error = SpecError(f"{self.source} has {count}", problems=tuple(lines))
        # A traceback, where nobody prints `problems`, shows them too.
        for problem in lines:
            error.add_note(problem)
        raise error


def compose(
    text: str,
    problems: Problems,
    *,
    chars_max: int = TEXT_CHARS_MAX,
    nodes_max: int = NODES_MAX,
) -> yaml.Node | None:
    """Return the tree of the one document in `text`, or None and at least one problem."""
    before = len(problems.found)
    _check_text(text, problems, chars_max)
    if len(problems.found) > before:
        return None
    root = None
    for loader in _loaders(text):
        try:
            root = _build(yaml.parse(text, Loader=loader), problems, nodes_max)
            break
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            # PyYAML lets ValueError and OverflowError of int() and chr() through on absurd escapes.
            if loader is yaml.SafeLoader or isinstance(error, yaml.MarkedYAMLError):
                problems.add(*_syntax_problem(text, error))
                return None
    if root is None:
        if len(problems.found) == before:
            problems.add(1, "the file is empty; write at least: nodes: 3")
        return None
    _drop_duplicate_keys(root, "", problems)
    return root


def line_of(node: yaml.Node) -> int:
    """Return the line, from 1, on which a node of the tree starts."""
    return _line(node.start_mark)


def is_null(node: yaml.Node) -> bool:
    """Say whether a node is an empty value, `null` or `~`."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL_TAG


def shown(node: yaml.Node) -> str:
    """Describe a value for a message, on one line and short."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "empty" if is_null(node) or not node.value else shown_text(node.value)


def shown_text(text: str) -> str:
    """Print a text as it is if that is clear, else quoted and escaped; cut when it is long."""
    cut = text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 3] + "..."
    plain = cut.isascii() and cut.isprintable() and cut.strip() == cut and cut
    return cut if plain and not set(cut) & set("'\"`;") else repr(cut)


def join(path: str, key: str) -> str:
    """Name a key inside what `path` names: nodes + count -> nodes.count."""
    return f"{path}.{key}" if path else key


def _check_text(text: str, problems: Problems, chars_max: int) -> None:
    if len(text) > chars_max:
        problems.add(1, f"the file is longer than {chars_max} characters; write less")
        return
    for number, line in enumerate(text.split("\n"), start=1):
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        if "\t" in indent and line.strip():
            problems.add(number, "the line is indented with a tab; write spaces")


def _loaders(text: str) -> tuple[Any, ...]:
    """Return the parsers to try, in this order."""
    fast = getattr(yaml, "CSafeLoader", None) if len(text) >= FAST_CHARS_MIN else None
    return (yaml.SafeLoader,) if fast is None else (fast, yaml.SafeLoader)


def _build(events: Iterable[Any], problems: Problems, nodes_max: int) -> yaml.Node | None:
    """Make the tree, and stop at what would be dear or is not allowed: then None and a problem."""
    root: yaml.Node | None = None
    open_nodes: list[yaml.CollectionNode] = []
    count = documents = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                sentence = "a second document starts here; write one file for each"
                problems.add(_line(event.start_mark), sentence)
                return None
        if isinstance(event, yaml.CollectionEndEvent):
            _close(open_nodes.pop())
        if not isinstance(event, yaml.NodeEvent):
            continue
        count += 1
        depth = len(open_nodes) + isinstance(event, yaml.CollectionStartEvent)
        refusal = _refusal(event, depth, count, nodes_max)
        if refusal:
            problems.add(_line(event.start_mark), refusal)
            return None
        node = _node_of(event)
        if open_nodes:
            open_nodes[-1].value.append(node)
        else:
            root = node
        if isinstance(node, yaml.CollectionNode):
            open_nodes.append(node)
    return root


def _refusal(event: Any, depth: int, count: int, nodes_max: int) -> str:
    """Say why a node is not wanted in the tree; "" if it is."""
    if event.anchor is not None:
        what = f"anchors and aliases (here {shown_text(event.anchor)}) are not used in this file"
        return f"{what}; write the value again, or quote it if & or * belong to it"
    if event.tag is not None:
        as_written = shown_text(event.tag.replace("tag:yaml.org,2002:", "!!"))
        return f"the tag {as_written} is not allowed; write the value alone"
    if depth > DEPTH_MAX:
        return f"more than {DEPTH_MAX} levels are nested here; write fewer"
    if count > nodes_max:
        return f"there are more than {nodes_max} values up to here; write fewer"
    return ""


def _node_of(event: Any) -> yaml.Node:
    """Return the node that an event begins; collections are filled later."""
    marks = (event.start_mark, event.end_mark)
    if isinstance(event, yaml.MappingStartEvent):
        return yaml.MappingNode("tag:yaml.org,2002:map", [], *marks)
    if isinstance(event, yaml.SequenceStartEvent):
        return yaml.SequenceNode("tag:yaml.org,2002:seq", [], *marks)
    # Only what is empty is told apart: everything else is judged by its text (section.py).
    empty = not event.style and event.value in _NULLS
    return yaml.ScalarNode(_NULL_TAG if empty else _TEXT_TAG, event.value, *marks)


def _close(node: yaml.CollectionNode) -> None:
    """Pair the keys and values of a mapping, which came one after the other."""
    if isinstance(node, yaml.MappingNode):
        node.value = list(zip(node.value[::2], node.value[1::2], strict=True))


def _syntax_problem(text: str, error: Exception) -> tuple[int, str]:
    """Turn the parser's complaint into a line and a sentence."""
    line, what = 1, "this is not YAML"
    if isinstance(error, yaml.MarkedYAMLError):
        line = _line(error.problem_mark or error.context_mark)
        what = " ".join(part for part in (error.context, error.problem) if part)
        what = f"this is not YAML: {' '.join(what.split())}"
    elif isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return line, f"character {error.character:#x} is not allowed in YAML; remove it"
    if _PLACEHOLDER.search("\n".join(text.splitlines()[line - 1 : line])):
        return line, f"{what}; put text with {{braces}} in quotes"
    return line, f"{what}; check indentation, colons, brackets and quotes here and just above"


def _line(mark: Any) -> int:
    """Return the line, from 1, of one of PyYAML's marks (two classes without a common base)."""
    return 1 if mark is None else int(mark.line) + 1


def _drop_duplicate_keys(node: yaml.Node, path: str, problems: Problems) -> None:
    """Report keys that are no words or given twice, and keep the first, all down the tree."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value, start=1):
            _drop_duplicate_keys(item, f"{path}[{index}]", problems)
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            problems.add(line_of(key), f"a key is {shown(key)}; write a plain word")
            continue
        if key.value in first:
            name, earlier = join(path, shown_text(key.value)), line_of(first[key.value][0])
            problems.add(line_of(key), f"{name} is given twice (first on line {earlier}); keep one")
            continue
        first[key.value] = (key, value)
        if isinstance(value, yaml.CollectionNode):
            _drop_duplicate_keys(value, join(path, shown_text(key.value)), problems)
    node.value = list(first.values())
