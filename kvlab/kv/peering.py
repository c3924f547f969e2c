"""Connections between nodes, without sockets: who is dialed and when, handshakes, one link per pair.

A shell (`live.peers`, `sim.host`) tells what happened to connections and carries out `effects`. It
does not know what a frame means: that is `node`.

Both sides may dial, or a restarted node would wait for the others to notice; of two connections that
cross, both sides keep the one that the lower id dialed.

Invariants:

1. A peer counts as up only after its HELLO: behind a proxy, connecting proves nothing.
2. At most one session per peer is current; only its end is a `link_down`.
3. Members, founders and seeds are dialed for ever, with back-off: every split heals.
4. Every session ends: a handshake that takes too long is aborted.
5. With a cluster secret, a peer hears nothing of this node, and is believed nothing, before both
   sides have proved that they know it (`proof`).
6. A stranger can make this node keep HELLO_BYTES_MAX and one read, STRANGERS_MAX of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvlab.kv.node import Node
from kvlab.kv.peer_session import Abort, Close, Dial, Effect, Session, Write
from kvlab.kv.proof import CODE, Proof, ProofError, refusal
from kvlab.wire.peer import (
    MAGIC,
    REFUSE,
    FrameError,
    Handshake,
    Hello,
    Refuse,
    encode_frame,
    parse_handshake,
)

# Long, because fifty nodes that start on two cores answer late, and trying again makes it worse.
HANDSHAKE_US_MAX = 5_000_000
DIALS_MAX = 16  # handshakes under way at once
STRANGERS_MAX = 256  # handshakes that others have begun; the oldest gives way to one more
NOTED_MAX = 256  # peers whose refusal was logged, and is not again before they were taken
BACKOFF_US_MIN = 20_000
BACKOFF_US_MAX = 1_000_000
# The higher id lets the lower one dial first, so that connections seldom cross.
POLITE_US = 100_000
POLITE_US_EACH = 20_000  # more, the more peers there are to be waited for
# Refused for so long because another life of this node is connected, it is another process. Longer
# than a silent connection is kept, so that a node that died behind a cut is not its own double.
TWIN_US = 4_000_000
WRITE_BYTES_MAX = (
    256 * 1024 * 1024
)  # for the shell: a peer that takes nothing for so long is cut off
NEVER_US = 2**62
_WRONG_CLUSTER = ("cluster", "ranges")  # refusals that somebody should see to


class Peering:
    """All sessions of one node with its peers. After each call, carry out `take_effects`."""

    def __init__(
        self,
        node: Node,
        seeds: tuple[str, ...] = (),
        note: Callable[[str, str], object] = lambda _level, _text: None,
        nonce: Callable[[], bytes] | None = None,
    ) -> None:
        """`nonce` draws NONCE_BYTES that nobody can foretell; needed where there is a secret."""
        self.node = node
        self.seeds = seeds
        self.current: dict[str, Session] = {}  # by peer
        self.effects: list[Effect] = []
        self.due_us = 0  # call `advance` no later than then
        self._note = note  # takes a level ("debug", "info", "warning") and a line for the log
        self._dialing: dict[str, Session] = {}  # by address
        self._shaking: dict[Session, None] = {}  # whose handshake is not over
        self._next_try: dict[str, tuple[int, int]] = {}  # address -> (when, back-off)
        self._closed = False
        self._twin_since_us = 0  # since when peers say that this node's id is taken
        self._nonce = nonce
        self._noted: dict[str, None] = {}  # whose refusal was logged

    def take_effects(self) -> list[Effect]:
        """Return what is to be done, in this order, and forget it."""
        effects, self.effects = self.effects, []
        return effects

    # -- events ---------------------------------------------------------------------------------

    def accept(self, now_us: int, origin: str = "") -> Session:
        """A peer has connected, from `origin` (a host, for the log)."""
        strangers = [one for one in self._shaking if not one.dialed]
        if len(strangers) >= STRANGERS_MAX:
            self.node.state.counters["refused_peers"] += 1
            self.effects.append(Abort(strangers[0]))
            self.ended(strangers[0], now_us)
        session = Session(
            dialed=False,
            origin=origin,
            deadline_us=now_us + HANDSHAKE_US_MAX,
            proof=self._proof(dialed=False),
        )
        self._shaking[session] = None
        self.due_us = min(self.due_us, session.deadline_us)
        return session

    @property
    def is_busy(self) -> bool:
        """Whether a handshake is under way, which may replace a connection."""
        return bool(self._shaking)

    def connected(self, session: Session) -> None:
        """A dial has reached somebody: introduce this node, unless that one has reached it first."""
        if session.target in self.current:
            self.effects.append(Close(session))
            return
        if session.proof is not None:
            first = session.proof.challenge()
        else:
            first = encode_frame(self.node.hello(session.target))
        self.effects.append(Write(session, MAGIC + first))

    def received(self, session: Session, data: bytes, now_us: int) -> None:
        """Bytes came: frames, or pieces of them."""
        try:
            if session.magic:
                data = _read_magic(session, data)
            bodies = session.reader.feed(data)
            while session.link is None and bodies and not session.over:
                self._handshake(session, bodies.pop(0), now_us)
            link = session.link
            if link is None:
                return
            node = self.node
            for body in bodies:
                if session.link is None:  # this very frame made the node close the link
                    return
                node.frame(link, body, now_us)
        except FrameError as error:
            self.node.state.counters["bad_frames"] += 1
            said = f"a peer connection was closed: {error.message}"
            if session.hello is not None:
                self._note("warning", said)
            else:
                self._note_once(session.who, said)
            self.effects.append(Abort(session))

    def ended(self, session: Session, now_us: int) -> None:
        """A connection ended, from whatever side, or an attempt to connect failed."""
        self._shaking.pop(session, None)
        if self._dialing.get(session.address) is session:
            self._failed(session, now_us)
        session.link = None
        hello = session.hello
        if hello is None or self.current.get(hello.node) is not session:
            return
        del self.current[hello.node]
        self._note("debug", f"link to {hello.node} is down")
        self.node.link_down(hello.node)
        polite = 0 if self.node.state.settings.id < hello.node else POLITE_US
        address = self._address(hello.node) or hello.address
        self._next_try[address] = (now_us + polite, BACKOFF_US_MIN)
        self.advance(now_us)

    def drop_silent(self, now_us: int) -> None:
        """Close the connections to peers that fell silent."""
        for peer in self.node.drop_links():
            session = self.current.get(peer)
            if session is not None:
                self._note("info", f"{peer} was silent for too long")
                self.effects.append(Abort(session))
                # Not left to the transport: behind a cut its end may come late.
                self.ended(session, now_us)

    def advance(self, now_us: int) -> None:
        """Do what is due: end handshakes that take too long, begin dials."""
        for session in [one for one in self._shaking if one.deadline_us <= now_us]:
            self.effects.append(Abort(session))
            self.ended(session, now_us)
        if not self._closed:
            self._dial(now_us)

    def close(self) -> None:
        """Stop dialing and close everything."""
        self._closed = True
        for session in [*self._shaking, *self.current.values()]:
            self.effects.append(Close(session))

    # -- handshake ------------------------------------------------------------------------------

    def _handshake(self, session: Session, body: bytes, now_us: int) -> None:
        try:
            said = self._proven(session, parse_handshake(body))
        except ProofError as error:
            why = f"{error}; give all nodes of a cluster the same --cluster-secret-file"
            answer = encode_frame(refusal("this cluster asks nodes for another secret"))
            self._turn_away(session, answer, why)
            return
        if said is None:
            return
        if isinstance(said, Refuse):
            session.over = True
            self._refused(session, said, now_us)
            self.effects.append(Close(session))
            return
        code, reason = self.node.why_refuse(said)
        if not code and not self._may_take(session, said):
            code, reason = "duplicate", "there is a connection already"
        if code:
            why = f"{said.node!r}: {reason}" if code in _WRONG_CLUSTER else ""
            self._turn_away(session, session.sealed(Refuse(REFUSE, code, reason)), why)
            return
        if not session.dialed:
            self.effects.append(Write(session, session.sealed(self.node.hello(said.node))))
        session.hello = said
        self._established(session, said, now_us)

    def _proof(self, *, dialed: bool) -> Proof | None:
        """Begin the proof of a connection, where there is a secret."""
        secret = self.node.state.settings.secret
        if not secret:
            return None
        assert self._nonce is not None
        return Proof(secret, self._nonce(), dialed=dialed)

    def _proven(self, session: Session, said: Handshake) -> Hello | Refuse | None:
        """Return what a peer says that has proved itself or need not; None: the proof goes on.

        Raises ProofError.
        """
        proof = session.proof
        if proof is None:
            if isinstance(said, Hello) or (isinstance(said, Refuse) and said.code != CODE):
                return said
            raise ProofError("it asks for a cluster secret, and this node has none")
        answer = proof.take(said)
        if not isinstance(answer, bytes):
            return answer
        frame = answer or proof.seal(self.node.hello(session.target))
        self.effects.append(Write(session, frame))
        return None

    def _turn_away(self, session: Session, answer: bytes, why: str) -> None:
        """End a handshake; `why` is for the log, "" where there is nothing to see to."""
        session.over = True
        if why:
            self.turned_away(session.who, why)
        if not session.dialed:
            self.effects.append(Write(session, answer))
        self.effects.append(Close(session))

    def turned_away(self, who: str, why: str) -> None:
        """Count a peer that was refused, and warn of it once."""
        self.node.state.counters["refused_peers"] += 1
        self._note_once(who, f"no link with {who}: {why}")

    def _note_once(self, who: str, text: str) -> None:
        """Warn of a peer that tries again and again; not more often, and of not too many."""
        if who not in self._noted and len(self._noted) < NOTED_MAX:
            self._noted[who] = None
            self._note("warning", text)

    def _may_take(self, new: Session, hello: Hello) -> bool:
        """Whether a connection to a peer may become the current one."""
        old = self.current.get(hello.node)
        if old is None or old.hello is None or old.hello.boot != hello.boot:
            return True
        if old.dialed == new.dialed:
            return True  # the same side dialed again: it has lost the old one
        me = self.node.state.settings.id
        return new.dialed == (me < hello.node)

    def _established(self, session: Session, hello: Hello, now_us: int) -> None:
        """Make a session the current one of its peer."""
        self._twin_since_us = 0
        if session.dialed:  # a caller is known by its host alone, where others may be
            self._noted.pop(session.who, None)
        self._shaking.pop(session, None)
        old = self.current.get(hello.node)
        if old is not None:
            old.link = None
            self.effects.append(Abort(old))
        self.current[hello.node] = session
        session.link = self.node.link_up(hello, now_us)
        self._note("debug", f"link to {hello.node} is up")
        if self._dialing.get(session.address) is session:
            del self._dialing[session.address]
            self._next_try[session.address] = (now_us, BACKOFF_US_MIN)
            self.advance(now_us)

    def _refused(self, session: Session, said: Refuse, now_us: int) -> None:
        """Take note of why a peer does not talk to this node."""
        if said.code in ("duplicate", "self"):
            return
        self._note("warning", f"{session.target or 'a seed'}: {said.reason}")
        twin = False
        if said.code == "running":
            self._twin_since_us = self._twin_since_us or now_us
            twin = now_us - self._twin_since_us >= TWIN_US
        if twin or said.code in ("old", "cluster", "ranges"):
            self.node.membership.refused = said.reason

    # -- dialing --------------------------------------------------------------------------------

    def _dial(self, now_us: int) -> None:
        """Begin every dial that is due, and note when the next one is."""
        wanted = list(self._wanted())
        patience = POLITE_US + POLITE_US_EACH * len(wanted)
        me = self.node.state.settings.id
        due_us = min((one.deadline_us for one in self._shaking), default=NEVER_US)
        for peer, address in wanted:
            if address in self._dialing or (peer and peer in self.current):
                continue
            if address not in self._next_try:
                polite = patience if peer and peer < me else 0
                self._next_try[address] = (now_us + polite, BACKOFF_US_MIN)
            when_us = self._next_try[address][0]
            if when_us <= now_us and len(self._dialing) < DIALS_MAX:
                session = Session(
                    dialed=True,
                    target=peer,
                    address=address,
                    deadline_us=now_us + HANDSHAKE_US_MAX,
                    proof=self._proof(dialed=True),
                )
                self._dialing[address] = session
                self._shaking[session] = None
                self.effects.append(Dial(session))
                when_us = session.deadline_us
            due_us = min(due_us, when_us) if when_us > now_us else due_us
        self.due_us = due_us

    def _failed(self, session: Session, now_us: int) -> None:
        """A dial came to nothing: try again later."""
        address = session.address
        del self._dialing[address]
        self._note("debug", f"{session.target or 'a seed'} did not answer at {address}")
        if session.target:
            self.node.tried(session.target)
        backoff_us = self._next_try[address][1]
        self._next_try[address] = (now_us + backoff_us, min(backoff_us * 2, BACKOFF_US_MAX))
        self.due_us = min(self.due_us, now_us + backoff_us)

    def _wanted(self) -> Iterator[tuple[str, str]]:
        """Yield (id or "", address) of everybody this node wants a link to."""
        state = self.node.state
        settings = state.settings
        if state.map is not None:
            for member in state.map.members:
                if member.id != settings.id:
                    yield member.id, member.address
        else:
            for peer, address in settings.initial:
                if peer != settings.id:
                    yield peer, address
        if not any(link.epoch for link in state.up.values()):
            # Whoever is linked does not serve either: another joiner, say.
            known = {one.hello.address for one in self.current.values() if one.hello is not None}
            for address in self.seeds:
                if address not in known:
                    yield "", address

    def _address(self, peer: str) -> str:
        for known, address in self._wanted():
            if known == peer:
                return address
        return ""


def _read_magic(session: Session, data: bytes) -> bytes:
    size = min(len(data), len(session.magic))
    if data[:size] != session.magic[:size]:
        raise FrameError("the first bytes are not a peer's")
    session.magic = session.magic[size:]
    return data[size:]
