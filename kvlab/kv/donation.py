"""What a node gives away of its ranges: the donor's side of `transfer`, and what both say. No I/O.

The messages, as controls of the peer frames; `ns` is EVENTUAL or LINEAR, and a version is a ballot in
the linear namespace:

    ["pull", id, range, epoch, leaves]          puller -> donor; None: all is to be copied
    ["chunk", id, ns, records, more, left, purged]
                                                donor -> puller; (key, version[, body])*
    ["more", id]                                puller -> donor
    ["fetch", id, range, ns, keys]              puller -> donor, after a list: what it lacks
    ["records", id, ns, records, count]         donor -> puller, for the first `count` keys of the fetch
    ["wait", id]                                donor -> puller: its map is too old, ask again
    ["put", records]                            anybody -> replica: repair

With leaves (see `leaves`) the donor lists what it holds in those that differ from its own, with b""
all that it holds.
`left` is about how many bytes of keys and values are still to be sent; only for people. `purged` is the
donor's watermark when the pull began (see `purge`).
The body is a value, or a register's [value, changes, forgot, window].

Invariants:

1. A donor answers a pull only when its map is at least as new as the puller's and names this life of
   it as a replica: from then on it refuses what was routed without the newcomer, so nothing falls
   between copy and switch.
2. One chunk per pull is under way at a time, DONATIONS_MAX pulls at once: memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kvlab.kv.leaves import differs
from kvlab.kv.link import Link
from kvlab.kv.register import register_of
from kvlab.kv.state import State
from kvlab.storage.registers import Register
from kvlab.wire.peer import FrameError, is_version

EVENTUAL = 0
LINEAR = 1
DONATIONS_MAX = 256
CHUNK_RECORDS = 1000
CHUNK_BYTES = 256 * 1024


@dataclass(slots=True)
class Donation:
    """What a donor still has to send for one pull: keys of one namespace after the other."""

    index: int
    full: bool  # else a list
    keys: list[bytes]
    following: list[bytes]  # of the linear namespace, while `keys` are of the eventual one
    left: int  # bytes of keys and values that are still to be sent, about
    purged: int  # the watermark of which `keys` is all that there is
    ns: int = EVENTUAL
    position: int = 0


class Donations:
    """All that one node is giving away."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._open: dict[tuple[str, int], Donation] = {}

    def __len__(self) -> int:
        return len(self._open)

    def on_link_down(self, link: Link) -> None:
        """Give up what was under way with a peer."""
        for key in [key for key in self._open if key[0] == link.id]:
            del self._open[key]

    def on_pull(self, link: Link, one: int, index: int, epoch: int, leaves: bytes | None) -> None:
        """Begin to give a range away or to list where it differs, or tell the puller to wait."""
        state = self.state
        # A life that began empty and is still to be filled has nothing that could be compared.
        holds = state.serving and state.holds(index)
        if state.epoch < epoch or not holds or len(self._open) >= DONATIONS_MAX:
            link.controls.append(["wait", one])
            return
        keys, following = state.table.snapshot(index), state.registers.snapshot(index)
        left = 0
        if leaves is None:
            left = state.table.sizes[index] + state.registers.sizes[index]
        elif leaves:
            is_wanted = differs(state, index, leaves)
            keys, following = [*filter(is_wanted, keys)], [*filter(is_wanted, following)]
        purged = state.table.purged[index]
        self._open[link.id, one] = Donation(index, leaves is None, keys, following, left, purged)
        self.on_more(link, one)

    def on_more(self, link: Link, one: int) -> None:
        """Send the next chunk of a donation."""
        donation = self._open.get((link.id, one))
        if donation is None:
            return
        if donation.position >= len(donation.keys) and donation.following:
            donation.keys, donation.following = donation.following, []
            donation.ns, donation.position = LINEAR, 0
        keys = donation.keys[donation.position : donation.position + CHUNK_RECORDS]
        records, count, size = chunk_of(
            self.state, donation.ns, donation.index, keys, full=donation.full
        )
        donation.position += count
        donation.left = max(0, donation.left - size)
        more = donation.position < len(donation.keys) or bool(donation.following)
        if not more:
            del self._open[link.id, one]
        left = donation.left if more else 0
        link.controls.append(["chunk", one, donation.ns, records, more, left, donation.purged])

    def on_fetch(self, link: Link, one: int, index: int, ns: int, keys: list[bytes]) -> None:
        """Send the records of these keys, as many as one chunk holds."""
        records, count, _ = chunk_of(self.state, ns, index, keys[:CHUNK_RECORDS], full=True)
        link.controls.append(["records", one, ns, records, count])


def lacks(state: State, ns: int, index: int, key: bytes, version: int) -> bool:
    """Whether a node would take that version of a key in one namespace."""
    if ns == LINEAR:
        return state.registers.get(index, key).ballot < version
    return state.table.floor(index, key) < version


def version_of(state: State, ns: int, index: int, key: bytes) -> int:
    """Return the version that a node holds of a key in one namespace; 0 for none."""
    if ns == LINEAR:
        return state.registers.get(index, key).ballot
    record = state.table.get(index, key)
    return record[0] if record is not None else 0


def chunk_of(
    state: State, ns: int, index: int, keys: list[bytes], *, full: bool
) -> tuple[list[Any], int, int]:
    """Return what a chunk holds of these keys, flat, how many of them it is about, and its bytes."""
    records: list[Any] = []
    size = count = told = 0
    for key in keys:
        if size >= CHUNK_BYTES:
            break
        count += 1
        version = version_of(state, ns, index, key)
        if not version:
            continue
        size += len(key) + 16
        records += (key, version)
        if not full:
            continue
        if ns == LINEAR:
            register = state.registers.get(index, key)
            value = register.value
            records.append(list(register[1:]))
        else:
            record = state.table.get(index, key)
            value = record[1] if record is not None else None
            records.append(value)
        size += len(value or b"")
        told += len(key) + len(value) if value is not None else 0
    return records, count, told


def registers_of(flat: list[Any]) -> Iterator[tuple[bytes, Register]]:
    """Yield (key, register) of a flat list; raises FrameError at what cannot be one."""
    if len(flat) % 3:
        raise FrameError("a list of registers that ends in the middle of one")
    each = iter(flat)
    for key, ballot, body in zip(each, each, each, strict=True):
        if type(key) is not bytes or not is_version(ballot):
            raise FrameError("a register is kept under a key and a ballot")
        yield key, register_of(ballot, body)
