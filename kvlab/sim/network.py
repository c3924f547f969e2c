"""A network of ordered streams between hosts, as TCP gives them, under virtual time.

What a link does to bytes and connects is asked of `fault.link`, the same rules that the shims of real
clusters follow. It does not know what the bytes mean, nor whether a process is paused: it hands
events to a machine, which does.

Invariants:

1. Bytes of one direction of a connection arrive in order, once, or not at all. They are only lost
   with the connection.
2. Each side of a connection is told of its end at most once, and hears nothing afterwards.
3. The ends of a connection learn of each other's doings only through the links: behind a cut, a
   close or reset arrives when it is healed, or never.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from kvlab.fault.link import CLEAN, Deliver, LinkRule, Reset, StreamState, connect_fate, fate
from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.stream import Count, End, Link, Machine, Owner, Stream, Trace

WRITE_BYTES_HIGH = 1024 * 1024  # of a connection's bytes under way: its writer is told to wait
SYN_US = (
    1_000_000  # a packet of a connect that was lost is sent again so much later, then twice that
)
SPLIT_SHARE = 0.05  # of writes arrive in pieces: streams have no frames
DATA, EOF, RST, OPEN = "data", "eof", "rst", "open"


class Network:
    """All links and connections of one simulated world."""

    def __init__(self, clock: Clock, rng: Rng, base: LinkRule = CLEAN) -> None:
        self.clock = clock
        self.machines: dict[str, Machine] = {}
        self.counts: dict[Link, Count] = {}
        self.trace: Trace | None = None
        self._base = base  # of every link without a rule of its own
        self._rules: dict[Link, LinkRule] = {}
        self._streams: dict[Link, dict[Stream, None]] = {}
        self._callers: dict[End, None] = {}  # ends that are not yet open
        self._rng = rng
        self._number = 0

    # -- rules ----------------------------------------------------------------------------------

    def rule(self, source: str, target: str) -> LinkRule:
        """Return what the link from one host to another does now."""
        return self._rules.get((source, target), self._base)

    def set_rule(self, link: Link, rule: LinkRule | None) -> None:
        """Change what a link does, for what is under way too; None takes the rule back."""
        if rule is None:
            self._rules.pop(link, None)
        else:
            self._rules[link] = self._base.then(rule)
        now = self.rule(*link)
        self.count(*link).wire.free_us = 0
        for stream in list(self._streams.get(link, ())):
            if now.cut and now.mode == "reset":
                self._break(stream)
            elif not now.cut:
                self._release(stream, now)

    def reset(self, source: str, target: str) -> None:
        """Break every connection that is open over a link, once."""
        for stream in list(self._streams.get((source, target), ())):
            if stream.source.owner is not None or stream.target.owner is not None:
                self._break(stream)

    def count(self, source: str, target: str) -> Count:
        """Return the counters of a link."""
        link = (source, target)
        count = self.counts.get(link)
        if count is None:
            count = self.counts[link] = Count()
        return count

    # -- connecting -----------------------------------------------------------------------------

    def connect(self, source: str, target: str, owner: Owner) -> End:
        """Ask for a connection; the owner hears `opened` or `lost`, or nothing if it hangs."""
        self._number += 1
        end = End(self, source, target, self._number)
        end.owner = owner
        self._callers[end] = None
        self._knock(end, 0)
        return end

    def _knock(self, end: End, tries: int) -> None:
        """Try to connect; again and again as TCP does, while nothing answers and somebody waits."""
        if end.owner is None:
            return
        source, target = end.host, end.peer
        machine = self.machines.get(target)
        out, back = self.rule(source, target), self.rule(target, source)
        what = connect_fate(out, back)
        count = self.count(source, target)
        count.connects += 1
        if machine is None or (what == "accept" and machine.power == "no process"):
            what = "refuse"
        elif what == "accept" and machine.power == "off":
            what = "hang"
        elif what == "refuse":
            count.resets += 1
        elif what == "hang":
            count.hung += tries == 0
        self._note("connect", source, target, what, end)
        there_us = self._latency(out)
        if what == "accept":
            self.clock.after(there_us, self._arrive, end)
        elif what == "refuse":
            self.clock.after(there_us + self._latency(back), self._lose_in_turn, end)
        else:
            self.clock.after(SYN_US << tries, self._knock, end, tries + 1)

    def _latency(self, rule: LinkRule) -> int:
        answer = fate(rule, StreamState(), self.clock.now_us, 0, self._rng)
        return answer.at_us - self.clock.now_us if isinstance(answer, Deliver) else 0

    def _arrive(self, end: End) -> None:
        """The first packet of a connect has reached its target."""
        machine = self.machines[end.peer]
        if end.owner is None:
            return
        back = self.rule(end.peer, end.host)
        if machine.power != "up":
            if machine.power == "no process":
                self.clock.after(self._latency(back), self._lose_in_turn, end)
            return
        other = End(self, end.peer, end.host, end.id)
        end.other, other.other = other, end
        end.out = Stream(end, other, self.count(end.host, other.host))
        other.out = Stream(other, end, self.count(other.host, end.host))
        for stream in (end.out, other.out):
            self._streams.setdefault(stream.link, {})[stream] = None
        other.is_open = True
        machine.hear(self._accept, machine, other)
        if back.cut:  # in the middle of the handshake: it is repeated until the link is healed
            other.out.items.append((-1, OPEN, b""))
        else:
            self._schedule(other.out, self.clock.now_us + self._latency(back), OPEN, b"")

    def _accept(self, machine: Machine, end: End) -> None:
        end.owner = machine.accept(end)

    # -- sending --------------------------------------------------------------------------------

    def send(self, end: End, data: bytes) -> None:
        """Put bytes on their way."""
        stream = end.out
        assert stream is not None
        if stream.over:
            return
        if len(data) > 1 and self._rng.random() < SPLIT_SHARE:
            at = self._rng.randint(1, len(data) - 1)
            self._put(stream, DATA, data[:at])
            data = data[at:]
        self._put(stream, DATA, data)
        if stream.under_way > WRITE_BYTES_HIGH and not end.choked and end.owner is not None:
            end.choked = True
            end.owner.pause_writing(end)

    def _put(self, stream: Stream, kind: str, data: bytes) -> None:
        if stream.over:
            return
        stream.under_way += len(data)
        rule = self._rules.get(stream.link, self._base)
        if rule.cut or (stream.items and stream.items[-1][0] < 0):
            if rule.cut and rule.mode == "reset":
                self._break(stream)
                return
            self._hold(stream, kind, data)
            return
        answer = fate(rule, stream.state, self.clock.now_us, len(data), self._rng)
        if isinstance(answer, Reset):
            self._break(stream)
        elif isinstance(answer, Deliver):
            if rule is not self._base:
                stream.count.shaped_bytes += len(data)
            self._schedule(stream, answer.at_us, kind, data)
        else:
            self._hold(stream, kind, data)

    def _hold(self, stream: Stream, kind: str, data: bytes) -> None:
        stream.items.append((-1, kind, data))
        stream.count.held_bytes += len(data)
        self._note("hold", stream.source.host, stream.target.host, data or kind, stream.source)

    def _schedule(self, stream: Stream, at_us: int, kind: str, data: bytes) -> None:
        stream.items.append((at_us, kind, data))
        if stream.timer is None and not stream.paused:
            stream.timer = self.clock.at(at_us, self._deliver, stream)

    def _release(self, stream: Stream, rule: LinkRule) -> None:
        """Put what was held on its way again, in order; without a rule, what was slowed too."""
        items, stream.items = list(stream.items), deque()
        healed = rule == self._base
        if healed:
            stream.state.last_us = 0
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None
        for due_us, kind, data in items:
            at_us = due_us
            if due_us < 0 or healed:
                answer = fate(rule, stream.state, self.clock.now_us, len(data), self._rng)
                at_us = answer.at_us if isinstance(answer, Deliver) else self.clock.now_us
            self._schedule(stream, min(at_us, due_us) if due_us >= 0 else at_us, kind, data)

    def _deliver(self, stream: Stream) -> None:
        """Hand over what is due, or hold it if the link was cut meanwhile."""
        stream.timer = None
        items, now_us = stream.items, self.clock.now_us
        rule = self._rules.get(stream.link)
        if rule is not None and rule.cut:
            stream.count.held_bytes += sum(len(data) for at_us, _, data in items if at_us >= 0)
            stream.items = deque((-1, kind, data) for _, kind, data in items)
            return
        source, target = stream.link
        machine, end = self.machines[target], stream.target
        while items and 0 <= items[0][0] <= now_us and not stream.paused:
            _, kind, data = items.popleft()
            if kind == DATA:
                stream.under_way -= len(data)
                stream.count.bytes += len(data)
            if self.trace is not None:
                self._note(kind, source, target, data, stream.source)
            if machine.power == "off":
                continue
            # No process has this end (any more), which the system tells the sender. An end that is
            # open without an owner waits for its process to accept it.
            nobody = machine.power == "no process" or (end.owner is None and not end.is_open)
            if nobody and kind != RST:
                self._answer_reset(stream)
                continue
            machine.hear(self._hand_over, end, kind, data)
        if items and items[0][0] >= 0 and not stream.paused:
            stream.timer = self.clock.at(items[0][0], self._deliver, stream)
        if stream.source.choked:
            self._tell_room(stream)

    def _tell_room(self, stream: Stream) -> None:
        source = stream.source
        if source.choked and stream.under_way <= WRITE_BYTES_HIGH // 2 and source.owner is not None:
            source.choked = False
            self.machines[source.host].hear(self._resume_writing, source)

    def _resume_writing(self, end: End) -> None:
        if end.is_open and end.owner is not None:
            end.owner.resume_writing(end)

    def _hand_over(self, end: End, kind: str, data: bytes) -> None:
        """Give one item to the process that reads it."""
        owner = end.owner
        if owner is None:
            return
        if kind == DATA:
            if end.is_open:
                owner.data(end, data)
        elif kind == EOF:
            if end.is_open:
                owner.eof(end)
        elif kind == OPEN:
            self._callers.pop(end, None)
            end.is_open = True
            owner.opened(end)
        else:
            self._lose(end)

    # -- ending ---------------------------------------------------------------------------------

    def close(self, end: End) -> None:
        """Let one side end a connection after what it wrote."""
        if end.owner is None:
            return
        if end.is_open and end.out is not None:
            self._put(end.out, EOF, b"")
            end.out.over = True
        end.is_open = False
        self.clock.after(0, self._lose_in_turn, end)

    def abort(self, end: End) -> None:
        """Let one side end a connection at once."""
        if end.owner is None:
            return
        end.is_open = False
        if end.out is not None:
            self._send_reset(end.out)
        self.clock.after(0, self._lose_in_turn, end)

    def vanish(self, host: str, *, polite: bool) -> None:
        """End all connections of a host whose process was killed, or (not polite) lost its power.

        The system of a killed process ends its connections: with a FIN after what it had written,
        or with a reset where something unread was left. Without power nobody is told anything.
        """
        for caller in [end for end in self._callers if end.host == host]:
            del self._callers[caller]
            caller.owner = None
        for link, streams in list(self._streams.items()):
            for stream in list(streams):
                if link[0] == host:
                    stream.source.owner, stream.source.is_open = None, False
                    if not polite:
                        self._drop_items(stream)
                    elif self._rng.random() < 0.5:
                        self._put(stream, EOF, b"")
                    else:
                        self._send_reset(stream)
                    stream.over = True
                elif link[1] == host:
                    self._drop_items(stream)

    def pause(self, end: End, *, paused: bool) -> None:
        """Let one side take no bytes, or take them again."""
        stream = end.other.out if end.other is not None else None
        if stream is None or stream.paused == paused:
            return
        stream.paused = paused
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None
        if not paused and stream.items and stream.items[0][0] >= 0:
            stream.timer = self.clock.at(stream.items[0][0], self._deliver, stream)

    def _lose_in_turn(self, end: End) -> None:
        self.machines[end.host].hear(self._lose, end)

    def _lose(self, end: End) -> None:
        """Tell one side that its connection is over."""
        owner, end.owner = end.owner, None
        end.is_open = False
        self._callers.pop(end, None)
        if owner is None:
            return
        if end.out is not None:
            end.out.over = True
        self._forget(end)
        owner.lost(end)

    def _forget(self, end: End) -> None:
        """Forget the streams of a connection that both sides have ended."""
        other = end.other
        if other is None or other.owner is not None or end.out is None or other.out is None:
            return
        for stream in (end.out, other.out):
            if not stream.items:
                self._streams[stream.source.host, stream.target.host].pop(stream, None)

    def _send_reset(self, stream: Stream) -> None:
        self._drop_items(stream)
        stream.paused = False
        self._put(stream, RST, b"")
        stream.over = True

    def _answer_reset(self, stream: Stream) -> None:
        """Tell a sender that nobody is there who would take its bytes."""
        back = stream.target.out
        assert back is not None
        if not any(kind == RST for _, kind, _ in back.items) and stream.source.owner is not None:
            back.over = False
            self._send_reset(back)

    def _drop_items(self, stream: Stream) -> None:
        if stream.items:
            lost = sum(len(data) for _, _, data in stream.items)
            if lost:
                words = f"{lost} bytes"
                self._note("lost", stream.source.host, stream.target.host, words, stream.source)
        stream.items.clear()
        stream.under_way = 0
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None

    def _break(self, stream: Stream) -> None:
        """A rule breaks a connection: both sides are told, as by a reset on the way."""
        self.count(stream.source.host, stream.target.host).resets += 1
        self._note("reset", stream.source.host, stream.target.host, "", stream.source)
        for end in (stream.source, stream.target):
            if end.out is not None:
                self._drop_items(end.out)
                end.out.over = True
            end.is_open = False
            self.clock.after(0, self._lose_in_turn, end)

    def _note(self, kind: str, source: str, target: str, what: Any, end: End) -> None:
        if self.trace is not None:
            self.trace(self.clock.now_us, kind, source, target, what, end.id)
