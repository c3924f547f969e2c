"""probe: which answers count as those of a server that is there, and what is said of others."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from kvlab.engine.probe import PROBE_KEY, probe
from kvlab.errors import DefiniteError, UncertainError

MISSING = (
    b'{"type": "RESPONSE", "key": "k", "value": "", "timestamp": "2026-01-01T00:00:00Z",'
    b' "status": "ERROR", "error": "Key does not exist"}\n'
)


def ask(answer: bytes | None, *, protocol: str = "json", question: str = "get") -> bytes:
    """Probe a server that gives this answer, and ends the connection; return what it was asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.read(1000)
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        served.set_result(heard)

    async def scene() -> bytes:
        nonlocal served
        served = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        timeout_s = 5.0 if answer is not None else 0.05
        try:
            await probe(host, port, protocol=protocol, question=question, timeout_s=timeout_s)
        finally:
            heard = await served
            server.close()
        return heard

    served: asyncio.Future[bytes]
    return asyncio.run(scene())


@pytest.mark.parametrize("answer", [MISSING, MISSING.replace(b"type", b"Type"), MISSING * 2])
def test_a_valid_reply_is_an_answer_also_if_the_key_is_missing(answer: bytes) -> None:
    assert json.loads(ask(answer)) == {"type": "GET", "key": PROBE_KEY}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "it closed the connection"),
        (b"hello\n", "the server's answer is no reply"),
        (b'{"type":"RESPONSE"}\n', "its status is neither way"),
        (None, "does not answer"),
    ],
)
def test_another_answer_is_told(answer: bytes | None, said: str) -> None:
    with pytest.raises(UncertainError, match=said):
        ask(answer)


@pytest.mark.parametrize("answer", [b"+PONG\r\n", b"-NOAUTH Authentication required.\r\n"])
def test_a_server_that_speaks_resp_is_pinged(answer: bytes) -> None:
    assert ask(answer, protocol="resp", question="ping") == b"*1\r\n$4\r\nPING\r\n"


def test_a_server_that_speaks_resp_may_be_asked_for_a_key() -> None:
    assert PROBE_KEY.encode() in ask(b"$-1\r\n", protocol="resp")


def test_a_server_that_still_loads_is_not_there_yet() -> None:
    with pytest.raises(UncertainError, match="PING as it should: -LOADING"):
        ask(b"-LOADING the dataset\r\n", protocol="resp", question="ping")


def test_a_mere_connection_is_enough_where_that_is_asked_for() -> None:
    assert ask(b"", question="connect") == b""


def test_where_nobody_listens_is_told() -> None:
    async def scene() -> None:
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        server.close()
        await server.wait_closed()
        await probe(host, port, protocol="json", question="get", timeout_s=5)

    with pytest.raises(DefiniteError, match=r"nobody answers on 127.0.0.1:\d+: Connection refused"):
        asyncio.run(scene())
