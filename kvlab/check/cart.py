"""Carts, lists that clients read and write back with one thing more: nothing is missing in the end.

It is not a check of linearizability. A client that writes what it made of what it read may overwrite
what another has written meanwhile: a *lost update* (Berenson and others, "A critique of ANSI SQL
isolation levels", 1995). With plain sets every store may lose updates: they are counted, and are no
violation. Where each write is a compare-and-set, none may be lost.

1. Carts are keys whose writes, `set` or `cas`, are all JSON lists; the last thing of a list is what
   the write adds, and the things of a key differ. Other keys are not judged.
2. Only final reads are judged. A thing that was acknowledged before one began, and is not in it, is a
   lost update. One that nobody added, or that was refused, or that is there twice, is always wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from kvlab.check.findings import invalid
from kvlab.check.operations import Operations
from kvlab.check.verdict import Check, Verdict
from kvlab.check.words import at, name_of, shown
from kvlab.history import Op

NAME = "cart"


def check_cart(history: Operations) -> Check:
    """Judge the final reads of every cart. O(n) for n operations and all that they wrote."""
    carts, added, judged = 0, 0, 0
    lost: dict[tuple[str, str], str] = {}  # a thing of a cart -> a sentence
    wrong: list[tuple[str, list[Op]]] = []
    for key, ops in history.by_key().items():
        adds = _adds(ops)
        if not adds:
            continue
        carts += 1
        added += sum(op.outcome == "ok" for each in adds.values() for op in each)
        promised = all(op.f == "cas" for each in adds.values() for op in each)
        for read in [op for op in ops if op.final and op.f == "get" and op.outcome == "ok"]:
            judged += 1
            for thing, op in _missing(adds, read):
                said = f"cart {key}: {shown(thing)} is lost: {name_of(op)} was acknowledged at {at(op)}"
                said += f", yet the final read by {read.client} at {at(read)} did not find it"
                lost.setdefault((key, thing), said)
                if promised:
                    wrong.append((said, [op, read]))
            if found := _strange(key, adds, read):
                wrong.append((found, [read]))
    figures = {"carts": carts, "acknowledged": added, "lost_updates": len(lost)}
    if wrong:
        return invalid(NAME, wrong, judged, figures)
    if not judged:
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because="nobody read a cart at the end")
    because = f"all {added} things that were acknowledged are in their {carts} carts"
    if lost:
        because = f"{len(lost)} of {added} acknowledged updates are lost, and with plain writes no"
        because += f" store promises otherwise: {next(iter(lost.values()))}"
    return Check(name=NAME, verdict=Verdict.VALID, because=because, judged=judged, figures=figures)


def _adds(ops: Sequence[Op]) -> dict[str, list[Op]]:
    """Return who added each thing, tried more than once perhaps; {} for what is no cart."""
    adds: dict[str, list[Op]] = {}
    for op in ops:
        if op.f == "get":
            continue
        things = _list(op.value) if op.f in ("set", "cas") else None
        if not things:
            return {}
        adds.setdefault(str(things[-1]), []).append(op)
    return adds


def _list(text: str | None) -> list[Any] | None:
    try:
        return msgspec.json.decode(text or "", type=list[Any])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _missing(adds: dict[str, list[Op]], read: Op) -> list[tuple[str, Op]]:
    things = {str(one) for one in _list(read.value) or ()}
    return [
        (thing, op)
        for thing, some in adds.items()
        for op in some
        if op.outcome == "ok" and op.end is not None and op.end < read.start and thing not in things
    ]


def _strange(key: str, adds: dict[str, list[Op]], read: Op) -> str:
    where = f"cart {key}: the final read by {read.client} at {at(read)} found"
    things = _list(read.value) if read.value is not None else []
    if things is None:
        return f"{where} {shown(read.value)}, which is no list"
    counts = Counter(map(str, things))
    for thing, count in counts.items():
        if all(op.outcome == "fail" for op in adds.get(thing, ())):
            return f"{where} {shown(thing)}, which nobody added"
        if count > 1:
            return f"{where} {shown(thing)} twice"
    return ""
