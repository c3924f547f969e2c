"""A new connection to a node, with TLS and password where the node asks for them, for asyncio.

It asks for nothing else and repeats nothing; the blocking client does the same by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

from kvlab.errors import ClientError
from kvlab.live.client_messages import raise_error
from kvlab.live.client_rules import BAD_REPLY, failure
from kvlab.live.security import Access
from kvlab.wire.json_lines import ProtocolError, ReplyReader

P = TypeVar("P", bound=asyncio.Protocol)


async def connect(make: Callable[[], P], host: str, port: int, access: Access) -> P:
    """Return a protocol whose connection is made and let in.

    Raises OSError when there is no connection, ClientError when the node does not let it in. The
    caller bounds the time.
    """
    loop = asyncio.get_running_loop()
    context = access.context()
    if not access.password:
        _, protocol = await loop.create_connection(make, host, port, ssl=context)
        return protocol
    transport, knock = await loop.create_connection(
        lambda: _Knock(access.auth_line, loop.create_future()), host, port, ssl=context
    )
    try:
        await knock.answered
    except BaseException:
        transport.abort()
        raise
    protocol = make()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return protocol


class _Knock(asyncio.Protocol):
    """Tells the password and takes the answer."""

    def __init__(self, line: bytes, answered: asyncio.Future[None]) -> None:
        self.answered = answered
        self._line = line
        self._reader = ReplyReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the password."""
        cast("asyncio.Transport", transport).write(self._line)

    def data_received(self, data: bytes) -> None:
        """Take the answer."""
        error: Exception | None = None
        try:
            replies = self._reader.feed(data)
            if not replies:
                return
            raise_error(replies[0], "AUTH")
        except ProtocolError as refused:
            error = failure("AUTH", "", refused.message, sent=True, code=BAD_REPLY)
        except ClientError as refused:
            error = refused
        if self.answered.done():
            return
        if error is None:
            self.answered.set_result(None)
        else:
            self.answered.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody answers any more."""
        if not self.answered.done():
            self.answered.set_exception(exc or ConnectionResetError("it closed the connection"))
