"""Plain requests where one node alone holds every range: the hot path of a standalone node.

It is `coordinator` without anybody to ask, written for a batch: what the batch shares is looked up
once, and runs of equal replies are written at once. Levels, quorums and everything unusual are not
here. The reply of a value that was read is kept beside it until the value changes.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any

import msgspec

from kvlab.kv.answer import LIGHT_BYTES_MAX, MISSING, REPLY_BYTES_MAX, as_text, failure
from kvlab.kv.state import State
from kvlab.kv.version import STEP
from kvlab.ring.slot import slot_of
from kvlab.storage.memory import Plain, Record
from kvlab.wire.json_lines import (
    PlainRequest,
    encode_fragments,
    encode_replies,
    encode_success,
    fragment,
    rfc3339,
    success_tail,
)
from kvlab.wire.value import live

_encode = msgspec.json.Encoder().encode
_HEAD = b'{"type":"RESPONSE","key":'

NO_VALUE = 'SET needs a "value" that is a string'

# What a run of replies is made of.
_FOUND = 0  # fragments of values
_DONE = 1  # keys of confirmed writes
_FAILED = 2  # full replies


class Alone:
    """The hot path of one node; it may be used while `state.solo`.

    `serve` looks at a single request first: a client that waits for each reply sends batches of
    one, and there every step less can be seen in the rate.
    """

    __slots__ = (
        "_ack",
        "_clock",
        "_ms",
        "_ranges",
        "_shift",
        "_sizes",
        "_stamp",
        "_state",
        "_table",
        "_tail",
    )

    def __init__(self, state: State) -> None:
        self._state = state
        self._clock = state.clock
        self._table = state.table
        self._ranges = state.table.ranges
        self._sizes = state.table.sizes
        self._shift = state.shift
        self._ms = -1
        self._stamp = ""  # this millisecond as text, and the ends of replies that carry it
        self._tail = b""
        self._ack = b""

    def serve(self, items: Sequence[PlainRequest], now_us: int, *, camel: bool) -> bytes:
        """Do a batch and return its replies, in order. Nothing here may raise half way.

        What would make the replies heavier than REPLY_BYTES_MAX is left in `state.rest`.
        """
        if now_us // 1000 != self._ms:
            self._turn(now_us)
        self._state.requests += len(items)
        if len(items) == 1 and not camel:
            request = items[0]
            text = request.key
            key = text.encode()
            # 123 is "{": looking for a number in bytes is many times faster than for b"{".
            index = (slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383) >> self._shift
            records = self._ranges[index]
            record = records.get(key)
            if record is not None and record[1] is not None:
                kind = request.type
                if kind == "GET":
                    if record[2] is not None:
                        return record[2] + self._tail
                elif kind == "SET" and (value := request.value) is not None:
                    version = self._clock.next(now_us)
                    if record[0] < version:
                        self._sizes[index] += len(value) - len(record[1])
                        records[key] = (version, value, None)
                        if self._table.journal is not None:
                            self._table.journal.records += (key, version, value)
                        return b"%b%b%b" % (_HEAD, _encode(text), self._ack)
        return self._many(items, now_us, camel=camel)

    def _turn(self, now_us: int) -> None:
        """Make what all replies of one millisecond share."""
        self._ms = now_us // 1000
        self._stamp = rfc3339(now_us)
        self._tail = success_tail(self._stamp, False)
        self._ack = b',"value":""' + self._tail

    def _many(self, items: Sequence[PlainRequest], now_us: int, *, camel: bool) -> bytes:
        """Do a batch of any size."""
        state, stamp = self._state, self._stamp
        table, shift = state.table, state.shift
        ranges, sizes, journal = table.ranges, table.sizes, table.journal
        version = 0  # of the last write; a batch that only reads takes none
        parts: list[bytes] = []
        run: list[Any] = []
        running = _FOUND
        heavy_bytes = 0
        piece: Any
        each = iter(items)
        for request in each:
            text = request.key
            key = text.encode()
            # 123 is "{": looking for a number in bytes is many times faster than for b"{".
            slot = slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383
            index = slot >> shift
            record = ranges[index].get(key)
            kind = request.type
            if kind == "GET":
                value = None if record is None else live(record[1], now_us)
                if record is not None and value is not None:
                    wanted, piece = _FOUND, record[2]
                    if piece is None or camel:
                        piece = _prepare(ranges[index], text, key, record, value, camel=camel)
                        heavy_bytes += len(piece)
                        if heavy_bytes > REPLY_BYTES_MAX:
                            state.rest = list(each)  # this one is the last of the batch
                            state.requests -= len(state.rest)
                else:
                    wanted, piece = _FAILED, failure(text, "NOT_FOUND", MISSING, stamp, camel=camel)
            else:
                version = version + STEP if version else state.clock.reserve(len(items), now_us)
                value = request.value
                if kind == "SET" and value is not None:
                    if record is None or record[1] is None or record[0] >= version:
                        _put(state, index, key, version, value, now_us)
                    else:
                        sizes[index] += len(value) - len(record[1])
                        ranges[index][key] = (version, value, None)
                        if journal is not None:
                            journal.records += (key, version, value)
                    wanted, piece = _DONE, text
                else:
                    wanted, piece = _unusual(state, request, index, key, version, now_us, stamp)
            if wanted != running:
                if run:
                    parts.append(_write(run, running, stamp, camel=camel))
                    run = []
                running = wanted
            run.append(piece)
        last = _write(run, running, stamp, camel=camel)
        return b"".join((*parts, last)) if parts else last


def _put(
    state: State, index: int, key: bytes, version: int, value: str | None, now_us: int
) -> None:
    """Write so that it is the last, also above what a clock far ahead of this one has written."""
    table = state.table
    if not table.put(index, key, version, value):
        version = state.clock.above(table.floor(index, key), now_us)
        table.put(index, key, version, value)


def _unusual(
    state: State,
    request: PlainRequest,
    index: int,
    key: bytes,
    version: int,
    now_us: int,
    stamp: str,
) -> tuple[int, Any]:
    """Do a DELETE, or refuse a SET without a value."""
    text, camel, table = request.key, request.camel, state.table
    if request.type == "SET":
        state.counters["bad_requests"] += 1
        return _FAILED, failure(text, "BAD_REQUEST", NO_VALUE, stamp, camel=camel)
    record = table.get(index, key)
    if record is None or live(record[1], now_us) is None:
        return _FAILED, failure(text, "NOT_FOUND", MISSING, stamp, camel=camel)
    _put(state, index, key, version, None, now_us)
    return _DONE, text


def _write(run: list[Any], kind: int, stamp: str, *, camel: bool) -> bytes:
    """Return the bytes of a run of equal replies."""
    if kind == _FOUND:
        return encode_fragments(run, stamp, camel)
    if kind == _DONE:
        return encode_success(run, None, stamp, camel)
    return encode_replies(run)


def _prepare(
    records: dict[bytes, Record],
    text: str,
    key: bytes,
    record: Record,
    value: Plain,
    *,
    camel: bool,
) -> bytes:
    """Make the reply of a value that was found, and keep it for the next reader if it stays."""
    piece = fragment(text, as_text(value), camel)
    if not camel and len(value) <= LIGHT_BYTES_MAX and value is record[1]:
        records[key] = (record[0], value, piece)
    return piece
