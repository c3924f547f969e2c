"""Frames: how a log file says what it holds, so that what a crash or a bad disk left is told apart.

Bytes <-> frames only. It knows no folder, and not what a payload means; the log is `log`, what is
made of damage `recovery`.

A file is a header and frames, little-endian:

    header   magic "KVLABLG1", segment u64, identity u64, before u64, salt u32, CRC u32 of these
    frame    magic F5 "KF1", CRC u32, size u32 of the payload, synced u64; then the payload

A position is one number for the whole log: segment << 32 | offset. `synced` is a position: all before
it was known to be durable when the frame was written. So where a bad place is followed by a good frame
whose `synced` is beyond it, something durable was lost; where none is, it is only a write that a
crash tore (the distinction of Alagappan and others, "Protocol-Aware Recovery", 2018).

Invariants:

1. The CRC of a frame covers its position, size, `synced` and payload, and begins with the salt of its
   file. Bytes that a client stored are therefore not taken for a frame, nor is one of another place.
2. `scan` looks at no more than SCAN_FACTOR times the bytes of the file, whatever they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

HEADER_BYTES = 40
FRAME_BYTES = 20  # of a frame, before its payload
OFFSET_BITS = 32
SCAN_FACTOR = 8

_FILE_MAGIC = b"KVLABLG1"
_MAGIC = b"\xf5KF1"
_FILE = Struct("<8sQQQI")
_FRAME = Struct("<4sIIQ")
_COVERED = Struct("<QIQ")


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a file say."""

    segment: int
    identity: int  # of the node whose log it is
    before: int  # the offset where the segment before it ended
    salt: int  # of its frames' CRCs


@dataclass(frozen=True, slots=True)
class Frame:
    """A good frame."""

    offset: int
    synced: int  # a position
    payload: bytes

    @property
    def end(self) -> int:
        """Return the offset behind it."""
        return self.offset + FRAME_BYTES + len(self.payload)


@dataclass(frozen=True, slots=True)
class Bad:
    """A place where a frame should be and none is: from `offset` to the next good one, or the end."""

    offset: int
    end: int


def position_of(segment: int, offset: int) -> int:
    """Return the position of an offset in a segment."""
    return segment << OFFSET_BITS | offset


def place_of(position: int) -> tuple[int, int]:
    """Return the segment and the offset in it that a position stands for."""
    return position >> OFFSET_BITS, position & ((1 << OFFSET_BITS) - 1)


def encode_header(header: Header) -> bytes:
    """Return the first bytes of a file."""
    data = _FILE.pack(_FILE_MAGIC, header.segment, header.identity, header.before, header.salt)
    return data + crc32(data).to_bytes(4, "little")


def parse_header(data: bytes) -> Header | None:
    """Return what the first bytes of a file say, None if they are no header."""
    start = data[: HEADER_BYTES - 4]
    if len(data) < HEADER_BYTES or data[: len(_FILE_MAGIC)] != _FILE_MAGIC:
        return None
    if crc32(start) != int.from_bytes(data[HEADER_BYTES - 4 : HEADER_BYTES], "little"):
        return None
    return Header(*_FILE.unpack(start)[1:])


def encode_frame(header: Header, offset: int, synced: int, payload: bytes) -> bytes:
    """Return the frame that carries a payload at an offset of a file."""
    crc = _crc(header, offset, synced, payload)
    return _FRAME.pack(_MAGIC, crc, len(payload), synced) + payload


def scan(header: Header, data: bytes) -> Iterator[Frame | Bad]:
    """Yield the frames of a whole file, and every place where there is none, in order.

    Zeros up to the end are room that was reserved, and are no bad place.
    """
    offset, budget = HEADER_BYTES, SCAN_FACTOR * len(data)
    while offset < len(data):
        frame = _parse(header, data, offset)
        if frame is not None:
            yield frame
            offset = frame.end
            continue
        if data[offset:] == bytes(len(data) - offset):
            return
        following, budget = _find(header, data, offset + 1, budget)
        yield Bad(offset, following)
        offset = following


def _find(header: Header, data: bytes, offset: int, budget: int) -> tuple[int, int]:
    """Return where the next good frame begins, else the end; and how many bytes may be tried yet."""
    while budget > 0:
        offset = data.find(_MAGIC, offset)
        if offset < 0:
            break
        if _parse(header, data, offset) is not None:
            return offset, budget
        budget -= FRAME_BYTES + _size(data, offset)
        offset += 1
    return len(data), budget


def _size(data: bytes, offset: int) -> int:
    """Return how many bytes the payload of a frame would have, if they are all there; else 0."""
    if len(data) - offset < FRAME_BYTES:
        return 0
    size = int(_FRAME.unpack_from(data, offset)[2])
    return size if size <= len(data) - offset - FRAME_BYTES else 0


def _parse(header: Header, data: bytes, offset: int) -> Frame | None:
    if len(data) - offset < FRAME_BYTES:
        return None
    magic, crc, size, synced = _FRAME.unpack_from(data, offset)
    start = offset + FRAME_BYTES
    if magic != _MAGIC or size > len(data) - start:
        return None
    payload = data[start : start + size]
    if crc != _crc(header, offset, synced, payload):
        return None
    return Frame(offset, synced, payload)


def _crc(header: Header, offset: int, synced: int, payload: bytes) -> int:
    covered = _COVERED.pack(position_of(header.segment, offset), len(payload), synced)
    return crc32(payload, crc32(covered, header.salt))
