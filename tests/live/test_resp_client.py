"""RespClient against a server that says what a test wants: what replies mean, and what is unknown."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvlab.errors import DefiniteError, UncertainError
from kvlab.live.resp_client import RespClient


class Scripted:
    """Gives one answer after the other, in pieces; None: it closes the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self.heard: list[bytes] = []
        self.connections = 0
        self._answers = iter(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            # A client that was told rubbish hangs up while more of it is on its way.
            with connection, contextlib.suppress(ConnectionError):
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        while heard := connection.recv(4096):
            self.heard.append(heard)
            answer = next(self._answers, None)
            if answer is None:
                break
            for at in range(0, len(answer), 7):
                connection.sendall(answer[at : at + 7])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextmanager
def talking_to(*answers: bytes | None) -> Iterator[tuple[RespClient, Scripted]]:
    server = Scripted(*answers)
    with RespClient([server.address], timeout=5) as client:
        yield client, server
    server.close()


def test_each_request_is_one_command() -> None:
    answers = (
        b"+OK\r\n",
        b"$5\r\nK\xc3\xb6\r\n\r\n",
        b"$-1\r\n",
        b":1\r\n",
        b":0\r\n",
        b"+PONG\r\n",
    )
    with talking_to(*answers) as (client, server):
        client.set("city", "Kö")
        assert client.get("city") == "Kö\r\n"
        assert client.get("city") is None
        assert client.delete("city") is True
        assert client.delete("city") is False
        assert client.request("PING").status == "SUCCESS"

    assert server.heard[0] == b"*3\r\n$3\r\nSET\r\n$4\r\ncity\r\n$3\r\nK\xc3\xb6\r\n"
    assert server.heard[3] == b"*2\r\n$3\r\nDEL\r\n$4\r\ncity\r\n"
    assert len(server.heard) == 6
    assert server.connections == 1


def test_a_long_value_comes_whole() -> None:
    value = b"x" * 100_000
    with talking_to(b"$100000\r\n" + value + b"\r\n", b"_\r\n") as (client, _):
        assert client.get("k") == value.decode()
        assert client.get("k") is None


def test_an_error_reply_means_that_nothing_happened() -> None:
    with (
        talking_to(b"-READONLY You can't write against a replica.\r\n") as (client, _),
        pytest.raises(DefiniteError, match="READONLY You can't") as caught,
    ):
        client.set("k", "v")

    assert caught.value.code == "READONLY"


@pytest.mark.parametrize("answer", [None, b"hello\r\n", b"$-7\r\n", b"*1\r\n$1\r\na\r\n"])
def test_a_write_without_a_right_answer_is_unknown_and_a_read_is_not(answer: bytes | None) -> None:
    with talking_to(answer) as (client, _), pytest.raises(UncertainError, match="SET 'k'"):
        client.set("k", "v")
    with talking_to(answer) as (client, _), pytest.raises(DefiniteError, match="GET 'k' failed"):
        client.get("k")


def test_a_read_goes_to_the_next_server_and_a_write_does_not() -> None:
    dying, living = Scripted(None, None), Scripted(b"$1\r\nv\r\n")
    with RespClient([dying.address, living.address], timeout=5) as client:
        assert client.get("k") == "v"
        assert client.connected_to == "{}:{}".format(*living.address)
    dying.close()
    living.close()


def test_what_no_command_says_is_not_asked() -> None:
    with talking_to() as (client, server):
        assert client.request("MAP").code == "BAD_TYPE"

    assert server.heard == []
