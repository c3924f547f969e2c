"""Row `start`: from nothing to a cluster that took a write, and fifty servers at once.

kvlab goes through `Lab` and its warm parent, which runs before the clock starts: it is there once
per laboratory, not once per cluster. A line without it says what the first cluster costs. Times of
a few milliseconds are shorter than a tick of /proc/stat: they are gated before, not judged after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kvbench import servers
from kvbench.bench import Bench
from kvbench.cluster_peers import etcd_binary, etcd_cluster_ms, redis_cluster_ms
from kvbench.figures import Line, Target, at_least, at_most
from kvbench.spawn import Spawned, ping_json, spawn_kvlab, spawn_redis
from kvbench.stage import NotAvailable
from kvlab.engine.kvlab import KvlabEngine
from kvlab.errors import KvlabError
from kvlab.lab.host import LocalHost
from kvlab.lab.supervisor import Lab
from kvlab.spec import ClusterSpec, NetworkSpec, NodeSpec

MANY = 50
MESH_ROUNDS = 2
MIB = 1 << 20
WARM_ROUNDS = 2  # for the first clusters of a warm parent
SET = b'{"type":"SET","key":"key:00000001","value":"v","w":2,"meta":true}\n'
PSS_TARGET_MIB = 5.0


def start(bench: Bench) -> None:
    """Measure clusters of three, then fifty servers."""
    with asyncio.Runner() as runner:
        host = LocalHost(KvlabEngine().preload, state=str(bench.stage.folder))
        runner.run(host.start())
        try:
            for _ in range(WARM_ROUNDS):
                runner.run(_cluster_ms(bench, 3, host))
            _clusters(bench, runner, host)
            _many(bench, runner, host)
        finally:
            runner.run(_close(host))


async def _close(host: LocalHost) -> None:
    await host.close()


async def _cluster_ms(
    bench: Bench, count: int, host: LocalHost | None, *, shims: bool = False
) -> float:
    """Start a cluster; return when every node had a write acknowledged by two nodes."""
    spec = ClusterSpec(
        nodes=tuple(NodeSpec(f"server{at}") for at in range(1, count + 1)),
        name="bench",
        network=NetworkSpec(shims=shims),
    )
    lab = Lab(spec, bench.stage.new_folder("lab"), host=host)
    began = time.monotonic()
    async with lab:
        for address in lab.addresses.values():
            reply = await ping_json(address, SET)
            if reply["status"] != "SUCCESS" or reply["acks"] < 2:
                raise RuntimeError(f"a quorum write failed: {reply}")
        return (time.monotonic() - began) * 1000


def _clusters(bench: Bench, runner: asyncio.Runner, host: LocalHost) -> None:
    ours: dict[str, Callable[[], float]] = {
        "kvlab": lambda: runner.run(_cluster_ms(bench, 3, host)),
        "with shims": lambda: runner.run(_cluster_ms(bench, 3, host, shims=True)),
        "cold": lambda: runner.run(_cluster_ms(bench, 3, None)),
    }
    peers: dict[str, Callable[[], float]] = {}
    for name, binary in servers.redis_likes().items():
        peers[f"{name} cluster"] = partial(redis_cluster_ms, bench.stage, binary)
    try:
        etcd = etcd_binary()
        peers["etcd 3 nodes"] = lambda: etcd_cluster_ms(bench.stage, etcd)
    except NotAvailable as missing:
        bench.note(f"start: {missing}")
    times = _rounds(bench, "3-node cluster", {**ours, **peers})
    for peer in peers:
        target = at_least(20 if peer.startswith("etcd") else 100)
        what = "3 nodes to a quorum write"
        bench.lines.append(_times(what, times, "kvlab", peer=peer, target=target))
    for name, text in (("with shims", "with a shim process"), ("cold", "and its warm parent")):
        bench.lines.append(_times(f"3 nodes {text}", times, name))


def _times(
    what: str,
    times: dict[str, list[float]],
    ours: str,
    *,
    peer: str = "",
    target: Target | None = None,
) -> Line:
    found = times[peer] if peer else []
    return Line("start", what, "ms", times[ours], peer, found, target=target, inverse=bool(peer))


def _rounds(
    bench: Bench, title: str, candidates: dict[str, Callable[[], float]]
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(bench.rounds):
        bench.say(f"{title}: round {number + 1}")
        for name, candidate in candidates.items():
            bench.gate.wait()
            times[name].append(candidate())
    return times


def _many(bench: Bench, runner: asyncio.Runner, host: LocalHost) -> None:
    """Spawn fifty servers that know nothing of each other, until all have answered."""
    likes = servers.redis_likes()
    spawned: dict[str, list[Spawned]] = {name: [] for name in ("kvlab", *likes)}
    for number in range(bench.rounds):
        bench.say(f"{MANY} servers: round {number + 1}")
        bench.gate.wait()
        folder = bench.stage.new_folder("many")
        spawned["kvlab"].append(runner.run(spawn_kvlab(host, MANY, folder)))
        for name, binary in likes.items():
            bench.gate.wait()
            spawned[name].append(_redis(bench, runner, binary))
    ours = spawned["kvlab"]
    for name in likes:
        theirs = spawned[name]
        bench.lines.append(
            Line(
                "start",
                f"{MANY} servers until all answer",
                "ms",
                [one.took_ms for one in ours],
                f"{MANY} x {name}",
                [one.took_ms for one in theirs],
                target=at_most(1.0),
            )
        )
        bench.lines.append(
            Line(
                "start",
                "memory of one of them (PSS)",
                "MiB",
                [one.pss_bytes / MIB for one in ours],
                name,
                [one.pss_bytes / MIB for one in theirs],
                target=at_most(PSS_TARGET_MIB, "kvlab", "MiB"),
            )
        )
    _mesh(bench, runner, host)


def _mesh(bench: Bench, runner: asyncio.Runner, host: LocalHost) -> None:
    """Start one cluster of fifty nodes; it is for information, so its failure is a note."""
    bench.say(f"one cluster of {MANY}")
    rounds = 1 if bench.quick else MESH_ROUNDS
    try:
        took_ms = [runner.run(_cluster_ms(bench, MANY, host)) for _ in range(rounds)]
    except KvlabError as error:
        bench.note(f"start: a cluster of {MANY} did not come up: {error.message.partition(';')[0]}")
        return
    what = f"one cluster of {MANY}, all acknowledging"
    bench.lines.append(Line("start", what, "ms", took_ms))


def _redis(bench: Bench, runner: asyncio.Runner, binary: Path) -> Spawned:
    return runner.run(spawn_redis(binary, MANY, bench.stage.new_folder("many")))
