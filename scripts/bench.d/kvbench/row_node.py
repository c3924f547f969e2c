"""Rows `node` and `latency`: one node with one replica, in JSON, beside redis and valkey in RESP.

The same client drives all; server and client have a core each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvbench import servers
from kvbench.ask import load_keys
from kvbench.bench import Bench
from kvbench.clients import Load
from kvbench.figures import Sample, Target, at_least, at_most, compare
from kvbench.servers import Server

CONNECTIONS = 50
RATE_TARGETS: dict[tuple[str, int], Target] = {
    ("set", 1): at_least(0.80),
    ("get", 1): at_least(0.80),
    ("set", 16): at_least(0.75),
    ("get", 16): at_least(0.85),
}
LATENCY_TARGET = at_most(1.08)


def node(bench: Bench) -> None:
    """Rates at 50 connections, without and with pipelining."""
    running = _start(bench)
    for pipeline in (1, 16):
        for operation in ("set", "get"):
            what = f"{operation.upper()} c={CONNECTIONS} P={pipeline}"
            samples = _measure(bench, running, what, operation, CONNECTIONS, pipeline)
            for peer in list(running)[1:]:
                target = RATE_TARGETS[operation, pipeline]
                bench.lines.append(
                    compare("node", what, "op/s", samples, ours="kvlab", peer=peer, target=target)
                )
    bench.stage.end(*(server.process for server in running.values()))


def latency(bench: Bench) -> None:
    """The median of one connection that waits for each reply."""
    running = _start(bench)
    for operation in ("set", "get"):
        what = f"{operation.upper()} c=1 median"
        samples = _measure(bench, running, what, operation, 1, 1)
        for peer in list(running)[1:]:
            bench.lines.append(
                compare(
                    "latency",
                    what,
                    "us",
                    samples,
                    ours="kvlab",
                    peer=peer,
                    figure="p50_us",
                    target=LATENCY_TARGET,
                )
            )
    bench.stage.end(*(server.process for server in running.values()))


def _start(bench: Bench) -> dict[str, Server]:
    """Start kvlab and every peer that is there, on the server's core, with all keys loaded."""
    stage = bench.stage
    running = {"kvlab": servers.start_kvlab(stage, cores=stage.server_core)[0]}
    load_keys("json", running["kvlab"].address)
    for name, binary in servers.redis_likes().items():
        running[name] = servers.start_redis(stage, name, binary, cores=stage.server_core)
        load_keys("resp", running[name].address)
    return running


def _measure(
    bench: Bench,
    running: dict[str, Server],
    what: str,
    operation: str,
    connections: int,
    pipeline: int,
) -> dict[str, list[Sample]]:
    candidates: dict[str, Callable[[], Sample]] = {}
    for name, server in running.items():
        protocol = "json" if name == "kvlab" else "resp"
        load = Load(protocol, operation, (server.address,), (server.pid,), connections, pipeline)
        bench.clients.lg(load, bench.run_s / 4)  # warm-up
        candidates[name] = partial(bench.clients.lg, load, bench.run_s)
    return bench.compare_rounds(what, candidates)
