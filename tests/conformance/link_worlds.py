"""The two worlds that a connection crosses, with one hand on both: real shims and a simulated network.

Node a is whoever dials, node b whoever listens; the links between them are AB and BA. Nothing moves
while nobody waits: real sockets are looked at, and virtual time passes, in `wait_for` and `never`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kvlab.fault.link import CLEAN, LinkRule
from kvlab.lab.shims import Shims
from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.network import Network
from kvlab.sim.stream import End as SimulatedStreamEnd

Link = tuple[str, str]
AB: Link = ("a", "b")
BA: Link = ("b", "a")
MS = 1_000
PATIENCE_US = 10_000 * MS
SILENCE_US = 100 * MS
POLL_S = 0.002
BASE_US = 100  # that every byte takes in the simulated world


class End(Protocol):
    """One side of a connection, as a test sees it."""

    connected: bool
    got: bytearray  # everything that came
    ended: bool  # the other side said its last
    over: bool  # nothing more will be heard here
    choked: bool  # too much is under way: more should not be written for now

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def close(self) -> None:
        """End the connection after what was written."""

    def abort(self) -> None:
        """End the connection with a reset."""

    def pause_reading(self) -> None:
        """Take no bytes for now."""

    def resume_reading(self) -> None:
        """Take bytes again."""


class World(Protocol):
    """A caller a, a listener b, and the links between them."""

    accepted: list[Any]  # ends of b, in the order in which they came

    @property
    def now_us(self) -> int:
        """The time of this world."""

    def dial(self) -> Any:
        """Begin to connect a to b; return a's end."""

    def rule(self, links: Sequence[Link], rule: LinkRule) -> None:
        """Add a rule to what links do."""

    def heal(self) -> None:
        """Take all rules off all links."""

    def reset(self, link: Link) -> None:
        """Break every connection that is open over a link, once. Rules stay."""

    def reaches(self, condition: Callable[[], Any], within_us: int) -> bool:
        """Let time pass until the condition holds, or until the bound."""

    def close(self) -> None:
        """Leave nothing behind."""


class Hands:
    """What is the same in both worlds."""

    def wait_for(self: Any, condition: Callable[[], Any], what: str) -> None:
        assert self.reaches(condition, PATIENCE_US), f"waited {PATIENCE_US / 1e6:g} s for {what}"

    def never(self: Any, condition: Callable[[], Any], what: str) -> None:
        assert not self.reaches(condition, SILENCE_US), what

    def connect(self: Any) -> tuple[Any, Any]:
        """Connect and return both ends; nothing else may be connecting."""
        before = len(self.accepted)
        near = self.dial()
        self.wait_for(lambda: near.connected and len(self.accepted) > before, "a connection")
        return near, self.accepted[-1]

    def cut(self: Any, *links: Link, mode: str = "hold") -> None:
        self.rule(links, LinkRule.from_builtins({"cut": True, "mode": mode}))


# -- real ---------------------------------------------------------------------------------------


