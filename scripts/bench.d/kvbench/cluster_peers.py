"""Clusters of peers, timed from nothing to the first acknowledged write: redis, valkey, etcd.

They are given the quickest way that they offer: no command-line tool stands between.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from kvbench.ask import Line
from kvbench.servers import HOST, redis_argv
from kvbench.spawn import free_ports
from kvbench.stage import NotAvailable, Stage, wait_until

SLOTS = 16384
NODES = 3
GAP_S = 0.002
START_S = 20.0


def redis_cluster_ms(stage: Stage, binary: Path) -> float:
    """Start three primaries and join them, as `redis-cli --cluster create` does; return the time.

    The clock stops when all say that the cluster is up and one took a write.
    """
    all_ports = free_ports(2 * NODES)
    ports, buses = all_ports[:NODES], all_ports[NODES:]
    folders = [stage.new_folder("cluster") for _ in ports]
    cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"]
    began = time.monotonic()
    processes = [
        # A bus port of its own: the default is port + 10000, which may not exist.
        stage.start(redis_argv(binary, port, folder, *cluster, "--cluster-port", str(bus)))
        for port, bus, folder in zip(ports, buses, folders, strict=True)
    ]
    try:
        _join_redis([f"{HOST}:{port}" for port in ports], buses[0])
        return (time.monotonic() - began) * 1000
    finally:
        stage.end(*processes)


def _join_redis(addresses: list[str], first_bus: int) -> None:
    share = SLOTS // NODES
    for at, address in enumerate(addresses):
        wait_until(f"{address} answers", lambda it=address: _pings(it), START_S, GAP_S)
        last = SLOTS - 1 if at == NODES - 1 else (at + 1) * share - 1
        with Line(address) as line:
            line.resp("CLUSTER", "ADDSLOTSRANGE", at * share, last)
            line.resp("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
    host, _, port = addresses[0].rpartition(":")
    for address in addresses[1:]:
        with Line(address) as line:
            line.resp("CLUSTER", "MEET", host, port, first_bus)
    for address in addresses:
        wait_until(f"{address} is in a cluster", lambda it=address: _is_up(it), START_S, GAP_S)
    for address in addresses:
        with Line(address) as line:
            try:
                line.resp("SET", "key:00000001", "v")
                return
            except ValueError as error:
                if not str(error).startswith("MOVED"):
                    raise
    raise RuntimeError("no node of the cluster took the write")


def _pings(address: str) -> bool:
    with Line(address) as line:
        return bool(line.resp("PING") == b"PONG")


def _is_up(address: str) -> bool:
    with Line(address) as line:
        info: bytes = line.resp("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:%d" % NODES in info


def etcd_binary() -> Path:
    """Return etcd. Raises NotAvailable."""
    found = shutil.which("etcd")
    if found is None:
        raise NotAvailable("etcd is not installed")
    return Path(found)


def etcd_cluster_ms(stage: Stage, binary: Path) -> float:
    """Start three members with their data in memory (tmpfs); return the time to the first put."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="kvlab-bench-", dir=shared if shared.is_dir() else None
    ) as folder:
        ports = free_ports(2 * NODES)
        clients, peers = ports[:NODES], ports[NODES:]
        members = ",".join(f"m{at}=http://{HOST}:{port}" for at, port in enumerate(peers))
        began = time.monotonic()
        processes = [
            stage.start(_etcd_argv(binary, Path(folder), members, at, clients[at], peers[at]))
            for at in range(NODES)
        ]
        try:
            wait_until("etcd takes a put", lambda: _puts(clients[0]), START_S, GAP_S)
            return (time.monotonic() - began) * 1000
        finally:
            stage.end(*processes)


def _etcd_argv(
    binary: Path, folder: Path, members: str, at: int, client: int, peer: int
) -> list[str]:
    ours, to_peers = f"http://{HOST}:{client}", f"http://{HOST}:{peer}"
    argv = [str(binary), "--name", f"m{at}", "--data-dir", str(folder / f"m{at}")]
    argv += ["--listen-client-urls", ours, "--advertise-client-urls", ours]
    argv += ["--listen-peer-urls", to_peers, "--initial-advertise-peer-urls", to_peers]
    argv += ["--initial-cluster", members, "--initial-cluster-state", "new"]
    return [
        *argv,
        "--initial-cluster-token",
        folder.name,
        "--logger",
        "zap",
        "--log-level",
        "error",
    ]


def _puts(port: int) -> bool:
    body = {part: base64.b64encode(part.encode()).decode() for part in ("key", "value")}
    connection = HTTPConnection(HOST, port, timeout=2.0)
    try:
        connection.request("POST", "/v3/kv/put", json.dumps(body))
        return connection.getresponse().status == 200
    except HTTPException:
        return False
    finally:
        connection.close()
