"""The bytes of anybody's history.jsonl become a table, a block at a time. It opens no file.

What the lines mean is the contract of kvlab/history.py; this is the way in for histories of millions
of operations, and of recorders that are not ours.

1. Memory is for columns, distinct texts and one block. No line is kept.
2. Fields that nobody knows are passed over. Numbers stand for their texts as keys, values, clients
   and versions. `op` may be missing where a client does one thing at a time.
3. A last line that was cut short is left out, and that is said. Every other line that is not an
   event, or contradicts those before it, is an error that names the line.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Meta, UnsetType

from kvlab.check.columns import ABSENT, F_CODES, Names, Table, numbers
from kvlab.check.pairing import EVENT_CODES, UNTOLD, Events, pair_events
from kvlab.errors import SpecError
from kvlab.history import PROBLEMS_SHOWN, SHOWN_CHARS, EventType, Function, version_of

LINE_BYTES_MAX = 64 << 20  # a longer one is no event
NUMBER_MAX = 2**62
PLAIN_DIGITS_MAX = 18  # of versions that fit into 63 bits

Number = Annotated[int, Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)]
Text = str | int | float | bool


class _Line(msgspec.Struct, gc=False):
    """One line as the contract has it."""

    t_us: Number
    client: str
    op: Number
    type: EventType
    f: Function
    key: str
    value: str | UnsetType | None = UNSET
    expected: str | UnsetType | None = UNSET
    node: str = ""
    version: str = ""
    degraded: bool = False
    error: str = ""
    final: bool = False


class _LooseLine(msgspec.Struct, gc=False):
    """One line as others may write it."""

    t_us: Number | float
    client: Text
    type: EventType
    f: Function
    key: Text
    op: Number | str | UnsetType = UNSET
    value: Text | UnsetType | None = UNSET
    expected: Text | UnsetType | None = UNSET
    node: Text | None = None
    version: Text | None = None
    degraded: bool | None = None
    error: Text | None = None
    final: bool | None = None


class Reading(msgspec.Struct, frozen=True):
    """A history that was read, and what a person should know of how it was."""

    table: Table
    notes: tuple[str, ...]


def read_history(blocks: Iterable[bytes], *, name: str = "history") -> Reading:
    """Read a history from the bytes of its file, in pieces of any size.

    Raises SpecError that names every wrong line, up to 20.
    """
    reader = _Reader(name)
    rest = b""
    for block in blocks:
        rest += block
        end = rest.rfind(b"\n") + 1
        if end:
            reader.add(rest[:end])
            rest = rest[end:]
        elif len(rest) > LINE_BYTES_MAX:
            reader.complain(reader.lines + 1, f"longer than {LINE_BYTES_MAX >> 20} mb")
            reader.fail()
    if rest.strip():
        reader.add_last(rest)
    return reader.finish()


class _Reader:
    def __init__(self, name: str) -> None:
        self.lines = 0  # read so far
        self._name = name
        self._decoder = msgspec.json.Decoder(_Line)
        self._loose = _Loose()
        self._columns = _EventColumns()
        self._steps: list[tuple[int, int]] = []  # (event, lines more than events from there on)
        self._problems: list[str] = []
        self._notes: list[str] = []

    def add(self, block: bytes) -> None:
        """Read whole lines."""
        count = block.count(b"\n")
        try:
            lines = self._decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            lines = []
        if len(lines) == count:
            self.lines += count
            self._columns.add(lines)
            return
        for line in block.split(b"\n")[:-1]:
            self._add_line(line)

    def add_last(self, line: bytes) -> None:
        """Read what stands after the last newline: an event, or the beginning of one."""
        try:
            self._loose.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if self._columns.count:
                self._notes.append(f"line {self.lines + 1} was cut short and is left out")
            else:
                self.complain(self.lines + 1, _shown(error, line))
        else:
            self._add_line(line)

    def _add_line(self, line: bytes) -> None:
        self.lines += 1
        if not line.strip():
            self._steps.append((self._columns.count, self.lines - self._columns.count))
            return
        try:
            self._columns.add([self._loose.line(line)])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.complain(self.lines, _shown(error, line))
            if len(self._problems) >= PROBLEMS_SHOWN:
                self.fail()

    def complain(self, line: int, problem: str) -> None:
        """Note what is wrong with a line."""
        self._problems.append(f"{self._name}, line {line}: {problem}")

    def fail(self) -> None:
        """Raise what is wrong."""
        raise SpecError(
            f"{self._name}: not a history of JSON lines",
            problems=tuple(self._problems),
            hint="docs/howto/check.md shows what a line is made of",
        )

    def finish(self) -> Reading:
        """Match invocations with completions."""
        if self._problems:
            self.fail()
        events = self._columns.events()
        table, problems = pair_events(events)
        if problems:
            raise SpecError(
                f"{self._name}: events contradict each other",
                problems=tuple(
                    f"{self._name}, line {self._line_of(place)}: {problem}"
                    for place, problem in problems
                ),
            )
        open_ops = int(np.count_nonzero(table.columns.end_us < 0))
        if open_ops == 1:
            self._notes.append("1 operation never completed: it may have happened")
        elif open_ops:
            self._notes.append(f"{open_ops} operations never completed: they may have happened")
        return Reading(table, tuple(self._notes))

    def _line_of(self, event: int) -> int:
        step = bisect_right(self._steps, (event, NUMBER_MAX)) - 1
        return event + (self._steps[step][1] if step >= 0 else 0) + 1


def _shown(error: Exception, line: bytes) -> str:
    return f"{error}: {line[:SHOWN_CHARS].decode(errors='replace')}"


class _Loose:
    """Reads single lines of other recorders."""

    def __init__(self) -> None:
        self.decode = msgspec.json.Decoder(_LooseLine).decode
        self._ops: dict[str, int] = {}
        self._begun: Counter[str] = Counter()

    def line(self, data: bytes) -> _Line:
        """Return a line as the contract has it. Raises msgspec.DecodeError."""
        given = self.decode(data)
        client = str(_text(given.client))
        return _Line(
            t_us=int(given.t_us),
            client=client,
            op=self._number(given, client),
            type=given.type,
            f=given.f,
            key=str(_text(given.key)),
            value=_text(given.value),
            expected=_text(given.expected),
            node=str(_text(given.node) or ""),
            version=str(_text(given.version) or ""),
            degraded=bool(given.degraded),
            error=str(_text(given.error) or ""),
            final=bool(given.final),
        )

    def _number(self, given: _LooseLine, client: str) -> int:
        """Return the number of an operation that has one, a name, or only its client."""
        if isinstance(given.op, int):
            return given.op
        if isinstance(given.op, str):
            return -1 - self._ops.setdefault(given.op, len(self._ops))
        self._begun[client] += given.type == "invoke"
        return self._begun[client]


def _text(value: Text | UnsetType | None) -> str | UnsetType | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _versions(texts: list[str]) -> list[int]:
    """Return the numbers of versions, as `version_of` does, faster where all are plain numbers."""
    joined = "".join(texts)
    if joined.isascii() and joined.isdecimal() and max(map(len, texts)) <= PLAIN_DIGITS_MAX:
        return [int(text or 0) for text in texts]
    return [version_of(text) for text in texts]


class _EventColumns:
    """Events as arrays, block by block."""

    def __init__(self) -> None:
        self.count = 0
        self._keys, self._clients = Names(), Names()
        # What was not told has a number of its own until events are paired.
        self._values = Names(None, UNSET)
        self._nodes, self._errors = Names(""), Names("")
        self._parts: dict[str, list[npt.NDArray[Any]]] = {}
        assert self._values.number[None] == ABSENT
        assert self._values.number[UNSET] == UNTOLD

    def add(self, lines: Sequence[_Line]) -> None:
        """Take a few events."""
        self.count += len(lines)
        keys, values, clients = self._keys.number, self._values.number, self._clients.number
        nodes, errors = self._nodes.number, self._errors.number
        made: dict[str, npt.NDArray[Any]] = {
            "t_us": np.array([line.t_us for line in lines], np.int64),
            "op": np.array([line.op for line in lines], np.int64),
            "type": np.array([EVENT_CODES[line.type] for line in lines], np.int8),
            "f": np.array([F_CODES[line.f] for line in lines], np.int8),
            "key": np.array([keys[line.key] for line in lines], np.int32),
            "client": np.array([clients[line.client] for line in lines], np.int32),
            "value": np.array([values[line.value] for line in lines], np.int32),
            "expected": np.array([values[line.expected] for line in lines], np.int32),
            "node": np.array([nodes[line.node] for line in lines], np.int32),
            "error": np.array([errors[line.error] for line in lines], np.int32),
            "version": numbers(_versions([line.version for line in lines])),
            "final": np.array([line.final for line in lines], np.bool_),
            "degraded": np.array([line.degraded for line in lines], np.bool_),
        }
        for field, array in made.items():
            self._parts.setdefault(field, []).append(array)

    def events(self) -> Events:
        """Return all events; the blocks are given up."""
        if not self._parts:
            self.add([])
        values = self._values.texts()
        values[UNTOLD] = None
        return Events(
            keys=self._keys.texts(),
            values=values,
            clients=self._clients.texts(),
            nodes=self._nodes.texts(),
            errors=self._errors.texts(),
            **{field: np.concatenate(self._parts.pop(field)) for field in list(self._parts)},
        )