class RealEnd(asyncio.Protocol):
    """A socket of this process."""

    def __init__(self, accepted: list[RealEnd] | None = None) -> None:
        self.connected = self.ended = self.over = self.choked = False
        self.got = bytearray()
        self.transport: Any = None
        self._accepted = accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.connected = transport, True
        if self._accepted is not None:
            self._accepted.append(self)

    def data_received(self, data: bytes) -> None:
        self.got += data

    def eof_received(self) -> bool:
        self.ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True

    def pause_writing(self) -> None:
        self.choked = True

    def resume_writing(self) -> None:
        self.choked = False

    def pause_reading(self) -> None:
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def close(self) -> None:
        self.transport.close()

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class ShimProcess:
    """A shim process that many tests share, and the event loop that talks to it."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.shims = Shims(seed=1)
        self.runner.run(self.shims.start())

    def close(self) -> None:
        self.runner.run(self.shims.close())
        self.runner.close()


class Real(Hands):
    """Two nodes behind the shims; this process is both."""

    def __init__(self, process: ShimProcess) -> None:
        self.accepted: list[RealEnd] = []
        self._rules: dict[Link, LinkRule] = {}
        self._dialled: list[RealEnd] = []
        self._dialling: set[asyncio.Task[None]] = set()
        self._runner, self._shims = process.runner, process.shims
        self._runner.run(self._start())

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: RealEnd(self.accepted), "127.0.0.1", 0)
        await self._shims.add("a", ("127.0.0.1", 1))
        self._address = await self._shims.add("b", self._server.sockets[0].getsockname())
        await self._shims.set_pid("a", os.getpid())

    @property
    def now_us(self) -> int:
        return time.monotonic_ns() // 1000

    def dial(self) -> RealEnd:
        end = RealEnd()
        self._dialled.append(end)
        task = self._runner.get_loop().create_task(self._dial(end))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        return end

    async def _dial(self, end: RealEnd) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: end, *self._address)
        except OSError:
            end.over = True

    def rule(self, links: Sequence[Link], rule: LinkRule) -> None:
        for link in links:
            self._rules[link] = self._rules.get(link, CLEAN).then(rule)
        self._runner.run(self._shims.set_rule(links, rule))

    def heal(self) -> None:
        self._rules.clear()
        self._runner.run(self._shims.heal())

    def reset(self, link: Link) -> None:
        self._runner.run(self._reset(link))

    async def _reset(self, link: Link) -> None:
        """The shims know it as the beginning of a cut, which ends at once."""
        await self._shims.cut([link], "reset")
        await self._shims.reset([link])
        await self._shims.set_rule([link], self._rules.get(link, CLEAN))

    def reaches(self, condition: Callable[[], Any], within_us: int) -> bool:
        return self._runner.run(self._reaches(condition, self.now_us + within_us))

    async def _reaches(self, condition: Callable[[], Any], until_us: int) -> bool:
        while not condition():
            if self.now_us >= until_us:
                return False
            await asyncio.sleep(POLL_S)
        return True

    def close(self) -> None:
        self._runner.run(self._end())

    async def _end(self) -> None:
        self._server.close()
        for task in self._dialling:
            task.cancel()
        for end in self.accepted + self._dialled:
            if end.transport is not None:
                end.transport.abort()
        for node in ("a", "b"):
            await self._shims.remove(node)


# -- simulated ----------------------------------------------------------------------------------


class SimulatedEnd:
    """The owner of an end of the simulated network."""

    def __init__(self) -> None:
        self.connected = self.ended = self.over = self.choked = False
        self.got = bytearray()
        self.end: Any = None

    def opened(self, end: SimulatedStreamEnd) -> None:
        self.connected = True

    def data(self, end: SimulatedStreamEnd, data: bytes) -> None:
        assert self.connected
        assert not self.over
        self.got += data

    def eof(self, end: SimulatedStreamEnd) -> None:
        self.ended = True

    def lost(self, end: SimulatedStreamEnd) -> None:
        assert not self.over
        self.over = True

    def pause_writing(self, end: SimulatedStreamEnd) -> None:
        self.choked = True

    def resume_writing(self, end: SimulatedStreamEnd) -> None:
        self.choked = False

    def pause_reading(self) -> None:
        self.end.pause_reading()

    def resume_reading(self) -> None:
        self.end.resume_reading()

    def write(self, data: bytes) -> None:
        self.end.write(data)

    def close(self) -> None:
        self.end.close()

    def abort(self) -> None:
        self.end.abort()


class Machine:
    """A machine whose only process notes what it hears."""

    power = "up"

    def __init__(self, name: str) -> None:
        self.name = name
        self.accepted: list[SimulatedEnd] = []

    def hear(self, call: Callable[..., object], *arguments: Any) -> None:
        call(*arguments)

    def accept(self, end: SimulatedStreamEnd) -> SimulatedEnd:
        mine = SimulatedEnd()
        mine.end, mine.connected = end, True
        self.accepted.append(mine)
        return mine


class Simulated(Hands):
    """The simulated network with two machines."""

    def __init__(self, seed: int) -> None:
        self._clock = Clock()
        self._network = Network(self._clock, Rng(seed), LinkRule(latency_us=BASE_US))
        self._rules: dict[Link, LinkRule] = {}
        machines = [Machine("a"), Machine("b")]
        self._network.machines.update({one.name: one for one in machines})
        self.accepted = machines[1].accepted

    @property
    def now_us(self) -> int:
        return self._clock.now_us

    def dial(self) -> SimulatedEnd:
        mine = SimulatedEnd()
        mine.end = self._network.connect("a", "b", mine)
        return mine

    def rule(self, links: Sequence[Link], rule: LinkRule) -> None:
        for link in links:
            self._rules[link] = self._rules.get(link, CLEAN).then(rule)
            self._network.set_rule(link, self._rules[link])

    def heal(self) -> None:
        self._rules.clear()
        for link in (AB, BA):
            self._network.set_rule(link, None)

    def reset(self, link: Link) -> None:
        self._network.reset(*link)

    def reaches(self, condition: Callable[[], Any], within_us: int) -> bool:
        until_us = self._clock.now_us + within_us
        while not condition():
            if not self._clock.step(until_us):
                return bool(condition())
        return True

    def close(self) -> None:
        pass
