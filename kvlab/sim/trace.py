"""What a simulated world tells of itself, as rows of plain words: bytes become what they say.

It draws no picture (`report.lanes` does) and changes nothing in the world that it looks at.

A row is (time in microseconds, kind, source, target, words). Kinds: start, log, fault, undo, skip,
wrong; connect, open, data, eof, hold, lost, reset, break. A version is written as the time of its
making by its writer's clock, in seconds since the world began, and the writer's number: @1.000250/2.

Bytes may arrive in pieces, so what is said on a connection is read per direction: a row stands where
the end of a message arrived. What is held behind a cut is described by itself, as far as it can be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvlab.errors import KvlabError
from kvlab.kv.version import NUMBER_BITS, microseconds
from kvlab.sim.host import START_US
from kvlab.wire.json_lines import JsonReader, Refusal, Reply, ReplyReader, Request
from kvlab.wire.peer import (
    DELETE,
    MAGIC,
    READ,
    STALE,
    Challenge,
    FrameError,
    FrameReader,
    ProofFrame,
    Refuse,
    Sealed,
    parse_handshake,
    parse_turn,
)

ROWS_MAX = 200_000
OPS_SHOWN_MAX = 3
VALUE_SHOWN_MAX = 16
ITEMS_SHOWN_MAX = 4  # requests or replies of one pipeline
ROUTINE = ("digests",)  # controls that all nodes send every second
BEFORE_HELLO = ("challenge", "proof")
QUIET = ("open",)  # what follows from other rows anyway

# What a broken node may say: no frame, or a frame with parts of the wrong shape.
UNREADABLE = (KvlabError, TypeError, ValueError, LookupError, AttributeError)

Row = tuple[int, str, str, str, str]


class Tracer:
    """Takes what the simulator tells (`run(spec, trace=tracer)`) and keeps `rows`."""

    def __init__(self, *, beats: bool = False, rows_max: int = ROWS_MAX) -> None:
        self.rows: list[Row] = []
        self.dropped = 0  # rows beyond `rows_max`
        self._beats = beats  # heartbeats, parts of messages and the like are shown too
        self._rows_max = rows_max
        self._talks: dict[int, _Talk] = {}  # by connection

    def __call__(
        self, now_us: int, kind: str, source: str, target: str, what: Any, connection: int = 0, /
    ) -> None:
        """Take note of one event."""
        if kind in QUIET and not self._beats:
            return
        if kind == "data":
            words = self._talk(connection).heard(source, target, what)
            if not words and not self._beats:
                return
            words = words or f"a heartbeat, or a part: {len(what)} bytes"
        elif kind == "hold":
            words = self._held(source, what, connection)
            if not words and not self._beats:
                return
            words = words or "a heartbeat"
        else:
            kind, words = _plain(kind, source, what)
            if kind in ("reset", "break"):
                self._talks.pop(connection, None)
        if len(self.rows) < self._rows_max:
            self.rows.append((now_us, kind, source, target, words))
        else:
            self.dropped += 1

    def _talk(self, connection: int) -> _Talk:
        talk = self._talks.get(connection)
        if talk is None:
            talk = self._talks[connection] = _Talk()
        return talk

    def _held(self, source: str, what: Any, connection: int) -> str:
        if not isinstance(what, bytes):
            return str(what)
        return self._talk(connection).guessed(source, what)


def _plain(kind: str, source: str, what: Any) -> tuple[str, str]:
    """Return kind and words of what is no message."""
    if kind == "rst":
        return "reset", f"by {source}"
    if kind == "reset":
        return "break", "by a fault"
    if isinstance(what, bytes):
        return kind, f"{len(what)} bytes" if what else ""
    return kind, str(what)


class _Talk:
    """What is said on one connection."""

    def __init__(self) -> None:
        self._dialer = ""  # who spoke first
        self._is_peers = False
        self._ways: dict[str, _Frames | _Documents] = {}  # by who speaks

    def heard(self, source: str, target: str, data: bytes) -> str:
        """Describe the messages that end in a piece of bytes; "" if they say nothing."""
        way = self._way(source, data)
        try:
            return way.read(data)
        except UNREADABLE as error:
            return f"{len(data)} bytes that {target} cannot read: {error}"

    def guessed(self, source: str, data: bytes) -> str:
        """Describe bytes that did not arrive (yet), by themselves."""
        way = self._way(source, data, keep=False)
        try:
            return way.read(data) or ("" if way.is_whole else f"{len(data)} bytes")
        except UNREADABLE:
            return f"{len(data)} bytes"

    def _way(self, source: str, data: bytes, *, keep: bool = True) -> _Frames | _Documents:
        if not self._dialer:
            self._dialer, self._is_peers = source, data[:1] == MAGIC[:1]
        way = self._ways.get(source)
        if way is None or not keep:
            began = way is not None and way.began
            if self._is_peers:
                last = way.last_ack if isinstance(way, _Frames) else -1
                way = _Frames(magic=source == self._dialer and not began, began=began, ack=last)
            else:
                way = _Documents(asks=source == self._dialer)
            if keep:
                self._ways[source] = way
        return way


class _Frames:
    """One direction between nodes: a handshake, then turns."""

    def __init__(self, *, magic: bool, began: bool = False, ack: int = -1) -> None:
        self.began = began  # the handshake is over
        self.last_ack = ack
        self.is_whole = True  # nothing of a message is left
        self._reader = FrameReader()
        self._magic = MAGIC if magic else b""  # still to come

    def read(self, data: bytes) -> str:
        """Describe the frames that end here."""
        if self._magic:
            size = min(len(data), len(self._magic))
            if data[:size] != self._magic[:size]:
                raise FrameError("no handshake")
            data, self._magic = data[size:], self._magic[size:]
        bodies = self._reader.feed(data)
        self.is_whole = sum(len(body) + 4 for body in bodies) == len(data)
        return "; ".join(filter(None, map(self._words, bodies)))

    def _words(self, body: bytes) -> str:
        if not self.began:
            said = _handshake(body)
            self.began = said not in BEFORE_HELLO
            return said
        frame = parse_turn(body)
        _, epoch, _, groups, ack, exceptions, controls = frame
        controls = [one for one in controls if not one or one[0] not in ROUTINE]
        if not groups and not exceptions and not controls and ack in (0, self.last_ack):
            return ""
        words = [f"turn e{epoch}", *_groups(groups)]
        if exceptions:
            words.append(_exceptions(exceptions))
        if ack and ack != self.last_ack:
            words.append(f"ack {ack}")
            self.last_ack = ack
        words += [f"[{_control(control)}]" for control in controls]
        return " ".join(words)


def _handshake(body: bytes) -> str:
    hello = parse_handshake(body)
    if isinstance(hello, Sealed):
        return f"sealed {_handshake(hello.body)}"
    if isinstance(hello, Challenge | ProofFrame):
        return BEFORE_HELLO[isinstance(hello, ProofFrame)]
    if isinstance(hello, Refuse):
        return f"refuse {hello.code}: {hello.reason}"
    known = f", knows boot {_seconds(hello.known_boot)}" if hello.known_boot else ""
    return f"hello {hello.node} boot {_seconds(hello.boot)} e{hello.epoch}{known}"


def _groups(groups: list[Any]) -> list[str]:
    """Describe the groups of a turn: how many, and of few operations what they do."""
    if not groups:
        return []
    flat = [ops for _, ops in groups]
    count = sum(len(ops) // 3 for ops in flat)
    words = [_plural(len(groups), "group"), _plural(count, "op")]
    if len(groups) == 1:
        words[0] = f"group {groups[0][0]}"
    if count <= OPS_SHOWN_MAX:
        shown = [_op(*ops[at : at + 3]) for ops in flat for at in range(0, len(ops), 3)]
        words.append(f"({', '.join(shown)})")
    return words


def _op(key: Any, version: Any, value: Any) -> str:
    name = key.decode(errors="replace") if isinstance(key, bytes) else str(key)
    if value is READ:
        return f"read {name} {_at(version)}"
    if value is DELETE:
        return f"delete {name} {_at(version)}"
    if value is None:
        return f"bury {name} {_at(version)}"
    return f"write {name} {_value(value)} {_at(version)}"


def _at(version: Any) -> str:
    """Write a version so that it can be held against the times of a trace."""
    if type(version) is not int or version <= 0:
        return f"@{version}"
    number = version & ((1 << NUMBER_BITS) - 1)
    return f"@{_seconds(microseconds(version))}/{number}"


def _seconds(wall_us: int) -> str:
    return f"{(wall_us - START_US) / 1e6:.6f}"


def _value(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= VALUE_SHOWN_MAX else text[: VALUE_SHOWN_MAX - 1] + "…"


def _exceptions(flat: list[Any]) -> str:
    """Describe the answers that are not the silent default (kv/replica.py says what they mean)."""
    each = [flat[at : at + 4] for at in range(0, len(flat), 4)]
    words = []
    for gid, index, version, value in each[:OPS_SHOWN_MAX]:
        if index == STALE:
            words.append(f"g{gid} too old for e{version}")
        elif value is None or value is READ:
            words.append(f"g{gid}.{index} {_at(version)}")
        else:
            words.append(f"g{gid}.{index} {_value(value)} {_at(version)}")
    more = f", {len(each) - OPS_SHOWN_MAX} more" if len(each) > OPS_SHOWN_MAX else ""
    return f"but ({', '.join(words)}{more})"


def _control(control: list[Any]) -> str:
    """Name a rare message, and who or what it is about if that is short."""
    name, *rest = control or ["nothing"]
    about = rest[0] if rest else ""
    if isinstance(about, list):
        about = about[0] if about else ""
    if not isinstance(about, int | str | bytes):
        about = ""
    return f"{name} {_value(about)}".rstrip()


class _Documents:
    """One direction between a client and a node: requests, or replies."""

    def __init__(self, *, asks: bool) -> None:
        self.began = True
        self.is_whole = True
        self._reader: JsonReader | ReplyReader = JsonReader() if asks else ReplyReader()

    def read(self, data: bytes) -> str:
        """Describe the documents that end here."""
        items: Iterable[Request | Refusal | Reply] = self._reader.feed(data)
        words = [_request(one) if isinstance(one, Request) else _answer(one) for one in items]
        self.is_whole = self._reader.waiting_bytes == 0
        more = f"; {len(words) - ITEMS_SHOWN_MAX} more" if len(words) > ITEMS_SHOWN_MAX else ""
        return "; ".join(words[:ITEMS_SHOWN_MAX]) + more


def _request(request: Request) -> str:
    parts = [request.type, request.key or "", _value(request.value or "")]
    parts.append(f"({request.level})" if request.level else "")
    return " ".join(filter(None, parts))


def _answer(reply: Reply | Refusal) -> str:
    if isinstance(reply, Refusal):
        return f"{reply.code} {reply.error}"
    said = reply.code or reply.error
    parts = [reply.status, reply.key, said or _value(reply.value)]
    parts.append(_at(int(reply.version)) if reply.version.isdecimal() else "")
    parts.append("(degraded)" if reply.degraded else "")
    return " ".join(filter(None, parts))


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
