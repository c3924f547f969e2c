"""Who may speak to a node, from files and the environment: password, cluster secret, TLS.

It reads and checks what was given; who is let in is decided in `kv.password`, `kv.proof` and by TLS.
Nodes, clients and the laboratory read their files here, so that the same mistakes are told alike.

Invariant: no secret is part of a message, a log line or a command line.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kvlab.errors import UsageError
from kvlab.kv.proof import SECRET_BYTES_MIN
from kvlab.wire.json_lines import encode_request

if TYPE_CHECKING:
    import ssl

ENV_PASSWORD = "KVLAB_PASSWORD"  # noqa: S105 - the name of a variable
ENV_CLUSTER_SECRET = "KVLAB_CLUSTER_SECRET"  # noqa: S105
ENV_TLS_CA = "KVLAB_TLS_CA"
SECRET_BYTES_MAX = 4096
TLS_HANDSHAKE_SECONDS = 5.0
WILDCARDS = ("0.0.0.0", "::", "*")  # noqa: S104 - to tell that they were written


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM. `ca` is whom to trust; "" is whom the system trusts."""

    cert: str = ""
    key: str = ""
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Security:
    """What a node asks of others. Empty fields ask nothing."""

    password: str = field(default="", repr=False)
    cluster_secret: str = field(default="", repr=False)
    tls: Tls = field(default_factory=Tls)

    @property
    def peer_secret(self) -> bytes:
        """What peers must know: the password too keeps strangers from joining as nodes."""
        return (self.cluster_secret or self.password).encode()

    @property
    def asks(self) -> list[str]:
        """Name what is asked of others, for people."""
        asked = {
            "TLS": self.tls.cert,
            "certificates of nodes": self.needs_certificate,
            "a password of clients": self.password,
            "a secret of nodes": self.peer_secret,
        }
        return [what for what, is_asked in asked.items() if is_asked]

    @property
    def needs_certificate(self) -> bool:
        """Whether peers must show a certificate of the CA."""
        return bool(self.tls.cert and self.tls.ca)

    def server_context(self) -> ssl.SSLContext | None:
        """Return the context of accepted connections; None: plain TCP. Raises UsageError."""
        return server_context(self.tls) if self.tls.cert else None

    def peer_context(self) -> ssl.SSLContext | None:
        """Return the context of dials to peers; None: plain TCP. Raises UsageError."""
        return client_context(self.tls) if self.tls.cert else None


@dataclass(frozen=True, slots=True)
class Access:
    """What a client needs to be let in by nodes: a password, TLS, both, or by default nothing."""

    password: str = field(default="", repr=False)
    tls: bool = False
    ca: str = ""
    """A PEM file of whom to trust; "" is whom the system trusts."""

    @property
    def auth_line(self) -> bytes:
        """What is to be said first on a connection; b"" for nothing."""
        return encode_request("AUTH", "", self.password) if self.password else b""

    def context(self) -> ssl.SSLContext | None:
        """Return the context of a connection; None: plain TCP. Raises UsageError."""
        return _context(self.ca) if self.tls else None


OPEN = Access()


@lru_cache(maxsize=4)
def _context(ca: str) -> ssl.SSLContext:
    """Make a context once: reading whom the system trusts takes longer than a connection."""
    return client_context(Tls(ca=ca))


def read_secret(path: str, what: str, warn: Callable[[str], object] = lambda _line: None) -> str:
    """Return the secret in a file, without the newline at its end. Raises UsageError."""
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{what} {path}: {error.strerror}", hint="write it there first") from None
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        warn(f"{what} {path} can be read by others; chmod 600 {path}")
    try:
        return check_secret(data.decode().removesuffix("\n").removesuffix("\r"), f"{what} {path}")
    except UnicodeDecodeError:
        raise UsageError(f"{what} {path} is not UTF-8 text") from None


def check_secret(text: str, what: str) -> str:
    """Return a secret that can be used; raises UsageError."""
    if not text:
        raise UsageError(f"{what} is empty", hint="write at least one character")
    if len(text.encode()) > SECRET_BYTES_MAX:
        raise UsageError(f"{what} is longer than {SECRET_BYTES_MAX} bytes")
    if not text.isprintable():
        raise UsageError(f"{what} is more than one line of text", hint="write one line")
    return text


def read_cluster_secret(path: str, warn: Callable[[str], object] = lambda _line: None) -> str:
    """Return the cluster secret in a file; raises UsageError."""
    what = "the cluster secret"
    return check_cluster_secret(read_secret(path, what, warn), f"{what} {path}")


def check_cluster_secret(text: str, what: str) -> str:
    """Return a cluster secret that can be used; raises UsageError."""
    if len(text.encode()) < SECRET_BYTES_MIN:
        raise UsageError(
            f"{what} is shorter than {SECRET_BYTES_MIN} bytes, so that it could be guessed",
            hint="make one with: openssl rand -hex 32",
        )
    return check_secret(text, what)


def from_environment(
    password: str, cluster_secret: str, environment: Mapping[str, str]
) -> tuple[str, str]:
    """Return both secrets, from the environment where none was given. Raises UsageError."""
    if not password and (told := environment.get(ENV_PASSWORD)):
        password = check_secret(told, ENV_PASSWORD)
    if not cluster_secret and (told := environment.get(ENV_CLUSTER_SECRET)):
        cluster_secret = check_cluster_secret(told, ENV_CLUSTER_SECRET)
    return password, cluster_secret


def is_loopback(host: str) -> bool:
    """Tell whether nobody outside of this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def server_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of a node: its certificate, and with a CA that of who shows one.

    Raises UsageError.
    """
    import ssl

    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.ca or None)
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ValueError) as error:
        raise _wrong_files(tls, error) from None
    if tls.ca:  # clients need none; what is asked of peers is checked when one has called
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of who connects: whom to trust, and the own certificate if there is one.

    Raises UsageError.
    """
    import ssl

    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.ca or None)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ValueError) as error:
        raise _wrong_files(tls, error) from None
    return context


def tls_trouble(error: OSError) -> str:
    """Say what TLS did not like; "" if the error is of another kind."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return f"TLS: {error.reason or error}" if isinstance(error, ssl.SSLError) else ""


def _wrong_files(tls: Tls, error: Exception) -> UsageError:
    given = ", ".join(filter(None, (tls.cert, tls.key, tls.ca)))
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UsageError(f"TLS with {given}: {said}", hint="give certificate, key and CA as PEM files")
