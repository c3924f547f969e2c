"""Row `quorum`: writes that two of three processes hold, beside redis with `SET` and `WAIT 1`.

Both keep everything in memory. kvlab: 3 nodes, W=2, clients on all of them. redis: a primary with
two replicas, clients on the primary, as there is no other way. Nothing is pinned: four processes
share the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from kvbench import servers
from kvbench.ask import Line, load_keys
from kvbench.bench import Bench
from kvbench.clients import Load
from kvbench.figures import Sample, at_least, at_most, compare
from kvbench.servers import Server
from kvbench.stage import wait_until

CONNECTIONS = 51  # divides by three
EACH = "SET+WAIT 1"
BATCH = "16 SET, then WAIT 1"
ETCD_NOTE = "quorum: etcd's puts are not measured here: that needs its gRPC client (start has etcd)"


def quorum(bench: Bench) -> None:
    """Rates with and without pipelining, and the median of one connection."""
    nodes = servers.start_kvlab(bench.stage, 3)
    _check_quorum(nodes)
    load_keys("json", nodes[0].address)
    name, binary = next(iter(servers.redis_likes().items()))
    primary = _start_replicated(bench, name, binary)
    each, batch = f"{name} 1+2 {EACH}", f"{name} 1+2 {BATCH}"
    ask = partial(_candidates, bench, nodes, primary)

    samples = bench.compare_rounds("quorum P=1", ask(CONNECTIONS, 1, {each: "setwait"}))
    what = f"SET W=2 of 3 c={CONNECTIONS}"
    line = partial(compare, "quorum", ours="kvlab")
    bench.lines.append(line(f"{what} P=1", "op/s", samples, peer=each, target=at_least(1.25)))

    waits = {each: "setwait", batch: "setbatchwait"}
    samples = bench.compare_rounds("quorum P=16", ask(CONNECTIONS, 16, waits))
    bench.lines.append(line(f"{what} P=16", "op/s", samples, peer=each, target=at_least(5)))
    bench.lines.append(line(f"{what} P=16", "op/s", samples, peer=batch))

    samples = bench.compare_rounds("quorum c=1", ask(1, 1, {each: "setwait"}))
    bench.lines.append(
        line(
            "SET W=2 of 3 c=1 median",
            "us",
            samples,
            peer=each,
            figure="p50_us",
            target=at_most(1.0),
        )
    )
    bench.note(ETCD_NOTE)


def _candidates(
    bench: Bench,
    nodes: list[Server],
    primary: list[Server],
    connections: int,
    pipeline: int,
    waits: dict[str, str],
) -> dict[str, Callable[[], Sample]]:
    addresses = tuple(node.address for node in nodes)
    pids = tuple(node.pid for node in nodes)
    loads = {"kvlab": Load("json", "set", addresses, pids, connections, pipeline)}
    pids = tuple(server.pid for server in primary)
    for name, operation in waits.items():
        loads[name] = Load("resp", operation, (primary[0].address,), pids, connections, pipeline)
    for load in loads.values():
        bench.clients.lg(load, bench.run_s / 4, pinned=False)  # warm-up
    return {
        name: partial(bench.clients.lg, load, bench.run_s, pinned=False)
        for name, load in loads.items()
    }


def _check_quorum(nodes: list[Server]) -> None:
    """Prove that a plain SET, as lg sends it, is acknowledged by two nodes or more."""
    for node in nodes:
        with Line(node.address) as line:
            reply = line.json(type="SET", key="key:00000000", value="v", meta=True)
        if reply["status"] != "SUCCESS" or reply.get("acks", 0) < 2:
            raise RuntimeError(f"a SET was not acknowledged by two nodes: {reply}")


def _start_replicated(bench: Bench, name: str, binary: Path) -> list[Server]:
    """Start a primary and two replicas that are in step; the primary comes first."""
    primary = servers.start_redis(bench.stage, name, binary, "--repl-diskless-sync-delay", "0")
    load_keys("resp", primary.address)
    host, _, port = primary.address.rpartition(":")
    replicas = [
        servers.start_redis(bench.stage, name, binary, "--replicaof", host, port) for _ in range(2)
    ]

    def online() -> bool:
        with Line(primary.address) as line:
            text: bytes = line.resp("INFO", "replication")
            return text.count(b"state=online") == 2 and line.resp("WAIT", 2, 100) == 2

    wait_until("two replicas are in step", online)
    return [primary, *replicas]
