"""One fault: what it does to whom, from when until when. A value, with all names resolved.

It does nothing to anybody, and draws nothing: `experiment` makes faults from a scenario, a
laboratory or a simulated world carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvlab.fault.link import CLEAN, LinkRule
from kvlab.fault.partition import Link

DISK_KINDS = ("wipe", "bit-flip", "disk-full", "sync-fail")
NODE_KINDS = ("kill", "power-cut", "pause", "skew", "join", "leave", *DISK_KINDS)
LINK_KINDS = ("partition", "link", "reset")
KILLS = ("kill", "power-cut", "wipe", "bit-flip")  # the process ends; undone by a start
LASTING = ("reset", "join", "leave")  # there is nothing to undo


def loses_data(kind: str, sync: str) -> bool:
    """Whether a node that this happens to may come back without what it had said it holds.

    `sync` is how it keeps its data: in "memory", or on disk and synced "always", at an "interval" or
    when the system likes ("os").
    """
    if kind in ("wipe", "bit-flip"):
        return True
    if sync == "memory":
        return kind in KILLS
    return kind == "power-cut" and sync != "always"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault from `at_us` until `until_us`, when it is undone.

    `nodes` are hit by the kinds of NODE_KINDS, `links` by those of LINK_KINDS, which follow `rule`
    meanwhile. `by_us` is how far a clock steps.
    """

    kind: str
    at_us: int
    until_us: int
    nodes: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    rule: LinkRule = CLEAN
    by_us: int = 0
    title: str = ""


def rule_of(active: list[Fault], link: Link) -> LinkRule:
    """Return what a link does while these faults are active: later ones add to earlier ones."""
    rule = CLEAN
    for fault in active:
        if link in fault.links and fault.kind != "reset":
            rule = rule.then(fault.rule)
    return rule
