"""The places of a RESP batch's replies, what `answer` is for JSON: outcomes in, bytes at the end.

It decides nothing about an operation. A GET or SET has one place that holds the bytes of its reply; a
command of several operations has one place for each, all holding the same Several.

Invariants:

1. A reply that claims success claims it for every key of its command.
2. An error whose code is not UNKNOWN says that nothing was changed, also where a command has several
   keys: one that was done in part says UNKNOWN.
"""

from __future__ import annotations

from typing import Any

from kvlab.kv.answer import LIGHT_BYTES_MAX, Batch
from kvlab.storage.memory import Plain, Value
from kvlab.wire.json_lines import Reply
from kvlab.wire.resp_encode import NULL, OK, array, bulk, error, integer, simple
from kvlab.wire.value import Expiring, live

SEVERAL_BYTES_MAX = 16 * 1024 * 1024  # of values in the reply to one command


class RespBatch(Batch):
    """The replies to one read of a RESP client's socket, all in one version of the protocol."""

    __slots__ = ("protocol",)

    def __init__(self, conn: Any, protocol: int, now_us: int) -> None:
        super().__init__(conn, "", now_us, camel=False)
        self.replies: list[Any] = []  # bytes, or the Several whose operation has this place
        self.protocol = protocol

    def begin(self, several: Several) -> Several:
        """Tell a command of several operations where they will stand: after all that is here."""
        several.first = len(self.replies)
        self.plain = False
        return several

    def acknowledge(self, key: str) -> None:  # noqa: ARG002 - keys are not repeated in RESP
        """Add the reply of a write that succeeds unless it is changed later."""
        self.replies.append(OK)

    def fail(self, index: int, key: str, code: str, error: str) -> None:  # noqa: ARG002
        """Make the reply at `index`, or this operation of it, an error."""
        reply = self.replies[index]
        if isinstance(reply, bytes):
            self.replies[index] = failure(code, error)
        else:
            reply.failures[index - reply.first] = (code, error)

    def answer(self, index: int, key: str, value: Value | None) -> None:  # noqa: ARG002
        """Take the answer of a read, or None: there is no such key. It may come again, newer."""
        reply = self.replies[index]
        plain = live(value, self.now_us)
        if not isinstance(reply, bytes):
            at_us = value.at_us if type(value) is Expiring else 0
            reply.take(index - reply.first, plain, at_us)
            self.heavy_bytes += reply.take_weight()
            return
        if plain is None:
            self.replies[index] = NULL[self.protocol]
            return
        data = as_bytes(plain)
        if len(data) > LIGHT_BYTES_MAX:
            self.heavy_bytes += len(data)
        self.replies[index] = bulk(data)

    def full(self, index: int, key: str) -> Reply:  # noqa: ARG002
        """Return a reply with fields for what RESP has no room for; it is not looked at again."""
        return Reply("RESPONSE", "", "", "", "SUCCESS", "")

    def encode(self) -> bytes:
        """Return all replies as bytes, in order."""
        if self.plain:
            return b"".join(self.replies)
        return b"".join(
            reply if isinstance(reply, bytes) else reply.encode(self.protocol)
            for index, reply in enumerate(self.replies)
            if isinstance(reply, bytes) or reply.first == index
        )


class Several:
    """The outcomes of one command's operations, one for each of its keys, and the reply they make."""

    def __init__(self, count: int) -> None:
        self.first = 0  # the place of the first operation in the batch
        self.outcomes: list[Any] = [self.start] * count
        self.failures: dict[int, tuple[str, str]] = {}  # operation -> (code, sentence)

    start: Any = None
    """The outcome of an operation that nothing was said about."""

    changes = False
    """Whether the command writes."""

    def take(self, place: int, value: Plain | None, at_us: int) -> None:  # noqa: ARG002
        """Keep what was found at one key, and when it ends (0: it stays)."""
        self.outcomes[place] = value is not None

    def take_weight(self) -> int:
        """Return the bytes of values that were taken since the last call."""
        return 0

    def encode(self, protocol: int) -> bytes:
        """Return the reply of the whole command."""
        return self.failed() if self.failures else self.reply(protocol)

    def reply(self, protocol: int) -> bytes:
        """Return the reply where all operations succeeded."""
        raise NotImplementedError

    def failed(self) -> bytes:
        """Return the error where some did not. The first key that failed is the one it is about."""
        place = min(self.failures)
        code, sentence = self.failures[place]
        if self.changes:
            unsure = [at for at, (one, _) in self.failures.items() if one == "UNKNOWN"]
            done = sum(
                bool(outcome) and at not in self.failures
                for at, outcome in enumerate(self.outcomes)
            )
            count = len(self.outcomes)
            if (unsure or done) and count > 1:
                place = min(unsure, default=place)
                code, sentence = (
                    "UNKNOWN",
                    (
                        f"{done} of {count} keys were changed, {len(unsure)} may have been; "
                        f"key {place + 1}: {' '.join(self.failures[place])}"
                    ),
                )
        return failure(code, sentence)


