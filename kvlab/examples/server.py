"""A small replicated store that keeps its word: registers after Attiya, Bar-Noy and Dolev.

Each key is linearizable while a majority of the nodes can be reached, and what was acknowledged
survives kill -9 (not a power cut: nothing is synced). A request that no majority answered may happen
or not, and is answered UNKNOWN. A DELETE looks first, so that two at once may both find the key.
"""

import argparse
import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path

NOTHING = [[0, 0, ""], None]  # version and value of a key that nobody wrote


class Peer:
    def __init__(self, address):
        self.address, self.lock, self.reader, self.writer = address, asyncio.Lock(), None, None

    async def ask(self, question):
        """Return [answer], or [] if there is none within a second."""
        try:
            async with asyncio.timeout(1), self.lock:
                if self.reader is None or self.reader.at_eof():
                    self.reader, self.writer = await asyncio.open_connection(
                        *self.address.split(":")
                    )
                self.writer.write(json.dumps(question).encode() + b"\n")
                return [json.loads(await self.reader.readline())]
        except (OSError, ValueError):
            if self.writer is not None:
                self.writer.close()
            self.reader = None  # what comes late must not be taken for the next answer
            return []


class Node:
    def __init__(self, me, peers, log):
        self.me, self.table, self.peers = me, {}, [Peer(one) for one in peers if one]
        self.log = log.open("ab", buffering=0)
        for line in log.read_bytes().splitlines():
            with suppress(ValueError):  # half a line, written when it was killed
                self.table.update(json.loads(line))
        self.log.write(b"\n")

    async def serve(self, reader, writer):
        with suppress(OSError, ValueError, TypeError):
            while line := await reader.readline():
                asked = json.loads(line)
                reply = self.local(*asked) if isinstance(asked, list) else await self.reply(**asked)
                writer.write(json.dumps(reply).encode() + b"\n")
        writer.close()

    async def reply(self, type, key, value="", **_):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        reply = {"type": "RESPONSE", "key": key, "value": "", "timestamp": now, "status": "ERROR"}
        if type not in ("GET", "SET", "DELETE"):
            return reply | {"error": "Invalid request type", "code": "BAD_TYPE"}
        if not (found := await self.majority(key)):
            return reply | {"error": "no majority answers", "code": "UNKNOWN"}
        version, old = latest = max(found)
        if type == "SET" or (type == "DELETE" and old is not None):
            new = value if type == "SET" else None
            latest = [[version[0] + 1, time.time_ns(), self.me], new]
        # Also after a GET: what one client has seen, all must see from now on.
        if any(one != latest for one in found) and not await self.majority(key, latest):
            return reply | {"error": "no majority answers", "code": "UNKNOWN"}
        if type != "SET" and old is None:
            return reply | {"error": "Key does not exist", "code": "NOT_FOUND"}
        return reply | {"value": old if type == "GET" else "", "status": "SUCCESS", "error": ""}

    async def majority(self, key, new=None):
        """Ask every node what it has, or to take `new`; return a majority's answers, or none."""
        answers, needed = [self.local(key, new)], (len(self.peers) + 1) // 2 + 1
        for answer in asyncio.as_completed([one.ask([key, new]) for one in self.peers]):
            answers += await answer
            if len(answers) >= needed:
                break
        return answers if len(answers) >= needed else []

    def local(self, key, new=None):
        if new is not None and new[0] > self.table.get(key, NOTHING)[0]:
            self.log.write(json.dumps({key: new}).encode() + b"\n")
            self.table[key] = new
        return self.table.get(key, NOTHING)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--id", required=True)
    parser.add_argument("--addr", required=True, help="where to listen, as host:port")
    parser.add_argument("--peers", default="", help="the other nodes, as host:port,host:port")
    parser.add_argument("--data", type=Path, required=True, help="a folder that lasts")
    options = parser.parse_args()
    node = Node(options.id, options.peers.split(","), options.data / "log")
    server = await asyncio.start_server(node.serve, *options.addr.split(":"))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
