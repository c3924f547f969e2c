"""The little of HTTP that a node answers: one request without a body, one reply, then the end.

Bytes in, bytes out (RFC 9112). It is for probes and scrapers that share the port with clients; it knows
no path, and nothing that changes data can be asked this way.
"""

from __future__ import annotations

HEAD_BYTES_MAX = 8192  # of a request: longer ones are refused
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class HttpReader:
    """Collects the head of one request."""

    def __init__(self) -> None:
        self.authorization = ""  # the header of this name, once the head is whole
        self._head = bytearray()

    def feed(self, data: bytes) -> tuple[str, str] | int | None:
        """Return (method, path) once the head is whole, a status that refuses it, or None: go on."""
        self._head += data[: HEAD_BYTES_MAX + 1 - len(self._head)]
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return 431 if len(self._head) > HEAD_BYTES_MAX else None
        line, _, fields = self._head[:end].partition(b"\r\n")
        for field in fields.split(b"\r\n"):
            name, _, value = field.partition(b":")
            if name.lower() == b"authorization":
                self.authorization = value.decode("latin-1").strip()
        words = line.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return 400
        try:
            target = words[1].decode("ascii")
        except UnicodeDecodeError:
            return 400
        return words[0].decode("latin-1").upper(), target.partition("?")[0]


def encode_reply(
    status: int, text: str, *, kind: str = "text/plain; charset=utf-8", head_only: bool = False
) -> bytes:
    """Return a reply after which the connection ends. `head_only`: to HEAD, without its body."""
    body = text.encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        f"Content-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n"
    )
    if status == 401:
        head += 'WWW-Authenticate: Basic realm="kvlab"\r\n'
    head += "\r\n"
    return head.encode() if head_only else head.encode() + body
