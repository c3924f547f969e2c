"""A server of somebody else, run by its command: it knows GET and SET in JSON and nothing of kvlab.

Flags: `no-reuse` leaves SO_REUSEADDR out, `blocked` says that its port is taken and ends, `elsewhere`
listens on another port, `odd` answers what is no reply, `child` serves from a process of its own.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys

TABLE: dict[str, str] = {}
FLAGS: set[str] = set()


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(json.dumps(self.answer(json.loads(line))).encode() + b"\n")

    def answer(self, request: dict[str, str]) -> object:
        if "odd" in FLAGS:
            return "hello"
        kind, key = request["type"], request["key"]
        reply = {"type": "RESPONSE", "key": key, "timestamp": "2026-01-01T00:00:00Z"}
        if kind == "SET":
            TABLE[key] = request["value"]
            return reply | {"value": "", "status": "SUCCESS", "error": ""}
        if kind == "LEAVE":
            return reply | {"value": "", "status": "SUCCESS", "error": "", "info": {}}
        assert kind == "GET", f"asked {kind}"
        if key not in TABLE:
            return reply | {"value": "", "status": "ERROR", "error": "Key does not exist"}
        return reply | {"value": TABLE[key], "status": "SUCCESS", "error": ""}


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def main(addr: str, *flags: str) -> None:
    say(f"plain server at {addr}")
    if "blocked" in flags:
        sys.exit("bind: Address already in use")
    if "child" in flags:
        rest = [flag for flag in flags if flag != "child"]
        sys.exit(subprocess.call([sys.executable, __file__, addr, *rest]))
    FLAGS.update(flags)
    Server.allow_reuse_address = "no-reuse" not in flags
    host, _, port = addr.rpartition(":")
    say(f"process {os.getpid()}")
    with Server((host, 0 if "elsewhere" in flags else int(port)), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
