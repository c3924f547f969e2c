"""The proof that both ends of a connection between nodes know the cluster secret. Bytes in, bytes out.

It opens no connection and decides nothing but this: what to answer a refused peer is `peering`'s. It
hides nothing that is said afterwards, and does not keep somebody who can change bytes on their way
from changing them: for that there is TLS.

Challenge and response with a keyed hash (HMAC-SHA256, RFC 2104), each side for itself:

    dialer      CHALLENGE nonce
    acceptor    CHALLENGE nonce
    dialer      PROOF     hash of (dialer, proof, both nonces)
    acceptor    PROOF     hash of (acceptor, proof, both nonces)
    dialer      SEALED    HELLO, with a hash of (dialer, sealed, both nonces, the frame)
    acceptor    SEALED    HELLO or REFUSE, with a hash of (acceptor, sealed, both nonces, the frame)

The dialer goes first, so that whoever connects to a node gets nothing from which the secret could be
guessed. HELLO holds the cluster, both ids and lives, so the last two hashes bind those too.

Invariants:

1. Nothing but nonces leaves before the other side has proved itself, the dialer's own proof excepted.
2. What was made in one role, at one step or on one connection is of no use in another.
3. Hashes are compared in constant time.
"""

from __future__ import annotations

import hmac

from kvlab.wire.peer import (
    CHALLENGE,
    PROOF,
    REFUSE,
    SEALED,
    Challenge,
    FrameError,
    Handshake,
    Hello,
    ProofFrame,
    Refuse,
    Sealed,
    encode_body,
    encode_frame,
    parse_handshake,
)

CODE = "secret"  # of a REFUSE that is about the proof: the only one that is not sealed
FRAMES = 3  # of each side: CHALLENGE, PROOF, SEALED
SECRET_BYTES_MIN = 16  # a shorter one could be guessed from a proof
_PURPOSE = b"kvlab peer 1"


class ProofError(Exception):
    """The other side does not prove that it knows the secret; the text says how, for people."""


class Proof:
    """One side of one handshake. `nonce` must never have been used before."""

    __slots__ = ("_dialed", "_mine", "_secret", "_theirs", "is_mutual")

    def __init__(self, secret: bytes, nonce: bytes, *, dialed: bool) -> None:
        self._secret = secret
        self._mine = nonce
        self._theirs = b""
        self._dialed = dialed
        self.is_mutual = False  # both sides have proved themselves

    def challenge(self) -> bytes:
        """Return this side's first frame."""
        return encode_frame(Challenge(CHALLENGE, self._mine))

    def take(self, said: Handshake) -> bytes | Hello | Refuse:
        """Take a frame of the other side: return what to send, or what was sealed in it.

        Raises ProofError. When it returns b"", it is the dialer's turn to seal its HELLO.
        """
        if isinstance(said, Challenge) and not self._theirs:
            self._theirs = said.nonce
            return self._proof() if self._dialed else self.challenge()
        if isinstance(said, ProofFrame) and self._theirs and not self.is_mutual:
            self._check(said.mac, b"proof", b"")
            self.is_mutual = True
            return b"" if self._dialed else self._proof()
        if isinstance(said, Sealed) and self.is_mutual:
            self._check(said.mac, b"sealed", said.body)
            inside = parse_handshake(said.body)
            if isinstance(inside, Hello | Refuse):
                return inside
        if isinstance(said, Hello):
            raise ProofError("it has no cluster secret")
        if isinstance(said, Refuse) and said.code == CODE:
            raise ProofError("it has another cluster secret, or none")
        raise FrameError("a handshake out of its order")

    def seal(self, frame: Hello | Refuse) -> bytes:
        """Return the frame in which the other side will know that this one made it."""
        body = encode_body(frame)
        return encode_frame(Sealed(SEALED, self._hash(b"sealed", body, dialer=self._dialed), body))

    def _proof(self) -> bytes:
        return encode_frame(ProofFrame(PROOF, self._hash(b"proof", b"", dialer=self._dialed)))

    def _check(self, mac: bytes, step: bytes, body: bytes) -> None:
        if not hmac.compare_digest(mac, self._hash(step, body, dialer=not self._dialed)):
            raise ProofError("it has another cluster secret")

    def _hash(self, step: bytes, body: bytes, *, dialer: bool) -> bytes:
        """Return the hash that the side `dialer` makes. All parts but the last have fixed lengths."""
        role = b"dialer" if dialer else b"acceptor"
        nonces = (self._mine, self._theirs) if self._dialed else (self._theirs, self._mine)
        text = b"\0".join((_PURPOSE, role, step)) + b"\0" + b"".join(nonces) + body
        return hmac.digest(self._secret, text, "sha256")


def refusal(reason: str) -> Refuse:
    """Return the REFUSE for a peer that did not prove itself; `reason` must tell it nothing."""
    return Refuse(REFUSE, CODE, reason)
