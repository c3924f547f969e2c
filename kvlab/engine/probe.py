"""Is a server there? One question to a server by others, in JSON or RESP, or a mere connection.

It repeats nothing and changes nothing: it reads a key that nobody writes, or says PING.
"""

from __future__ import annotations

import asyncio
import os

import msgspec

from kvlab.errors import DefiniteError, UncertainError
from kvlab.wire.json_lines import ProtocolError, ReplyReader

PROBE_KEY = "kvlab:probe"
ANSWER_BYTES_MAX = 1 << 20
QUESTIONS = {
    ("json", "get"): msgspec.json.encode({"type": "GET", "key": PROBE_KEY}) + b"\n",
    ("json", "ping"): msgspec.json.encode({"type": "PING", "key": ""}) + b"\n",
    ("resp", "get"): b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(PROBE_KEY), PROBE_KEY.encode()),
    ("resp", "ping"): b"*1\r\n$4\r\nPING\r\n",
}


async def probe(host: str, port: int, *, protocol: str, question: str, timeout_s: float) -> None:
    """Return if the server answers; `question` is get, ping or connect.

    Raises DefiniteError when nobody listens, UncertainError for a wrong answer or none in time.
    """
    where = f"{host}:{port}"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, limit=ANSWER_BYTES_MAX)
            if question == "connect":
                return
            writer.write(QUESTIONS[protocol, question])
            why = await (_json if protocol == "json" else _resp)(reader)
    except TimeoutError as error:
        raise UncertainError(f"{where} does not answer", code="UNKNOWN") from error
    except OSError as error:
        if writer is None:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise DefiniteError(f"nobody answers on {where}: {why}") from error
        raise UncertainError(f"{where} broke the connection", code="UNKNOWN") from error
    finally:
        if writer is not None:
            writer.transport.abort()
    if why:
        asked = question.upper()
        raise UncertainError(f"{where} does not answer {asked} as it should: {why}", code="UNKNOWN")


async def _json(reader: asyncio.StreamReader) -> str:
    """Say what is wrong with an answer; a valid RESPONSE, of whatever status, is right."""
    replies = ReplyReader()
    while data := await reader.read(ANSWER_BYTES_MAX):
        try:
            found = replies.feed(data)
        except ProtocolError as error:
            return str(error)
        if found:
            return "" if found[0].status in {"SUCCESS", "ERROR"} else "its status is neither way"
    return "it closed the connection"


async def _resp(reader: asyncio.StreamReader) -> str:
    """Say what is wrong with an answer; one that asks for a password comes from a live server."""
    try:
        line = (await reader.readline()).rstrip()
    except ValueError:  # longer than ANSWER_BYTES_MAX
        return "a line without an end"
    if not line:
        return "it closed the connection"
    if line[:1] in b"+$_:" or line.startswith(b"-NOAUTH"):
        return ""
    return line[:100].decode(errors="replace")
