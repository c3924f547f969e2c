r"""What a client in Go sends and gets: `json.NewEncoder(conn).Encode` of a struct without tags.

The requests are the bytes that Go 1.19 wrote for them: all six fields in CamelCase, `<`, `>`, `&` and
U+2028 as \u escapes, a time with nanoseconds, a newline at the end.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from resp_talk import command
from session_client import Client, solo_world
from world import World

from kvlab.wire.json_lines import rfc3339

SENT_AT = b"2026-11-24T17:07:04.684733481Z"
NO_TIME = b"0001-01-01T00:00:00Z"  # a time.Time that nobody has set
ESCAPED = rb"a\u003cb\u003e\u0026c \u2028 " + 'é \\"q\\" \\\\ \\u0007'.encode()
KEPT = 'a<b>&c \u2028 é "q" \\ \x07'


def request(kind: bytes, key: bytes, value: bytes = b"", at: bytes = SENT_AT) -> bytes:
    return b'{"Type":"%b","Key":"%b","Value":"%b","Timestamp":"%b","Status":"","Error":""}\n' % (
        kind,
        key,
        value,
        at,
    )


def reply(client: Client, key: bytes, value: bytes, status: bytes, error: bytes, more: bytes = b""):
    stamp = rfc3339(client.world.now_us).encode()
    return (
        b'{"Type":"RESPONSE","Key":"%b","Value":"%b","Timestamp":"%b","Status":"%b","Error":"%b"%b}\n'
        % (key, value, stamp, status, error, more)
    )


@pytest.fixture(params=[solo_world, World], ids=["alone", "three"])
def client(request: pytest.FixtureRequest) -> Client:
    make: Callable[[], World] = request.param
    return Client(make())


def exchange(client: Client, data: bytes) -> bytes:
    """Send bytes; return those that came back."""
    client.world.now_us += 10
    client.write(client.session.feed(data, client.world.now_us))
    client.deliver()
    told, client.got = client.got, b""
    return told


@pytest.mark.parametrize("at", [SENT_AT, NO_TIME, b""])
def test_the_bytes_of_a_session(client: Client, at: bytes) -> None:
    missing = (b"ERROR", b"Key does not exist", b',"Code":"NOT_FOUND"')
    wrong = (b"ERROR", b"Invalid request type", b',"Code":"BAD_TYPE"')
    done = (b"SUCCESS", b"")
    value = b'a<b>&c \xe2\x80\xa8 \xc3\xa9 \\"q\\" \\\\ \\u0007'
    for kind, key, given, told, end in (
        (b"SET", b"k", ESCAPED, b"", done),
        (b"GET", b"k", b"", value, done),
        (b"GET", rb"\u003cnone\u003e", b"", b"", missing),
        (b"DELETE", b"k", b"", b"", done),
        (b"DELETE", b"k", b"", b"", missing),
        (b"FLY", b"k", b"", b"", wrong),
        (b"SET", b"", b"", b"", done),
        (b"GET", b"", b"", b"", done),
    ):
        got = exchange(client, request(kind, key, given, at))
        assert got == reply(
            client, key.replace(rb"\u003c", b"<").replace(rb"\u003e", b">"), told, *end
        )


def test_requests_in_one_piece_and_in_many(client: Client) -> None:
    both = request(b"SET", b"k", ESCAPED) + request(b"GET", b"k")
    whole = exchange(client, both)
    parts = b"".join(exchange(client, both[place : place + 1]) for place in range(len(both)))

    assert len(whole.splitlines()) == len(parts.splitlines()) == 2
    assert all(
        line.startswith(b'{"Type":"RESPONSE","Key":"k","Value":"') for line in parts.splitlines()
    )


def test_a_document_of_set_indent_and_one_without_a_newline(client: Client) -> None:
    pretty = request(b"SET", b"k", b"v").replace(b",", b",\n  ").replace(b"{", b"{\n  ")
    assert exchange(client, pretty) == reply(client, b"k", b"", b"SUCCESS", b"")
    assert exchange(client, b'{"Type":"GET","Key":"k"}') == reply(
        client, b"k", b"v", b"SUCCESS", b""
    )


def test_one_connection_may_mix_cases_and_another_protocol_reads_the_same(client: Client) -> None:
    exchange(client, request(b"SET", b"k", ESCAPED))
    low = exchange(client, b'{"type":"GET","key":"k"}\n')
    assert low.startswith(b'{"type":"RESPONSE","key":"k","value":"a<b>')

    other = Client(client.world)
    assert exchange(other, command("GET", "k")).endswith(b"\r\n" + KEPT.encode() + b"\r\n")
