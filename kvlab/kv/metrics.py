"""What a node tells probes and scrapers: `/healthz` and `/metrics`, as text. It measures nothing.

The format is Prometheus' text exposition, version 0.0.4. Everything in it is in STATUS too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kvlab.kv.admin import Admin
from kvlab.kv.password import TOO_MANY, WRONG, told_by_header
from kvlab.wire.http import encode_reply

KIND = "text/plain; version=0.0.4; charset=utf-8"
US_PER_SECOND = 1_000_000
WHERE = "this is a kvlab node: ask /metrics or /healthz, or send JSON lines or RESP\n"
LOCKED = "this node asks for a password: the user is default (Basic authentication)\n"

_GAUGES = {  # field of STATUS -> what it is
    "epoch": "The epoch of the cluster map by which the node serves.",
    "keys": "Records held, deleted ones that are still remembered left out.",
    "bytes": "Bytes of keys and values held.",
    "tombstones": "Records of deleted keys, not purged yet.",
    "hints": "Records held for others: in their place, or of ranges that moved away.",
    "connections": "Connections of clients.",
}
_RANGES = {
    "ranges": "held",
    "moving": "moving",
    "giving": "giving",
    "comparing": "comparing",
}
PHASES = ("waiting", "copying", "comparing", "ready", "giving")
COUNTERS = {
    "requests": "Requests of clients.",
    "degraded": "Operations answered by fewer replicas than wanted.",
    "hinted": "Operations in which others stood in for replicas that could not be reached.",
    "handed_over": "Records given to those whose they are.",
    "quorum_failures": "Groups of operations that did not get their quorum.",
    "fence_refusals": "Groups refused because they were routed by an old map.",
    "conflicts": "Writes that met a newer version: written again, or replaced by it if confirmed.",
    "reissued_writes": "Writes that met a newer version and were written again above it.",
    "read_repairs": "Records given to replicas that a read had found behind.",
    "write_backs": "Atomic reads that met several versions and wrote the newest back.",
    "exchanges": "Ranges compared because their digests differed.",
    "catch_up_records": "Records fetched by comparisons.",
    "purged": "Tombstones erased, as no replica can bring the key back.",
    "moved_ranges": "Ranges that were pulled whole.",
    "moved_keys": "Keys that came with ranges.",
    "moved_bytes": "Bytes of keys and values that came with ranges.",
    "ballot_conflicts": "Rounds of the linear namespace begun anew, as another proposer was there.",
    "skewed_clocks": "Times of peers that were too far ahead to be followed.",
    "auth_failures": "Passwords that were wrong.",
    "auth_blocked": "Passwords not looked at, after too many wrong ones from their address.",
    "slow_clients": "Connections cut off because their clients did not read.",
    "heavy_clients": "Connections cut off because all together held too much memory.",
    "bad_requests": "Requests that made no sense.",
    "bad_frames": "Connections of peers that were ended for what they sent.",
    "refused_peers": "Peers refused for their secret or cluster, or because there were too many.",
    "partial_timeouts": "Requests whose rest did not come.",
    "refused_connections": "Connections turned away because there were too many.",
    "resp_connections": "Connections that spoke RESP.",
}


def answer(
    admin: Admin,
    method: str,
    path: str,
    now_us: int,
    authorization: str = "",
    origin: str = "",
) -> bytes:
    """Return the reply to one request, which may have told the password."""
    head_only = method == "HEAD"
    if method not in ("GET", "HEAD") or path not in ("/metrics", "/healthz"):
        admin.state.counters["bad_requests"] += 1
        return encode_reply(404 if method in ("GET", "HEAD") else 405, WHERE, head_only=head_only)
    password, why = admin.state.settings.password, ""
    if path == "/metrics" and password is not None:
        why = WRONG
        if authorization:
            told = told_by_header(authorization)
            why = admin.state.attempts.accepts(password, *told, origin, now_us)
    if why == TOO_MANY:
        return encode_reply(429, f"{why}\n", head_only=head_only)
    if why:
        admin.state.counters["auth_failures"] += bool(authorization)
        return encode_reply(401, LOCKED, head_only=head_only)
    if path == "/metrics":
        text = "".join(_lines(admin.status(now_us)))
        return encode_reply(200, text, kind=KIND, head_only=head_only)
    why = admin.why_unhealthy()
    return encode_reply(503 if why else 200, f"{why or 'ok'}\n", head_only=head_only)


def _lines(status: dict[str, Any]) -> Iterator[str]:
    labels = f'{{id="{_escaped(status["id"])}",cluster="{_escaped(status["cluster"])}"}}'
    yield from _metric("kvlab_info", "gauge", "Which node this is.", {labels: 1})
    ready = {"": int(status["ready"])}
    yield from _metric("kvlab_ready", "gauge", "Whether the node serves as it should.", ready)
    writable = {"": int(not status["refusal"])}
    yield from _metric("kvlab_writable", "gauge", "Whether the node takes writes.", writable)
    uptime = {"": status["uptime_us"] / US_PER_SECOND}
    yield from _metric("kvlab_uptime_seconds", "gauge", "Since the process began.", uptime)
    for name, text in _GAUGES.items():
        yield from _metric(f"kvlab_{name}", "gauge", text, {"": status[name]})
    states = list(status["peers"].values())
    peers = {f'{{state="{state}"}}': states.count(state) for state in ("up", "down")}
    yield from _metric("kvlab_peers", "gauge", "Other members, by whether they are seen.", peers)
    ranges = {f'{{state="{state}"}}': status[field] for field, state in _RANGES.items()}
    yield from _metric("kvlab_ranges", "gauge", "Ranges of the ring, by what is done.", ranges)
    phases = [one["phase"] for one in status["movements"]]
    yield from _metric(
        "kvlab_movements",
        "gauge",
        "Ranges on their way here or away, by phase.",
        {f'{{phase="{phase}"}}': phases.count(phase) for phase in PHASES},
    )
    left = {"": sum(max(0, one["left_bytes"]) for one in status["movements"])}
    yield from _metric(
        "kvlab_movement_left_bytes", "gauge", "Bytes that sources have still to send, about.", left
    )
    counters = status["counters"]
    for name in sorted({*COUNTERS, *counters}):
        text = COUNTERS.get(name, "An event of the node.")
        yield from _metric(f"kvlab_{name}_total", "counter", text, {"": counters.get(name, 0)})
    lag = {"": status["loop_lag_us"] / US_PER_SECOND}
    yield from _metric(
        "kvlab_loop_lag_seconds", "gauge", "How late the last tick was: the node is busy.", lag
    )
    score = {"": status["health_score"]}
    yield from _metric(
        "kvlab_health_score", "gauge", "How late the node is, 0 to 8; it suspects later.", score
    )
    disk = status["disk"]
    if disk:
        seconds = {"": disk["sync_us"] / US_PER_SECOND}
        yield from _metric("kvlab_disk_syncs_total", "counter", "Syncs.", {"": disk["syncs"]})
        yield from _metric(
            "kvlab_disk_sync_seconds_total", "counter", "Time that syncs took.", seconds
        )
        held = {"": disk["held_bytes"]}
        yield from _metric(
            "kvlab_disk_held_bytes", "gauge", "Replies and frames that wait for the disk.", held
        )


def _metric(name: str, kind: str, text: str, samples: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    for labels, value in samples.items():
        yield f"{name}{labels} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