class Values(Several):
    """MGET: the values in the order of the keys."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._bytes = 0
        self._new = 0

    def take(self, place: int, value: Plain | None, at_us: int) -> None:  # noqa: ARG002
        """Keep a value, unless all together are too many bytes for one reply."""
        before = self.outcomes[place]
        data = None if value is None else as_bytes(value)
        size = len(data or b"")
        self._bytes += size - len(before or b"")
        self._new += size
        if self._bytes > SEVERAL_BYTES_MAX:
            self.failures[place] = (
                "TOO_LARGE",
                f"these values have more than {SEVERAL_BYTES_MAX} bytes; ask for fewer keys at once",
            )
            self._bytes -= size
            data = None
        self.outcomes[place] = data

    def take_weight(self) -> int:
        """Return the bytes of values that were taken since the last call."""
        new, self._new = self._new, 0
        return new

    def reply(self, protocol: int) -> bytes:
        """Return the values."""
        null = NULL[protocol]
        return array([null if one is None else bulk(one) for one in self.outcomes])


class Count(Several):
    """EXISTS: how many of the keys are there."""

    start = False

    def reply(self, protocol: int) -> bytes:  # noqa: ARG002 - numbers are alike in both
        """Return the number."""
        return integer(sum(self.outcomes))


class Deleted(Count):
    """DEL: how many of the keys were there. One is taken for there unless the replicas deny it."""

    start = True
    changes = True


class Written(Several):
    """MSET: all keys were written."""

    start = True
    changes = True

    def reply(self, protocol: int) -> bytes:  # noqa: ARG002
        """Return the acknowledgement."""
        return OK


class Length(Several):
    """STRLEN: how many bytes a value has; 0 where there is none."""

    start = 0

    def take(self, place: int, value: Plain | None, at_us: int) -> None:  # noqa: ARG002
        """Keep the number of bytes."""
        self.outcomes[place] = 0 if value is None else len(as_bytes(value))

    def reply(self, protocol: int) -> bytes:  # noqa: ARG002
        """Return the number."""
        return integer(self.outcomes[0])


class Kind(Several):
    """TYPE: all values are strings."""

    def reply(self, protocol: int) -> bytes:  # noqa: ARG002
        """Return the name."""
        return simple("string" if self.outcomes[0] else "none")


class Remaining(Several):
    """TTL and its kin: for how long a value stays, or until when; -1: for ever, -2: it is not there."""

    start = -2

    def __init__(self, unit_us: int, since_us: int) -> None:
        super().__init__(1)
        self._unit_us = unit_us
        self._since_us = since_us

    def take(self, place: int, value: Plain | None, at_us: int) -> None:
        """Keep when it ends."""
        self.outcomes[place] = -2 if value is None else at_us or -1

    def reply(self, protocol: int) -> bytes:  # noqa: ARG002
        """Return the number of units, rounded as Redis does."""
        at_us = self.outcomes[0]
        if at_us < 0:
            return integer(at_us)
        return integer((at_us - self._since_us + self._unit_us // 2) // self._unit_us)


def failure(code: str, sentence: str) -> bytes:
    """Return an error of the store: its code is the first word."""
    return error(f"{code} {sentence}")


def as_bytes(value: Plain) -> bytes:
    """Return a value as it was written, by whichever protocol."""
    return value.encode() if isinstance(value, str) else value


def as_stored(value: bytes) -> Plain:
    """Return a value as the table keeps it: text where it is UTF-8, so that JSON shows it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
