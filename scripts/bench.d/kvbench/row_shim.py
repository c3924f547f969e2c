"""Row `shim`: the shim that carries links, beside other TCP proxies in front of the same server.

GETs to one redis through each proxy by the same client; nothing is pinned. The design compares with
toxiproxy. Where it is not installed, its figures of an earlier measurement on such a machine stand
in as shares of the direct rate; those targets say "ref".
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from kvbench import servers
from kvbench.ask import load_keys
from kvbench.bench import Bench
from kvbench.clients import Load
from kvbench.figures import Line, Sample, Target, at_least, at_most, compare
from kvbench.gate import process_cpu_s
from kvbench.servers import HOST, Server
from kvbench.stage import NotAvailable
from kvlab.fault.link import LinkRule
from kvlab.lab.shim_relay import EXTERNAL
from kvlab.lab.shims import Shims

CONNECTIONS = 50
MIB = 1 << 20
DELAYS_MS = (1, 5)
DIRECT, OURS = "direct", "kvlab shim"
# Toxiproxy 2.12 as a share of the direct rate, its added median in us, its error of delays in ms.
REF_SHARE = {"P=1": 0.350, "P=16": 0.434, "bulk": 0.194}
REF_ADDED_US = 75.0
REF_ERROR_MS = {1: 0.26, 5: 0.52}
TOXIPROXY = {"P=1": 1.3, "P=16": 1.15, "bulk": 2.3}
HAPROXY = {"P=1": 0.95, "P=16": 0.95, "bulk": 1.6}
ADDED_SHARE, ERROR_SHARE = 0.45, 0.5


class Ours:
    """The shim process of kvlab, commanded between runs."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._shims = Shims(seed=1)
        runner.run(self._shims.start())
        self.pid = self._shims.pid or 0

    def add(self, name: str, upstream: str) -> str:
        """Put a shim in front of a server; return its address."""
        host, _, port = upstream.rpartition(":")
        address = self._runner.run(self._shims.add(name, (host, int(port))))
        return f"{address[0]}:{address[1]}"

    def delay(self, name: str, ms: int) -> None:
        """Delay both directions; 0 takes it off."""
        links = [(EXTERNAL, name), (name, EXTERNAL)]
        self._runner.run(self._shims.reset(links))
        if ms:
            self._runner.run(self._shims.set_rule(links, LinkRule(latency_us=ms * 1000)))

    def close(self) -> None:
        """End the shim."""
        self._runner.run(self._shims.close())


def shim(bench: Bench) -> None:
    """Measure rates, a bulk stream, the added median and the error of delays."""
    with asyncio.Runner() as runner:
        ours = Ours(runner)
        bench.stage.guests.add(ours.pid)
        try:
            _measure(bench, ours)
        finally:
            bench.stage.guests.discard(ours.pid)
            ours.close()


def _measure(bench: Bench, ours: Ours) -> None:
    name, binary = next(iter(servers.redis_likes().items()))
    server = servers.start_redis(bench.stage, name, binary)
    load_keys("resp", server.address)
    through: dict[str, tuple[str, int]] = {
        DIRECT: (server.address, 0),
        OURS: (ours.add("server", server.address), ours.pid),
    }
    for proxy in _proxies(bench, server.address):
        through[proxy.name] = (proxy.address, proxy.pid)
    for pipeline in (1, 16):
        samples = _gets(bench, through, CONNECTIONS, pipeline)
        _lines(bench, f"P={pipeline}", f"GET c={CONNECTIONS} P={pipeline}", "op/s", samples)
    _bulk(bench, ours)
    _added(bench, _gets(bench, through, 1, 1))
    _delays(bench, ours, through)


def _proxies(bench: Bench, upstream: str) -> list[Server]:
    found = []
    for begin in (servers.start_haproxy, servers.start_toxiproxy):
        try:
            found.append(begin(bench.stage, upstream))
        except NotAvailable as missing:
            bench.note(f"shim: {missing}")
    return found


def _gets(
    bench: Bench, through: dict[str, tuple[str, int]], connections: int, pipeline: int
) -> dict[str, list[Sample]]:
    candidates: dict[str, Callable[[], Sample]] = {}
    for name, (address, pid) in through.items():
        load = Load("resp", "get", (address,), (pid,) if pid else (), connections, pipeline)
        candidates[name] = partial(bench.clients.lg, load, bench.run_s, pinned=False)
    return bench.compare_rounds(f"shim c={connections} P={pipeline}", candidates)


