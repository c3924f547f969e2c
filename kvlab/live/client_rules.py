"""What both clients agree on: addresses, which one is next, what a reply or a failure means.

It holds no socket and reads no clock: `now` is an argument, in seconds.

Invariants:

1. `DefiniteError` is raised only when the operation certainly did not happen: nothing was sent, the
   node said so (every code but UNKNOWN), or the request reads only, so there was nothing to happen.
2. `UncertainError` always carries the code UNKNOWN, and no `DefiniteError` does.
3. A request is repeated only if no byte of it was sent, if it reads only, or if a node that is being
   stopped has said that it did nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from kvlab.errors import ClientError, DefiniteError, UncertainError, UsageError
from kvlab.rng import Rng
from kvlab.wire.json_lines import Reply

DEFAULT_TIMEOUT_S: Final = 2.0
DEFAULT_CONNECT_TIMEOUT_S: Final = 1.0
DEFAULT_PIPELINE_REQUESTS: Final = 1024
PENDING_REQUESTS_MAX: Final = 65_536
"""Requests that may wait for room on a connection; more are refused, not collected."""
LOST_REQUESTS_MAX: Final = 64
"""Unanswered requests after which a connection is given up, however long its queue."""
BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MOST_S: Final = 1.0
BACKOFF_JITTER: Final = 0.5
"""With an Rng, a wait is shortened by up to this share."""
CLOCK_TICK_S: Final = 0.002
"""Loops count in milliseconds, so one that slept for the time asked may wake a little early."""
PORT_MAX: Final = 65_535

MISSING_TEXT: Final = "Key does not exist"
READ_ONLY: Final = frozenset({"GET", "AUTH", "PING", "STATUS", "MAP", "RANGES", "MOVES", "INSPECT"})
"""Request types without an effect: repeating them is safe, and failing means nothing happened."""

UNKNOWN: Final = "UNKNOWN"
NOT_FOUND: Final = "NOT_FOUND"
TIMEOUT: Final = "TIMEOUT"
UNAVAILABLE: Final = "UNAVAILABLE"
ENDING: Final = "ENDING"
BUSY: Final = "BUSY"
BAD_REPLY: Final = "BAD_REPLY"
"""The client's own code: the other side does not speak the protocol."""

_HINTS: Final = {
    "UNAVAILABLE": "too few replicas answer; `kvlab status` shows which nodes are up",
    "TIMEOUT": "the node gave up in time and nothing happened; try again",
    "UNKNOWN": "read the key to see what is there",
    "TOO_LARGE": "a key may have 64kb and a value 8mb",
    "NOAUTH": "tell the password: --password-file FILE, or KVLAB_PASSWORD in the environment",
    "WRONGPASS": "look at KVLAB_PASSWORD, or the file of --password-file",
    "BUSY": "the node is full of requests; try again",
    "ENDING": "that node is being stopped; ask another one",
    "CONFLICT": "read the key, and decide anew by what is there",
    "NOT_A_NUMBER": "write a whole number first: SET key 0",
    "WRONG_MODE": "ask in the namespace that can do it: --ns linear",
    "READ_ONLY": "make room on the disk of that node, or ask another one",
    "BAD_TYPE": "this server does not know the request; is it a kvlab node?",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


AddressLike: TypeAlias = str | tuple[str, int] | Address


def parse_address(given: AddressLike) -> Address:
    """Read "host:port", ":port" (localhost), "[::1]:port" or a pair; raise UsageError."""
    if isinstance(given, Address):
        return given
    if isinstance(given, tuple):
        host, port_text = given[0], str(given[1])
    else:
        host, _, port_text = given.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host and not isinstance(given, tuple):
        raise _bad_address(given)
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) <= PORT_MAX):
        raise _bad_address(given)
    return Address(host or "localhost", int(port_text))


def parse_addresses(given: AddressLike | Iterable[AddressLike]) -> tuple[Address, ...]:
    """Read one address or several, without repeats; raise UsageError if there is none."""
    if isinstance(given, str | Address):
        found: tuple[Address, ...] = (parse_address(given),)
    elif isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], int):
        found = (parse_address((str(given[0]), given[1])),)
    else:
        found = tuple(dict.fromkeys(parse_address(one) for one in given))
    if not found:
        raise UsageError("no address given", hint="write one such as localhost:8081")
    return found


