"""What a node tells RESP clients about itself: INFO CONFIG DBSIZE TIME. It changes nothing.

All figures are those of STATUS (kv/admin.py): of this node, not of the cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import kvlab
from kvlab.kv.resp_answer import RespBatch
from kvlab.kv.resp_connection import REDIS_VERSION
from kvlab.kv.resp_words import unknown_subcommand, wrong_count
from kvlab.wire.json_lines import Request
from kvlab.wire.limits import DOCUMENT_LIMIT_BYTES
from kvlab.wire.resp_encode import encode, error, integer, text_block

if TYPE_CHECKING:
    from kvlab.kv.resp_client import RespClient

PATTERN_BYTES_MAX = 64  # longer than any option's name

# The options of Redis that mean something here, as this store would have to set them.
_OPTIONS = {
    "appendonly": "no",  # "yes" of a node that keeps its data on disk
    "cluster-enabled": "yes",
    "databases": "2",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "proto-max-bulk-len": str(DOCUMENT_LIMIT_BYTES),
    "save": "",
    "timeout": "0",
}


def dbsize(client: RespClient, _batch: RespBatch, _args: list[bytes], _now_us: int) -> bytes:
    """DBSIZE: the keys of the namespace that this node holds, for itself and as a copy of others'."""
    state = client.node.state
    return integer(sum(state.registers.keys) if client.db else state.table.key_count)


def time_(_client: RespClient, batch: RespBatch, _args: list[bytes], now_us: int) -> bytes:
    """TIME: seconds, and microseconds of the second."""
    return encode([str(now_us // 1_000_000), str(now_us % 1_000_000)], batch.protocol)


def config(client: RespClient, batch: RespBatch, args: list[bytes], _now_us: int) -> bytes:
    """CONFIG GET pattern ...; options cannot be set while a node runs."""
    word = args[1].upper()
    if word in (b"SET", b"REWRITE", b"RESETSTAT"):
        return error(f"ERR CONFIG {word.decode()}: a node is told its options when it is started")
    if word != b"GET":
        return unknown_subcommand("CONFIG", args[1])
    if len(args) < 3:
        return wrong_count(b"CONFIG|GET")
    patterns = [
        one.decode("utf-8", "replace").lower() for one in args[2:] if len(one) <= PATTERN_BYTES_MAX
    ]
    options = dict(_OPTIONS)
    if client.node.state.table.journal is not None:
        options["appendonly"] = "yes"
    told = {
        name: value
        for name, value in options.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    return encode(told, batch.protocol)


def info(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> bytes:
    """INFO [section ...]."""
    status = client.node.admin.answer(Request("STATUS"), now_us)
    assert isinstance(status, dict)
    wanted = {one.decode("utf-8", "replace").lower() for one in args[1:]}
    if not wanted or wanted & {"all", "default", "everything"}:
        wanted = set(_SECTIONS)
    parts = []
    for name, make in _SECTIONS.items():
        if name in wanted:
            lines = [f"# {name.capitalize()}"]
            lines += [f"{field}:{value}" for field, value in make(client, status, now_us).items()]
            parts.append("".join(f"{line}\r\n" for line in lines))
    return text_block("\r\n".join(parts), batch.protocol)


def _server(client: RespClient, status: dict[str, Any], now_us: int) -> dict[str, Any]:
    address = client.node.state.settings.client_address
    return {
        "redis_version": REDIS_VERSION,
        "redis_mode": "cluster",
        "kvlab_version": kvlab.__version__,
        "kvlab_node": status["id"],
        "kvlab_cluster": status["cluster"],
        "kvlab_ready": "yes" if status["ready"] else "no",
        "process_id": status["pid"],
        "tcp_port": address.rpartition(":")[2],
        "server_time_usec": now_us,
        "uptime_in_seconds": status["uptime_us"] // 1_000_000,
        "uptime_in_days": status["uptime_us"] // 86_400_000_000,
    }


def _clients(_client: RespClient, status: dict[str, Any], _now_us: int) -> dict[str, Any]:
    return {"connected_clients": status["connections"], "blocked_clients": 0}


def _memory(_client: RespClient, status: dict[str, Any], _now_us: int) -> dict[str, Any]:
    # Of keys and values alone: a pure node cannot ask how much its process takes.
    size = status["bytes"]
    told = {"used_memory": size, "used_memory_human": f"{size / 2**20:.2f}M"}
    return told | {"maxmemory": 0, "maxmemory_human": "0B", "maxmemory_policy": "noeviction"}


def _persistence(client: RespClient, status: dict[str, Any], _now_us: int) -> dict[str, Any]:
    # What Redis calls an append-only file is the log of a node that keeps its data.
    keeps = client.node.state.table.journal is not None
    return {
        "loading": int(not status["ready"]),
        "rdb_bgsave_in_progress": 0,
        "aof_enabled": int(keeps),
        "aof_rewrite_in_progress": 0,
        "aof_last_write_status": "err" if status["refusal"] else "ok",
    }


def _stats(_client: RespClient, status: dict[str, Any], _now_us: int) -> dict[str, Any]:
    told = {"total_commands_processed": status["counters"]["requests"]}
    return told | {f"kvlab_{name}": count for name, count in sorted(status["counters"].items())}


def _keyspace(client: RespClient, status: dict[str, Any], _now_us: int) -> dict[str, Any]:
    counts = {"db0": status["keys"], "db1": sum(client.node.state.registers.keys)}
    return {name: f"keys={count},expires=0,avg_ttl=0" for name, count in counts.items() if count}


def _replication(_client: RespClient, _status: dict[str, Any], _now_us: int) -> dict[str, Any]:
    return {"role": "master", "connected_slaves": 0}


def _cluster(_client: RespClient, _status: dict[str, Any], _now_us: int) -> dict[str, Any]:
    return {"cluster_enabled": 1}


_SECTIONS: dict[str, Callable[[RespClient, dict[str, Any], int], dict[str, Any]]] = {
    "server": _server,
    "clients": _clients,
    "memory": _memory,
    "persistence": _persistence,
    "stats": _stats,
    "replication": _replication,
    "cluster": _cluster,
    "keyspace": _keyspace,
}
