"""What a load run shall do: one value that a worker process can be given as JSON.

It does not connect or send. `validate` holds every rule about its numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kvlab.errors import UsageError
from kvlab.live.security import OPEN, Access
from kvlab.rng import Rng
from kvlab.workload.arrivals import SHAPES, Arrivals, Shape
from kvlab.workload.keys import DISTRIBUTIONS, KeySpace, chooser
from kvlab.workload.mix import Mix, preset
from kvlab.workload.stream import Workload
from kvlab.workload.values import Values, base36

CLIENTS_MAX = 10_000  # connections
PIPELINE_MAX = 4096  # requests in flight per connection
PROCESSES_MAX = 64
KEYS_MAX = 100_000_000
VALUE_BYTES_MAX = 1 << 20
BACKLOG_OPS = 10_000  # arrivals of an open loop that may wait for a free connection
PORT_MAX = 65_535


class Address(NamedTuple):
    """Where a node listens, and what to call it."""

    name: str
    host: str
    port: int


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One load run. Without `rate` the loop is closed; `time_us` or `count` ends it.

    `addresses` are `host:port` or `name=host:port`; connections are spread over them. `count` is in
    requests. With `failover` a connection whose node is gone uses another until it is back.
    `worker`, `workers` and `epoch_ns` are set for the processes of one run; `access` is what the
    servers ask for.
    """

    addresses: tuple[str, ...]
    workload: str = "a"
    mix: Mix | None = None
    distribution: str | None = None
    keys: int = 1000
    key_prefix: str = "user"
    value_bytes: int = 100
    value_tag: str = "w"
    clients: int = 50
    pipeline: int = 1
    processes: int = 1
    rate: float | None = None
    arrival: Shape = "poisson"
    time_us: int | None = None
    count: int | None = None
    timeout_us: int = 5_000_000
    connect_timeout_us: int = 1_000_000
    backlog: int = BACKLOG_OPS
    level: str | None = None
    failover: bool = True
    seed: int = 1
    worker: int = 0
    workers: int = 1
    epoch_ns: int | None = None
    access: Access = OPEN

    def validate(self) -> None:
        """Raise UsageError for the first number that cannot be."""
        preset(self.workload)
        if self.distribution is not None and self.distribution not in DISTRIBUTIONS:
            raise UsageError(
                f"no key distribution is called {self.distribution!r}",
                hint=f"choose from {', '.join(DISTRIBUTIONS)}",
            )
        if self.arrival not in SHAPES:
            raise UsageError(f"arrivals are {' or '.join(SHAPES)}, not {self.arrival!r}")
        _between("clients", self.clients, 1, CLIENTS_MAX)
        _between("pipeline", self.pipeline, 1, PIPELINE_MAX)
        _between("processes", self.processes, 1, min(PROCESSES_MAX, self.clients))
        _between("keys", self.keys, 1, KEYS_MAX)
        _between("value bytes", self.value_bytes, 1, VALUE_BYTES_MAX)
        if self.rate is not None and not self.rate > 0:
            raise UsageError(f"the rate must be above 0/s, not {self.rate:g}/s")
        if self.time_us is None and self.count is None:
            raise UsageError("a load run needs an end", hint="give a time, a count, or both")
        for name in ("time_us", "count", "timeout_us", "connect_timeout_us", "backlog"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name.removesuffix('_us')} must be positive, not {value}")
        if self.count is not None and self.count < self.processes:
            raise UsageError(f"{self.processes} processes cannot share a count of {self.count}")
        self.targets()
        self.values()

    def targets(self) -> tuple[Address, ...]:
        """Return the addresses, parsed. Raises UsageError."""
        return parse_addresses(self.addresses)

    def rng(self, purpose: str) -> Rng:
        """Open this worker's stream of chance for a purpose."""
        return Rng(self.seed, "load").child(f"{self.worker}/{purpose}")

    def values(self) -> Values:
        """Open this worker's stream of values, unique over the workers of a run."""
        tag = f"{self.value_tag}{base36(self.worker)}"
        return Values(self.value_bytes, tag=tag, rng=self.rng("values"))

    def source(self) -> Workload:
        """Open this worker's stream of units of work."""
        chosen = preset(self.workload)
        space = KeySpace(
            self.keys, prefix=self.key_prefix, worker=self.worker, workers=self.workers
        )
        keys = chooser(self.distribution or chosen.distribution, space, self.rng("keys"))
        return Workload(self.mix or chosen.mix, space, keys, self.values(), self.rng("mix"))

    def arrivals(self) -> Arrivals | None:
        """Open this worker's part of the arrivals; None for a closed loop."""
        if self.rate is None:
            return None
        return Arrivals(
            self.rate,
            self.rng("arrivals"),
            shape=self.arrival,
            worker=self.worker,
            workers=self.workers,
        )

    def share(self, worker: int, epoch_ns: int) -> LoadPlan:
        """Return the plan of one worker process: its part of the connections and of the count."""
        workers = self.processes
        return msgspec.structs.replace(
            self,
            worker=worker,
            workers=workers,
            processes=1,
            epoch_ns=epoch_ns,
            clients=_part(self.clients, worker, workers),
            count=None if self.count is None else _part(self.count, worker, workers),
            backlog=max(1, _part(self.backlog, worker, workers)),
        )


def parse_addresses(texts: tuple[str, ...]) -> tuple[Address, ...]:
    """Parse `host:port` and `name=host:port`. Raises UsageError."""
    if not texts:
        raise UsageError("no address to send to", hint="give at least one host:port")
    return tuple(_address(text) for text in texts)


def _address(text: str) -> Address:
    name, _, rest = text.rpartition("=")
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) <= PORT_MAX:
        raise UsageError(
            f"{text!r} is not an address", hint="write host:port, for example 127.0.0.1:8081"
        )
    return Address(name or rest, host, int(port))


def _part(total: int, worker: int, workers: int) -> int:
    return total // workers + (worker < total % workers)


def _between(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} must be from {low} to {high}, not {value}")
