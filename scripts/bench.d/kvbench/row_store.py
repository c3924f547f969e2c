"""Row `store`: what each thing that a node does costs, and durable writes beside a bare log.

The baseline is a node alone, in memory, in JSON; each line is another way to run or to ask it, in the
same rounds. Durable writes stand beside redis with an append-only file that is synced at each write,
and beside the ceiling: frames of as many records written and synced one after the other, by nothing
else, on the same disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from kvbench import servers
from kvbench.ask import VALUE_BYTES, load_keys
from kvbench.bench import Bench
from kvbench.clients import Load
from kvbench.figures import Sample, at_least, compare
from kvbench.servers import Server

CONNECTIONS = 48  # divides by three
PIPELINE = 16
US_PER_S = 1e6
RECORD_BYTES = 16 + VALUE_BYTES + 16  # key, value, version and lengths
BASE = "alone, memory, JSON"
DURABLE = "alone, sync always"
RESP = "alone, memory, RESP"
THREE = "3 nodes, W=2"
THREE_DURABLE = "3 nodes, W=2, sync always"
LINEAR = "3 nodes, linear"
CEILING = "a bare log"
AOF = "appendfsync always"


def store(bench: Bench) -> None:
    """Rates of writes and reads with each feature, and their ratio to the baseline."""
    stage = bench.stage
    alone = servers.start_kvlab(stage)
    durable = servers.start_kvlab(stage, sync="always")
    three = servers.start_kvlab(stage, 3)
    safe = servers.start_kvlab(stage, 3, sync="always")
    for nodes in (alone, durable, three, safe):
        load_keys("json", nodes[0].address)
    load_keys("json", three[0].address, "linear")
    name, binary = next(iter(servers.redis_likes().items()))
    options = ("--appendonly", "yes", "--appendfsync", "always")
    peer = [servers.start_redis(stage, f"{name}-aof", binary, *options)]
    load_keys("resp", peer[0].address)

    ways: dict[str, tuple[str, str, list[Server]]] = {
        BASE: ("json", "set", alone),
        RESP: ("resp", "set", alone),
        DURABLE: ("json", "set", durable),
        THREE: ("json", "set", three),
        THREE_DURABLE: ("json", "set", safe),
        LINEAR: ("json", "setlinear", three),
        f"{name} {AOF}": ("resp", "set", peer),
    }
    for pipeline in (1, PIPELINE):
        candidates = _loads(bench, ways, pipeline)
        candidates[CEILING] = partial(_bare_log, bench, CONNECTIONS * pipeline)
        what = f"SET c={CONNECTIONS} P={pipeline}"
        samples = bench.compare_rounds(f"store {what}", candidates)
        _say(bench, what, samples, (RESP, DURABLE, THREE, THREE_DURABLE, LINEAR), BASE)
        _say(bench, what, samples, (DURABLE,), f"{name} {AOF}")
        line = compare("store", f"{what}, {DURABLE}", "op/s", samples, ours=DURABLE, peer=CEILING)
        line.target = at_least(0.8)
        bench.lines.append(line)

    reads = {
        BASE: ("json", "get", alone),
        RESP: ("resp", "get", alone),
        THREE: ("json", "get", three),
        LINEAR: ("json", "getlinear", three),
    }
    for pipeline in (1, PIPELINE):
        what = f"GET c={CONNECTIONS} P={pipeline}"
        samples = bench.compare_rounds(f"store {what}", _loads(bench, reads, pipeline))
        _say(bench, what, samples, (RESP, THREE, LINEAR), BASE)


def _loads(
    bench: Bench, ways: dict[str, tuple[str, str, list[Server]]], pipeline: int
) -> dict[str, Callable[[], Sample]]:
    found: dict[str, Callable[[], Sample]] = {}
    for way, (protocol, operation, nodes) in ways.items():
        addresses = tuple(node.address for node in nodes)
        pids = tuple(node.pid for node in nodes)
        load = Load(protocol, operation, addresses, pids, CONNECTIONS, pipeline)
        bench.clients.lg(load, bench.run_s / 4, pinned=False)  # warm-up
        found[way] = partial(bench.clients.lg, load, bench.run_s, pinned=False)
    return found


def _say(
    bench: Bench,
    what: str,
    samples: dict[str, list[Sample]],
    ways: Sequence[str],
    peer: str,
) -> None:
    for way in ways:
        said = f"{what}, {way}"
        bench.lines.append(compare("store", said, "op/s", samples, ours=way, peer=peer))


def _bare_log(bench: Bench, records: int) -> Sample:
    """Write and sync frames of `records` records for a while: what group commit could reach."""
    frame = os.urandom(RECORD_BYTES * records)
    path = bench.stage.new_folder("bare") / "log"
    ops = 0
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        began = time.monotonic()
        while (took_s := time.monotonic() - began) < bench.run_s:
            os.write(file, frame)
            os.fdatasync(file)
            ops += records
    finally:
        os.close(file)
        path.unlink()
    return Sample(rate=ops / took_s, p50_us=took_s * US_PER_S * records / ops, ops=ops)
