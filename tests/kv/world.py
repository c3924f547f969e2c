"""Some nodes and the frames between them, in one thread and without sockets: for dialogues in tests."""

from __future__ import annotations

from collections import deque

from kvlab.kv.node import TICK_US, Node
from kvlab.kv.state import Settings
from kvlab.wire.json_lines import Reply, ReplyReader, Request
from kvlab.wire.peer import FrameReader

START_US = 1_800_000_000_000_000


class World:
    """A cluster in memory. Frames wait in order per directed pair until `run` delivers them."""

    def __init__(self, count: int = 3, *, found: bool = True, **settings) -> None:
        self.now_us = START_US
        self.nodes: dict[str, Node] = {}
        self.wires: dict[tuple[str, str], deque[bytes]] = {}
        self.cut: set[tuple[str, str]] = set()
        self.settings = settings
        names = [f"server{number}" for number in range(1, count + 1)]
        self.initial = tuple((name, f"{name}:1") for name in names)
        for name in names:
            self.start(name, initial=self.initial)
        if found:
            self.mesh()
            self.run()

    def start(self, name: str, *, initial=()) -> Node:
        """Start a new life of a node; it has no links yet."""
        self.now_us += 1000
        given = {"replication": 3, "range_count": 16} | self.settings
        node = Node(
            Settings(
                id=name,
                cluster="test",
                address=f"{name}:1",
                client_address=f"{name}:2",
                boot=self.now_us,
                initial=initial,
                **given,
            ),
            self.now_us,
        )
        self.nodes[name] = node
        return node

    def connect(self, a: str, b: str) -> None:
        one, other = self.nodes[a], self.nodes[b]
        hello_one, hello_other = one.hello(b), other.hello(a)
        assert other.why_refuse(hello_one) == ("", "")
        assert one.why_refuse(hello_other) == ("", "")
        self.wires[a, b], self.wires[b, a] = deque(), deque()
        other.link_up(hello_one, self.now_us)
        one.link_up(hello_other, self.now_us)

    def disconnect(self, a: str, b: str) -> None:
        for source, target in ((a, b), (b, a)):
            self.wires.pop((source, target), None)
            if source in self.nodes:
                self.nodes[source].link_down(target)

    def mesh(self) -> None:
        names = sorted(self.nodes)
        for place, a in enumerate(names):
            for b in names[place + 1 :]:
                if (a, b) not in self.wires:
                    self.connect(a, b)

    def kill(self, name: str) -> None:
        for other in list(self.nodes):
            if other != name:
                self.disconnect(name, other)
        del self.nodes[name]

    def collect(self) -> None:
        for name, node in self.nodes.items():
            for peer, data in node.take_frames():
                self.wires[name, peer].append(data)

    def deliver(self, source: str, target: str) -> bool:
        """Deliver the oldest frames of one wire."""
        wire = self.wires.get((source, target))
        if not wire or (source, target) in self.cut:
            return False
        node = self.nodes[target]
        for body in FrameReader().feed(wire.popleft()):
            link = node.state.up.get(source)
            if link is not None:
                node.frame(link, body, self.now_us)
        return True

    def run(self) -> None:
        """Deliver until nothing is left to say."""
        for _ in range(100_000):
            self.collect()
            delivered = [self.deliver(*pair) for pair in list(self.wires)]
            if not any(delivered):
                return
        raise AssertionError("the nodes never fall silent")

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.now_us += TICK_US
            for node in list(self.nodes.values()):
                node.tick(self.now_us)
            self.run()

    def settle(self) -> None:
        """Tick until no range moves."""
        for _ in range(200):
            self.tick()
            if not any(
                node.state.map is None
                or node.state.map.joint_ranges()
                or not node.membership.is_member
                for node in self.nodes.values()
                if not node.state.left
            ):
                return
        raise AssertionError("the ranges never come to rest")

    def submit(self, name: str, *requests: Request):
        """Begin requests at a node, without delivering anything."""
        self.now_us += 10
        return self.nodes[name].receive(None, list(requests), self.now_us)

    def replies(self, batch) -> list[Reply]:
        assert batch.pending == 0, "an operation has not ended"
        return ReplyReader().feed(batch.encode())

    def ask(self, name: str, *requests: Request) -> list[Reply]:
        """Send requests to a node and run to their replies."""
        batch = self.submit(name, *requests)
        self.run()
        return self.replies(batch)

    def ask_silently(self, name: str, *requests: Request) -> list[Reply]:
        """Send requests that need nobody else, without delivering anything."""
        return self.replies(self.submit(name, *requests))

    def get(self, name: str, key: str, **options) -> str | None:
        [reply] = self.ask(name, Request("GET", key, **options))
        return reply.value if reply.status == "SUCCESS" else None

    def set(self, name: str, key: str, value: str, **options) -> Reply:
        [reply] = self.ask(name, Request("SET", key, value, **options))
        return reply

    def delete(self, name: str, key: str, **options) -> Reply:
        [reply] = self.ask(name, Request("DELETE", key, **options))
        return reply

    def holders(self, key: str) -> dict[str, str | None]:
        """Return what each node itself holds for a key (tombstones as None)."""
        raw = key.encode()
        held = {}
        for name, node in self.nodes.items():
            for records in node.state.table.ranges:
                if raw in records:
                    held[name] = records[raw][1]
        return held
