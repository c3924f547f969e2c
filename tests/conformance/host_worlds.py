"""The two worlds that a node's process lives in, with the same hand on both: real or simulated.

A test is a client on plain connections. Nothing moves while nobody waits: real sockets are looked at,
and virtual time passes, in `wait_for` and `never`.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kvlab.fault.link import LinkRule
from kvlab.kv.state import Settings
from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.host import START_US, Host
from kvlab.sim.network import Network
from kvlab.sim.watch import Watch
from tests.conformance.link_worlds import MS, Hands, Machine, SimulatedEnd
from tests.live.node_process import PROGRAM, Cluster, NodeProcess

NODE = "server1"
POLL_S = 0.002


class Asks:
    """What a client's end does in both worlds."""

    def ask(self: Any, **request: Any) -> None:
        self.write(json.dumps(request).encode() + b"\n")

    @property
    def replies(self: Any) -> list[dict[str, Any]]:
        """Every whole reply that came so far."""
        whole, _, _ = bytes(self.got).rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def gone(self: Any) -> bool:
        """Whether nothing more will come, whichever way the connection ended."""
        return self.ended or self.over


class Lives(Hands):
    """What is the same in both worlds."""

    def connect(self: Any) -> Any:
        end = self.dial()
        self.wait_for(lambda: end.connected, "a connection")
        return end

    def answer(self: Any, **request: Any) -> dict[str, Any]:
        """Ask one request on a connection of its own."""
        end = self.connect()
        end.ask(**request)
        self.wait_for(lambda: end.replies or end.gone, "a reply")
        [reply] = end.replies
        end.close()
        return reply


# -- real ---------------------------------------------------------------------------------------


class RealEnd(Asks):
    """A client's socket, looked at by `look`."""

    def __init__(self, port: int) -> None:
        self.connected = self.ended = self.over = False
        self.got = bytearray()
        self._out = bytearray()
        self._socket = socket.socket()
        self._socket.settimeout(10)
        try:
            self._socket.connect(("127.0.0.1", port))
            self.connected = True
        except ConnectionError:
            self.over = True
        self._socket.setblocking(False)

    def look(self) -> None:
        """Send and take what can be sent and taken now."""
        try:
            while not self.gone:
                data = self._socket.recv(1 << 20)
                self.got += data
                self.ended = not data
        except BlockingIOError:
            pass
        except ConnectionError:
            self.over = True
        try:
            while self._out and not self.over:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            pass
        except ConnectionError:
            self._out.clear()  # what came before the reset can still be read

    def write(self, data: bytes) -> None:
        self._out += data
        self.look()

    def close(self) -> None:
        self._socket.close()
        self.over = True

    def abort(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()


class RealClient(Lives):
    """A client of real nodes: its sockets, and the time that passes."""

    def __init__(self) -> None:
        self._ends: list[RealEnd] = []

    @property
    def now_us(self) -> int:
        return time.monotonic_ns() // 1000

    @property
    def wall_us(self) -> int:
        """What a clock shows that is right."""
        return time.time_ns() // 1000

    def _dial(self, port: int) -> RealEnd:
        end = RealEnd(port)
        self._ends.append(end)
        return end

    def reaches(self, condition: Callable[[], Any], within_us: int) -> bool:
        until_us = self.now_us + within_us
        while True:
            for end in self._ends:
                end.look()
            if condition():
                return True
            if self.now_us >= until_us:
                return False
            time.sleep(POLL_S)

    def _close_ends(self) -> None:
        for end in self._ends:
            end.close()
        self._ends.clear()


class Real(RealClient):
    """One node in a process of its own, that many tests share until one kills it."""

    def __init__(self, folder: Path, program: Sequence[str] = PROGRAM) -> None:
        super().__init__()
        self._cluster = Cluster(folder, lambda _name: program)
        self._node: NodeProcess | None = None
        self._port = 0

    def begin(self) -> None:
        """Have a node that runs and knows nothing of the keys of other tests."""
        if self._node is None:
            self.start()
        self.answer(type="DELETE", key="k")

    def start(self, *flags: str) -> None:
        self._node = self._cluster.start(NODE, *flags, port=self._port).wait_ready()
        self._port = self._node.port

    def kill(self) -> None:
        node, self._node = self._node, None
        assert node is not None
        node.kill()

    def stop(self) -> None:
        node, self._node = self._node, None
        assert node is not None
        node.signal(signal.SIGTERM)
        node.wait()

    def pause(self) -> None:
        assert self._node is not None
        self._node.signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._node is not None
        self._node.signal(signal.SIGCONT)

    def dial(self) -> RealEnd:
        return self._dial(self._port)

    def close(self) -> None:
        self._close_ends()
        if self._node is not None:
            self.resume()
            assert "Traceback" not in self._node.log, self._node.log

    def end(self) -> None:
        self._cluster.close()


# -- simulated ----------------------------------------------------------------------------------


class ClientEnd(Asks, SimulatedEnd):
    """A client's end in the simulated network."""


class SimulatedClient(Lives):
    """A client on a machine of the simulated network, and the time that passes there."""

    def __init__(self, seed: int) -> None:
        self._clock = Clock()
        self._network = Network(self._clock, Rng(seed), LinkRule(latency_us=MS // 10))
        self._network.machines["client"] = Machine("client")
        self._watch = Watch()

    @property
    def now_us(self) -> int:
        return self._clock.now_us

    @property
    def wall_us(self) -> int:
        """What a clock shows that is right."""
        return START_US + self._clock.now_us

    def _dial(self, host: str) -> ClientEnd:
        mine = ClientEnd()
        mine.end = self._network.connect("client", host, mine)
        return mine

    def reaches(self, condition: Callable[[], Any], within_us: int) -> bool:
        until_us = self._clock.now_us + within_us
        while not condition():
            if not self._clock.step(until_us):
                return bool(condition())
        return True

    def close(self) -> None:
        raised = [story for story in self._watch.found["crashes"] if "Traceback" in story]
        assert not raised, raised[0]


class Simulated(SimulatedClient):
    """One node on a machine of the simulated network."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._host = Host(NODE, self._clock, self._network, self._watch, Rng(1, NODE))

    def begin(self) -> None:
        self.start()

    def start(self, sync: str = "memory") -> None:
        self._host.start(
            lambda boot: Settings(
                id=NODE, cluster="kvlab", address=NODE, client_address=NODE, boot=boot
            ),
            (),
            sync=sync,
        )

    def kill(self) -> None:
        self._host.end()

    def stop(self) -> None:
        self._host.stop()

    def pause(self) -> None:
        self._host.pause()

    def resume(self) -> None:
        self._host.resume()

    def dial(self) -> ClientEnd:
        return self._dial(NODE)
