"""What each change of the ring moved: measured copies, keys and bytes against the minimum.

It asks no node: each node's MOVES answer reports what that node received.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kvlab.report.table import Column, Table, table
from kvlab.units import format_count, format_duration, format_size

STEPS = frozenset({"commit"})


def merge_moves(answers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the MOVES answers of all nodes: {"changes": [...]} by epoch, oldest first.

    A change gets, beside what the nodes say of it, "transfers" (one for each pair of nodes: from,
    to, ranges, keys, bytes), "keys" and "bytes" received in all, "copies_received", and
    "took_us" from the change to its last transfer. Moves belong to the last change at or before
    their epoch, because every step of one change raises the epoch.
    """
    changes: dict[int, dict[str, Any]] = {}
    moves: list[Mapping[str, Any]] = []
    for answer in answers:
        for change in answer["changes"]:
            known = changes.get(change["epoch"])
            # A node that skipped an epoch tells two steps as one; those who saw both are right.
            if known is None or change["moved_copies"] < known["moved_copies"]:
                changes[change["epoch"]] = dict(change)
        moves.extend(answer["moves"])
    # The steps by which ranges arrive are part of the change that they complete.
    changes = {epoch: one for epoch, one in changes.items() if one["change"] not in STEPS}
    ordered = [changes[epoch] for epoch in sorted(changes)]
    for change in ordered:
        change["transfers"] = []
    for move in sorted(moves, key=lambda one: (one["epoch"], one["from"], one["to"], one["range"])):
        # Without the change itself (its witnesses are gone) its transfers still count.
        earlier = [one for one in ordered if one["epoch"] <= move["epoch"]]
        if not earlier:
            ordered.insert(0, _unnamed_change(move))
            earlier = ordered[:1]
        _add_transfer(earlier[-1]["transfers"], move)
    for change in ordered:
        _sum(change, moves, ordered)
    return {"changes": ordered}


def moves_table(merged: Mapping[str, Any], *, epoch: int | None = None) -> Table:
    """Show changes (all, or the one of `epoch`) with their transfers, newest last."""
    rows = []
    for change in merged["changes"]:
        if epoch is not None and change["epoch"] != epoch:
            continue
        head = (str(change["epoch"]), f"{change['change']} {change['subject']}".strip())
        if _is_forgotten(change):
            rows.append((*head, "", "", "", "", ""))
        elif not change["transfers"]:
            rows.append((*head, "", "", "0", "0", "0b"))
        rows.extend(
            (
                *head,
                transfer["from"],
                transfer["to"],
                format_count(transfer["ranges"]),
                format_count(transfer["keys"]),
                format_size(transfer["bytes"]),
            )
            for transfer in change["transfers"]
        )
    columns = (
        Column("EPOCH", right=True),
        Column("CHANGE"),
        Column("FROM"),
        Column("TO"),
        Column("RANGES", right=True),
        Column("KEYS", right=True),
        Column("DATA", right=True),
    )
    return table("transfers", columns, rows)


def changes_table(merged: Mapping[str, Any], *, held_keys: int | None = None) -> Table:
    """Show each change against theory.

    MINIMUM is the provable least number of copies (of ranges) that this change had to move;
    EXCESS what was moved beyond it. K/N is the textbook share of the copies of all keys that one
    node's coming or going concerns; `held_keys` is the number of key copies in the cluster now.
    """
    rows = [_change_row(change, held_keys) for change in merged["changes"]]
    columns = (
        Column("EPOCH", right=True),
        Column("CHANGE"),
        Column("NODES", right=True),
        Column("COPIES", right=True),
        Column("MINIMUM", right=True),
        Column("EXCESS", right=True, styles={"0": "green"}),
        Column("KEYS", right=True),
        Column("K/N", right=True),
        Column("DATA", right=True, rank=1),
        Column("TOOK", right=True, rank=2),
    )
    count = len(rows)
    title = f"{count} change{'s' * (count != 1)} of the ring" if rows else "the ring never changed"
    return table(title, columns, rows)


def _change_row(change: Mapping[str, Any], held_keys: int | None) -> tuple[str, ...]:
    before, after = change["members_before"], change["members_after"]
    if change["change"] == "leave":
        # A leaver stays a member until its last range is handed over.
        after = min(after, before - len(change["subject"].split(",")))
    moved, minimum = change["moved_copies"], change["minimum_copies"]
    # One node's fair share of all copies: of the larger of the two clusters.
    forgotten = _is_forgotten(change)
    share = "" if held_keys is None else format_count(round(held_keys / max(before, after, 1)))
    return (
        str(change["epoch"]),
        f"{change['change']} {change['subject']}".strip(),
        f"{before}->{after}",
        format_count(moved),
        format_count(minimum),
        format_count(moved - minimum),
        "" if forgotten else format_count(change["keys"]),
        share,
        "" if forgotten else format_size(change["bytes"]),
        "" if change["took_us"] is None else format_duration(change["took_us"]),
    )


def _is_forgotten(change: Mapping[str, Any]) -> bool:
    """Whether nobody knows what was moved: its receivers, who tell it, have left or restarted."""
    return change["moved_copies"] > 0 and not change["transfers"]


def _add_transfer(transfers: list[dict[str, Any]], move: Mapping[str, Any]) -> None:
    for transfer in transfers:
        if (transfer["from"], transfer["to"]) == (move["from"], move["to"]):
            break
    else:
        transfer = {"from": move["from"], "to": move["to"], "ranges": 0, "keys": 0, "bytes": 0}
        transfers.append(transfer)
    transfer["ranges"] += 1
    transfer["keys"] += move["keys"]
    transfer["bytes"] += move["bytes"]


def _sum(
    change: dict[str, Any], moves: Sequence[Mapping[str, Any]], ordered: Sequence[Mapping[str, Any]]
) -> None:
    transfers = change["transfers"]
    change["copies_received"] = sum(one["ranges"] for one in transfers)
    change["keys"] = sum(one["keys"] for one in transfers)
    change["bytes"] = sum(one["bytes"] for one in transfers)
    later = [one["epoch"] for one in ordered if one["epoch"] > change["epoch"]]
    until = min(later, default=None)
    ends = [
        move["at_us"]
        for move in moves
        if change["epoch"] <= move["epoch"] and (until is None or move["epoch"] < until)
    ]
    change["took_us"] = max(0, max(ends) - change["at_us"]) if ends else None


def _unnamed_change(move: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "epoch": move["epoch"], "change": "unknown", "subject": "", "at_us": move["at_us"],
        "moved_copies": 0, "minimum_copies": 0, "members_before": 0, "members_after": 0,
        "transfers": [],
    }  # fmt: skip
