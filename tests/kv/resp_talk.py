"""RESP clients of nodes in memory, for dialogues: commands out, Python values back."""

from __future__ import annotations

from typing import Any

import hiredis
from session_client import Client
from world import World


def command(*args: str | bytes) -> bytes:
    """Return a request as every client library writes it."""
    words = [arg if isinstance(arg, bytes) else arg.encode() for arg in args]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in words)


class Talk(Client):
    """A client of one node of a world that speaks RESP; errors come back as their text."""

    def __init__(self, world: World, name: str = "server1") -> None:
        super().__init__(world, name)
        self._replies = hiredis.Reader(replyError=str, encoding=None)

    def take(self) -> list[Any]:
        """Return the replies that came since the last call."""
        data, self.got = self.got, b""
        self._replies.feed(data)
        replies = []
        while (reply := self._replies.gets()) is not False:
            replies.append(reply)
        return replies

    def ask(self, *lines: Any) -> list[Any]:
        """Send bytes in one piece; return the replies when nothing is owed any more."""
        replies = super().ask(*lines)
        while self.session.wants_turn:
            replies += self.turn()
            self.deliver()
            replies += self.take()
        return replies

    def __call__(self, *args: str | bytes) -> Any:
        """Send one command; return its reply when the nodes have fallen silent."""
        [reply] = self.ask(command(*args))
        return reply

    def lines(self, *lines: str) -> list[Any]:
        """Send commands given as lines of words in one piece; return their replies."""
        return self.ask(b"".join(command(*line.split(" ")) for line in lines))
