"""Tables about a change of members that nobody has made yet: what moves, and how even it ends.

It computes nothing but differences: the plans come from kvlab.ring.plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvlab.report.ring import percent
from kvlab.report.table import Column, Table, bar, table
from kvlab.ring.plan import Plan
from kvlab.units import format_count


def plans_table(plans: Sequence[Plan]) -> Table:
    """Compare placements for one change, one row each.

    SHUFFLED are moves among nodes that were there before and stay: 0 is ideal. BEFORE is what
    MAX/MEAN was.
    """
    rows = [
        (
            plan.placement,
            format_count(plan.moved_keys),
            f"{plan.moved_share:.1%}",
            format_count(round(plan.minimum_keys)),
            format_count(round(plan.k_over_n)),
            format_count(plan.between_survivors),
            f"{plan.after.max_over_mean:.3f}",
            f"{plan.before.max_over_mean:.3f}",
            f"{plan.after.variation:.1%}",
        )
        for plan in plans
    ]
    columns = (
        Column("PLACEMENT", styles={"claim": "bold"}),
        Column("MOVED", right=True),
        Column("OF ALL", right=True),
        Column("MINIMUM", right=True),
        Column("K/N", right=True),
        Column("SHUFFLED", right=True, styles={"0": "green"}),
        Column("MAX/MEAN", right=True),
        Column("BEFORE", right=True, rank=1),
        Column("VARIATION", right=True),
    )
    first = plans[0]
    kind = "sample keys" if first.sampled else "keys of the cluster"
    return table(
        f"{change_text(first)}: {format_count(first.keys)} {kind} x {first.replication} copies",
        columns,
        rows,
    )


def plan_nodes_table(plan: Plan) -> Table:
    """Show one plan node by node: the share of key copies before and after."""
    before = {one.id: one for one in plan.before.nodes}
    after = {one.id: one for one in plan.after.nodes}
    all_before = sum(one.held for one in before.values())
    all_after = sum(one.held for one in after.values())
    full = max((one.held for one in after.values()), default=0)
    rows = []
    for node in dict.fromkeys((*before, *after)):
        was, now = before.get(node), after.get(node)
        mark = "joins" if was is None else "leaves" if now is None else ""
        rows.append(
            (
                node,
                mark,
                percent(now.fair_held, all_after) if now else "",
                percent(was.held, all_before) if was else "",
                percent(now.held, all_after) if now else "",
                format_count(now.held if now else 0),
                bar(now.held, full) if now else "",
            )
        )
    columns = (
        Column("NODE"),
        Column("MARK", styles={"joins": "green", "leaves": "red"}),
        Column("FAIR AFTER", right=True, style="dim"),
        Column("BEFORE", right=True),
        Column("AFTER", right=True),
        Column("KEYS AFTER", right=True),
        Column("", style="cyan", decoration=True),
    )
    return table(f"{plan.placement}, node by node", columns, rows, *_range_note(plan))


def change_text(plan: Plan) -> str:
    """Say a change as "3 nodes -> 5 (+server4 +server5)"."""
    steps = [f"+{one}" for one in plan.added] + [f"-{one}" for one in plan.removed]
    return f"{plan.nodes_before} nodes -> {plan.nodes_after} ({' '.join(steps)})"


def _range_note(plan: Plan) -> list[str]:
    if plan.ranges is None:
        return []
    moved = plan.ranges.movement
    return [
        f"moves {moved.copies} copies of ranges; the provable minimum is {moved.minimum_copies}"
    ]
