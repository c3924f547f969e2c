"""A node as replica: apply what a coordinator's frame asks for. It never asks back, never waits.

The silent default answers are the acknowledgement alone; only what differs becomes an exception:

    write, tombstone   applied: silent
                       something newer was here: (its version, None), and nothing is changed
    read               the same version as the asker holds: silent
                       newer here: (version, value), value None for a tombstone
                       older here or nothing: (version, READ), so that the asker can repair
    delete             a live value was here, it is a tombstone now: silent
                       nothing live here: (version, None)
                       a live value newer than the delete: (its version, READ), nothing is changed
    whole group        its sender's map is too old for one of its ranges: index STALE, version = epoch
                       it writes and this node can keep nothing, or nothing more in the place of
                       others; or reads what it may not have kept: index REFUSED

Invariant: a group is applied whole or refused whole. A malformed one ends the link where it is met:
what stands before it is kept, and its sender tells its clients UNKNOWN.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Any

from kvlab.kv.link import Link
from kvlab.kv.state import State
from kvlab.ring.slot import slot_of
from kvlab.wire.peer import READ, REFUSED, STALE, FrameError, is_version
from kvlab.wire.value import live, stored


def apply_groups(state: State, link: Link, epoch: int, groups: list[Any]) -> None:
    """Apply the groups of one frame of `link` in order; queue acknowledgement and exceptions."""
    for gid, ops in groups:
        if not is_version(gid) or type(ops) is not list or len(ops) % 3:
            raise FrameError(f"a malformed group of {link.id}")
        link.ack = gid
        link.ack_due = True
        if epoch < state.epoch and _is_fenced(state, epoch, ops):
            state.counters["fence_refusals"] += 1
            link.exceptions += (gid, STALE, state.epoch, None)
        elif (
            (state.refusal and any(value is not READ for value in ops[2::3]))
            or (state.doubtful and not state.doubtful.isdisjoint(ops[::3]))
            or (state.has_hints_enough and _is_hint(state, ops))
        ):
            link.exceptions += (gid, REFUSED, 0, None)
        else:
            _apply(state, link, gid, ops)


def _is_fenced(state: State, epoch: int, ops: list[Any]) -> bool:
    """Whether one of the operations touches a range that changed hands after `epoch`."""
    fence, shift = state.fence, state.shift
    return any(fence[slot_of(key) >> shift] > epoch for key in ops[::3])


def _is_hint(state: State, ops: list[Any]) -> bool:
    """Whether one of the operations writes where this node stands in for others."""
    if state.map is None:
        return False
    me, places, shift = state.settings.id, state.map.ranges, state.shift
    return any(
        value is not READ and me not in places[slot_of(key) >> shift].writers
        for key, value in zip(ops[::3], ops[2::3], strict=True)
    )


def _apply(state: State, link: Link, gid: int, ops: list[Any]) -> None:
    table = state.table
    ranges, put, shift = table.ranges, table.put, state.shift
    exceptions = link.exceptions
    each = iter(ops)
    for number, (key, version, value) in enumerate(zip(each, each, each, strict=True)):
        # A key that is not bytes raises TypeError or AttributeError here.
        slot = slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383
        index = slot >> shift
        if type(version) is not int:
            raise FrameError(f"a version of {link.id} that is no number")
        if value is False:  # read
            record = ranges[index].get(key)
            held = record[0] if record is not None else 0
            if held > version:
                assert record is not None
                exceptions += (gid, number, held, record[1])
            elif held < version:
                exceptions += (gid, number, held, False)
        elif value is True:  # delete
            record = ranges[index].get(key)
            # Also when this very delete was here before: asked twice, it succeeded twice.
            gone = record is None or live(record[1], state.now_us) is None
            if record is None or (gone and record[0] != version):
                exceptions += (gid, number, record[0] if record is not None else 0, None)
            elif not put(index, key, version, None) and record[0] > version:
                exceptions += (gid, number, record[0], READ)
        else:
            is_plain = type(value) is str or value is None or type(value) is bytes
            if not put(index, key, version, value if is_plain else stored(value)):
                held = table.floor(index, key)
                if held > version:
                    exceptions += (gid, number, held, None)
