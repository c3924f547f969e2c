"""Frames between nodes: length-prefixed msgpack, opened by a handshake. Pure bytes <-> values.

It does not know what a node does with a frame, nor who may speak.

A connection opens with MAGIC and one HELLO frame from the dialer; the acceptor answers with HELLO or
REFUSE. After that both sides send TURN frames, at most one per loop turn and direction:

    [TURN, epoch, clock, groups, ack, exceptions, controls]

    epoch       of the sender's cluster map
    clock       the sender's last version, for the receiver's hybrid logical clock
    groups      [[gid, [key, version, value, ...]], ...]; per op by its value:
                text/bytes = write, None = tombstone, READ = read (version is what the asker holds),
                DELETE = tombstone only where a live value is held
    ack         the last gid applied from the receiver: cumulative, 0 for none
    exceptions  [gid, op index, version, value, ...] where the answer is not the silent default
                (write: applied; read: same version; delete: applied); see kv/replica.py
    controls    [[name, ...], ...], rare messages: the map, joins, transfers
"""

from __future__ import annotations

from typing import Any

import msgspec

from kvlab.errors import InfraError

MAGIC = b"\xf3KVL1"
HELLO = 1
REFUSE = 2
TURN = 3
READ = False
DELETE = True
STALE = -1  # the op index of an exception that refuses a whole group: its map is too old

# Above any frame that a node makes (kv/link.py and kv/transfer.py keep far below). A length beyond it
# is rubbish or an attack, and is refused before a byte of it is stored.
FRAME_BYTES_MAX = 128 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder().decode


class FrameError(InfraError):
    """Bytes on a peer link that are no frame; the link cannot go on."""


class Hello(msgspec.Struct, array_like=True):
    """Who speaks, and what it believes.

    `boot` tells one life of a node from the next; `known_boot` is what the sender remembers of the
    receiver (0: nothing), by which a restarted node learns that it was here before.
    """

    kind: int
    cluster: str
    node: str
    boot: int
    epoch: int
    range_count: int
    target: str
    known_boot: int
    address: str


class Refuse(msgspec.Struct, array_like=True):
    """Why a peer does not take the connection; `code` is for programs, `reason` for people."""

    kind: int
    code: str
    reason: str


_decode_hello = msgspec.msgpack.Decoder(Hello).decode
_decode_refuse = msgspec.msgpack.Decoder(Refuse).decode


def encode_frame(value: Any) -> bytes:
    """Return one frame: four bytes of length (big-endian), then msgpack."""
    body = _encoder.encode(value)
    return len(body).to_bytes(4, "big") + body


def encode_raw(value: Any) -> msgspec.Raw:
    """Encode a part of a frame once, for several frames that carry it."""
    return msgspec.Raw(_encoder.encode(value))


def parse_hello(body: bytes) -> Hello | Refuse:
    """Decode the first frame of a connection; raises FrameError on anything else."""
    try:
        kind = _decode(body)[0]
        if kind == HELLO:
            return _decode_hello(body)
        if kind == REFUSE:
            return _decode_refuse(body)
    except (msgspec.MsgspecError, TypeError, IndexError, KeyError) as error:
        raise FrameError(f"not a handshake: {error}") from error
    raise FrameError(f"not a handshake: frame kind {kind!r}")


def parse_turn(body: bytes) -> list[Any]:
    """Decode a TURN frame to its list; raises FrameError on anything else."""
    try:
        frame = _decode(body)
    except msgspec.MsgspecError as error:
        raise FrameError(f"not msgpack: {error}") from error
    if type(frame) is not list or len(frame) != 7 or frame[0] != TURN:
        raise FrameError("not a turn frame")
    return frame


class FrameReader:
    """Cuts a byte stream into frame bodies. Bounded by FRAME_BYTES_MAX plus one read."""

    __slots__ = ("_buffer", "_need")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need = 0  # bytes that must be there before another look is worth it

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they came; return the bodies of all frames that are whole."""
        buffer = self._buffer
        bodies: list[bytes] = []
        if not buffer:
            # The usual case: whole frames in one read, cut without a copy into the buffer.
            position = _cut(data, 0, bodies)
            if position == len(data):
                return bodies
            buffer += data[position:]
        else:
            buffer += data
            if len(buffer) < self._need:
                return bodies
            position = _cut(buffer, 0, bodies)
            del buffer[:position]
        self._need = 4
        if len(buffer) >= 4:
            self._need = 4 + _length(buffer, 0)
        return bodies


def _cut(data: bytes | bytearray, position: int, bodies: list[bytes]) -> int:
    """Append the bodies of the whole frames in `data`; return where the unfinished one begins."""
    end = len(data)
    while end - position >= 4:
        size = _length(data, position)
        if end - position - 4 < size:
            break
        bodies.append(bytes(data[position + 4 : position + 4 + size]))
        position += 4 + size
    return position


def _length(data: bytes | bytearray, position: int) -> int:
    size = int.from_bytes(data[position : position + 4], "big")
    if size > FRAME_BYTES_MAX:
        raise FrameError(f"a frame of {size} bytes; the limit is {FRAME_BYTES_MAX}")
    return size
