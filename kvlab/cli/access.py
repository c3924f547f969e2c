"""How the verbs are let in by nodes: the options, the environment, or what the cluster's file says.

What comes first wins: the options of the verb; for the running cluster of FILE, what that says; for
addresses that were named, KVLAB_PASSWORD and KVLAB_TLS_CA.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvlab.cli.options import DEFAULT_FILE
from kvlab.errors import NotRunningError, UsageError
from kvlab.live.security import ENV_PASSWORD, ENV_TLS_CA, Access, check_secret, read_secret

if TYPE_CHECKING:
    from kvlab.lab.state import Running

PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help=f"The password of the nodes. Default: what FILE of the cluster says, or {ENV_PASSWORD}.",
        show_default=False,
    ),
]
Tls = Annotated[bool, typer.Option("--tls", help="Speak TLS; trust whom the system trusts.")]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        metavar="FILE",
        help=f"Speak TLS; trust this CA. Default: what FILE of the cluster says, or {ENV_TLS_CA}.",
        show_default=False,
    ),
]


def find_access(
    named: bool,
    file: Path,
    password_file: Path | None = None,
    tls: bool = False,
    tls_ca: Path | None = None,
) -> Access:
    """Return what lets a verb in. `named`: the addresses were named, not found by `file`.

    Raises UsageError for files that cannot be used.
    """
    found = None if named else _running(file)
    base = found.security.access() if found is not None else _from_environment()
    password = base.password
    if password_file is not None:
        password = read_secret(str(password_file), "the password")
    ca = str(tls_ca) if tls_ca is not None else "" if tls else base.ca
    return Access(password, tls=tls or bool(tls_ca) or base.tls, ca=ca)


def _running(file: Path) -> Running | None:
    """Return the running cluster of a file. Raises NotRunningError if the file was named."""
    from kvlab.lab.state import find_cluster

    try:
        return find_cluster(file)
    except NotRunningError:
        if file != DEFAULT_FILE:
            raise
        return None


def _from_environment() -> Access:
    password, ca = os.environ.get(ENV_PASSWORD, ""), os.environ.get(ENV_TLS_CA, "")
    if password:
        check_secret(password, ENV_PASSWORD)
    if ca and not Path(ca).is_file():
        raise UsageError(f"{ENV_TLS_CA} names no file: {ca}", hint="name the PEM file of a CA")
    return Access(password, tls=bool(ca), ca=ca)
