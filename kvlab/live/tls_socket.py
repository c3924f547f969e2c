"""A socket with TLS that a loop of `poll` can use as if it were a plain one. It connects nothing."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


class TlsSocket:
    """Has the few methods of a socket that live/blocking.py uses.

    `recv` and `send` raise BlockingIOError where TLS wants to wait. `pending`: there is something to
    receive of which `poll` knows nothing.
    """

    def __init__(self, wrapped: ssl.SSLSocket) -> None:
        self._socket = wrapped
        self._peeked = b""

    @property
    def pending(self) -> bool:
        """Whether `recv` has something without the kernel."""
        return bool(self._peeked) or self._socket.pending() > 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive; with MSG_PEEK leave it there."""
        import ssl

        if not self._peeked:
            try:
                self._peeked = self._socket.recv(size)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise BlockingIOError from None
            except ssl.SSLEOFError:
                return b""
        if flags & socket.MSG_PEEK:
            return self._peeked
        data, self._peeked = self._peeked, b""
        return data

    def send(self, data: memoryview) -> int:
        """Send a part, and return how much."""
        import ssl

        try:
            return self._socket.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def fileno(self) -> int:
        """Return the descriptor, for poll."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        """Let calls wait, or not."""
        self._socket.setblocking(flag)

    def setsockopt(self, level: int, name: int, value: int) -> None:
        """Set an option of the socket below."""
        self._socket.setsockopt(level, name, value)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
