"""The two kinds of connection that a simulated node has: with a peer, and with a client.

They are what `live.peers` and `live.clients` are on sockets; what is said on them is decided in
`kv.peering` and `kv.session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvlab.kv.peer_session import Session
from kvlab.kv.peering import NEVER_US
from kvlab.kv.session import ClientSession
from kvlab.sim.clock import Timer
from kvlab.sim.stream import End

if TYPE_CHECKING:
    from kvlab.sim.host import Host, Life


class PeerEnd:
    """One end of a connection between nodes."""

    def __init__(self, host: Host, life: Life, session: Session) -> None:
        self._host = host
        self._life = life
        self._session = session

    def opened(self, _end: End) -> None:
        """The connection that was dialed is there."""
        self._life.peering.connected(self._session)
        self._host.carry_out(self._life)

    def data(self, _end: End, data: bytes) -> None:
        """Frames, or pieces of them."""
        life = self._life
        life.peering.received(self._session, data, self._host.now_us(life))
        if life.peering.effects:
            self._host.carry_out(life)
        self._host.touch(life)

    def eof(self, end: End) -> None:
        """Half a connection to a peer is of no use."""
        end.close()

    def lost(self, _end: End) -> None:
        """The connection ended, or could not be made."""
        life = self._life
        life.peering.ended(self._session, self._host.now_us(life))
        self._host.carry_out(life)
        self._host.touch(life)

    def pause_writing(self, end: End) -> None:
        """Peers have a bound of their own: see Host."""

    def resume_writing(self, end: End) -> None:
        """Nothing was held back."""


class ClientEnd:
    """One connection that was accepted; a peer's is handed on when its first bytes are there."""

    def __init__(self, host: Host, life: Life, end: End) -> None:
        self._host = host
        self._life = life
        self._end = end
        self._session = ClientSession(life.node)
        self._session.conn = self
        self._timer: Timer | None = None
        self._turn_due = False

    @property
    def conn(self) -> End:
        """The end itself, as a peer's session has one."""
        return self._end

    def opened(self, end: End) -> None:
        """An accepted connection is open from the start."""

    def data(self, end: End, data: bytes) -> None:
        """Requests, or pieces of them."""
        session = self._session
        self._write(session.feed(data, self._now_us()))
        if session.peer_data:
            self._become_peer(end, session.peer_data)

    def eof(self, _end: End) -> None:
        """The client will send nothing more."""
        self._session.eof()
        self._write(b"")

    def lost(self, _end: End) -> None:
        """The connection is over."""
        self._session.gone()
        self._set_timer(NEVER_US)

    def pause_writing(self, _end: End) -> None:
        """The client does not read."""
        self._session.pause_writing()
        self._write(b"")

    def resume_writing(self, _end: End) -> None:
        """There is room for replies again."""
        self._write(self._session.resume_writing(self._now_us()))

    def release(self) -> None:
        """Some batches have ended."""
        self._write(self._session.release())

    def _write(self, data: bytes) -> None:
        """Write replies, and see to what else the session asks for."""
        self._host.say(self._life, self._end, data)
        session = self._session
        if not session.stirred:
            if data:
                self._host.touch(self._life)
            return
        session.stirred = False
        self._host.touch(self._life)
        self._set_timer(session.deadline_us)
        if session.read_paused:
            self._end.pause_reading()
        else:
            self._end.resume_reading()
        if session.wants_turn and not self._turn_due:
            self._turn_due = True
            self._host.clock.after(0, self._host.hear_of, self._life, self._go_on)
        if session.close_due:
            self._host.say(self._life, self._end, None)
            self._host.touch(self._life)

    def _go_on(self) -> None:
        self._turn_due = False
        self._write(self._session.go_on(self._now_us()))

    def _set_timer(self, deadline_us: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline_us < NEVER_US:
            at_us = deadline_us - self._life.offset_us
            self._timer = self._host.clock.at(at_us, self._host.hear_of, self._life, self._expire)

    def _expire(self) -> None:
        self._write(self._session.expire(self._now_us()))

    def _become_peer(self, end: End, data: bytes) -> None:
        peering = self._life.peering
        session = peering.accept(self._now_us(), end.peer)
        session.conn = end
        end.owner = PeerEnd(self._host, self._life, session)
        end.owner.data(end, data)

    def _now_us(self) -> int:
        return self._host.now_us(self._life)
