"""How an operation, its value and its time are named in the sentences of the checkers.

It judges nothing. Texts stay on one line and of bounded length, whatever the history holds.
"""

from __future__ import annotations

from kvlab.history import Op

VALUE_CHARS = 24  # of a value; the evidence names the operation, so the rest can be looked up
US_PER_S = 1_000_000


def shown(value: str | None) -> str:
    """Return a value as a person reads it: quoted and cut short; "nothing" for an absent key."""
    if value is None:
        return "nothing"
    return repr(value if len(value) <= VALUE_CHARS else value[: VALUE_CHARS - 1] + "…")


def name_of(op: Op) -> str:
    """Return who did what: "the set by c1 (op 7)"."""
    return f"the {op.f} by {op.client} (op {op.op})"


def at(op: Op) -> str:
    """Return when an operation ended, or began if it never ended: "0.001203 s"."""
    at_us = op.start_us if op.end_us is None else op.end_us
    return f"{at_us / US_PER_S:.6f} s"