def _bad_address(given: AddressLike) -> UsageError:
    return UsageError(
        f"{given!r} is not an address", hint="write host:port, such as localhost:8081 or [::1]:8081"
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one client; seconds and numbers of requests."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    pipeline_max: int = DEFAULT_PIPELINE_REQUESTS
    pending_max: int = PENDING_REQUESTS_MAX
    lost_max: int = LOST_REQUESTS_MAX

    def __post_init__(self) -> None:
        for name in ("timeout_s", "connect_timeout_s", "pipeline_max", "pending_max", "lost_max"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be greater than 0, not {getattr(self, name)}")

    @property
    def lost_limit(self) -> int:
        """Lost requests that end a connection: they must never fill the pipeline for good."""
        return max(1, min(self.lost_max, self.pipeline_max // 2))


class Route:
    """Which address comes next: the one that works, until it fails, then the one after it.

    Each address has its own back-off: after n failures in a row it rests `first_s * 2**(n-1)`, at
    most `most_s`. Without an Rng the waits are exactly these; with one they are up to half shorter.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        first_s: float = BACKOFF_FIRST_S,
        most_s: float = BACKOFF_MOST_S,
        rng: Rng | None = None,
    ) -> None:
        self.addresses = tuple(addresses)
        self._first_s = first_s
        self._most_s = most_s
        self._rng = rng
        self._at = 0
        self._failures = dict.fromkeys(self.addresses, 0)
        self._not_before = dict.fromkeys(self.addresses, 0.0)
        self._reasons: dict[Address, str] = {}

    def order(self) -> tuple[Address, ...]:
        """Return all addresses, the preferred one first."""
        return self.addresses[self._at :] + self.addresses[: self._at]

    def due(self, now: float) -> list[Address]:
        """Return the addresses that may be tried now, the preferred one first."""
        soon = now + CLOCK_TICK_S
        return [address for address in self.order() if self._not_before[address] <= soon]

    def wait_s(self, now: float) -> float:
        """Return the seconds until some address may be tried."""
        return max(0.0, min(self._not_before.values()) - now)

    def failed(self, address: Address, now: float, reason: str) -> None:
        """Note that `address` did not serve; it rests, and the next one is preferred."""
        self._failures[address] += 1
        # The exponent is bounded so that a month of failures does not overflow a float.
        pause = min(self._most_s, self._first_s * 2 ** min(self._failures[address] - 1, 32))
        if self._rng is not None:
            pause *= 1 - BACKOFF_JITTER * self._rng.random()
        self._not_before[address] = now + pause
        self._reasons[address] = reason
        self.move_on(address)

    def worked(self, address: Address) -> None:
        """Note that `address` answered; it is preferred from now on."""
        self._at = self.addresses.index(address)
        self._failures[address] = 0
        self._not_before[address] = 0.0
        self._reasons.pop(address, None)

    def move_on(self, address: Address) -> None:
        """Prefer the address after `address`, if that is the preferred one."""
        if self.addresses[self._at] == address:
            self._at = (self._at + 1) % len(self.addresses)

    def nobody(self) -> DefiniteError:
        """Return the error that says why no address serves."""
        reasons = [f"{a} {self._reasons.get(a, 'was not tried')}" for a in self.addresses]
        return DefiniteError(
            f"cannot reach a node: {'; '.join(reasons)}",
            code=UNAVAILABLE,
            hint="start a cluster with `kvlab up`, or name a running node with --addr host:port",
        )


def connect_reason(error: BaseException, timeout_s: float) -> str:
    """Say in a few words why a connection attempt failed."""
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections"
    if isinstance(error, TimeoutError):
        return f"does not accept a connection within {timeout_s:g}s"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be connected: {error.strerror}"
    # asyncio joins the errors of several addresses of one name into a text without errno.
    if "refused" in str(error).lower():
        return "refuses connections"
    return f"cannot be connected: {error}"


class LinkError(Exception):
    """Requests ended without all their replies. `sent`: the node may have seen some of them."""

    def __init__(self, why: str, *, sent: bool, code: str) -> None:
        super().__init__(why)
        self.why = why
        self.sent = sent
        self.code = code


def worth_repeating(error: LinkError, *, repeat: bool, several: bool) -> bool:
    """Say whether another attempt is safe, and not just more of the same.

    `repeat`: the requests only read. `several`: there is another address to ask.
    """
    if error.code == BUSY or (error.code == TIMEOUT and not (error.sent and several)):
        return False
    return repeat or not error.sent


def is_turned_away(replies: Sequence[Reply]) -> bool:
    """Say whether a node that is being stopped has done none of what it was asked."""
    return bool(replies) and all(reply.code == ENDING for reply in replies)


def lost_reason(address: Address, exc: Exception | None) -> str:
    """Say in a few words how a connection ended."""
    if exc is None:
        return f"{address} closed the connection"
    detail = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return f"the connection to {address} was lost: {detail}"


def is_read_only(kind: str) -> bool:
    """Say whether a request of this type has no effect."""
    return kind.upper() in READ_ONLY


def shown(kind: str, key: str) -> str:
    """Name a request in a message, on one line and of bounded length."""
    limit = 60  # characters of a key that a reader needs to recognise it
    return f"{kind} {key[:limit]!r}{'...' if len(key) > limit else ''}" if key else kind


def failure(kind: str, key: str, why: str, *, sent: bool, code: str) -> ClientError:
    """Return the error for a request that got no reply: uncertain only if it may have happened."""
    if sent and not is_read_only(kind):
        return UncertainError(
            f"outcome unknown: {shown(kind, key)} may have happened: {why}",
            code=UNKNOWN,
            hint=_HINTS[UNKNOWN],
        )
    hint = "is it a kvlab node, and the right port?" if code == BAD_REPLY else ""
    verdict = "failed" if is_read_only(kind) else "did not happen"
    return DefiniteError(f"{shown(kind, key)} {verdict}: {why}", code=code, hint=hint)


def refusal(kind: str, key: str, error: str, code: str) -> ClientError:
    """Return the error for a reply with the status ERROR. A foreign server gives no code."""
    text = error or "the server gave no reason"
    if code == UNKNOWN and not is_read_only(kind):
        return UncertainError(
            f"outcome unknown: {shown(kind, key)} may have happened: {text}",
            code=UNKNOWN,
            hint=_HINTS[UNKNOWN],
        )
    if code == UNKNOWN:
        return DefiniteError(text, code=TIMEOUT, hint="a read has no effect; try again")
    if not code and text == "Invalid request type":
        code = "BAD_TYPE"
    return DefiniteError(text, code=code, hint=_HINTS.get(code, ""))


def is_missing(error: str, code: str) -> bool:
    """Say whether an ERROR reply means that the key does not exist."""
    return code == NOT_FOUND or (not code and error == MISSING_TEXT)
