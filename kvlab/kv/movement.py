"""What is known of ranges on their way, and how people are told. It moves nothing: see `transfer`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kvlab.kv.state import State


@dataclass(slots=True)
class Pull:
    """One range on its way here, from one source after the other."""

    index: int
    epoch: int
    sources: list[str]
    catch_up: bool = False  # this node is a replica already and only compares
    done: set[str] = field(default_factory=set)
    source: str = ""  # asked at present
    mode: str = ""
    filled: bool = False  # it was copied from one source: from now on only compare
    keys: int = 0
    size: int = 0  # bytes of keys and values
    left: int = -1  # bytes that the source has still to send; -1: it has not told
    more: bool = False
    wanted: list[bytes] = field(default_factory=list)  # still to be fetched from this chunk
    whole: bool = False  # the source is to tell all that it holds, not only where it differs
    listed: set[bytes] = field(default_factory=set)  # the keys that it told then
    purged: int = 0  # its watermark
    blocked: dict[bytes, int] = field(default_factory=dict)  # registers, by what is not taken yet


class Movement(NamedTuple):
    """One range that is on its way to or from this node, for people."""

    range: int
    phase: str  # waiting, copying, comparing, ready: all that can be had is here; giving: away
    source: str = ""  # that is asked at present
    keys: int = 0  # that came from it
    bytes: int = 0
    left_bytes: int = 0  # that it has still to send, about; -1: not known
    waits_for: str = ""


def stage(state: State, pull: Pull) -> tuple[str, str, int, int, int, str]:
    """Return the phase of a pull and the rest of its Movement."""
    if pull.source:
        phase = "copying" if pull.mode == "full" else "comparing"
        left = pull.left if pull.mode == "full" else 0
        why = "" if pull.left >= 0 else f"{pull.source} to begin"
        return phase, pull.source, pull.keys, pull.size, left, why
    if state.refusal:
        why = f"room: {state.refusal}"
    elif pull.blocked:
        why = f"{len(pull.blocked)} linear keys to be agreed on"
    elif any(one in state.up for one in pull.sources if one not in pull.done):
        why = "its turn"
    else:
        why = f"{names([one for one in pull.sources if one not in pull.done])} to be reached"
    return "waiting", "", pull.keys, pull.size, -1, why


def names(nodes: list[str]) -> str:
    """Return some nodes as words."""
    return " and ".join(nodes)
