"""Row `load`: kvlab's load generator beside redis-benchmark.

They speak different protocols, so each is measured against the same null server (null.c) in its own
protocol: it answers at once and stores nothing, so that the generator is the bottleneck, not a
store. Second, each against a real server of its protocol: there the servers differ too. Both record
the latency of every request; a history records every operation, which redis-benchmark cannot.
Generator and server have a core each.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

from kvbench import servers
from kvbench.ask import KEYS, VALUE_BYTES, load_keys
from kvbench.bench import Bench
from kvbench.figures import Sample, at_least, compare
from kvbench.servers import HOST
from kvbench.stage import NotAvailable
from kvlab.lab.load import load_keys as load_user_keys
from kvlab.lab.load_loop import run_fresh

CONNECTIONS = 50
TARGETS = {1: at_least(1.5), 16: at_least(0.95)}
PEER = "redis-benchmark"
OURS, HISTORY = "kvlab", "kvlab with history"


def load(bench: Bench) -> None:
    """Measure against the null server, then against real ones."""
    null = {protocol: _null(bench, protocol) for protocol in ("json", "resp")}
    for pipeline in (1, 16):
        samples = bench.compare_rounds(
            f"load P={pipeline}", _candidates(bench, null["json"], null["resp"], pipeline)
        )
        what = f"GET c={CONNECTIONS} P={pipeline}, null server"
        line = partial(compare, "load", unit="op/s", samples=samples, cpu="client_cpu_us")
        line = partial(line, peer=PEER)
        bench.lines.append(line(f"{what}, latencies", ours=OURS, target=TARGETS[pipeline]))
        bench.lines.append(line(f"{what}, history", ours=HISTORY))
    _real(bench)


def _real(bench: Bench) -> None:
    core = bench.stage.server_core
    node = servers.start_kvlab(bench.stage, cores=core)[0]
    run_fresh(load_user_keys([node.address], KEYS, VALUE_BYTES))
    name, binary = next(iter(servers.redis_likes().items()))
    server = servers.start_redis(bench.stage, name, binary, cores=core)
    load_keys("resp", server.address)
    for pipeline in (1, 16):
        candidates = _candidates(bench, node.address, server.address, pipeline)
        del candidates[HISTORY]
        samples = bench.compare_rounds(f"load P={pipeline}, real servers", candidates)
        what = f"GET c={CONNECTIONS} P={pipeline}, kvlab / {name} node"
        bench.lines.append(
            compare("load", what, "op/s", samples, ours=OURS, peer=PEER, cpu="client_cpu_us")
        )


def _candidates(
    bench: Bench, ours: str, theirs: str, pipeline: int
) -> dict[str, Callable[[], Sample]]:
    """Return the generators, each to be run for about one run; addresses are of its protocol."""
    plan: dict[str, Any] = {
        "addresses": [ours],
        "workload": "c",
        "distribution": "uniform",
        "keys": KEYS,
        "clients": CONNECTIONS,
        "pipeline": pipeline,
        "time_us": round(bench.run_s * 1e6),
    }
    history = bench.stage.folder / "history.jsonl"
    return {
        OURS: partial(bench.clients.kvlab_load, plan),
        HISTORY: partial(bench.clients.kvlab_load, plan, history),
        PEER: partial(
            bench.clients.redis_benchmark,
            theirs,
            "get",
            bench.run_s,
            connections=CONNECTIONS,
            pipeline=pipeline,
        ),
    }


def _null(bench: Bench, protocol: str) -> str:
    """Start the null server. Raises NotAvailable without a C compiler."""
    program = bench.clients.program("null")
    if program is None:
        raise NotAvailable("the null server needs gcc")
    process = bench.stage.start(
        [program, protocol, str(VALUE_BYTES)],
        cores=bench.stage.server_core,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    return f"{HOST}:{int(process.stdout.readline())}"
