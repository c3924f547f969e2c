"""The relay: all listeners, links and connections of one cluster's shim, and what is done to them.

It speaks no control protocol (`shim` does) and starts no process. Invariants:

1. A listener keeps its address from `add` to `remove`, whether its node lives or not.
2. A change of a rule is complete when the call returns: no byte that it stops is handed over later.
3. There is one `Link` per ordered pair that was ever used or ruled, and one alarm for all of them.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from kvlab.errors import InfraError, PortTakenError, UsageError
from kvlab.fault.link import CLEAN, LinkRule
from kvlab.lab.shim_caller import Address, Callers
from kvlab.lab.shim_conn import Connection, Port
from kvlab.lab.shim_timer import Alarm, now_us
from kvlab.lab.shim_way import Link, Room, Way
from kvlab.rng import Rng

EXTERNAL: Final = "external"
"""The source of every connection that no node opened: clients."""

BUFFER_BYTES: Final = 1 << 20
"""What one direction of one connection may have waiting in the shim before its sender stalls."""
BUFFER_TOTAL_BYTES: Final = 256 << 20
"""What all connections together may have waiting."""
CONNECTIONS_MAX: Final = 8_192
BACKLOG: Final = 1_024
"""Connections that the kernel may have waiting to be accepted, per listener."""


@dataclass(slots=True)
class _Listener:
    server: asyncio.Server
    address: Address
    upstream: Address


class Relay(Port):
    """The shim itself; every method but `add` is synchronous, and so takes effect at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        rng: Rng,
        buffer_bytes: int = BUFFER_BYTES,
        total_bytes: int = BUFFER_TOTAL_BYTES,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._connections_max = connections_max
        self._callers = Callers()
        self._listeners: dict[str, _Listener] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._connections: set[Connection] = set()
        self._alarm = Alarm(loop, self._ring)
        self._due: list[tuple[int, int, Way]] = []
        self._ticket = itertools.count()
        self._room = Room(self._wake, way_max=buffer_bytes, total_max=total_bytes)

    # -- what the supervisor asks

    async def add(self, node: str, upstream: Address, listen: Address) -> Address:
        """Listen for a node, or give an existing listener a new upstream; return its address.

        Raises PortTakenError if the asked port is in use, InfraError if it cannot be bound.
        """
        if node == EXTERNAL or not node:
            raise UsageError(f'a node cannot be called "{node}"')
        listener = self._listeners.get(node)
        if listener is not None:
            listener.upstream = upstream
            return listener.address
        sock = _listen(listen)
        address: Address = sock.getsockname()[:2]
        server = await self._loop.create_server(
            partial(self._near_side, node), sock=sock, backlog=BACKLOG
        )
        self._listeners[node] = _Listener(server, address, upstream)
        return address

    def remove(self, node: str) -> None:
        """Close a node's listener and reset every connection from and to it."""
        listener = self._listeners.pop(node, None)
        if listener is None:
            raise UsageError(f'the shim carries no node "{node}"', hint=self._known())
        listener.server.close()
        self._callers.register(node, None)
        for connection in list(self._connections):
            if node in (connection.source, connection.target):
                connection.break_off(None)
        self._links = {ends: link for ends, link in self._links.items() if node not in ends}

    def set_pid(self, node: str, pid: int | None) -> None:
        """Know a node's process from now on; connections that it opened earlier become its own."""
        self._require(node)
        self._callers.register(node, pid)
        if pid is not None:
            self._attribute_again()

    def cut(self, links: Sequence[tuple[str, str]], mode: str) -> None:
        """Let nothing pass these links; mode is "hold" or "reset" (see `LinkRule`)."""
        self.set_rule(links, LinkRule.from_builtins({"cut": True, "mode": mode}))

    def set_rule(self, links: Sequence[tuple[str, str]], rule: LinkRule) -> None:
        """Add a rule to what these links have already."""
        found = self._found(links)
        self._attribute_again()
        self._change({link: link.rule.then(rule) for link in found})

    def replace_rule(self, links: Sequence[tuple[str, str]], rule: LinkRule) -> None:
        """Put a rule in place of all that these links have: at no moment they are without one."""
        found = self._found(links)
        self._attribute_again()
        self._change(dict.fromkeys(found, rule))

    def reset(self, links: Sequence[tuple[str, str]]) -> None:
        """Take all rules off these links; what they held goes out, in order."""
        self._change(dict.fromkeys(self._found(links), CLEAN))

    def heal(self) -> int:
        """Take all rules off all links; return how many links had one."""
        ruled = [link for link in self._links.values() if not link.rule.clean]
        self._change(dict.fromkeys(ruled, CLEAN))
        return len(ruled)

    def snapshot(self) -> list[dict[str, Any]]:
        """Give the counters and rule of every link that was ever used or ruled."""
        return [link.snapshot() for _, link in sorted(self._links.items())]

    async def close(self) -> None:
        """Stop listening, and reset what is open."""
        for listener in self._listeners.values():
            listener.server.close()
        for connection in list(self._connections):
            connection.break_off(None)
        self._alarm.close()
        self._callers.close()

    # -- what connections ask

    def accepted(self, connection: Connection) -> bool:
        """Find out who calls, and book the connection under the links of the two nodes."""
        near = connection.near.transport
        if near is None:
            return False
        caller, callee = near.get_extra_info("peername"), near.get_extra_info("sockname")
        if not caller or not callee:  # it is gone already
            return False
        inode = self._callers.inode(caller[:2], callee[:2])
        connection.inode = inode or 0
        source = self._callers.owners((connection.inode,)).get(connection.inode, EXTERNAL)
        out, back = self._between(source, connection.target)
        if len(self._connections) >= self._connections_max or (
            not inode and self._is_cut_off(connection.target)
        ):
            # Who closed before we could ask may have been the far side of a cut.
            out.refused += 1
            return False
        connection.join(source, out, back, self._room)
        self._connections.add(connection)
        return True

    def upstream(self, target: str) -> Address:
        """Give the node's own address."""
        return self._listeners[target].upstream

    def forget(self, connection: Connection) -> None:
        """Drop the connection from the books."""
        self._connections.discard(connection)

    # -- inside

    def _near_side(self, node: str) -> asyncio.Protocol:
        return Connection(self, node).near

    def _between(self, source: str, target: str) -> tuple[Link, Link]:
        return self._link(source, target), self._link(target, source)

    def _link(self, source: str, target: str) -> Link:
        link = self._links.get((source, target))
        if link is None:
            link = Link(source, target, self._rng.child(f"{source}->{target}"))
            self._links[source, target] = link
        return link

    def _found(self, links: Sequence[tuple[str, str]]) -> list[Link]:
        for source, target in links:
            for node in (source, target):
                if node != EXTERNAL:
                    self._require(node)
            if source == target:
                raise UsageError(f"{source} has no link to itself")
        return [self._link(source, target) for source, target in dict.fromkeys(links)]

    def _require(self, node: str) -> None:
        if node not in self._listeners:
            raise UsageError(f'the shim carries no node "{node}"', hint=self._known())

    def _known(self) -> str:
        return f"the nodes are {', '.join(self._listeners) or 'none yet'}"

    def _is_cut_off(self, target: str) -> bool:
        return any(
            link.rule.cut for link in self._links.values() if target in (link.source, link.target)
        )

    def _attribute_again(self) -> None:
        """Look once more for the callers that nobody knew when they connected."""
        unknown = [it for it in self._connections if it.source == EXTERNAL and it.inode]
        owners = self._callers.owners([it.inode for it in unknown])
        for connection in unknown:
            source = owners.get(connection.inode)
            if source is not None:
                out, back = self._between(source, connection.target)
                connection.move(source, out, back)
                if _breaks(out.rule) or _breaks(back.rule):
                    connection.break_off(out if _breaks(out.rule) else back)

    def _change(self, rules: dict[Link, LinkRule]) -> None:
        were_cut = {link for link in rules if link.cut}
        for link, rule in rules.items():
            link.set_rule(rule)
        changed = set(rules)
        for connection in [it for it in self._connections if it.uses(changed)]:
            _follow(connection, changed, were_cut)

    def _wake(self, way: Way, at_us: int) -> None:
        heapq.heappush(self._due, (at_us, next(self._ticket), way))
        if self._due[0][0] == at_us:
            self._alarm.set(at_us)

    def _ring(self) -> None:
        """Drain every way whose time has come, in the order of their times."""
        now = now_us()
        due = self._due
        while due and due[0][0] <= now:
            at_us, _, way = heapq.heappop(due)
            if way.wake_us == at_us:
                way.wake_us = 0
                way.drain(now)
        if due:
            self._alarm.set(due[0][0])


def _follow(connection: Connection, changed: Iterable[Link], were_cut: set[Link]) -> None:
    """Make one connection obey the new rules of its links."""
    ways = [way for way in (connection.forward, connection.back) if way is not None]
    for way in ways:
        if way.link in changed and _breaks(way.link.rule):
            connection.break_off(way.link)
            return
    for way in ways:
        if way.link in changed:
            way.refresh(was_cut=way.link in were_cut)
    if connection.hung and not connection.closed:
        connection.connect()


def _breaks(rule: LinkRule) -> bool:
    return rule.cut and rule.mode == "reset"


def _listen(address: Address) -> socket.socket:
    """Bind and listen; port 0 lets the kernel choose."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(
                f"somebody listens on {host}:{port} already", hint="use port 0, or another one"
            ) from error
        raise InfraError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return sock
