"""Link rules: what one directed link does to the bytes and connects that pass it.

It holds no socket, no clock and no queue: the shim asks `fate` per chunk and `connect_fate` per
new connection, and acts on the answers.

Invariants:

1. The delivery times of one stream never decrease: bytes of a stream keep their order.
2. Bytes are never dropped: a chunk is delivered, held, or its connection is reset.
3. A chunk is never delivered before the least latency that its rule allows.
4. A clean rule delivers now and draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from kvlab.errors import UsageError
from kvlab.rng import Rng
from kvlab.units import format_bandwidth, format_duration

CutMode: TypeAlias = Literal["hold", "reset"]
Connect: TypeAlias = Literal["accept", "refuse", "hang"]

LATENCY_US_MAX: Final = 3_600_000_000
"""An hour: longer delays are a cut."""
BANDWIDTH_BPS_MAX: Final = 10**12
SLICE_US: Final = 5_000
"""On a narrow link chunks are sent in pieces of this duration, so that the flow looks smooth."""
SLICE_BYTES_MIN: Final = 512
SLICE_BYTES_MAX: Final = 65_536
_US_PER_S: Final = 1_000_000


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {' or '.join(allowed)}, not {value!r}")


def _between(name: str, value: Any, largest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise UsageError(f"{name} is a whole number from 0 to {largest}, not {value!r}")


@dataclass(frozen=True, slots=True)
class LinkRule:
    """The rule of one directed link. All defaults together are a clean link.

    cut            no byte passes; `mode` says what existing connections feel
    mode           "hold": they stall until the link is healed; "reset": they break
    connect        new connections: "accept", "refuse" (reset at once), "hang" (nothing answers)
    latency_us     added to every chunk, in microseconds
    jitter_us      latency is drawn evenly from latency_us +- jitter_us, never below 0
    bandwidth_bps  bytes per second that all streams of the link share; 0 is unlimited

    Raises UsageError when a field is out of its bounds.
    """

    cut: bool = False
    mode: CutMode = "hold"
    connect: Connect = "accept"
    latency_us: int = 0
    jitter_us: int = 0
    bandwidth_bps: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.cut, bool):
            raise UsageError(f"cut is true or false, not {self.cut!r}")
        _one_of("mode", self.mode, get_args(CutMode))
        _one_of("connect", self.connect, get_args(Connect))
        _between("latency_us", self.latency_us, LATENCY_US_MAX)
        _between("jitter_us", self.jitter_us, LATENCY_US_MAX)
        _between("bandwidth_bps", self.bandwidth_bps, BANDWIDTH_BPS_MAX)

    @property
    def shapes(self) -> bool:
        """Say if bytes are touched at all: cut, delayed or throttled."""
        return bool(self.cut or self.latency_us or self.jitter_us or self.bandwidth_bps)

    @property
    def clean(self) -> bool:
        """Say if the link behaves as if it had no rule."""
        return not self.shapes and self.connect == "accept"

    def then(self, later: LinkRule) -> LinkRule:
        """Combine with a rule set later: what the later one is silent about stays."""
        kept: dict[str, Any] = {}
        if later.cut:
            kept |= {"cut": True, "mode": later.mode}
        if later.connect != "accept":
            kept["connect"] = later.connect
        if later.latency_us or later.jitter_us:
            kept |= {"latency_us": later.latency_us, "jitter_us": later.jitter_us}
        if later.bandwidth_bps:
            kept["bandwidth_bps"] = later.bandwidth_bps
        return replace(self, **kept)

    def text(self) -> str:
        """Say the rule to a person: "cut (hold), latency 50ms +-5ms, bandwidth 1mbit"."""
        parts = []
        if self.cut:
            parts.append(f"cut ({self.mode})")
        if self.connect != "accept":
            parts.append(f"connect {self.connect}")
        if self.latency_us or self.jitter_us:
            jitter = f" +-{format_duration(self.jitter_us)}" if self.jitter_us else ""
            parts.append(f"latency {format_duration(self.latency_us)}{jitter}")
        if self.bandwidth_bps:
            parts.append(f"bandwidth {format_bandwidth(self.bandwidth_bps)}")
        return ", ".join(parts) or "clean"

    def to_builtins(self) -> dict[str, Any]:
        """Give the fields that differ from a clean link, for JSON."""
        clean = LinkRule()
        pairs = ((item.name, getattr(self, item.name)) for item in fields(self))
        return {name: value for name, value in pairs if value != getattr(clean, name)}

    @classmethod
    def from_builtins(cls, raw: Any) -> LinkRule:
        """Read what `to_builtins` gave; raise UsageError on unknown or wrong fields."""
        if not isinstance(raw, dict):
            raise UsageError(f"a link rule is an object, not {raw!r}")
        names = [item.name for item in fields(cls)]
        for name in raw:
            if name not in names:
                raise UsageError(f'a link rule has no "{name}"', hint=f"it has: {', '.join(names)}")
        return cls(**raw)


CLEAN: Final = LinkRule()


@dataclass(slots=True)
class WireState:
    """What all streams of one link share: when the wire is free again, in microseconds."""

    free_us: int = 0


@dataclass(slots=True)
class StreamState:
    """What one direction of one connection remembers: its last delivery, and its wire."""

    wire: WireState = field(default_factory=WireState)
    last_us: int = 0


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand the chunk over at this time, not earlier."""

    at_us: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the chunk until the link is healed."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection."""


Fate: TypeAlias = Deliver | Hold | Reset
ConnectFate: TypeAlias = Connect

HOLD: Final = Hold()
RESET: Final = Reset()


def fate(rule: LinkRule, state: StreamState, now_us: int, size: int, rng: Rng) -> Fate:
    """Decide what happens to a chunk of `size` bytes that reaches the link at `now_us`.

    The wire sends one chunk after the other, each for size / bandwidth; then the latency runs.
    Delivering advances `state`; holding and resetting do not.
    """
    if rule.cut:
        return RESET if rule.mode == "reset" else HOLD
    at_us = now_us
    if rule.bandwidth_bps:
        busy_us = -(-size * _US_PER_S // rule.bandwidth_bps)
        at_us = state.wire.free_us = max(now_us, state.wire.free_us) + busy_us
    at_us += rule.latency_us
    if rule.jitter_us:
        # Not randint, which draws as evenly but takes four times as long; this is done per chunk.
        at_us += int(rng.random() * (2 * rule.jitter_us + 1)) - rule.jitter_us
    at_us = state.last_us = max(at_us, now_us, state.last_us)
    return Deliver(at_us)


def slice_bytes(rule: LinkRule) -> int:
    """Say how large a chunk may be before it must be cut up for `fate`; 0 is any size."""
    if not rule.bandwidth_bps:
        return 0
    smooth = rule.bandwidth_bps * SLICE_US // _US_PER_S
    return min(max(smooth, SLICE_BYTES_MIN), SLICE_BYTES_MAX)


def connect_fate(out: LinkRule, back: LinkRule) -> ConnectFate:
    """Decide about a new connection over the link `out`, whose replies take the link `back`.

    A TCP handshake needs both directions, so a cut of either stops it. Breaking wins over
    hanging: a caller that is told is better off than one that waits.
    """
    wishes = {out.connect}
    for rule in (out, back):
        if rule.cut:
            wishes.add("refuse" if rule.mode == "reset" else "hang")
    for wish in ("refuse", "hang"):
        if wish in wishes:
            return cast("ConnectFate", wish)
    return "accept"
