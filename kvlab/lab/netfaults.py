"""The network faults of a running cluster: which are active, on which links, and whether they bite.

It cuts nothing itself: `Shims` carries the links, `kvlab.fault` says which links a fault means.

Invariant: what is listed here is what the shims were told; a fault is listed only once they did it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvlab.errors import UsageError
from kvlab.fault.link import CLEAN, LinkRule
from kvlab.fault.partition import Link, one_way, split
from kvlab.lab.events import EventLog
from kvlab.lab.member import now_us
from kvlab.spec import LinkSpec

if TYPE_CHECKING:
    from kvlab.lab.shims import Shims

# What a link counts as it bites; `bytes` and `connections` are its normal work.
EVIDENCE = ("held_bytes", "delayed", "refused", "connects_hung", "resets")
PARTITION, LINK, SCRIPTED = "partition", "link", "scripted"
RULE_FIELDS = ("latency_us", "jitter_us", "bandwidth_bps", "connect")


@dataclass
class ActiveFault:
    """A fault that is on: `base` are the counters of its links when it began."""

    id: int
    kind: str
    detail: str
    began_us: int
    links: tuple[Link, ...]
    base: dict[str, int]
    rule: LinkRule = CLEAN  # of a fault that is undone by itself (`begin`)


class NetFaults:
    """Partitions and link rules of one cluster."""

    def __init__(self, shims: Shims | None, default: LinkSpec, events: EventLog) -> None:
        self._maybe_shims = shims
        self._default = LinkRule(latency_us=default.latency_us, jitter_us=default.jitter_us)
        self._events = events
        self._active: list[ActiveFault] = []
        self._ids = 0

    async def begin(
        self, title: str, links: Sequence[Link], rule: LinkRule, nodes: Sequence[str]
    ) -> int:
        """Add a rule to links until `end`, beside what else is on them; return its number.

        Of links from and to others than `nodes` it takes note: they follow when such a node comes.
        """
        base = _sums(await self._shims().snapshot(), links)
        self._ids += 1
        fault = ActiveFault(self._ids, SCRIPTED, title, now_us(), tuple(links), base, rule)
        self._active.append(fault)
        self._events.add(SCRIPTED, detail=title)
        await self._apply(links, nodes)
        return fault.id

    async def end(self, number: int, nodes: Sequence[str]) -> dict[str, int]:
        """Undo what `begin` began, and nothing else; return what its links counted meanwhile."""
        fault = next(one for one in self._active if one.id == number)
        rows = await self._shims().snapshot()
        self._active.remove(fault)
        await self._apply(fault.links, nodes)
        self._events.add("undo", detail=fault.detail)
        return {
            name: max(0, value - fault.base[name])
            for name, value in _sums(rows, fault.links).items()
        }

    async def break_once(self, links: Sequence[Link], nodes: Sequence[str]) -> int:
        """Break the connections that are open over links; return how many there were."""
        known = _known(links, nodes)
        shims = self._shims()
        base = _sums(await shims.snapshot(), known)["resets"]
        await shims.replace_rule(known, LinkRule(cut=True, mode="reset"))
        broken = _sums(await shims.snapshot(), known)["resets"] - base
        await self._apply(known, nodes)
        self._events.add("reset", detail=f"{broken} connections")
        return broken

    async def _apply(self, links: Sequence[Link], nodes: Sequence[str]) -> None:
        """Give links the rules of all faults that `begin` began, later ones added to earlier ones."""
        by_rule: dict[LinkRule, list[Link]] = {}
        for link in _known(links, nodes):
            rule = self._default
            for fault in self._active:
                if fault.kind == SCRIPTED and link in fault.links:
                    rule = rule.then(fault.rule)
            by_rule.setdefault(rule, []).append(link)
        for rule, some in by_rule.items():
            await self._shims().replace_rule(some, rule)

    async def apply_default(self, nodes: Sequence[str]) -> None:
        """Give every link between `nodes` that has no rule of its own the rule of the spec."""
        scripted = {
            link: None for one in self._active if one.kind == SCRIPTED for link in one.links
        }
        if scripted:
            await self._apply(tuple(scripted), nodes)
        if self._maybe_shims is None or self._default.clean:
            return
        # A cut leaves the rule of its links alone; a link rule of somebody's own must win.
        own = (LINK, SCRIPTED)
        ruled = {link for fault in self._active if fault.kind in own for link in fault.links}
        links = [(a, b) for a in nodes for b in nodes if a != b and (a, b) not in ruled]
        await self._maybe_shims.set_rule(links, self._default)

    async def partition(
        self,
        nodes: Sequence[str],
        *,
        groups: Sequence[Sequence[str]] | None,
        sources: Sequence[str] | None,
        targets: Sequence[str] | None,
        mode: str,
    ) -> tuple[Link, ...]:
        """Cut the links between groups, or one way from sources to targets; returns them."""
        if mode not in {"hold", "reset"}:
            raise UsageError(f"mode is hold or reset, not {mode!r}")
        if groups:
            cut = split(groups, nodes)
        elif sources and targets:
            cut = one_way(sources, targets, nodes)
        else:
            raise UsageError(
                "a partition needs groups, or from and to",
                hint='write: kvlab partition "server1,server2 | server3"',
            )
        shims = self._shims()
        base = _sums(await shims.snapshot(), cut.links)
        await shims.cut(cut.links, mode)
        self._add(PARTITION, f"{cut.title} ({mode})", cut.links, base)
        return cut.links

    async def link(
        self, nodes: Sequence[str], source: str, target: str, *, both: bool, rule: dict[str, Any]
    ) -> tuple[Link, ...]:
        """Give one link (or both directions) a rule; `{"reset": True}` takes its faults away."""
        if source == target:
            raise UsageError(
                f"{source} has no link to itself", hint="name two nodes: link server1 server2"
            )
        links = one_way([source], [target], nodes).links
        if both:
            links += one_way([target], [source], nodes).links
        shims = self._shims()
        if rule.get("reset"):
            await self._clean(shims, links, nodes)
            return links
        unknown = sorted(rule.keys() - set(RULE_FIELDS))
        if unknown:
            raise UsageError(
                f"a link rule has no {unknown[0]!r}", hint=f"it has {', '.join(RULE_FIELDS)}"
            )
        wanted = LinkRule(**rule)
        base = _sums(await shims.snapshot(), links)
        await shims.set_rule(links, wanted)
        names = ", ".join(f"{a} -> {b}" for a, b in links)
        self._add(LINK, f"{names}: {wanted.text()}", links, base)
        return links

    async def heal(self, nodes: Sequence[str]) -> int:
        """Take every network fault away; returns how many there were."""
        if self._maybe_shims is None:
            return 0
        await self._maybe_shims.heal()
        healed, self._active = len(self._active), []
        await self.apply_default(nodes)
        self._events.add("heal", detail=f"{healed} faults")
        return healed

    async def report(self) -> dict[str, Any]:
        """Return the active faults with their evidence, and every link."""
        rows = await self._maybe_shims.snapshot() if self._maybe_shims is not None else []
        return {"faults": self._listed(rows), "links": rows}

    async def active(self) -> list[dict[str, Any]]:
        """Return the active faults; asks the shims only when there are any."""
        if not self._active or self._maybe_shims is None:
            return []
        return self._listed(await self._maybe_shims.snapshot())

    def drop_node(self, node: str) -> None:
        """Forget the links of a node that has left; a scripted fault knows whom it would hit."""
        for fault in self._active:
            if fault.kind == SCRIPTED:
                continue
            fault.links = tuple(link for link in fault.links if node not in link)
        self._active = [fault for fault in self._active if fault.links]

    def _shims(self) -> Shims:
        if self._maybe_shims is None:
            raise UsageError(
                "this cluster runs without shims, so its network cannot be broken",
                hint="set network: {shims: true} in cluster.yaml, then kvlab down and kvlab up",
            )
        return self._maybe_shims

    def _add(self, kind: str, detail: str, links: tuple[Link, ...], base: dict[str, int]) -> None:
        # The same thing once more is one fault, not two.
        same = (kind, set(links))
        self._active = [one for one in self._active if (one.kind, set(one.links)) != same]
        self._ids += 1
        self._active.append(ActiveFault(self._ids, kind, detail, now_us(), links, base))
        self._events.add(kind, detail=detail)

    async def _clean(self, shims: Shims, links: tuple[Link, ...], nodes: Sequence[str]) -> None:
        await shims.reset(links)
        gone = set(links)
        for fault in self._active:
            fault.links = tuple(link for link in fault.links if link not in gone)
        self._active = [fault for fault in self._active if fault.links]
        await self.apply_default(nodes)
        self._events.add("link-reset", detail=", ".join(f"{a} -> {b}" for a, b in links))

    def _listed(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "id": fault.id,
                "kind": fault.kind,
                "detail": fault.detail,
                "since_us": now_us() - fault.began_us,
                "links": [list(link) for link in fault.links],
                "evidence": {
                    name: max(0, value - fault.base.get(name, 0))
                    for name, value in _sums(rows, fault.links).items()
                },
            }
            for fault in self._active
        ]


def _known(links: Sequence[Link], nodes: Sequence[str]) -> list[Link]:
    """Return the links whose both ends are there."""
    there = set(nodes)
    return [link for link in links if there.issuperset(link)]


def _sums(rows: Sequence[dict[str, Any]], links: Sequence[Link]) -> dict[str, int]:
    """Add up the counters of evidence over `links`."""
    wanted = set(links)
    chosen = [row for row in rows if (row["from"], row["to"]) in wanted]
    return {name: sum(int(row.get(name, 0)) for row in chosen) for name in EVIDENCE}
