"""A small replicated store that breaks its word, as many first ones do. Find out how.

It says SUCCESS as soon as it has a value itself and tells the others a moment later, in the background;
it keeps all in memory; and what arrives last wins, which is not the same at every node.
"""

import argparse
import asyncio
import json
import time

PAUSE_S = 0.05  # between two rounds of telling the others


class Node:
    def __init__(self, peers):
        self.table, self.untold = {}, {peer: [] for peer in peers if peer}

    async def serve(self, reader, writer):
        while line := await reader.readline():
            writer.write(json.dumps(self.reply(**json.loads(line))).encode() + b"\n")
        writer.close()

    def reply(self, type, key, value="", told=False, **_):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        reply = {"type": "RESPONSE", "key": key, "value": "", "timestamp": now}
        if type != "SET" and key not in self.table:
            return reply | {"status": "ERROR", "error": "Key does not exist", "code": "NOT_FOUND"}
        found = self.table.pop(key, "") if type == "DELETE" else self.table.get(key, "")
        if type == "SET":
            self.table[key] = value
        if type != "GET" and not told:
            for waiting in self.untold.values():
                waiting.append({"type": type, "key": key, "value": value, "told": True})
        return reply | {"value": found if type == "GET" else "", "status": "SUCCESS", "error": ""}

    async def tell(self, peer):
        while True:
            await asyncio.sleep(PAUSE_S)
            if not self.untold[peer]:
                continue
            try:
                reader, writer = await asyncio.open_connection(*peer.split(":"))
                while self.untold[peer]:
                    writer.write(json.dumps(self.untold[peer].pop(0)).encode() + b"\n")
                    await reader.readline()
                writer.close()
            except OSError as error:
                print(f"cannot tell {peer}: {error}")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--addr", required=True, help="where to listen, as host:port")
    parser.add_argument("--peers", default="", help="the other nodes, as host:port,host:port")
    options = parser.parse_args()
    node = Node(options.peers.split(","))
    server = await asyncio.start_server(node.serve, *options.addr.split(":"))
    await asyncio.gather(server.serve_forever(), *(node.tell(peer) for peer in node.untold))


if __name__ == "__main__":
    asyncio.run(main())
