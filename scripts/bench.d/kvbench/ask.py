"""Single questions to servers, in JSON lines and in RESP, and the load of all keys before a run.

It is for setting up, not for measuring: see clients.
"""

from __future__ import annotations

import json
import socket
from typing import Any, Self

KEYS = 10_000
VALUE_BYTES = 100
BATCH = 500


class Line:
    """One blocking connection. Use it in `with`."""

    def __init__(self, address: str, timeout_s: float = 5.0) -> None:
        host, _, port = address.rpartition(":")
        self._sock = socket.create_connection((host, int(port)), timeout_s)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sock.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._sock.sendall(data)

    def resp(self, *words: str | bytes | int) -> Any:
        """Do a RESP command; an error reply is raised as ValueError."""
        self.send(command(*words))
        return self.resp_reply()

    def resp_reply(self) -> Any:
        """Read one RESP2 reply."""
        head = self._file.readline()
        if not head:
            raise ConnectionError("the server closed the connection")
        kind, rest = head[:1], head[1:].strip()
        if kind == b"-":
            raise ValueError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self._file.read(size + 2)[:-2]
        if kind == b"*":
            return [self.resp_reply() for _ in range(int(rest))]
        return rest

    def json(self, **fields: Any) -> dict[str, Any]:
        """Ask a node of kvlab; returns the whole reply."""
        self.send(json.dumps(fields).encode() + b"\n")
        return self.json_reply()

    def json_reply(self) -> dict[str, Any]:
        """Read one JSON reply."""
        line = self._file.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        reply: dict[str, Any] = json.loads(line)
        return reply


def command(*words: str | bytes | int) -> bytes:
    """Encode a RESP command."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def load_keys(protocol: str, address: str, ns: str = "") -> None:
    """Write every key once, as `lg` names them; in JSON into the namespace `ns`.

    Raises RuntimeError when one is refused.
    """
    value = "v" * VALUE_BYTES
    with Line(address) as line:
        for start in range(0, KEYS, BATCH):
            keys = [f"key:{number:08d}" for number in range(start, start + BATCH)]
            if protocol == "resp":
                line.send(b"".join(command("SET", key, value) for key in keys))
                for _ in keys:
                    line.resp_reply()
            else:
                sets = [{"type": "SET", "key": key, "value": value, "ns": ns} for key in keys]
                line.send(b"".join(json.dumps(one).encode() + b"\n" for one in sets))
                replies = [line.json_reply() for _ in keys]
                refused = [one for one in replies if one["status"] != "SUCCESS"]
                if refused:
                    raise RuntimeError(f"a node refused a key: {refused[0]['error']}")
