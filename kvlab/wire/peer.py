"""Frames between nodes: length-prefixed msgpack, opened by a handshake. Pure bytes <-> values.

It does not know what a node does with a frame, nor who may speak.

A connection opens with MAGIC and one HELLO frame from the dialer; the acceptor answers with HELLO or
REFUSE. With a cluster secret, CHALLENGE and PROOF go before that, and what follows them is SEALED
(kv/proof.py). After that both sides send TURN frames, at most one per loop turn and direction:

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

Invariant: whatever the bytes are, the functions here raise FrameError and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeAlias

import msgspec

from kvlab.errors import InfraError
from kvlab.wire.value import stored

MAGIC = b"\xf3KVL1"
HELLO = 1
REFUSE = 2
TURN = 3
CHALLENGE = 4
PROOF = 5
SEALED = 6
READ = False
DELETE = True
STALE = -1  # the op index of an exception that refuses a whole group: its map is too old
REFUSED = -2  # the same, of one with writes: the replica can keep none

# Above any frame that a node makes (kv/link.py and kv/transfer.py keep far below). A length beyond it
# is rubbish or an attack, and is refused before a byte of it is stored.
FRAME_BYTES_MAX = 128 * 1024 * 1024
HELLO_BYTES_MAX = 4096  # what a stranger may make us keep before it has introduced itself
NONCE_BYTES = 32
MAC_BYTES = 32  # of SHA-256
ID_LENGTH_MAX = 64  # as on the command line
NAME_LENGTH_MAX = 256  # of a cluster's name and of an address
INT_MAX = 2**63 - 1  # epochs, versions, lives: what a signed word holds

# Text that is not UTF-8 is a ValueError, nesting beyond all reason a RecursionError.
_UNDECODABLE = (ValueError, RecursionError)
_PART_TYPES = [int, int, int, list, int, list, list]

_encoder = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder().decode


class FrameError(InfraError):
    """Bytes on a peer link that are no frame; the link cannot go on."""


Id = Annotated[str, msgspec.Meta(max_length=ID_LENGTH_MAX)]
Name = Annotated[str, msgspec.Meta(max_length=NAME_LENGTH_MAX)]
Address = Annotated[str, msgspec.Meta(max_length=NAME_LENGTH_MAX, pattern=r"^\S+:\d{1,5}$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)]


class Hello(msgspec.Struct, array_like=True):
    """Who speaks, and what it believes.

    `boot` tells one life of a node from the next; `known_boot` is what the sender remembers of the
    receiver (0: nothing), by which a restarted node learns that it was here before.
    """

    kind: int
    cluster: Name
    node: Annotated[Id, msgspec.Meta(min_length=1)]
    boot: Annotated[int, msgspec.Meta(ge=1, le=INT_MAX)]
    epoch: Count
    range_count: Count
    target: Id
    known_boot: Count
    address: Address


class Refuse(msgspec.Struct, array_like=True):
    """Why a peer does not take the connection; `code` is for programs, `reason` for people."""

    kind: int
    code: str
    reason: str


class Challenge(msgspec.Struct, array_like=True):
    """A number that is used once, for the other side to prove with that it knows the secret."""

    kind: int
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


class ProofFrame(msgspec.Struct, array_like=True):
    """What only somebody who knows the secret can make of both challenges."""

    kind: int
    mac: Annotated[bytes, msgspec.Meta(min_length=MAC_BYTES, max_length=MAC_BYTES)]


class Sealed(msgspec.Struct, array_like=True):
    """A HELLO or REFUSE frame with a proof that the other side of this very handshake made it."""

    kind: int
    mac: Annotated[bytes, msgspec.Meta(min_length=MAC_BYTES, max_length=MAC_BYTES)]
    body: bytes


Handshake: TypeAlias = Hello | Refuse | Challenge | ProofFrame | Sealed

_HANDSHAKES: dict[int, Callable[[bytes], Handshake]] = {
    HELLO: msgspec.msgpack.Decoder(Hello).decode,
    REFUSE: msgspec.msgpack.Decoder(Refuse).decode,
    CHALLENGE: msgspec.msgpack.Decoder(Challenge).decode,
    PROOF: msgspec.msgpack.Decoder(ProofFrame).decode,
    SEALED: msgspec.msgpack.Decoder(Sealed).decode,
}


def encode_frame(value: Any) -> bytes:
    """Return one frame: four bytes of length (big-endian), then msgpack."""
    body = _encoder.encode(value)
    return len(body).to_bytes(4, "big") + body


def encode_raw(value: Any) -> msgspec.Raw:
    """Encode a part of a frame once, for several frames that carry it."""
    return msgspec.Raw(_encoder.encode(value))


def encode_body(value: Any) -> bytes:
    """Return the body of a frame, without its length."""
    return _encoder.encode(value)


def parse_handshake(body: bytes) -> Handshake:
    """Decode a frame that comes before the first TURN; raises FrameError on anything else."""
    try:
        decode = _HANDSHAKES.get(_decode(body)[0])
        if decode is not None:
            return decode(body)
    except (*_UNDECODABLE, TypeError, LookupError) as error:
        raise FrameError(f"not a handshake: {error}") from error
    raise FrameError("not a handshake: another kind of frame")


def parse_turn(body: bytes) -> list[Any]:
    """Decode a TURN frame to its list; raises FrameError on anything else."""
    try:
        frame = _decode(body)
    except _UNDECODABLE as error:
        raise FrameError(f"not msgpack: {error}") from error
    if type(frame) is not list or list(map(type, frame)) != _PART_TYPES:
        raise FrameError("not a turn frame")
    if frame[0] != TURN or not 0 <= frame[1] <= INT_MAX:
        raise FrameError("not a turn frame, or an epoch that cannot be")
    return frame


def records_of(flat: list[Any]) -> Iterator[tuple[bytes, int, Any]]:
    """Yield (key, version, value) of a flat list; raises FrameError at what cannot be a record."""
    if len(flat) % 3:
        raise FrameError("a list of records that ends in the middle of one")
    each = iter(flat)
    for key, version, value in zip(each, each, each, strict=True):
        if type(key) is not bytes or not is_version(version):
            raise FrameError("a record is a key, a version and a value")
        try:
            yield key, version, stored(value)
        except ValueError as error:
            raise FrameError(f"a record without a value: {error}") from error


def is_version(number: Any) -> bool:
    """Tell whether a part of a frame can be a version, an epoch or another count."""
    return type(number) is int and 0 <= number <= INT_MAX


class FrameReader:
    """Cuts a byte stream into frame bodies. Bounded by FRAME_BYTES_MAX plus one read.

    The first `strange` frames have a bound of their own: they come from somebody unknown.
    """

    __slots__ = ("_buffer", "_need", "_strange")

    def __init__(self, strange: int = 0) -> None:
        self._buffer = bytearray()
        self._strange = strange  # frames that are still to come from somebody unknown
        self._need = 0  # bytes that must be there before another look is worth it

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they came; return the bodies of all frames that are whole."""
        if self._strange:
            return self._feed_strange(data)
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

    def _feed_strange(self, data: bytes) -> list[bytes]:
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        while self._strange and len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if size > HELLO_BYTES_MAX:
                raise FrameError(f"a first frame of {size} bytes; the limit is {HELLO_BYTES_MAX}")
            if len(buffer) < 4 + size:
                return bodies
            bodies.append(bytes(buffer[4 : 4 + size]))
            del buffer[: 4 + size]
            self._strange -= 1
        if not self._strange and buffer:
            rest = bytes(buffer)
            buffer.clear()
            bodies += self.feed(rest)
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
