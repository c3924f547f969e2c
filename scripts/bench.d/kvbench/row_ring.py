"""Row `ring`: finding the holders of a key, evenness and movement, beside uhashring and theory.

A lookup of kvlab gives the whole preference list, one of uhashring the owner alone. Both run in
this process, over the same keys in turn. uhashring is optional: pip install uhashring.
"""

from __future__ import annotations

import time
from binascii import crc_hqx
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from kvbench.ask import KEYS
from kvbench.bench import Bench
from kvbench.figures import Line, Sample, at_least, at_most, compare
from kvlab.ring.change import first_map
from kvlab.ring.placement import ClaimPlacement
from kvlab.ring.plan import plan
from kvlab.ring.slot import slot_of

SIZES = (10, 100)
BRACE = ord("{")
SLOT_MASK = 16383
SPREAD_KEYS = 100_000
RANGES = {10: 256, 100: 4096}  # the default; and what a hundred nodes should be given


def ring(bench: Bench) -> None:
    """Measure lookups at two sizes, then evenness and movement."""
    try:
        from uhashring import HashRing
    except ImportError:
        HashRing = None  # noqa: N806 - it stands for the class
        bench.note("ring: uhashring is not installed (pip install uhashring)")
    for size in SIZES:
        _lookups(bench, size, HashRing)
    for size in SIZES:
        _theory(bench, size)
    if HashRing is not None:
        _spread(bench, HashRing)


def _names(size: int) -> list[str]:
    return [f"server{at}" for at in range(1, size + 1)]


def _lookups(bench: Bench, size: int, peer: Any) -> None:
    cluster_map = first_map("bench", [(name, f"{name}:1") for name in _names(size)])
    routes = [state.replicas for state in cluster_map.ranges]
    names = [f"key:{number:08d}" for number in range(KEYS)]
    keys = [name.encode() for name in names]
    candidates: dict[str, Callable[[], Sample]] = {
        "kvlab": lambda: _timed(bench, partial(_inline, keys, routes, cluster_map.slot_shift)),
        "method": lambda: _timed(bench, partial(_each, ClaimPlacement(routes).replicas, keys)),
    }
    if peer is not None:
        get_node = peer(_names(size)).get_node
        candidates["uhashring"] = lambda: _timed(bench, partial(_each, get_node, names))
    samples = bench.compare_rounds(f"ring of {size}", candidates)
    shown = "uhashring" if peer is not None else ""
    target = at_least(20) if peer is not None else None
    add = partial(compare, "ring", unit="keys/s", samples=samples, peer=shown, cpu="client_cpu_us")
    bench.lines.append(add(f"lookup of {size} nodes, as a node does", ours="kvlab", target=target))
    bench.lines.append(add(f"lookup of {size} nodes, by a call", ours="method"))


def _inline(keys: list[bytes], routes: Sequence[tuple[str, ...]], shift: int) -> None:
    """Find the route of every key with the very expression of kv/coordinator.py."""
    for key in keys:
        slot = slot_of(key) if BRACE in key else crc_hqx(key, 0) & SLOT_MASK
        routes[slot >> shift]


def _each(look: Callable[[Any], Any], keys: list[Any]) -> None:
    for key in keys:
        look(key)


def _timed(bench: Bench, once: Callable[[], None]) -> Sample:
    """Repeat a pass over all keys for half a run; what is not CPU of ours does not count."""
    passes, cpu_s = 0, time.process_time()
    until_s = time.monotonic() + bench.run_s / 2
    while time.monotonic() < until_s:
        once()
        passes += 1
    cpu_s = time.process_time() - cpu_s
    ops = passes * KEYS
    return Sample(rate=ops / cpu_s, client_cpu_us=cpu_s * 1e6 / ops, ops=ops)


def _theory(bench: Bench, size: int) -> None:
    ranges = RANGES[size]
    shape = f"{size} nodes, {ranges} ranges"
    joined = plan(_names(size), add=1, replication=3, range_count=ranges).ranges
    left = plan(_names(size), remove=["server2"], replication=3, range_count=ranges).ranges
    assert joined is not None
    assert left is not None
    add = partial(Line, "ring", unit="x")
    target = at_most(1.01, "kvlab")
    fullest = joined.before.max_over_mean
    bench.lines.append(add(f"max/mean: {shape}", kvlab=[fullest], target=target))
    for text, change in (("join", joined.movement), ("leave", left.movement)):
        bench.lines.append(
            add(
                f"moved by a {text} / (K/N): {shape}",
                kvlab=[change.copies / change.k_over_n],
                target=target,
                note=f"{change.copies} copies, least possible {change.minimum_copies}",
            )
        )


def _spread(bench: Bench, peer: Any) -> None:
    """The same two figures of uhashring, of owners over many keys."""
    names, keys = _names(10), [f"key:{number:08d}" for number in range(SPREAD_KEYS)]
    hash_ring = peer(names)
    before = [hash_ring.get_node(key) for key in keys]
    hash_ring.add_node("server11")
    moved = sum(hash_ring.get_node(key) != was for key, was in zip(keys, before, strict=True))
    fullest = max(Counter(before).values()) / (len(keys) / len(names))
    bench.note(
        f"ring: uhashring with 10 nodes and {SPREAD_KEYS:,} keys: max/mean {fullest:.3f}, moved by"
        f" a join {moved * 11 / len(keys):.3f} of K/N"
    )
