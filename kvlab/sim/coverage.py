"""The states of the protocol that simulated runs should reach. A literal: what is missing is seen.

It counts nothing: `watch` and `world` do, under these names.
"""

from __future__ import annotations

from collections.abc import Mapping

_CONTROLS = (
    *("map", "join", "leave", "ready", "agree", "absent", "put", "digests"),
    *("offer", "want", "hush", "quiet", "cut", "counted", "purge"),
    *("pull", "chunk", "more", "fetch", "records", "wait"),
)
_CHANGES = ("join", "leave", "restart", "commit", "abort")
_COUNTERS = (
    *("degraded", "quorum_failures", "fence_refusals", "reissued_writes", "read_repairs"),
    *("catch_up_records", "exchanges", "purged"),
)
_DISKS = ("clean", "torn tail", "damage")
_REPLIES = (
    *("get ok", "get ok degraded", "get NOT_FOUND", "get UNAVAILABLE", "get timeout"),
    *("set ok", "set ok degraded", "set UNAVAILABLE", "set UNKNOWN", "set timeout"),
    "set READ_ONLY",
    *("delete ok", "delete ok degraded", "delete NOT_FOUND", "delete UNAVAILABLE"),
    *("delete UNKNOWN", "delete timeout", "set connection lost"),
)

STATES = (
    *(f"control: {one}" for one in _CONTROLS),
    *(f"map: {one}" for one in _CHANGES),
    *(f"counter: {one}" for one in _COUNTERS),
    *(f"disk: {one}" for one in _DISKS),
    *(f"reply: {one}" for one in _REPLIES),
)


def missing(reached: Mapping[str, int]) -> list[str]:
    """Return the states that no run reached."""
    return [state for state in STATES if not reached.get(state)]
