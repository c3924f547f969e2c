"""Operations at the level `atomic`: what they tell or write stands above all that was told. No I/O.

ABD (Attiya, Bar-Noy and Dolev, "Sharing Memory Robustly in Message-Passing Systems", 1995), with many
writers (Lynch and Shvartsman, 1997). Every operation begins by asking a majority for what it holds. A
write then gives its value one version above all that it met; a read that met several versions gives the
newest to a majority before it tells it. Such operations on a key are linearizable among themselves, not
with those at other levels.

A write has one version: a second one would let its value come back after it was read and replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvlab.kv.group import Group
from kvlab.ring.slot import slot_of
from kvlab.wire.peer import DELETE
from kvlab.wire.value import live

if TYPE_CHECKING:
    from kvlab.kv.quorum import Quorum


def second_rounds(quorum: Quorum, group: Group) -> None:
    """Begin what follows the first round: the writes, and reads of what not all had."""
    state = quorum.state
    for number, (batch, index) in enumerate(group.owners):
        best, differ = _newest(group, number)
        wanted = group.then.get(number)
        if wanted is not None and wanted is not DELETE:
            _write(quorum, group, number, best, wanted)
            continue
        version, value = _held(quorum, group, number, best)
        if wanted is DELETE and live(value, quorum.now_us) is not None:
            _write(quorum, group, number, best, None)
            continue
        if wanted is DELETE:
            batch.answer(index, group.ops[3 * number].decode(), None)
        if differ and version:
            state.counters["write_backs"] += 1
            again = quorum.write_again(group, number, version, value)
            if again is not None:
                again.reissue = again.reads = True


def _write(quorum: Quorum, group: Group, number: int, above: int, value: Any) -> None:
    """Write above all that was met; whatever is newer by then was written meanwhile, and stands."""
    batch, index = group.owners[number]
    reply = batch.full(index, group.ops[3 * number].decode())
    reply.status, reply.value, reply.error, reply.code = "SUCCESS", "", "", ""
    version = quorum.state.clock.above(above, quorum.now_us)
    again = quorum.write_again(group, number, version, value)
    if again is not None:
        again.reissue = True


def _newest(group: Group, number: int) -> tuple[int, bool]:
    """Return the newest version of those who answered, and whether they told several."""
    told = [version for index, _, version in group.seen or () if index == number]
    if len(told) < group.answers:  # who said nothing holds what the asker held
        told.append(group.ops[3 * number + 1])
    return max(told), len(set(told)) > 1


def _held(quorum: Quorum, group: Group, number: int, best: int) -> tuple[int, Any]:
    """Return the record of that version, or a newer one that is here by now; (0, None) for none."""
    found = (group.found or {}).get(number)
    if found is not None and found[0] == best:
        return found
    key, state = group.ops[3 * number], quorum.state
    record = state.table.get(slot_of(key) >> state.shift, key)
    return (record[0], record[1]) if record is not None and record[0] >= best else (0, None)
