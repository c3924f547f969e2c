"""Questions to a node in the JSON line protocol: connect, ask, read one line.

It repeats nothing: a laboratory asks rarely and must see each failure.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

import msgspec

from kvlab.errors import DefiniteError, UncertainError
from kvlab.live.security import OPEN, Access

# A map of a large cluster is the longest answer.
ANSWER_BYTES_MAX = 64 << 20
ASK_TIMEOUT_S = 5.0


class Answer(msgspec.Struct):
    """What the laboratory reads of a reply."""

    status: str = "ERROR"
    error: str = ""
    code: str = ""
    info: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(Answer)
_encoder = msgspec.json.Encoder()


async def ask(
    host: str,
    port: int,
    request: dict[str, Any],
    timeout_s: float = ASK_TIMEOUT_S,
    access: Access = OPEN,
) -> dict[str, Any]:
    """Send `request` to the node and return the `info` of its answer.

    Raises DefiniteError when the node was not reached or says no, UncertainError when no answer
    came in `timeout_s` seconds.
    """
    async with Line(host, port, access) as line:
        return await line.ask(request, timeout_s)


class Line:
    """A connection for several questions, one after the other; opened by the first."""

    def __init__(self, host: str, port: int, access: Access = OPEN) -> None:
        self._host, self._port = host, port
        self._access = access
        self._where = f"{host}:{port}"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._drop()

    async def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send `request` and return the `info` of its answer; raises as the function `ask` does."""
        answer = None
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchange(_encoder.encode(request) + b"\n")
        except TimeoutError as error:
            raise UncertainError(
                f"{self._where} did not answer {request['type']} in {timeout_s:g} s", code="UNKNOWN"
            ) from error
        finally:
            if answer is None:  # what comes late must not be taken for the next answer
                self._drop()
        return self._success(answer, str(request["type"]))

    def _success(self, answer: Answer, kind: str) -> dict[str, Any]:
        if answer.status != "SUCCESS":
            raise DefiniteError(f"{self._where} answers {kind}: {answer.error}", code=answer.code)
        return answer.info

    async def _exchange(self, line: bytes) -> Answer:
        where = self._where
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection(
                    self._host, self._port, limit=ANSWER_BYTES_MAX, ssl=self._access.context()
                )
            except OSError as error:
                raise DefiniteError(f"{where} is not reached: {error.strerror or error}") from error
            if self._access.password:
                self._success(await self._exchange(self._access.auth_line), "AUTH")
        reader, writer = self._streams
        try:
            writer.write(line)
            return _decoder.decode(await reader.readuntil(b"\n"))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise UncertainError(f"{where} closed the connection", code="UNKNOWN") from error
        except (msgspec.DecodeError, asyncio.LimitOverrunError) as error:
            raise UncertainError(
                f"{where} sent no answer in JSON: {error}", code="UNKNOWN"
            ) from error

    def _drop(self) -> None:
        if self._streams is not None:
            # abort: the talk is over, and close() would leave a task behind on a paused node.
            self._streams[1].transport.abort()
            self._streams = None
