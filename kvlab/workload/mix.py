"""Mixes: how often each kind of operation occurs, and the six YCSB presets.

It does not draw or name keys: see stream and keys.
"""

from __future__ import annotations

from itertools import accumulate

import msgspec

from kvlab.errors import UsageError

KINDS = ("read", "update", "insert", "scan", "rmw", "delete")
SCAN_KEYS = 10  # GETs of consecutive keys that stand for one scan
SHARE_ERROR = 1e-9  # shares of a mix add up to 1 within this


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the kinds of operation; they add up to 1."""

    read: float = 0.0
    update: float = 0.0
    insert: float = 0.0
    scan: float = 0.0
    rmw: float = 0.0
    delete: float = 0.0

    def __post_init__(self) -> None:
        shares = [getattr(self, kind) for kind in KINDS]
        if any(share < 0 for share in shares) or abs(sum(shares) - 1) > SHARE_ERROR:
            raise UsageError(
                f"the shares of a mix must be positive and add up to 1: {self.describe()}"
            )

    def thresholds(self) -> list[float]:
        """Cumulative shares in the order of KINDS, for one bisection per draw."""
        sums = list(accumulate(getattr(self, kind) for kind in KINDS))
        last = max(i for i, kind in enumerate(KINDS) if getattr(self, kind) > 0)
        return sums[:last] + [1.0] * (len(KINDS) - last)

    def describe(self) -> str:
        """Return for example `50 % read, 50 % update`."""
        parts = [(getattr(self, kind), kind) for kind in KINDS]
        return ", ".join(f"{share * 100:g} % {kind}" for share, kind in parts if share)


class Preset(msgspec.Struct, frozen=True):
    """A YCSB core workload; `note` says where kvlab departs from it."""

    letter: str
    title: str
    mix: Mix
    distribution: str
    note: str = ""


SCAN_NOTE = (
    f"scans are not in the protocol: each is replaced by GETs of {SCAN_KEYS} consecutive keys"
)
RMW_NOTE = "a read-modify-write is a GET, then a SET of the same key once the GET is answered"

# Source: Cooper et al., "Benchmarking cloud serving systems with YCSB" (SoCC 2010), core workloads.
PRESETS: dict[str, Preset] = {
    "a": Preset("a", "update heavy", Mix(read=0.5, update=0.5), "zipfian"),
    "b": Preset("b", "read mostly", Mix(read=0.95, update=0.05), "zipfian"),
    "c": Preset("c", "read only", Mix(read=1.0), "zipfian"),
    "d": Preset("d", "read latest", Mix(read=0.95, insert=0.05), "latest"),
    "e": Preset("e", "short ranges", Mix(scan=0.95, insert=0.05), "zipfian", SCAN_NOTE),
    "f": Preset("f", "read-modify-write", Mix(read=0.5, rmw=0.5), "zipfian", RMW_NOTE),
}


def preset(letter: str) -> Preset:
    """Return the preset of this letter. Raises UsageError that lists the letters there are."""
    found = PRESETS.get(letter.lower())
    if found is None:
        raise UsageError(
            f"no workload is called {letter!r}",
            hint="choose from " + ", ".join(f"{p.letter} ({p.title})" for p in PRESETS.values()),
        )
    return found
