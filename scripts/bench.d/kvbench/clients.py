"""The clients that measure: lg for every server alike, and load generators as what is measured.

They start no server. All run as processes of their own, on the client's core unless told otherwise.
"""

from __future__ import annotations

import csv
import io
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvbench.ask import KEYS, VALUE_BYTES
from kvbench.figures import Sample
from kvbench.gate import process_cpu_s
from kvbench.stage import NotAvailable, Stage

SOURCES = Path(__file__).parents[1]
US_PER_S = 1e6
CALIBRATE_OPS = 20_000


@dataclass(frozen=True)
class Load:
    """What lg shall do; `servers` are the pids whose CPU counts as the servers'."""

    protocol: str
    operation: str
    addresses: tuple[str, ...]
    servers: tuple[int, ...]
    connections: int = 50
    pipeline: int = 1


class Clients:
    """Builds the C programs once, and runs clients."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._built: dict[str, Path | None] = {}

    @property
    def neutral(self) -> str:
        """Say which neutral client is used."""
        return "lg (C, epoll)" if _compiler() else "pylg (Python: no C compiler here)"

    def program(self, name: str) -> Path | None:
        """Compile a program of bench.d, once; None without a compiler."""
        if name not in self._built:
            compiler = _compiler()
            target = self._stage.folder / name
            if compiler:
                source = SOURCES / f"{name}.c"
                subprocess.run([compiler, "-O2", "-o", target, source], check=True)
            self._built[name] = target if compiler else None
        return self._built[name]

    def lg(self, load: Load, seconds: float, *, pinned: bool = True) -> Sample:
        """Drive load at servers for a while."""
        program = self.program("lg")
        head = [str(program)] if program else [sys.executable, "-m", "kvbench.pylg"]
        sizes = [seconds, load.connections, load.pipeline, KEYS, VALUE_BYTES]
        argv = [*head, load.protocol, load.operation, *map(str, sizes), *load.addresses]
        cores = self._stage.client_core if pinned else self._stage.all_cores
        cpu_s = sum(map(process_cpu_s, load.servers))
        raw = json.loads(self._stage.run(argv, cores=cores))
        cpu_s = sum(map(process_cpu_s, load.servers)) - cpu_s
        ops = raw["ops"]
        return Sample(
            rate=ops / raw["seconds"],
            p50_us=raw["p50_us"],
            p99_us=raw["p99_us"],
            server_cpu_us=cpu_s * US_PER_S / ops if load.servers else None,
            client_cpu_us=raw["cpu_s"] * US_PER_S / ops,
            ops=ops,
            errors=raw["errors"],
        )

    def kvlab_load(self, plan: dict[str, Any], history: Path | None = None) -> Sample:
        """Run kvlab's load generator; with `history` it records every operation to that file."""
        argv = [sys.executable, "-m", "kvbench.loadrun", json.dumps(plan)]
        if history is not None:
            argv.append(str(history))
        raw = json.loads(self._stage.run(argv, cores=self._stage.client_core))
        return Sample(
            rate=raw["ops"] / raw["seconds"],
            p50_us=raw["p50_us"],
            client_cpu_us=raw["cpu_s"] * US_PER_S / raw["ops"],
            ops=raw["ops"],
            errors=raw["errors"],
        )

    def redis_benchmark(
        self, address: str, operation: str, seconds: float, *, connections: int, pipeline: int
    ) -> Sample:
        """Run redis-benchmark for about that long: it takes a count, so a short run goes ahead.

        Raises NotAvailable when it is not installed.
        """
        program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
        if program is None:
            raise NotAvailable("redis-benchmark is not installed (Debian: redis-tools)")
        host, _, port = address.rpartition(":")
        argv = [program, "-h", host, "-p", port, "-c", str(connections), "-P", str(pipeline)]
        argv += ["-t", operation, "-d", str(VALUE_BYTES), "-r", str(KEYS), "--csv"]
        short = _csv(self._stage.run([*argv, "-n", str(CALIBRATE_OPS)], cores=self._core))
        ops = max(CALIBRATE_OPS, round(float(short["rps"]) * seconds))
        cpu_s = _children_cpu_s()
        row = _csv(self._stage.run([*argv, "-n", str(ops)], cores=self._core))
        cpu_s = _children_cpu_s() - cpu_s
        return Sample(
            rate=float(row["rps"]),
            p50_us=float(row["p50_latency_ms"]) * 1000,
            client_cpu_us=cpu_s * US_PER_S / ops,
            ops=ops,
        )

    @property
    def _core(self) -> set[int]:
        return self._stage.client_core


def _compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")


def _children_cpu_s() -> float:
    """Return the CPU of all children that ended, start-up included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def _csv(printed: bytes) -> dict[str, str]:
    rows: Sequence[dict[str, str]] = list(csv.DictReader(io.StringIO(printed.decode())))
    if len(rows) != 1:
        raise RuntimeError(f"redis-benchmark printed {printed[:200]!r}")
    return rows[0]
