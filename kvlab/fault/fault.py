"""One fault: what it does to whom, from when until when. A value, with all names resolved.

It does nothing to anybody, and draws nothing: `experiment` makes faults from a scenario, a
laboratory or a simulated world carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvlab.errors import UsageError
from kvlab.fault.link import CLEAN, LinkRule
from kvlab.fault.partition import Link

DISK_KINDS = ("wipe", "bit-flip", "disk-full", "sync-fail")
NODE_KINDS = ("kill", "power-cut", "stop", "pause", "slow", "skew", "join", "leave", *DISK_KINDS)
LINK_KINDS = ("partition", "link", "reset")
KILLS = ("kill", "power-cut", "stop", "wipe", "bit-flip")  # the process ends; undone by a start
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
    meanwhile. `by_us` is how far a clock steps, `cpu` the share of a processor that is left.
    """

    kind: str
    at_us: int
    until_us: int
    nodes: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    rule: LinkRule = CLEAN
    by_us: int = 0
    cpu: float = 0.0
    title: str = ""

    def touches(self, link: Link) -> bool:
        """Say whether a link is hit, or ends at a node that is."""
        return link in self.links or link[0] in self.nodes or link[1] in self.nodes

    def to_builtins(self) -> dict[str, Any]:
        """Give all that is needed to do it again, for JSON."""
        told: dict[str, Any] = {"kind": self.kind, "title": self.title}
        if self.nodes:
            told["nodes"] = list(self.nodes)
        if self.links:
            told["links"] = [list(link) for link in self.links]
        if not self.rule.clean:
            told["rule"] = self.rule.to_builtins()
        if self.by_us:
            told["by_us"] = self.by_us
        if self.cpu:
            told["cpu"] = self.cpu
        return told

    @classmethod
    def from_builtins(cls, told: Mapping[str, Any], at_us: int, until_us: int) -> Fault:
        """Read what `to_builtins` gave, to happen at these times. Raises UsageError."""
        try:
            return cls(
                str(told["kind"]),
                at_us,
                until_us,
                nodes=tuple(map(str, told.get("nodes", ()))),
                links=tuple((str(a), str(b)) for a, b in told.get("links", ())),
                rule=LinkRule.from_builtins(told.get("rule", {})),
                by_us=int(told.get("by_us", 0)),
                cpu=float(told.get("cpu", 0.0)),
                title=str(told.get("title", told["kind"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"this is no fault: {error!r}") from error


def rule_of(active: list[Fault], link: Link) -> LinkRule:
    """Return what a link does while these faults are active: later ones add to earlier ones."""
    rule = CLEAN
    for fault in active:
        if link in fault.links and fault.kind != "reset":
            rule = rule.then(fault.rule)
    return rule
