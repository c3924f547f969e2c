"""The client without an event loop: one socket, one caller, for scripts, tests and the prompt.

It does not run a loop or a thread behind the scenes, and one instance serves one thread.

    with BlockingClient(["localhost:8081", "localhost:8082"]) as client:
        client.set("city", "Berlin")
        client.get("city")                              # "Berlin", or None
        client.pipeline([("SET", "a", "1"), ("GET", "a")])

Invariants:

1. `DefiniteError` and `UncertainError` mean what client_rules.py says.
2. Replies that were not waited for are owed: as many are dropped before the next one counts.
3. After a request was sent in part, the connection is not used again.
"""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from kvlab.errors import ClientError, DefiniteError
from kvlab.live.client_messages import (
    RequestLike,
    deleted_of,
    encode,
    info_of,
    make_request,
    make_requests,
    raise_error,
    value_of,
)
from kvlab.live.client_rules import (
    BAD_REPLY,
    DEFAULT_CONNECT_TIMEOUT_S,
    DEFAULT_PIPELINE_REQUESTS,
    DEFAULT_TIMEOUT_S,
    LOST_REQUESTS_MAX,
    TIMEOUT,
    UNAVAILABLE,
    Address,
    AddressLike,
    Limits,
    LinkError,
    Route,
    connect_reason,
    failure,
    is_read_only,
    is_turned_away,
    lost_reason,
    parse_addresses,
    worth_repeating,
)
from kvlab.live.security import OPEN, Access
from kvlab.live.tls_socket import TlsSocket
from kvlab.rng import Rng
from kvlab.wire.json_lines import ProtocolError, Reply, ReplyReader, Request

_CHUNK_BYTES = 1 << 18


