"""Addresses of nodes: kept for a node while it is down, and listened on before the node lives.

It knows nothing of nodes; it hands out sockets. A port of nobody's choice is one of the kernel's. One
that must be free again when a cluster comes back is drawn from where the kernel draws none: what the
kernel gives away may by then be the near end of anybody's connection.

Invariants:
1. A port is never chosen and then passed on as a number: the socket that was bound is kept, so no
   other process can take the port between its choice and its use.
2. The keeper never listens: while the node is down its port refuses connections.
   A server without SO_REUSEADDR cannot bind beside it; for such a one the port is let go for the
   moment of its start, and only then can others be faster.
3. Whoever finds a port taken learns by whom.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kvlab.errors import InfraError, PortTakenError, UsageError
from kvlab.lab import procs
from kvlab.rng import Rng, fresh_seed

CHOICE: Final = range(10_000, 32_768)
"""Ports that last are drawn from here, as far as the kernel leaves it alone."""
TRIES_MAX: Final = 64
_KERNELS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")

# Connections that wait for the node to accept them; the kernel cuts it to net.core.somaxconn.
BACKLOG = 1024
NOBODY = "a socket that does not listen; connections of a server that ended are kept for a minute"


class Reservation:
    """A bound socket that never listens, and so keeps `port` on `address` for one node."""

    def __init__(
        self, host: str, port: int, node: str = "", *, hint: str = "", lasts: bool = False
    ) -> None:
        """Bind `host:port` (0: any that is free; with `lasts`, one that will likely be so again).

        Raises PortTakenError with `hint`, or UsageError for a host that is no address of this machine.
        """
        self.node = node
        self._hint = hint
        self._family, self.address = _resolve(host)
        self._closed = False
        self._keeper: socket.socket | None = (
            self._lasting() if lasts and not port else self._bound(port)
        )
        self.port: int = self._keeper.getsockname()[1]

    def listen(self) -> socket.socket:
        """Open a listening socket on the reserved port, to be handed to the node.

        Linux lets two sockets with SO_REUSEADDR share a port as long as only one of them listens.
        """
        sock = self._bound(self.port)
        try:
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise self._taken(self.port, error) from error
        return sock

    def let_go(self) -> None:
        """Let another socket bind the port, until `keep`."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def keep(self) -> None:
        """Hold the port again, if it can be had; a server that ended may block it for a minute."""
        if self._keeper is None and not self._closed:
            with contextlib.suppress(PortTakenError):
                self._keeper = self._bound(self.port)

    def close(self) -> None:
        """Give the port back."""
        self._closed = True
        self.let_go()

    def _lasting(self) -> socket.socket:
        for port in candidates():
            sock = socket.socket(self._family, socket.SOCK_STREAM)
            try:
                # Without SO_REUSEADDR, which would let it share a port that somebody else keeps.
                sock.bind((self.address, port))
            except OSError:
                sock.close()
                continue
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return sock
        return self._bound(0)

    def _bound(self, port: int) -> socket.socket:
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.address, port))
        except OSError as error:
            sock.close()
            raise self._taken(port, error) from error
        return sock

    def _taken(self, port: int, error: OSError) -> Exception:
        whose = f" of {self.node}" if self.node else ""
        place = f"{self.address}:{port}{whose}"
        if error.errno == errno.EADDRINUSE:
            return PortTakenError(
                f"{place} is taken by {procs.listener_of(port) or NOBODY}",
                hint=self._hint
                or "stop that process, or choose another port (0: any that is free)",
            )
        if error.errno == errno.EACCES:
            return UsageError(
                f"{place} needs privileges that this user does not have",
                hint="choose a port above 1023",
            )
        return InfraError(f"cannot listen on {place}: {error.strerror}")


def candidates() -> Iterator[int]:
    """Draw ports that may be free and that the kernel gives to nobody, TRIES_MAX at most."""
    try:
        low, high = map(int, _KERNELS.read_text().split())
    except (OSError, ValueError):
        return
    below = range(CHOICE.start, min(CHOICE.stop, low))
    usable = CHOICE if high < CHOICE.start else below
    yield from Rng(fresh_seed(), "ports").sample(usable, min(TRIES_MAX, len(usable)))


def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """Return family and numeric address of `host`, IPv4 first as clients of `localhost` expect."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise UsageError(
            f"host {host!r} is unknown: {error.strerror}", hint="use an address of this machine"
        ) from error
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, _, _, _, address = found[0]
    return family, str(address[0])
