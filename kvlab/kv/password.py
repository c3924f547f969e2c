"""The password that clients must tell before they may ask anything. It holds no connection.

There is one user, `default`, as in Redis. Whoever has not told the password may say AUTH and PING
(JSON), or AUTH, HELLO, QUIT and RESET (RESP), and ask for /healthz.

Invariants:

1. A password is compared in a time that does not depend on it, and only its hash is kept.
2. From one origin FAILURES_MAX passwords are looked at in a row, then one in each REFILL_US.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256
from ipaddress import IPv6Address, ip_address

from kvlab.wire.json_lines import Refusal, Request

USER = "default"
NOAUTH = 'this node asks for a password: {"type":"AUTH","value":"the password"}'
WRONG = "the password is wrong"
NOT_SET = "no password is set here, so none can be told"
FAILURES_MAX = 10
REFILL_US = 6_000_000  # in which one failure is forgotten
ORIGINS_MAX = 4096  # remembered; the one that failed longest ago gives way to one more
TOO_MANY = "too many wrong passwords came from this address; try again in a minute"
LOCKED_BYTES_MAX = 64 * 1024  # of an unfinished request of somebody who has not told the password
TOO_LONG = "a request that is longer than may be sent before the password"


class Password:
    """One password."""

    __slots__ = ("_hash",)

    def __init__(self, text: str) -> None:
        self._hash = sha256(text.encode()).digest()

    def accepts(self, given: bytes, user: bytes = USER.encode()) -> bool:
        """Tell whether this is the password of the user."""
        right = hmac.compare_digest(sha256(given).digest(), self._hash)
        return right and user == USER.encode()


def told_by(request: Request) -> tuple[bytes, bytes]:
    """Return (password, user) of an AUTH request: its value, and its key if it has one."""
    return (request.value or "").encode(), (request.key or USER).encode()


def told_by_header(authorization: str) -> tuple[bytes, bytes]:
    """Return (password, user) of an HTTP header `Authorization` (Basic, RFC 7617); none: empty."""
    scheme, _, told = authorization.strip().partition(" ")
    try:
        user, _, given = base64.b64decode(told.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b"", b""
    return (given, user) if scheme.lower() == "basic" else (b"", b"")


class Attempts:
    """Wrong passwords by origin (an address, as the shell knows it), bounded in number and memory.

    A leaky bucket for each: a failure fills it by one, and one leaks in each REFILL_US. Where it is
    full no password is looked at, the right one neither, or guessing would go on.
    """

    __slots__ = ("_failed", "blocked")

    def __init__(self) -> None:
        self.blocked = 0  # passwords that were not looked at
        self._failed: dict[str, tuple[int, int]] = {}  # origin -> (how full, at what time)

    def accepts(
        self, password: Password, given: bytes, user: bytes, origin: str, now_us: int
    ) -> str:
        """Look at a password; return "" if it is right, else WRONG or TOO_MANY."""
        full, at_us = self._level(origin, now_us)
        if full >= FAILURES_MAX:
            self.blocked += 1
            return TOO_MANY
        if password.accepts(given, user):
            return ""
        self._failed.pop(origin, None)  # the newest is the last
        self._failed[origin] = (full + 1, at_us)
        if len(self._failed) > ORIGINS_MAX:
            del self._failed[next(iter(self._failed))]
        return WRONG

    def _level(self, origin: str, now_us: int) -> tuple[int, int]:
        full, at_us = self._failed.get(origin, (0, now_us))
        leaked = max(0, now_us - at_us) // REFILL_US
        return (full - leaked, at_us + leaked * REFILL_US) if leaked < full else (0, now_us)


def origin_of(host: str) -> str:
    """Return what counts as one origin: an address, of IPv6 its first 64 bits."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64))
    return host


def let_in(
    attempts: Attempts,
    password: Password,
    items: list[Request | Refusal],
    origin: str,
    now_us: int,
) -> bool:
    """Refuse, in place, what comes before the password; tell whether that came."""
    for place, item in enumerate(items):
        if isinstance(item, Refusal) or item.type == "PING":
            continue
        if item.type != "AUTH":
            items[place] = Refusal("NOAUTH", NOAUTH, item.camel, item.req_id)
        else:
            why = attempts.accepts(password, *told_by(item), origin, now_us)
            if not why:
                return True
            if why == TOO_MANY:
                items[place] = Refusal("BUSY", why, item.camel, item.req_id, close=True)
                del items[place + 1 :]
                return False
    return False
