"""A client without an event loop for servers by others that speak RESP: GET, SET and DELETE.

It answers as BlockingClient does, so that the verbs need not know which it is. It pipelines nothing and
follows no redirection of a cluster; a client of the server's own kind does that.

An error reply means that nothing happened, as it does with Redis.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from kvlab.errors import DefiniteError
from kvlab.live.client_messages import deleted_of, raise_error, value_of
from kvlab.live.client_rules import (
    BAD_REPLY,
    DEFAULT_CONNECT_TIMEOUT_S,
    DEFAULT_TIMEOUT_S,
    TIMEOUT,
    UNAVAILABLE,
    Address,
    AddressLike,
    LinkError,
    Route,
    connect_reason,
    failure,
    is_read_only,
    lost_reason,
    parse_addresses,
)
from kvlab.wire.json_lines import Reply

_CHUNK_BYTES = 1 << 18
_LINE_BYTES_MAX = 64 << 10
_VALUE_BYTES_MAX = 64 << 20
COMMANDS = {
    "GET": b"GET",
    "SET": b"SET",
    "DELETE": b"DEL",
    "PING": b"PING",
    "INCR": b"INCRBY",
    "APPEND": b"APPEND",
}
_KINDS = ("GET", "SET", "DELETE", "PING")
_MISSING = ("Key does not exist", "NOT_FOUND")


Found = bytes | int | DefiniteError | None
"""What a reply of RESP holds that this client understands."""


class RespClient:
    """One connection to one of `addresses`, the next one when it does not serve."""

    def __init__(
        self,
        addresses: AddressLike | Sequence[AddressLike],
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT_S,
    ) -> None:
        self._route = Route(parse_addresses(addresses))
        self._timeout_s = timeout
        self._connect_timeout_s = connect_timeout
        self._link: _Link | None = None

    @property
    def connected_to(self) -> str | None:
        """Return the address of the open connection, or None."""
        return str(self._link.address) if self._link else None

    def get(self, key: str) -> str | None:
        """Return the value, or None if the key does not exist; raise ClientError."""
        return value_of(self.request("GET", key), key)

    def set(self, key: str, value: str) -> None:
        """Write the value; raise DefiniteError or UncertainError."""
        raise_error(self.request("SET", key, value), "SET", key)

    def delete(self, key: str) -> bool:
        """Delete the key and say whether it existed; raise DefiniteError or UncertainError."""
        return deleted_of(self.request("DELETE", key), key)

    def request(self, kind: str, key: str = "", value: str = "", **extras: object) -> Reply:
        """Send one request and return its reply in the shape of the JSON protocol.

        Raises DefiniteError or UncertainError if no reply came. Of the extras, RESP knows `ttl_ms`.
        """
        command = COMMANDS.get(kind.upper()) if kind.upper() in _KINDS else None
        if command is None:
            return _reply(key, error="Invalid request type", code="BAD_TYPE")
        words = [command]
        if kind.upper() != "PING":
            words.append(key.encode())
        if kind.upper() == "SET":
            words.append(value.encode())
            if extras.get("ttl_ms"):
                words += [b"PX", str(extras["ttl_ms"]).encode()]
        tries = len(self._route.addresses) if is_read_only(kind) else 1
        while True:
            link = self._connected()
            tries -= 1
            try:
                found = link.ask(words, time.monotonic() + self._timeout_s)
            except LinkError as error:
                self.close()
                self._route.failed(link.address, time.monotonic(), error.why)
                if not tries:
                    raise failure(kind, key, error.why, sent=True, code=error.code) from None
            except BaseException:
                self.close()  # what the socket holds is unknown
                raise
            else:
                self._route.worked(link.address)
                return reply_of(kind.upper(), key, found)

    def connect(self) -> str:
        """Connect if there is no connection and return the address; raise DefiniteError."""
        return str(self._connected().address)

    def close(self) -> None:
        """End the connection; the next request would make a new one."""
        if self._link is not None:
            self._link.socket.close()
            self._link = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _connected(self) -> _Link:
        if self._link is not None and self._link.is_open():
            return self._link
        self.close()
        route, limit_s = self._route, self._connect_timeout_s
        time.sleep(route.wait_s(time.monotonic()))
        for address in route.due(time.monotonic()):
            try:
                opened = socket.create_connection((address.host, address.port), limit_s)
            except OSError as error:
                route.failed(address, time.monotonic(), connect_reason(error, limit_s))
                continue
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._link = _Link(address, opened)
            return self._link
        nobody: DefiniteError = route.nobody()
        raise nobody


class _Link:
    """One open socket. After a LinkError it is of no use any more."""

    def __init__(self, address: Address, opened: socket.socket) -> None:
        self.address = address
        self.socket = opened
        self._data = b""

    def is_open(self) -> bool:
        """Say whether the server has neither closed the connection nor spoken without being asked."""
        self.socket.settimeout(0)  # else Python waits for what may come, whatever the flags say
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def ask(self, words: Sequence[bytes], deadline: float) -> Found:
        """Send a command and return its reply, an error reply too; raise LinkError."""
        request = b"*%d\r\n" % len(words)
        request += b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        try:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            self.socket.sendall(request)
            return self._answer(deadline)
        except TimeoutError:
            why = f"{self.address} did not answer in time"
            raise LinkError(why, sent=True, code=TIMEOUT) from None
        except OSError as error:
            why = lost_reason(self.address, error)
            raise LinkError(why, sent=True, code=UNAVAILABLE) from None

    def _answer(self, deadline: float) -> Found:
        while b"\r\n" not in self._data:
            if len(self._data) > _LINE_BYTES_MAX:
                raise self._wrong("a line without an end")
            self._receive(deadline)
        line, _, self._data = self._data.partition(b"\r\n")
        mark, text = line[:1], line[1:]
        if mark == b"+":
            return text
        if mark == b"-":
            said = text.decode(errors="replace")
            return DefiniteError(said, code=said.partition(" ")[0])
        if mark == b"_" or line == b"$-1":
            return None
        if mark not in {b":", b"$"} or not text.lstrip(b"-").isdigit() or len(text) > 20:
            raise self._wrong(line[:60].decode(errors="replace"))
        return int(text) if mark == b":" else self._value(int(text), deadline)

    def _value(self, size: int, deadline: float) -> bytes:
        if not 0 <= size <= _VALUE_BYTES_MAX:
            raise self._wrong(f"a value of {size} bytes")
        parts, missing = [self._data], size + 2 - len(self._data)
        while missing > 0:
            self._data = b""
            self._receive(deadline)
            parts.append(self._data)
            missing -= len(self._data)
        whole = b"".join(parts)
        self._data = whole[size + 2 :]
        return whole[:size]

    def _receive(self, deadline: float) -> None:
        self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        data = self.socket.recv(_CHUNK_BYTES)
        if not data:
            raise LinkError(lost_reason(self.address, None), sent=True, code=UNAVAILABLE)
        self._data += data

    def _wrong(self, what: str) -> LinkError:
        return LinkError(
            f"{self.address} answers what is no RESP: {what}", sent=True, code=BAD_REPLY
        )


def reply_of(kind: str, key: str, found: Found) -> Reply:
    """Return a reply of RESP as one of the JSON protocol; of INCR and APPEND it has the number."""
    if isinstance(found, DefiniteError):
        return _reply(key, error=found.message, code=found.code)
    if (kind == "GET" and found is None) or (kind == "DELETE" and found == 0):
        return _reply(key, error=_MISSING[0], code=_MISSING[1])
    value = ""
    if kind == "GET" and isinstance(found, bytes):
        value = found.decode(errors="backslashreplace")
    elif kind in ("INCR", "APPEND") and isinstance(found, int):
        value = str(found)
    return _reply(key, value=value)


def _reply(key: str, *, value: str = "", error: str = "", code: str = "") -> Reply:
    return Reply(
        type="RESPONSE",
        key=key,
        value=value,
        timestamp="",
        status="ERROR" if error else "SUCCESS",
        error=error,
        code=code,
    )
