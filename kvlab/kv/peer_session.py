"""One connection to a peer as `peering` sees it, and what it asks of a shell. It decides nothing."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from kvlab.kv.link import Link
from kvlab.kv.proof import FRAMES, Proof
from kvlab.wire.peer import MAGIC, FrameReader, Hello, Refuse, encode_frame


class Session:
    """One connection to a peer, dialed by either side. `conn` belongs to the shell."""

    __slots__ = (
        "address",
        "conn",
        "deadline_us",
        "dialed",
        "hello",
        "link",
        "magic",
        "origin",
        "over",
        "proof",
        "reader",
        "target",
    )

    def __init__(
        self,
        *,
        dialed: bool,
        deadline_us: int,
        target: str = "",
        address: str = "",
        origin: str = "",
        proof: Proof | None = None,
    ) -> None:
        self.dialed = dialed
        self.target = target  # whom it was dialed for; "" for a seed, or if the peer dialed
        self.address = address  # that was dialed
        self.origin = origin  # from where the peer dialed
        self.deadline_us = deadline_us  # of the handshake
        self.proof = proof  # None: nobody has to prove anything
        self.over = False  # it was refused: nothing more is heard
        self.magic = b"" if dialed else MAGIC  # still to be read
        self.reader = FrameReader(strange=FRAMES if proof is not None else 1)
        self.hello: Hello | None = None
        self.link: Link | None = None  # while this is the current session of its peer
        self.conn: Any = None

    @property
    def who(self) -> str:
        """The other side, for the log."""
        if not self.dialed:
            return f"a caller from {self.origin or 'somewhere'}"
        return f"{self.target or 'a seed'} at {self.address}"

    def sealed(self, frame: Hello | Refuse) -> bytes:
        """Return a frame of the handshake, which proves whose it is where that is asked for."""
        return self.proof.seal(frame) if self.proof is not None else encode_frame(frame)


class Dial(NamedTuple):
    """Connect to `session.address`; then tell `connected`, or `ended` if it cannot be."""

    session: Session


class Write(NamedTuple):
    """Send bytes."""

    session: Session
    data: bytes


class Close(NamedTuple):
    """End the connection after what was written before."""

    session: Session


class Abort(NamedTuple):
    """End the connection now, or the attempt to connect."""

    session: Session


Effect: TypeAlias = Dial | Write | Close | Abort
