"""One question to a node in the JSON line protocol: connect, ask, read one line, close.

It keeps no connection and repeats nothing: a laboratory asks rarely and must see each failure.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from kvlab.errors import DefiniteError, UncertainError

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
    host: str, port: int, request: dict[str, Any], timeout_s: float = ASK_TIMEOUT_S
) -> dict[str, Any]:
    """Send `request` to the node and return the `info` of its answer.

    Raises DefiniteError when the node was not reached or says no, UncertainError when no answer
    came in `timeout_s` seconds.
    """
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _exchange(host, port, _encoder.encode(request) + b"\n", where)
    except TimeoutError as error:
        raise UncertainError(
            f"{where} did not answer {request['type']} in {timeout_s:g} s", code="UNKNOWN"
        ) from error
    if answer.status != "SUCCESS":
        raise DefiniteError(f"{where} answers {request['type']}: {answer.error}", code=answer.code)
    return answer.info


async def _exchange(host: str, port: int, line: bytes, where: str) -> Answer:
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=ANSWER_BYTES_MAX)
    except OSError as error:
        raise DefiniteError(f"{where} is not reached: {error.strerror or error}") from error
    try:
        writer.write(line)
        raw = await reader.readuntil(b"\n")
        return _decoder.decode(raw)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise UncertainError(f"{where} closed the connection", code="UNKNOWN") from error
    except (msgspec.DecodeError, asyncio.LimitOverrunError) as error:
        raise UncertainError(f"{where} sent no answer in JSON: {error}", code="UNKNOWN") from error
    finally:
        # abort: the question is over, and close() would leave a task behind on a paused node.
        writer.transport.abort()
