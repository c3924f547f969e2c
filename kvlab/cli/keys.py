"""The verbs that look at data in place: keys and moves. They change nothing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kvlab.cli import out
from kvlab.cli.cluster import Cluster
from kvlab.cli.options import DEFAULT_FILE, Addr, File, Json


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    for verb in (keys, moves):
        app.command(verb.__name__)(verb)


def keys(
    names: Annotated[list[str], typer.Argument(metavar="KEY...", help="The keys.")],
    *,
    addr: Addr = "",
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Show where keys belong and where they really are.

    Every node is asked what it holds itself: an owner without the key is "missing", an older
    version is "stale", a copy outside the owners is "extra".

    Examples:
      kvlab keys city
      kvlab keys user:1 user:2 --json
      kvlab keys city --addr localhost:8081
    """
    from kvlab.report.keys import key_facts, keys_table

    cluster = Cluster(file, addr)
    facts = [key_facts(name, cluster.ask("INSPECT", name)) for name in names]
    if json:
        out.show_json({"keys": facts})
        return
    out.show(keys_table(facts))
    out.next_step("kvlab ring", f"kvlab get {names[0]}")


def moves(
    *,
    addr: Addr = "",
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Show the data each change of the ring moved, against the minimum.

    Examples:
      kvlab moves
      kvlab moves --json
      kvlab moves --addr localhost:8081
    """
    from kvlab.report.moves import changes_table, merge_moves, moves_table

    cluster = Cluster(file, addr)
    merged = merge_moves(info for info in cluster.ask("MOVES").values() if info)
    held_keys = _held_keys(cluster.ask("STATUS").values())
    if json:
        out.show_json({**merged, "held_keys": held_keys})
        return
    tables = [changes_table(merged, held_keys=held_keys)]
    if merged["changes"]:
        tables.insert(0, moves_table(merged))
    out.show(*tables)
    out.next_step("kvlab ring" if merged["changes"] else "kvlab add")


def _held_keys(infos: Any) -> int:
    """Count the key copies that all nodes hold."""
    return sum(info["keys"] for info in infos if info)
