"""Selectors: the words by which a fault names its targets.

It does not know which nodes run or own a key; it picks from the ids it is given.

    server2               the node of that id
    server1,server3       several, any mix of terms
    one                   any one node, drawn
    minority              the largest group smaller than half, drawn (2 of 5, 1 of 4)
    majority              the smallest group larger than half, drawn (3 of 5, 3 of 4)
    all                   every node
    not(X)                every node that X does not select
    each                  one node after the other: of a fault that happens again and again
    replicas(key)         the nodes that keep a key
    owner(key)            the first of these; coordinator(key), who decides on the key in the linear
                          namespace, is the same

The last four are for scenarios alone. The words win over a node of the same id. Invariant: a result
has at least one node, no node twice, and keeps the order of `nodes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvlab.errors import UsageError
from kvlab.rng import Rng

WORDS = ("one", "minority", "majority", "all")
SELECTOR_CHARS_MAX = 64_000
"""Longer texts are no selectors: 1000 ids of 63 characters fit."""
NESTING_MAX = 8
"""Levels of not(...): more than two are already a riddle."""
_KEYED = re.compile(r"(owner|coordinator|replicas)\((.+)\)")


@dataclass(frozen=True, slots=True)
class Scene:
    """What only a scenario knows: the how-manieth time it is, and who keeps a key, first one first."""

    turn: int
    replicas: Callable[[str], tuple[str, ...]]


def resolve(
    selector: str, nodes: Sequence[str], rng: Rng, scene: Scene | None = None
) -> tuple[str, ...]:
    """Pick the nodes that `selector` names, in the order of `nodes`.

    Draws from `rng` only for `one`, `minority` and `majority`. Raises UsageError, which names
    the known nodes, when a term is unknown or nothing is selected.
    """
    if not nodes:
        raise UsageError("there is no node to select", hint="start the cluster: kvlab up")
    if len(selector) > SELECTOR_CHARS_MAX:
        raise UsageError(
            f"a selector has at most {SELECTOR_CHARS_MAX} characters, this one has {len(selector)}"
        )
    chosen = _union(selector, tuple(nodes), rng, scene, depth=0)
    if not chosen:
        raise UsageError(f'"{selector}" selects no node of {known(nodes)}')
    return tuple(node for node in nodes if node in chosen)


def known(nodes: Sequence[str]) -> str:
    """Say which nodes exist, for the messages of this room."""
    return ", ".join(nodes) if nodes else "none"


def _union(
    text: str, nodes: tuple[str, ...], rng: Rng, scene: Scene | None, depth: int
) -> set[str]:
    if depth > NESTING_MAX:
        raise UsageError(f"a selector nests not(...) at most {NESTING_MAX} deep")
    chosen: set[str] = set()
    for term in _terms(text):
        chosen |= _term(term, nodes, rng, scene, depth)
    return chosen


def _terms(text: str) -> list[str]:
    """Split at the commas outside of parentheses."""
    terms, depth, start = [], 0, 0
    for index, char in enumerate(text):
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth < 0:
                break
        elif char == "," and depth == 0:
            terms.append(text[start:index])
            start = index + 1
    if depth != 0:
        raise UsageError(f'the parentheses of "{text}" do not match', hint="write not(server1)")
    terms.append(text[start:])
    return [term.strip() for term in terms]


def _term(term: str, nodes: tuple[str, ...], rng: Rng, scene: Scene | None, depth: int) -> set[str]:
    if term.startswith("not(") and term.endswith(")"):
        return set(nodes) - _union(term[4:-1], nodes, rng, scene, depth + 1)
    keyed = _KEYED.fullmatch(term)
    if scene is not None and keyed:
        replicas = scene.replicas(keyed[2])
        return set(replicas if keyed[1] == "replicas" else replicas[:1])
    if scene is not None and term == "each":
        return {nodes[scene.turn % len(nodes)]}
    if term in WORDS:
        return set(_drawn(term, nodes, rng))
    if term in nodes:
        return {term}
    if not term:
        raise UsageError(
            "a selector is empty or has an empty place between commas",
            hint=f"write a node ({known(nodes)}) or one of: {', '.join(WORDS)}, not(X)",
        )
    if keyed or term == "each":
        raise UsageError(f"{term} is for the faults of scenarios alone; name a node")
    raise UsageError(
        f'no node or selector is called "{term}"; the nodes are {known(nodes)}',
        hint=f"selectors are: {', '.join(WORDS)}, not(X)",
    )


def _drawn(word: str, nodes: tuple[str, ...], rng: Rng) -> tuple[str, ...]:
    if word == "all":
        return nodes
    if word == "one":
        return rng.pick(nodes, 1)
    if word == "majority":
        return rng.pick(nodes, len(nodes) // 2 + 1)
    count = (len(nodes) - 1) // 2
    if count == 0:
        raise UsageError(
            f"{len(nodes)} node{'s have' if len(nodes) > 1 else ' has'} no minority",
            hint='name a node, or use "one"; a minority needs at least 3 nodes',
        )
    return rng.pick(nodes, count)