def _lines(bench: Bench, key: str, what: str, unit: str, samples: dict[str, list[Sample]]) -> None:
    wanted = {"haproxy": HAPROXY, "toxiproxy": TOXIPROXY}
    for peer in samples:
        target: Target | None = None
        if peer in wanted:
            target = at_least(wanted[peer][key])
        elif peer == DIRECT and "toxiproxy" not in samples:
            target = at_least(round(TOXIPROXY[key] * REF_SHARE[key], 3), note="(ref)")
        if peer != OURS:
            bench.lines.append(
                compare("shim", what, unit, samples, ours=OURS, peer=peer, target=target)
            )


def _bulk(bench: Bench, ours: Ours) -> None:
    sink = bench.stage.start([sys.executable, "-m", "kvbench.bulk", "sink"], stdout=subprocess.PIPE)
    assert sink.stdout is not None
    upstream = f"{HOST}:{int(sink.stdout.readline())}"
    through = {DIRECT: (upstream, 0), OURS: (ours.add("sink", upstream), ours.pid)}
    for proxy in _proxies(bench, upstream):
        through[proxy.name] = (proxy.address, proxy.pid)
    candidates: dict[str, Callable[[], Sample]] = {
        name: partial(_stream, bench, *where) for name, where in through.items()
    }
    samples = bench.compare_rounds("shim bulk", candidates)
    _lines(bench, "bulk", "one stream (CPU us/MiB)", "MiB/s", samples)


def _stream(bench: Bench, address: str, pid: int) -> Sample:
    argv = [sys.executable, "-m", "kvbench.bulk", "source", str(bench.run_s), address]
    cpu_s = process_cpu_s(pid) if pid else 0.0
    raw: dict[str, Any] = json.loads(bench.stage.run(argv, cores=bench.stage.all_cores))
    mib = raw["bytes"] / MIB
    used = (process_cpu_s(pid) - cpu_s) * 1e6 / mib if pid else None
    return Sample(rate=mib / raw["seconds"], server_cpu_us=used, ops=round(mib))


def _added(bench: Bench, samples: dict[str, list[Sample]]) -> None:
    """What a proxy adds to the median of one waiting connection."""
    added = {name: _beyond_direct(samples, name) for name in samples if name != DIRECT}
    line = Line("shim", "added median c=1", "us", added[OURS])
    if "toxiproxy" in added:
        line.peer, line.peers = "toxiproxy", added["toxiproxy"]
        line.target = at_most(ADDED_SHARE)
    else:
        line.target = at_most(ADDED_SHARE * REF_ADDED_US, "kvlab", "us (ref)")
    if "haproxy" in added:
        line.note = f"haproxy adds {median(added['haproxy']):.0f} us"
    line.foreign = median(one.foreign for one in samples[OURS])
    bench.lines.append(line)


def _beyond_direct(samples: dict[str, list[Sample]], name: str) -> list[float]:
    pairs = zip(samples[name], samples[DIRECT], strict=True)
    return [one.figure("p50_us") - direct.figure("p50_us") for one, direct in pairs]


def _delays(bench: Bench, ours: Ours, through: dict[str, tuple[str, int]]) -> None:
    """How far a round trip is from twice the delay, beyond the direct one."""
    load = Load("resp", "get", (through[OURS][0],), (ours.pid,), 1, 1)
    direct = Load("resp", "get", (through[DIRECT][0],), (), 1, 1)

    def delayed(ms: int) -> Sample:
        ours.delay("server", ms)
        try:
            return bench.clients.lg(load, bench.run_s, pinned=False)
        finally:
            ours.delay("server", 0)

    candidates: dict[str, Callable[[], Sample]] = {
        DIRECT: partial(bench.clients.lg, direct, bench.run_s, pinned=False)
    }
    candidates |= {f"{ms} ms": partial(delayed, ms) for ms in DELAYS_MS}
    samples = bench.compare_rounds("shim delays", candidates)
    for ms in DELAYS_MS:
        errors = [beyond / 1000 - 2 * ms for beyond in _beyond_direct(samples, f"{ms} ms")]
        target = at_most(round(ERROR_SHARE * REF_ERROR_MS[ms], 3), "kvlab", "ms (ref)")
        what = f"error of a delay of {ms} ms each way"
        bench.lines.append(Line("shim", what, "ms", errors, target=target))
