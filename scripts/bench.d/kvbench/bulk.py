"""One TCP stream at full speed: `python -m kvbench.bulk sink`, `... source SECONDS HOST:PORT`.

The sink prints its port, reads every connection to its end and answers how many bytes came. The
source writes 1 MiB at a time and prints a line of JSON; only bytes that the sink saw count.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

CHUNK = 1 << 20


def sink() -> None:
    """Serve one connection after the other, until killed."""
    buffer = bytearray(CHUNK)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            sock, _ = listener.accept()
            with sock:
                total = 0
                while size := sock.recv_into(buffer):
                    total += size
                sock.sendall(struct.pack(">Q", total))


def source(seconds: float, address: str) -> None:
    """Write for that long, and print what arrived."""
    host, _, port = address.rpartition(":")
    chunk = bytes(CHUNK)
    with socket.create_connection((host, int(port)), 10.0) as sock:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            sock.sendall(chunk)
        sock.shutdown(socket.SHUT_WR)
        (total,) = struct.unpack(">Q", sock.recv(8, socket.MSG_WAITALL))
        took = time.monotonic() - began
    print(json.dumps({"bytes": total, "seconds": took}))


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        sink()
    else:
        source(float(sys.argv[2]), sys.argv[3])
