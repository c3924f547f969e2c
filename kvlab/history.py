"""What clients did: events, one JSON line each, and the operations that pairs of events make.

It opens no file and reads no clock: bytes and times go in and out; lab and cli hold the files.

1. Lines are in real-time order; `i` is the number of the line, counted from 0.
2. An operation is (client, op). It has one invocation and at most one completion after it.
3. A missing completion means `info`: the operation may have happened, and may still happen.
4. A written value is in the invocation; a read value in the completion, null for an absent key. The
   completion of an incr or append may tell what it made: the sum, the length of the text in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from kvlab.errors import SpecError

Outcome = Literal["ok", "fail", "info"]
EventType = Literal["invoke", "ok", "fail", "info"]
Function = Literal["get", "set", "delete", "cas", "incr", "append"]

MADE = ("incr", "append")
"""Functions that write what depends on what is there, and may be told what they made."""
BUFFER_BYTES = 1 << 16  # encoded events that wait in memory before they go to the sink
PROBLEMS_SHOWN = 20  # wrong lines named in one error
SHOWN_CHARS = 80  # of a wrong line
VERSION_DIGITS_MAX = 40  # twice as many as 64 bits need; more is no version that anybody counts
MISSING_TEXT = "Key does not exist"
MISSING = "NOT_FOUND"
UNCERTAIN_CODE = "UNKNOWN"
BAD_REPLY = "bad reply"
KIND_CHARS = 60  # of an error text that stands for a kind


class Event(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    """One line of history.jsonl. Unset fields are not written; unknown fields are not kept."""

    i: int = -1
    t_us: int
    client: str
    op: int
    type: EventType
    f: Function
    key: str
    value: str | UnsetType | None = UNSET
    expected: str | UnsetType | None = UNSET
    node: str = ""
    intended_us: int | UnsetType = UNSET
    version: str = ""
    degraded: bool = False
    error: str = ""
    final: bool = False


class Op(msgspec.Struct, gc=False):
    """One operation: an invocation and what became of it.

    `start` and `end` are the places of its events in the order of the history; an operation that
    never completed for certain (`info`) has `end` None. `value` is what was written, or read.
    `version` is the place in the store's own order of writes that the completion told, greater is
    newer; 0 when it told none, or one that is not a decimal number and so has no order here.
    `result` is what an incr or append that is ok was told: the sum, the length in bytes.
    Checkers make millions of these by place (check/columns.py): keep the order of the fields.
    """

    client: str
    op: int
    f: Function
    key: str
    value: str | None
    expected: str | None
    outcome: Outcome
    start: int
    end: int | None
    start_us: int
    end_us: int | None
    node: str = ""
    error: str = ""
    final: bool = False
    degraded: bool = False
    version: int = 0
    result: str | None = None


class History(msgspec.Struct, frozen=True):
    """Operations in the order of their invocations."""

    ops: tuple[Op, ...]

    def by_key(self) -> dict[str, list[Op]]:
        """Operations of each key, in the order of their invocations."""
        keys: dict[str, list[Op]] = {}
        for op in self.ops:
            keys.setdefault(op.key, []).append(op)
        return keys


class Recorder:
    """Numbers and encodes events, and hands them to `sink` in blocks. Call `flush` at the end."""

    def __init__(self, sink: Callable[[bytes], object], *, first: int = 0) -> None:
        self.count = first
        self._sink = sink
        self._encode_into = msgspec.json.Encoder().encode_into
        self._buffer = bytearray()

    def add(self, event: Event) -> None:
        """Write one event; its `i` is set here."""
        event.i = self.count
        self.count += 1
        buffer = self._buffer
        self._encode_into(event, buffer, len(buffer))
        buffer += b"\n"
        if len(buffer) >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything encoded so far to the sink."""
        if self._buffer:
            self._sink(bytes(self._buffer))
            self._buffer.clear()


def encode_events(events: Iterable[Event]) -> bytes:
    """Return the lines of history.jsonl for these events, numbered from 0."""
    blocks: list[bytes] = []
    recorder = Recorder(blocks.append)
    for event in events:
        recorder.add(event)
    recorder.flush()
    return b"".join(blocks)


def decode_events(data: bytes, *, name: str = "history") -> list[Event]:
    """Read the lines of a history. Raises SpecError that names every wrong line (up to 20)."""
    decoder = msgspec.json.Decoder(Event)
    try:
        events = decoder.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise SpecError(
            f"{name}: not a history of JSON lines", problems=_line_problems(data, decoder, name)
        ) from None
    for number, event in enumerate(events):
        event.i = number
    return events