class BlockingClient:
    """The blocking twin of client.Client; the arguments mean the same."""

    def __init__(
        self,
        addresses: AddressLike | Sequence[AddressLike],
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT_S,
        pipeline_max: int = DEFAULT_PIPELINE_REQUESTS,
        lost_max: int = LOST_REQUESTS_MAX,
        rng: Rng | None = None,
        access: Access = OPEN,
        **defaults: Any,
    ) -> None:
        self._limits = Limits(timeout, connect_timeout, pipeline_max, lost_max=lost_max)
        self._route = Route(parse_addresses(addresses), rng=rng)
        self._defaults = defaults
        self._access = access
        self._line: _Line | None = None

    @property
    def connected_to(self) -> str | None:
        """Return the address of the open connection, or None."""
        return str(self._line.address) if self._line else None

    # The verbs.

    def get(self, key: str, **extras: Any) -> str | None:
        """Return the value, or None if the key does not exist; raise ClientError."""
        return value_of(self.request("GET", key, **extras), key)

    def set(self, key: str, value: str, **extras: Any) -> None:
        """Write the value; raise DefiniteError or UncertainError."""
        raise_error(self.request("SET", key, value, **extras), "SET", key)

    def delete(self, key: str, **extras: Any) -> bool:
        """Delete the key and say whether it existed; raise DefiniteError or UncertainError."""
        return deleted_of(self.request("DELETE", key, **extras), key)

    def ask(self, kind: str, key: str = "", **extras: Any) -> dict[str, Any]:
        """Return the `info` of an administrative request such as STATUS; raise ClientError."""
        return info_of(self.request(kind, key, **extras), kind, key)

    def ping(self) -> dict[str, Any]:
        """Return {"id", "ready"} of the node that answers."""
        return self.ask("PING")

    def status(self) -> dict[str, Any]:
        """Return what the node says of itself."""
        return self.ask("STATUS")

    def map(self) -> dict[str, Any]:
        """Return the node's cluster map, as plain values."""
        return self.ask("MAP")

    def request(self, kind: str, key: str = "", value: str = "", **extras: Any) -> Reply:
        """Send one request and return its reply, even one with the status ERROR.

        Raises DefiniteError or UncertainError if no reply came.
        """
        ask = make_request(kind, key, value, self._defaults | extras)
        replies: list[Reply] = []
        error = self._deliver((ask,), replies, repeat=is_read_only(kind))
        if error is not None:
            raise failure(kind, key, error.why, sent=error.sent, code=error.code)
        return replies[0]

    def pipeline(self, requests: Iterable[RequestLike]) -> list[Reply | ClientError]:
        """Send many requests, as (type, key, value) or Request, before waiting for replies.

        Returns one entry per request, in order: its reply (even with the status ERROR) or the
        ClientError that tells what is known of it. Nothing that was sent is repeated. `timeout`
        holds for every `pipeline_max` requests.
        """
        asks = make_requests(requests, self._defaults)
        answers: list[Reply | ClientError] = []
        size = self._limits.pipeline_max
        for chunk in (asks[at : at + size] for at in range(0, len(asks), size)):
            replies: list[Reply] = []
            try:
                error = self._deliver(chunk, replies, repeat=False)
            except DefiniteError as nobody:
                answers += [nobody] * len(chunk)
                continue
            answers += replies
            if error is not None:
                answers += [
                    failure(one.type, one.key or "", error.why, sent=error.sent, code=error.code)
                    for one in chunk[len(replies) :]
                ]
        return answers

    def connect(self) -> str:
        """Connect if there is no connection and return the address; raise DefiniteError."""
        return str(self._connected().address)

    def close(self) -> None:
        """End the connection; the next request would make a new one."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Delivery.

    def _deliver(
        self, asks: Sequence[Request], replies: list[Reply], *, repeat: bool
    ) -> LinkError | None:
        """Send `asks` until they are answered, or may not be repeated, or no address is left.

        The replies that came are in `replies`, also after a failure, which is returned. Raises
        DefiniteError if there is no connection.
        """
        data = encode(asks)
        several = len(self._route.addresses) > 1
        # One more than there are addresses: the first may be a connection that died unnoticed.
        for tries_left in range(len(self._route.addresses), -1, -1):
            line = self._connected()
            replies.clear()
            try:
                line.exchange(data, len(asks), replies, self._limits.timeout_s)
            except LinkError as error:
                self._failed(line, error)
                again = worth_repeating(error, repeat=repeat, several=several)
                if not again or not tries_left:
                    return error
            except BaseException:
                # Interrupted between sending and receiving: what the socket holds is unknown.
                self.close()
                raise
            else:
                if not (several and tries_left and is_turned_away(replies)):
                    self._route.worked(line.address)
                    return None
                self.close()
                self._route.failed(line.address, time.monotonic(), "is being stopped")
        raise AssertionError("the last try returns")

    def _failed(self, line: _Line, error: LinkError) -> None:
        """Keep the connection only where waiting longer may help."""
        limits, route = self._limits, self._route
        alone = len(route.addresses) == 1
        if error.code == TIMEOUT and line.whole and alone and line.owed < limits.lost_limit:
            return
        self.close()
        if line.answered:
            route.move_on(line.address)
        else:
            route.failed(line.address, time.monotonic(), error.why)

    def _connected(self) -> _Line:
        """Return the open connection, or a new one; raise DefiniteError if no address accepts.

        One that does not take the password ends the attempt: the others have the same one.
        """
        if self._line is not None and self._line.is_open():
            return self._line
        self.close()
        route, limit_s = self._route, self._limits.connect_timeout_s
        wait_s = route.wait_s(time.monotonic())
        if wait_s:
            time.sleep(wait_s)
        for address in route.due(time.monotonic()):
            try:
                self._line = _Line(address, self._opened(address))
                self._tell_password(self._line)
            except OSError as error:
                reason = connect_reason(error, limit_s)
            except LinkError as error:
                reason = error.why
            else:
                return self._line
            self.close()
            route.failed(address, time.monotonic(), reason)
        raise route.nobody()

    def _opened(self, address: Address) -> socket.socket | TlsSocket:
        """Return a connection. Raises OSError."""
        limit_s, context = self._limits.connect_timeout_s, self._access.context()
        opened = socket.create_connection((address.host, address.port), limit_s)
        if context is None:
            return opened
        try:
            return TlsSocket(context.wrap_socket(opened, server_hostname=address.host))
        except BaseException:
            opened.close()
            raise

    def _tell_password(self, line: _Line) -> None:
        """Tell the password, if there is one. Raises LinkError, DefiniteError if it is wrong."""
        if not self._access.password:
            return
        replies: list[Reply] = []
        line.exchange(self._access.auth_line, 1, replies, self._limits.connect_timeout_s)
        try:
            raise_error(replies[0], "AUTH")
        except ClientError:
            self.close()
            raise


class _Line:
    """One open socket and what is known of its replies."""

    def __init__(self, address: Address, opened: socket.socket | TlsSocket) -> None:
        self.address = address
        self.owed = 0  # replies to requests that nobody waits for any more
        self.whole = True  # no request was sent in part
        self.answered = False
        self._in_order = True  # every reply so far was asked for
        self._socket = opened
        self._reader = ReplyReader()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(opened, select.POLLIN)

    def is_open(self) -> bool:
        """Say whether the peer has neither closed the connection nor spoken without being asked."""
        if not self._in_order:
            return False
        try:
            data = self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(data) and self.owed > 0

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def exchange(self, data: bytes, count: int, replies: list[Reply], timeout_s: float) -> None:
        """Send `data` and append its `count` replies; raise LinkError."""
        deadline = time.monotonic() + timeout_s
        rest = memoryview(data)
        rest = rest[self._send(rest) :]
        while len(replies) < count:
            self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if rest else 0))
            left_s = deadline - time.monotonic()
            if isinstance(self._socket, TlsSocket) and self._socket.pending:
                events = [(0, select.POLLIN)]  # decrypted already: the kernel knows nothing of it
            else:
                events = self._poll.poll(math.ceil(left_s * 1000)) if left_s > 0 else []
            if not events:
                raise self._timed_out(len(data), len(rest), count - len(replies), timeout_s)
            if events[0][1] & ~select.POLLOUT:
                self._receive(replies, count, sent=len(rest) < len(data))
            elif rest:
                rest = rest[self._send(rest, sent=len(rest) < len(data)) :]
        if rest:
            # Answered before it was asked: the order of replies means nothing here.
            raise LinkError(f"{self.address} answered too early", sent=True, code=BAD_REPLY)

    def _send(self, rest: memoryview, *, sent: bool = False) -> int:
        try:
            return self._socket.send(rest)
        except BlockingIOError:
            return 0
        except OSError as error:
            why = lost_reason(self.address, error)
            raise LinkError(why, sent=sent, code=UNAVAILABLE) from None

    def _receive(self, replies: list[Reply], count: int, *, sent: bool) -> None:
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            why = lost_reason(self.address, error)
            raise LinkError(why, sent=sent, code=UNAVAILABLE) from None
        if not data:
            why = lost_reason(self.address, None)
            raise LinkError(why, sent=sent, code=UNAVAILABLE)
        trouble = ""
        try:
            arrived = self._reader.feed(data)
        except ProtocolError as error:
            arrived, trouble = error.replies, f"{self.address}: {error.message}"
        self.answered = self.answered or bool(arrived)
        dropped = min(self.owed, len(arrived))
        self.owed -= dropped
        replies += arrived[dropped:]
        if len(replies) > count:
            # The replies that were asked for came first; what follows them makes no sense.
            self._in_order = False
            del replies[count:]
        if trouble:
            raise LinkError(trouble, sent=sent, code=BAD_REPLY)

    def _timed_out(self, size: int, unsent: int, missing: int, timeout_s: float) -> LinkError:
        if unsent == size:
            # A record of TLS that left in part can neither be read nor be taken back.
            self.whole = not isinstance(self._socket, TlsSocket)
            why = f"it could not be sent to {self.address} within {timeout_s:g}s"
            return LinkError(why, sent=False, code=TIMEOUT)
        self.whole = not unsent
        self.owed += missing
        why = f"{self.address} did not answer within {timeout_s:g}s"
        return LinkError(why, sent=True, code=TIMEOUT)
