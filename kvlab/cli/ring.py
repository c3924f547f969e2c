"""The verbs about placement: `ring` shows what is, `ring plan` what a change would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvlab.cli import out
from kvlab.cli.cluster import Cluster, Infos, read_spec
from kvlab.cli.options import DEFAULT_FILE, Addr, File, Json
from kvlab.errors import NotRunningError, UsageError

if TYPE_CHECKING:
    from kvlab.ring.plan import Plan

PLAN_NODES_MAX = 1000


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    group = typer.Typer()
    group.callback(invoke_without_command=True)(ring)
    group.command("plan")(plan)
    app.add_typer(group, name="ring")


def ring(
    context: typer.Context,
    *,
    addr: Addr = "",
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Show how slots and actual keys spread; `ring plan` predicts.

    Slots are what the map promises; keys are what the nodes say they hold. FAIR is a node's share
    by its weight, FIRST its share of the first places, OFF FAIR how far its keys are from fair.

    Examples:
      kvlab ring
      kvlab ring --json
      kvlab ring --addr localhost:8081
      kvlab ring plan --add 1
    """
    if context.invoked_subcommand:
        return
    from kvlab.report.ring import ring_report, ring_table, spread_table

    cluster = Cluster(file, addr)
    report = ring_report(cluster.map(), held_ranges(cluster.ask("RANGES")))
    if json:
        out.show_json(report.to_builtins())
        return
    out.show(ring_table(report), spread_table(report))
    out.next_step("kvlab ring plan --add 1", "kvlab moves")


def plan(
    *,
    add: Annotated[int, typer.Option("--add", min=0, help="Nodes that would join.")] = 0,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="ID", help="A node that would leave.")
    ] = None,
    placement: Annotated[
        str,
        typer.Option(
            "--placement", help="One of claim, tokens, crc32, jump, rendezvous; all if not given."
        ),
    ] = "",
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", min=1, max=PLAN_NODES_MAX, help="Of N equal nodes, not a cluster."),
    ] = None,
    addr: Addr = "",
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Predict what adding or removing nodes moves, and how even it ends. Changes nothing.

    The plan starts from the running cluster and its keys; without one, from the nodes of
    cluster.yaml, or of --nodes.

    Examples:
      kvlab ring plan --add 1
      kvlab ring plan --remove server2 --placement claim
      kvlab ring plan --nodes 10 --add 1
    """
    gone = [name for text in remove or [] for name in text.split(",") if name]
    if not add and not gone:
        raise UsageError("nothing to plan", hint="write --add 1 or --remove server2")
    plans = _plans(add, gone, placement, _source(nodes, addr, file))
    if json:
        out.show_json({"plans": [one.to_builtins() for one in plans]})
        return
    from kvlab.report.plan import plan_nodes_table, plans_table

    out.show(plans_table(plans), plan_nodes_table(plans[0]))
    out.next_step(f"kvlab remove {gone[0]}" if gone else "kvlab add", "kvlab ring")


def held_ranges(infos: Infos) -> dict[str, dict[int, tuple[int, int]]]:
    """Shape RANGES answers as node id -> range -> (keys, bytes); silent nodes are left out."""
    return {
        node: {int(at): (keys, size) for at, (keys, size) in info["ranges"].items()}
        for node, info in infos.items()
        if info
    }


def _source(nodes: int | None, addr: str, file: Path) -> dict[str, Any]:
    """Return where a plan starts, as arguments of kvlab.ring.plan.plan."""
    from kvlab.report.ring import range_keys
    from kvlab.ring.cluster_map import Member

    if nodes is not None:
        return {"source": [f"server{i + 1}" for i in range(nodes)]}
    cluster = Cluster(file, addr)
    try:
        cluster_map = cluster.map()
    except NotRunningError:
        spec = read_spec(file)
        members = [
            Member(one.id, i, one.id, weight=one.weight, rack=one.rack or "")
            for i, one in enumerate(spec.nodes)
        ]
        return {"source": members, "replication": spec.replication.n, "range_count": spec.ranges}
    counts = range_keys(cluster_map, held_ranges(cluster.ask("RANGES")))
    return {"source": cluster_map, "key_counts": counts if any(counts) else None}


def _plans(add: int, remove: list[str], placement: str, source: dict[str, Any]) -> list[Plan]:
    from kvlab.ring.placement import PLACEMENTS
    from kvlab.ring.plan import compare
    from kvlab.ring.plan import plan as make_plan

    if placement:
        if placement not in PLACEMENTS:
            known = ", ".join(PLACEMENTS)
            raise UsageError(f"there is no placement {placement!r}", hint=f"one of {known}")
        return [make_plan(add=add, remove=remove, placement=placement, **source)]
    # Only a sample can be given to every placement, so that they are judged on the same keys.
    source.pop("key_counts", None)
    return list(compare(add=add, remove=remove, **source))
