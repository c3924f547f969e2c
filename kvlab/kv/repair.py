"""Read repair: what a read met is given to the replicas that are behind. No I/O.

It decides nothing about replies: by then the read has been answered.
"""

from __future__ import annotations

from kvlab.kv.group import Group
from kvlab.kv.state import State
from kvlab.ring.slot import slot_of


def repair(state: State, group: Group) -> None:
    """Give the best version that each read of a group met to the replicas that are behind."""
    table = state.table
    for number, best, behind in group.repairs():
        key = group.ops[3 * number]
        index = slot_of(key) >> state.shift
        record = table.get(index, key)
        if group.found and number in group.found and group.found[number][0] == best:
            newest, value = group.found[number]
            if group.route.owners.local and not state.refusal:
                table.put(index, key, best, value)
        elif record is not None and record[0] >= best:
            newest, value = record[0], record[1]
        else:
            continue
        state.counters["read_repairs"] += 1
        for link in group.route.links:
            if link.up and (behind is None or link.id in behind):
                link.controls.append(["put", [key, newest, value]])
