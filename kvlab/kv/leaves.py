"""Which keys of a range may differ between two replicas: the leaves of its Merkle tree. Pure.

A tree of two levels (Merkle, 1987; as in Dynamo: DeCandia and others, 2007). The root is the range's
digest, which the tables keep up to date; the leaves are computed when two roots differ, because few do
and a write then costs nothing more. It fetches nothing: see `transfer`.

Invariant: for the same records and the same number of leaves, the same bytes, in whatever order the
records came and wherever they are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack, unpack
from zlib import crc32

from kvlab.kv.state import State
from kvlab.storage.memory import spread

LEAF_BYTES = 8
LEAVES_MAX = 1024  # 8 KiB: less than a list of keys and versions in which most are the same
LEAF_KEYS = 8  # about so many keys share a leaf, where that takes no more than LEAVES_MAX


def leaves_of(state: State, index: int, count: int = 0) -> bytes:
    """Return `count` leaves of a range in both namespaces, 8 bytes each, little-endian.

    A leaf is the XOR of what stands for the versions of its keys. `count` is a power of two; 0 chooses
    it by the number of keys.
    """
    records, registers = state.table.ranges[index], state.registers.ranges[index]
    if not count:
        count = 1
        while count < LEAVES_MAX and count * LEAF_KEYS < len(records) + len(registers):
            count *= 2
    leaves = [0] * count
    for key, record in records.items():
        leaves[crc32(key) % count] ^= spread(record[0])
    for key, register in registers.items():
        leaves[crc32(key) % count] ^= spread(register.ballot)
    return pack(f"<{count}Q", *leaves)


def differs(state: State, index: int, theirs: bytes) -> Callable[[bytes], bool]:
    """Return what tells of a key whether it is in a leaf in which this node differs from a peer.

    Raise ValueError for what cannot be leaves.
    """
    count, rest = divmod(len(theirs), LEAF_BYTES)
    if rest or not 0 < count <= LEAVES_MAX or count.bit_count() != 1:
        raise ValueError("the leaves of a range are 1 to 1024 numbers of 8 bytes")
    ours = unpack(f"<{count}Q", leaves_of(state, index, count))
    each = zip(ours, unpack(f"<{count}Q", theirs), strict=True)
    wanted = {number for number, (one, other) in enumerate(each) if one != other}
    return lambda key: crc32(key) % count in wanted
