"""Shared by the supervisor's tests: a spec, a laboratory of fakes, waiting for a condition."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvlab.lab.supervisor import Lab
from kvlab.spec import parse_cluster
from tests.lab.fake_engine import FakeEngine

ENGINE = "tests.lab.fake_engine:FakeEngine"
FAST = "restart: {backoff: [10ms, 100ms], max: 3}\nready: {timeout: 5s}\n"


def spec_text(*ids: str, more: str = "") -> str:
    nodes = "".join(f"  - {{id: {node}, addr: 'localhost:0'}}\n" for node in ids)
    return f"name: lab\nnodes:\n{nodes}network: {{shims: false}}\n{more or FAST}"


def make_lab(path: Path, *ids: str, more: str = "", **options: Any) -> Lab:
    spec = parse_cluster(spec_text(*(ids or ("server1", "server2", "server3")), more=more))
    options.setdefault("engine", FakeEngine())
    return Lab(spec, path / ".kvlab" / "lab", **options)


async def eventually(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.002)


def refuses(host: str, port: int) -> bool:
    import socket

    with socket.socket() as sock:
        try:
            sock.connect((host, port))
        except ConnectionRefusedError:
            return True
        return False


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
