"""A client of a run for servers that speak RESP: it asks one thing after the other, and never again.

It answers as `live.client.Client` does, so that `run_client` need not know which it is. It follows no
redirection of a cluster.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kvlab.errors import ClientError, DefiniteError, UncertainError
from kvlab.live.resp_client import COMMANDS, Found, reply_of
from kvlab.wire.json_lines import Reply

VALUE_BYTES_MAX = 64 << 20


class RunResp:
    """One connection to one server, made when it is first needed and after each failure."""

    def __init__(self, address: tuple[str, int], *, timeout: float, connect_timeout: float) -> None:
        """`timeout` and `connect_timeout` are seconds."""
        self._address = address
        self._timeout_s = timeout
        self._connect_timeout_s = connect_timeout
        self._one_asks = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, kind: str, key: str = "", value: str = "", **extras: Any) -> Reply:
        """Ask and return the answer; raises DefiniteError or UncertainError if there is none.

        INCR adds `by`, of the extras; others are not for RESP.
        """
        words = [COMMANDS[kind], key.encode()]
        if kind == "INCR":
            words.append(str(extras["by"]).encode())
        elif kind in ("SET", "APPEND"):
            words.append(value.encode())
        async with self._one_asks:
            await self._connect()
            try:
                async with asyncio.timeout(self._timeout_s):
                    found = await self._ask(words)
            except (OSError, EOFError, asyncio.LimitOverrunError) as error:
                await self.close()
                why = str(error) or "no answer in time"
                raise _unanswered(kind, why) from None
            except BaseException:
                await self.close()  # what the socket holds is unknown
                raise
        return reply_of(kind, key, found)

    async def _ask(self, words: list[bytes]) -> Found:
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(b"*%d\r\n" % len(words))
        writer.writelines(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        line = (await reader.readuntil(b"\r\n"))[:-2]
        mark, text = line[:1], line[1:]
        if mark == b"+":
            return text
        if mark == b"-":
            said = text.decode(errors="replace")
            return DefiniteError(said, code=said.partition(" ")[0])
        if mark == b"_" or line == b"$-1":
            return None
        if mark not in (b":", b"$") or not text.lstrip(b"-").isdigit():
            raise ConnectionError(f"it answers what is no RESP: {line[:60]!r}")
        number = int(text)
        if mark == b":":
            return number
        if not 0 <= number <= VALUE_BYTES_MAX:
            raise ConnectionError(f"it answers with a value of {number} bytes")
        return (await reader.readexactly(number + 2))[:-2]

    async def _connect(self) -> None:
        if self._streams is not None:
            if not self._streams[0].at_eof():
                return
            await self.close()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                self._streams = await asyncio.open_connection(*self._address)
        except (OSError, TimeoutError):
            host, port = self._address
            raise DefiniteError(f"{host}:{port} is not reached", code="UNAVAILABLE") from None

    async def close(self) -> None:
        """End the connection; the next request makes a new one."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


def _unanswered(kind: str, why: str) -> ClientError:
    """A get without an answer has no effect, a write may have one."""
    if kind == "GET":
        return DefiniteError(why, code="UNAVAILABLE")
    return UncertainError(why, code="UNKNOWN")