def _line_problems(data: bytes, decoder: msgspec.json.Decoder[Event], name: str) -> tuple[str, ...]:
    problems: list[str] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            shown = line[:SHOWN_CHARS].decode(errors="replace")
            problems.append(f"{name}, line {number}: {error}: {shown}")
        if len(problems) == PROBLEMS_SHOWN:
            break
    return tuple(problems)


def pair(events: Iterable[Event], *, name: str = "history") -> History:
    """Match invocations with completions.

    Raises SpecError when events contradict the contract: time that runs backwards, a completion
    without its invocation, an operation invoked twice, a completion for another key or function.
    """
    ops: list[Op] = []
    opened: dict[tuple[str, int], Op] = {}
    problems: list[str] = []
    last_us = None
    for place, event in enumerate(events):
        if last_us is not None and event.t_us < last_us:
            problems.append(
                f"{name}, event {place}: t_us {event.t_us} is before {last_us} of the event above"
            )
        last_us = event.t_us
        problem = _apply(event, place, ops, opened)
        if problem:
            problems.append(f"{name}, event {place}: {problem}")
        if len(problems) >= PROBLEMS_SHOWN:
            break
    if problems:
        raise SpecError(f"{name}: events contradict each other", problems=tuple(problems))
    return History(tuple(ops))


def _apply(event: Event, place: int, ops: list[Op], opened: dict[tuple[str, int], Op]) -> str:
    """Add one event to the operations; return what is wrong with it, or an empty text."""
    identity = (event.client, event.op)
    if event.type == "invoke":
        if identity in opened:
            return f"client {event.client} invoked op {event.op} twice"
        op = _opened(event, place)
        opened[identity] = op
        ops.append(op)
        return "" if _has_value(event) else f"a {event.f} needs a value"
    found = opened.get(identity)
    if found is None:
        return f"client {event.client} completed op {event.op}, which it did not invoke"
    if found.end_us is not None:
        return f"client {event.client} completed op {event.op} twice"
    if (found.key, found.f) != (event.key, event.f):
        return (
            f"client {event.client} invoked op {event.op} as {found.f} {found.key}"
            f" and completed it as {event.f} {event.key}"
        )
    return _complete(found, event, place)


def _has_value(event: Event) -> bool:
    return event.f not in {"set", "cas"} or isinstance(event.value, str)


def _opened(event: Event, place: int) -> Op:
    return Op(
        client=event.client,
        op=event.op,
        f=event.f,
        key=event.key,
        value=None if event.value is UNSET or event.f == "get" else event.value,
        expected=None if event.expected is UNSET else event.expected,
        outcome="info",
        start=place,
        end=None,
        start_us=event.t_us,
        end_us=None,
        node=event.node,
        final=event.final,
    )


def _complete(op: Op, event: Event, place: int) -> str:
    op.outcome = event.type  # type: ignore[assignment]  # `invoke` was handled by the caller
    op.end_us = event.t_us
    op.node = event.node or op.node
    op.error = event.error
    op.degraded = event.degraded
    op.version = version_of(event.version)
    op.final = op.final or event.final
    if event.type == "info":
        return ""
    op.end = place
    if op.f == "get" and event.type == "ok":
        if event.value is UNSET:
            return "a get that is ok needs a value (null for an absent key)"
        op.value = event.value
    elif op.f in MADE and event.type == "ok" and event.value is not UNSET:
        op.result = event.value
    return ""


def version_of(text: str) -> int:
    """Return the number that a version is, or 0 for one that is none."""
    if not text:
        return 0
    if text.isascii() and text.isdigit() and len(text) <= VERSION_DIGITS_MAX:
        return int(text)
    return 0


def outcome_of(f: str, status: str, code: str, error: str) -> tuple[Outcome, str]:
    """Return what a reply says of an operation, and the kind of error ("" when there is none).

    "No such key" is an answer to a get, and a definite no to a delete. An error text without a code,
    from a server that is not ours, leaves a write `info`.
    """
    if status == "SUCCESS":
        return "ok", ""
    code = code or (MISSING if error == MISSING_TEXT else "")
    if code == MISSING:
        return ("ok" if f == "get" else "fail"), MISSING
    if code:
        return ("info" if code == UNCERTAIN_CODE else "fail"), code
    return ("fail" if f == "get" else "info"), (error or BAD_REPLY)[:KIND_CHARS]


def load(data: bytes, *, name: str = "history") -> History:
    """Read a history from the bytes of its file. Raises SpecError."""
    return pair(decode_events(data, name=name), name=name)
