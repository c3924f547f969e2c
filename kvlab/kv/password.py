"""The password that clients must tell before they may ask anything. It holds no connection.

There is one user, `default`, as in Redis. Whoever has not told the password may say AUTH and PING
(JSON), or AUTH, HELLO, QUIT and RESET (RESP), and ask for /healthz.

Invariant: a password is compared in a time that does not depend on it, and only its hash is kept.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256

from kvlab.wire.json_lines import Refusal, Request

USER = "default"
NOAUTH = 'this node asks for a password: {"type":"AUTH","value":"the password"}'
WRONG = "the password is wrong"
NOT_SET = "no password is set here, so none can be told"
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

    def accepts_request(self, request: Request) -> bool:
        """Tell whether an AUTH request has the password as its value; its key may name the user."""
        given = (request.value or "").encode()
        return self.accepts(given, (request.key or USER).encode())

    def accepts_header(self, authorization: str) -> bool:
        """Tell whether an HTTP header `Authorization` has it (Basic, RFC 7617)."""
        scheme, _, told = authorization.strip().partition(" ")
        try:
            user, _, given = base64.b64decode(told.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and self.accepts(given, user)


def let_in(password: Password, items: list[Request | Refusal]) -> bool:
    """Refuse, in place, what comes before the password; tell whether that came."""
    for place, item in enumerate(items):
        if isinstance(item, Refusal) or item.type == "PING":
            continue
        if item.type != "AUTH":
            items[place] = Refusal("NOAUTH", NOAUTH, item.camel, item.req_id)
        elif password.accepts_request(item):
            return True
    return False
