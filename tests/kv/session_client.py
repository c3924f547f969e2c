"""Clients of nodes in memory, in one thread and without sockets: for dialogues in tests."""

from __future__ import annotations

import json

from world import World

from kvlab.kv.session import ClientSession


class Client:
    """A client of one node of a world, and as much of a shell as the session needs."""

    def __init__(self, world: World, name: str = "server1") -> None:
        self.world = world
        self.node = world.nodes[name]
        self.session = ClientSession(self.node)
        self.session.conn = self
        self.got = b""  # that the client has received
        self.writes = 0
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not (data and self.closed), "bytes after the end"
        self.got += data
        self.writes += bool(data)
        self.closed = self.closed or self.session.close_due

    def send(self, *lines: dict | bytes) -> list[dict]:
        """Send lines in one piece; return the replies that came back at once."""
        data = b"".join(line if isinstance(line, bytes) else as_line(**line) for line in lines)
        self.world.now_us += 10
        self.write(self.session.feed(data, self.world.now_us))
        return self.take()

    def ask(self, *lines: dict | bytes) -> list[dict]:
        """Send lines in one piece; return the replies when the nodes have fallen silent."""
        replies = self.send(*lines)
        self.deliver()
        return replies + self.take()

    def turn(self) -> list[dict]:
        """Let one turn of the loop begin what was held."""
        assert self.session.wants_turn
        self.write(self.session.go_on(self.world.now_us))
        return self.take()

    def turns(self) -> list[dict]:
        """Let turns go by until nothing is held that could be begun."""
        replies = []
        while self.session.wants_turn:
            replies += self.turn()
        return replies

    def take(self) -> list[dict]:
        """Return the replies that came since the last call."""
        data, self.got = self.got, b""
        assert not data or data.endswith(b"\n")
        return [json.loads(line) for line in data.splitlines()]

    def deliver(self) -> None:
        """Let the nodes talk until they fall silent; write what that ends."""
        self.world.run()
        flush(self.world)


def flush(world: World) -> None:
    """Do what a shell does at the end of its loop turn."""
    for node in world.nodes.values():
        for batch in node.finished:
            batch.conn.conn.write(batch.conn.release())


def as_line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def set_(key: str, value: str = "v", **more: object) -> dict:
    return {"type": "SET", "key": key, "value": value} | more


def get(key: str, **more: object) -> dict:
    return {"type": "GET", "key": key} | more


def values(replies: list[dict]) -> list[str]:
    assert all(reply["status"] == "SUCCESS" for reply in replies), replies
    return [reply["value"] for reply in replies]


def solo_world() -> World:
    world = World(1, found=False, replication=1, r=1, w=1)
    world.nodes["server1"].membership.alone(world.now_us)
    assert world.nodes["server1"].state.solo
    return world
