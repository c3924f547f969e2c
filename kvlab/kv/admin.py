"""What a node answers about itself: PING STATUS MAP RANGES MOVES INSPECT LEAVE AUTH. No data.

Each answer is a dict for the reply's `info`, or "CODE: sentence" for an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvlab.errors import UsageError
from kvlab.kv.membership import Membership
from kvlab.kv.password import NOT_SET, WRONG, told_by
from kvlab.kv.state import State
from kvlab.kv.transfer import Transfers
from kvlab.ring.slot import slot_of
from kvlab.wire.json_lines import Request

Answer = dict[str, Any] | str


class Admin:
    """The questions about one node."""

    def __init__(
        self, state: State, membership: Membership, transfers: Transfers, now_us: int
    ) -> None:
        self.state = state
        self.membership = membership
        self.transfers = transfers
        self.pid = 0  # the shell knows
        self.connections = 0  # of clients; the shell counts
        self.loop_lag_us = 0  # how late the last tick was; the shell measures
        self.disk: Callable[[], dict[str, Any]] = dict  # what the shell knows of the node's folder
        self._started_us = now_us
        self._verbs = {
            "AUTH": self._auth,
            "PING": self._ping,
            "STATUS": self._status,
            "MAP": self._map,
            "RANGES": self._ranges,
            "MOVES": self._moves,
            "INSPECT": self._inspect,
            "LEAVE": self._leave,
        }

    def answer(self, request: Request, now_us: int) -> Answer:
        """Answer one request."""
        verb = self._verbs.get(request.type)
        if verb is None:
            return "BAD_TYPE: Invalid request type"
        return verb(request, now_us)

    def _auth(self, request: Request, _now_us: int) -> Answer:
        """The session lets the client in; this is what it is told."""
        password = self.state.settings.password
        if password is None:
            return f"BAD_REQUEST: {NOT_SET}"
        if not password.accepts(*told_by(request)):
            self.state.counters["auth_failures"] += 1
            return f"WRONGPASS: {WRONG}"
        return {"id": self.state.settings.id}

    def _ping(self, _request: Request, _now_us: int) -> Answer:
        return {"id": self.state.settings.id, "ready": self.membership.is_ready}

    def why_unhealthy(self) -> str:
        """Say why clients should not be sent here, or return ""."""
        return "" if self.membership.is_ready else self.membership.starting()

    def _status(self, _request: Request, now_us: int) -> Answer:
        return self.status(now_us)

    def status(self, now_us: int) -> dict[str, Any]:
        """Return what STATUS tells."""
        state = self.state
        members = state.map.members if state.map is not None else ()
        held = 0
        if state.map is not None:
            held = sum(state.settings.id in place.replicas for place in state.map.ranges)
        return {
            "id": state.settings.id,
            "cluster": state.settings.cluster,
            "epoch": state.epoch,
            "incarnation": state.me.incarnation if state.me is not None else 0,
            "pid": self.pid,
            "uptime_us": now_us - self._started_us,
            "ready": self.membership.is_ready,
            "waits_for": self.why_unhealthy(),
            "refusal": state.refusal,
            "loop_lag_us": self.loop_lag_us,
            "health_score": self.membership.suspicion.health.score,
            "disk": self.disk(),
            "keys": state.table.key_count,
            "bytes": state.table.byte_count,
            "tombstones": state.table.tombstone_count,
            "connections": self.connections,
            "peers": {
                one.id: "up" if state.is_current(one) else "down"
                for one in members
                if one.id != state.settings.id
            },
            "ranges": held,
            "moving": self.transfers.moving + len(self.transfers.ready),
            "giving": self.transfers.giving,
            "hints": self.transfers.handoff.record_count,
            "comparing": self.transfers.comparing,
            "movements": [one._asdict() for one in self.transfers.movements()],
            "counters": dict(state.counters)
            | {
                "requests": state.requests,
                "skewed_clocks": state.clock.refused,
                "auth_blocked": state.attempts.blocked,
            },
        }

    def _map(self, _request: Request, _now_us: int) -> Answer:
        if self.state.map is None:
            return f"UNAVAILABLE: {self.membership.starting()}"
        return self.state.map.to_builtins()

    def _ranges(self, _request: Request, _now_us: int) -> Answer:
        table, linear = self.state.table, self.state.registers
        return {
            "ranges": {str(index): [keys, size] for index, keys, size in table.held()},
            "linear": {
                str(index): [linear.keys[index], linear.sizes[index]] for index in linear.held()
            },
        }

    def _moves(self, _request: Request, _now_us: int) -> Answer:
        return {"changes": list(self.membership.changes), "moves": list(self.transfers.moves)}

    def _inspect(self, request: Request, _now_us: int) -> Answer:
        if request.key is None:
            return 'BAD_REQUEST: INSPECT needs a "key" that is a string'
        state = self.state
        if state.map is None:
            return f"UNAVAILABLE: {self.membership.starting()}"
        key = request.key.encode()
        slot = slot_of(key)
        index = slot >> state.shift
        place = state.map.ranges[index]
        record = state.table.get(index, key)
        return {
            "slot": slot,
            "range": index,
            "owners": list(place.replicas),
            "next": None if place.next is None else list(place.next),
            "present": record is not None and record[1] is not None,
            "tombstone": record is not None and record[1] is None,
            "version": str(record[0]) if record is not None else "",
            "bytes": len(record[1]) if record is not None and record[1] is not None else 0,
        }

    def _leave(self, request: Request, _now_us: int) -> Answer:
        try:
            self.membership.ask_leave(request.key or self.state.settings.id)
        except UsageError as error:
            return f"BAD_REQUEST: {error.message}"
        return {"id": request.key or self.state.settings.id}
