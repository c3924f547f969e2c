"""What a cluster asks of others, as files of this machine: for its nodes, and for who asks them.

Secrets are read where they are used and never passed on: nodes and verbs are told paths.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kvlab.live.security import OPEN, Access, read_cluster_secret, read_secret

if TYPE_CHECKING:
    from kvlab.spec import SecuritySpec


class LabSecurity(msgspec.Struct, frozen=True):
    """Absolute paths, "" for what is not asked; also a part of `supervisor.json`."""

    password_file: str = ""
    cluster_secret_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""

    @classmethod
    def of(cls, spec: SecuritySpec, folder: Path) -> LabSecurity:
        """Return what the spec says, its paths taken from a folder."""
        given = (spec.password_file, spec.cluster_secret_file)
        tls = (spec.tls.cert, spec.tls.key, spec.tls.ca)
        files = [str((folder / path).resolve()) if path else "" for path in (*given, *tls)]
        return cls(*files)

    @property
    def options(self) -> dict[str, str]:
        """What a node is told."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: path for name, path in given.items() if path}

    def access(self, warn: Callable[[str], object] = lambda _line: None) -> Access:
        """Read what a client of the cluster needs; `warn` takes sentences. Raises UsageError."""
        if self == LabSecurity():
            return OPEN
        if self.cluster_secret_file:
            # A node could say only in its log what is wrong with it.
            read_cluster_secret(self.cluster_secret_file, warn)
        password = ""
        if self.password_file:
            password = read_secret(self.password_file, "the password", warn)
        return Access(password, tls=bool(self.tls_cert), ca=self.tls_ca)
