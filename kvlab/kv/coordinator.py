"""A node as coordinator: what clients ask, handed to the replicas. It reads no clock, does no I/O.

It follows the routes of the map and never changes them. Operations end in `quorum`; questions about
the node itself are answered by `admin`.

Invariants:

1. A version is given once, when the request arrives, so that the order of a pipeline is the order of
   its versions, and a request that is routed again writes nothing twice.
2. Every request gets exactly one reply, at its place in its batch.
3. An error other than UNKNOWN means that nothing happened.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Sequence
from typing import Any

from kvlab.kv.answer import MISSING, Batch, as_text, failure, success
from kvlab.kv.group import Group, Route
from kvlab.kv.quorum import Quorum
from kvlab.kv.state import State
from kvlab.ring.slot import slot_of
from kvlab.wire.json_lines import Refusal, Request, fragment, reply_class, rfc3339
from kvlab.wire.peer import DELETE, READ

TIMEOUT_MS_MAX = 60_000
NAMESPACES = ("", "eventual")
DATA_VERBS = ("GET", "SET", "DELETE")


class Coordinator:
    """The client side of one node. `admin(request) -> info` answers all verbs but GET SET DELETE."""

    def __init__(
        self,
        state: State,
        quorum: Quorum,
        admin: Callable[[Request, int], dict[str, Any] | str],
        starting: Callable[[], str],
    ) -> None:
        self.state = state
        self.quorum = quorum
        self._admin = admin
        self._starting = starting

    def receive(
        self,
        conn: Any,
        items: Sequence[Request | Refusal],
        now_us: int,
        *,
        camel: bool = False,
        uniform: bool = True,
    ) -> Batch:
        """Begin a batch of requests, in order. `batch.pending` is 0 if all have ended already.

        `uniform`: all items are Requests of the casing `camel`.
        """
        state = self.state
        batch = Batch(conn, rfc3339(now_us), camel=camel)
        state.counters["requests"] += len(items)
        routes, shift, table = state.routes, state.shift, state.table
        if not uniform or not routes:
            for item in items:
                self._general(batch, item, now_us)
            return batch
        ranges, put, tell = table.ranges, table.put, batch.replies.append
        version_next = state.clock.next
        for request in items:
            text = request.key  # type: ignore[union-attr]
            kind = request.type
            if text is None or kind not in DATA_VERBS or not _is_plain(request):
                self._general(batch, request, now_us)
                continue
            key = text.encode()
            slot = slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383
            index = slot >> shift
            route = routes[index]
            if kind == "SET":
                value = request.value  # type: ignore[union-attr]
                if value is None:
                    self._general(batch, request, now_us)
                elif route.solo:
                    put(index, key, version_next(now_us), value)
                    batch.acknowledge(text)
                else:
                    self._write(batch, route, text, key, value, now_us)
            elif not route.solo:
                self._read_or_delete(batch, route, kind, text, key, now_us)
            else:
                record = ranges[index].get(key)
                if record is None or record[1] is None:
                    tell(failure(text, "NOT_FOUND", MISSING, batch.stamp, camel=camel))
                    batch.plain = False
                elif kind == "DELETE":
                    put(index, key, version_next(now_us), None)
                    batch.acknowledge(text)
                else:
                    tell(fragment(text, as_text(record[1]), camel))
        return batch

    # -- the default level ----------------------------------------------------------------------

    def _write(
        self, batch: Batch, route: Route, text: str, key: bytes, value: str, now_us: int
    ) -> None:
        batch.acknowledge(text)
        if self._is_open(batch, route, text):
            group = self.quorum.group(route, now_us + self.state.settings.timeout_us)
            self._submit(group, batch, key, self.state.clock.next(now_us), value)

    def _read_or_delete(
        self, batch: Batch, route: Route, kind: str, text: str, key: bytes, now_us: int
    ) -> None:
        if kind == "GET":
            batch.replies.append(b"")  # made when the first replica has spoken
        else:
            batch.acknowledge(text)
        if self._is_open(batch, route, text):
            group = self.quorum.group(route, now_us + self.state.settings.timeout_us)
            if kind == "GET":
                self._submit(group, batch, key, 0, READ)
            else:
                self._submit(group, batch, key, self.state.clock.next(now_us), DELETE)

    def _submit(self, group: Group, batch: Batch, key: bytes, version: int, value: Any) -> None:
        batch.pending += 1
        self.quorum.add(group, batch, len(batch.replies) - 1, key, version, value)

    def _is_open(self, batch: Batch, route: Route, text: str, need: int = 1) -> bool:
        """Whether an operation can start; if not, its reply says why and that nothing happened."""
        if route.reachable < need:
            error = f"{route.reachable} of {len(route.replicas)} replicas can be reached"
            if need > 1:
                error += f", {need} are needed"
            batch.fail(len(batch.replies) - 1, text, "UNAVAILABLE", error)
            return False
        if self.quorum.is_full:
            error = "too many operations wait for their replicas; try again later"
            batch.fail(len(batch.replies) - 1, text, "BUSY", error)
            return False
        return True

    # -- everything else ------------------------------------------------------------------------

    def _general(self, batch: Batch, item: Request | Refusal, now_us: int) -> None:
        """Answer whatever is not a plain request: with options, about the node, or wrong."""
        batch.plain = False
        stamp, camel = batch.stamp, item.camel
        if isinstance(item, Refusal):
            self.state.counters["bad_requests"] += 1
            reply = failure("", item.code, item.error, stamp, camel=camel)
        elif item.type in DATA_VERBS:
            self._with_options(batch, item, now_us)
            return
        else:
            info = self._admin(item, now_us)
            key = item.key or ""
            if isinstance(info, str):
                code, _, error = info.partition(": ")
                reply = failure(key, code, error, stamp, camel=camel)
            else:
                reply = success(key, "", stamp, camel=camel)
                reply.info = info
        reply.req_id = item.req_id
        batch.replies.append(reply)

    def _with_options(self, batch: Batch, request: Request, now_us: int) -> None:
        """Begin a GET, SET or DELETE that may carry options, or lack what it needs."""
        key = request.key or ""
        reply = reply_class(request.camel)("RESPONSE", key, "", batch.stamp, "SUCCESS", "")
        reply.req_id = request.req_id
        batch.replies.append(reply)
        index = len(batch.replies) - 1
        code, error = self._problem(request)
        if code:
            batch.fail(index, key, code, error)
            return
        state = self.state
        raw = key.encode()
        route = state.routes[slot_of(raw) >> state.shift]
        need = _need(request, len(route.replicas))
        if request.meta:
            reply.node = state.settings.id
        if not self._is_open(batch, route, key, need or 1):
            return
        timeout_us = request.timeout_ms * 1000 or state.settings.timeout_us
        if need or request.timeout_ms:
            strict = need or max(route.r, route.w)
            group = self.quorum.explicit(route, strict, now_us + timeout_us, timeout_us)
        else:
            group = self.quorum.group(route, now_us + timeout_us)
        if request.meta:
            if group.metas is None:
                group.metas = []
            group.metas.append((batch, index, len(group.owners)))
        version = 0 if request.type == "GET" else state.clock.next(now_us)
        value = {"GET": READ, "SET": request.value, "DELETE": DELETE}[request.type]
        self._submit(group, batch, raw, version, value)

    def _problem(self, request: Request) -> tuple[str, str]:
        """Say what is wrong with a request: (code, sentence), or ("", "")."""
        if request.key is None:
            return "BAD_REQUEST", f'{request.type} needs a "key" that is a string'
        if request.type == "SET" and request.value is None:
            return "BAD_REQUEST", 'SET needs a "value" that is a string'
        if request.ns not in NAMESPACES:
            return "WRONG_MODE", f'there is no namespace {request.ns!r} here; use "eventual"'
        if request.level not in ("", "one", "quorum", "all"):
            return "BAD_REQUEST", f'unknown level {request.level!r}; use "one", "quorum" or "all"'
        if request.timeout_ms > TIMEOUT_MS_MAX:
            return "BAD_REQUEST", f"timeout_ms is above {TIMEOUT_MS_MAX}"
        if not self.state.routes:
            return "UNAVAILABLE", self._starting()
        return "", ""


def _is_plain(request: Request | Refusal) -> bool:
    """Whether a request has no options."""
    return not (
        request.level  # type: ignore[union-attr]
        or request.r  # type: ignore[union-attr]
        or request.w  # type: ignore[union-attr]
        or request.meta  # type: ignore[union-attr]
        or request.ns  # type: ignore[union-attr]
        or request.timeout_ms  # type: ignore[union-attr]
        or request.req_id is not None
    )


def _need(request: Request, copies: int) -> int:
    """Return how many replicas an explicit level asks for; 0 for the default level."""
    if request.level:
        return {"one": 1, "quorum": copies // 2 + 1, "all": copies}[request.level]
    return request.r if request.type == "GET" else request.w
