"""The verbs that touch data: client, get, set, delete.

They find an address, make a client (live/blocking.py) and print its answer; repl.py holds the
commands of `kvlab client`.

Exit codes: 0 done, 1 the key does not exist (or, with `client`, a command failed), 2 wrong usage,
3 outcome unknown, 5 the node did not serve.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from kvlab.cli.access import PasswordFile, Tls, TlsCa, find_access
from kvlab.cli.options import DEFAULT_FILE, File, Json
from kvlab.errors import (
    ClientError,
    KvlabError,
    NotRunningError,
    UncertainError,
    UnknownError,
    UsageError,
)
from kvlab.live.blocking import BlockingClient
from kvlab.live.client_messages import deleted_of, raise_error, value_of
from kvlab.live.client_rules import MISSING_TEXT, Address, parse_addresses
from kvlab.live.resp_client import RespClient
from kvlab.units import UnitError, parse_duration
from kvlab.wire.limits import MIB, VALUE_LIMIT_BYTES

FALLBACK_ADDRESS = "localhost:8081"
DEFAULT_TIMEOUT = "2s"
EXIT_MISSING = 1
_US_PER_S = 1_000_000
_US_PER_MS = 1_000
_CALLERS_FAULT = frozenset({"BAD_REQUEST", "BAD_TYPE", "TOO_LARGE", "WRONG_MODE"})


class Level(StrEnum):
    """How many replicas must answer."""

    AVAILABLE = "available"
    ONE = "one"
    QUORUM = "quorum"
    ALL = "all"
    ATOMIC = "atomic"


AddrList = Annotated[
    list[str] | None,
    typer.Option(
        "--addr",
        "-a",
        metavar="HOST:PORT",
        help="A node to talk to; give several to fail over. Default: the running cluster of FILE, "
        f"else {FALLBACK_ADDRESS}.",
        show_default=False,
    ),
]
Ns = Annotated[str, typer.Option("--ns", help="The namespace.", show_default="eventual")]
LevelOption = Annotated[
    Level | None,
    typer.Option(
        "--level",
        help="Insist on this many replicas, or atomic: an order of all such operations. available: "
        "a node answers with what it has, and says when that is degraded.",
        show_default="available",
    ),
]
Timeout = Annotated[str, typer.Option("--timeout", help="How long to wait for each node.")]
Key = Annotated[str, typer.Argument(metavar="KEY", show_default=False)]
Value = Annotated[
    str,
    typer.Argument(
        metavar="VALUE", help="The value; - reads it from standard input.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    for name, verb in (("client", client), ("get", get), ("set", set_), ("delete", delete)):
        app.command(name)(verb)


def client(
    *,
    addr: AddrList = None,
    file: File = DEFAULT_FILE,
    ns: Ns = "",
    level: LevelOption = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
    password_file: PasswordFile = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    history: Annotated[
        bool, typer.Option("--history/--no-history", help="Keep the lines for the next time.")
    ] = True,
    json: Json = False,
) -> None:
    """Talk to a node: SET, GET and DELETE at a prompt.

    Works with every server that speaks the JSON protocol. Commands, in any case: SET key value,
    GET key, DELETE key, PING, STATUS, HELP [command], EXIT. Quote a value with spaces.
    In a pipe it prints one answer per line, skips blank lines and lines that begin with #, writes
    errors to stderr, and exits with 1 if any command failed, else with 0.

    Examples:
      kvlab client
      kvlab client --addr localhost:8081 --addr localhost:8082
      echo 'SET city "New York"' | kvlab client
    """
    from kvlab.cli.repl import Repl, open_output, run_pipe, run_terminal

    terminal = sys.stdin.isatty()
    out, err = open_output(sys.stdout), open_output(sys.stderr)
    with _connect(addr, file, ns, level, timeout, (password_file, tls, tls_ca), meta=json) as node:
        repl = Repl(node, out, err, as_json=json, terminal=out.isatty())
        if not terminal:
            raise typer.Exit(run_pipe(repl, sys.stdin.buffer))
        try:
            address = node.connect()
            print(f"Connected to {address}. HELP lists the commands, EXIT leaves.", file=out)
        except ClientError as error:
            # Stay: the cluster may start while the prompt waits.
            repl.complain(f"{error.message}; {error.hint}")
        raise typer.Exit(run_terminal(repl, node, history_path() if history else None))


def get(
    key: Key,
    *,
    addr: AddrList = None,
    file: File = DEFAULT_FILE,
    ns: Ns = "",
    level: LevelOption = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
    password_file: PasswordFile = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    json: Json = False,
) -> None:
    """Read one key.

    Prints the value and nothing else. Exits with 1 if the key does not exist.

    Examples:
      kvlab get city
      kvlab get city --level quorum --json
    """
    with _connect(addr, file, ns, level, timeout, (password_file, tls, tls_ca), meta=json) as node:
        try:
            reply = node.request("GET", key)
            value = value_of(reply, key)
        except ClientError as error:
            raise explained(error) from None
    if json:
        _show({"key": key, "found": value is not None, "value": value}, reply)
    elif value is not None:
        _print_value(value)
        _warn(reply)
    _exit_if_missing(value is None, json=json)


def set_(
    key: Key,
    value: Value,
    *,
    addr: AddrList = None,
    file: File = DEFAULT_FILE,
    ns: Ns = "",
    level: LevelOption = None,
    ttl: Annotated[
        str,
        typer.Option(
            "--ttl", help="After this time the value ends by itself.", show_default="never"
        ),
    ] = "",
    timeout: Timeout = DEFAULT_TIMEOUT,
    password_file: PasswordFile = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    json: Json = False,
) -> None:
    """Write one key.

    A value of - is read from standard input, without the newline at its end. Exits with 3 and says
    "outcome unknown" if the write may or may not have happened.

    Examples:
      kvlab set city Berlin
      kvlab set motd - < motd.txt
      kvlab set session 8c1f --ttl 30m
      kvlab set -- -key -value
    """
    ttl_ms = _duration("--ttl", ttl) // _US_PER_MS if ttl else None
    if ttl_ms == 0:
        raise UsageError("--ttl must be 1ms or more")
    text = _stdin_text() if value == "-" else value
    with _connect(addr, file, ns, level, timeout, (password_file, tls, tls_ca), meta=json) as node:
        try:
            reply = node.request("SET", key, text, ttl_ms=ttl_ms)
            raise_error(reply, "SET", key)
        except ClientError as error:
            raise explained(error) from None
    if json:
        _show({"key": key, "ok": True}, reply)
    else:
        print("OK")
        _warn(reply)


def delete(
    key: Key,
    *,
    addr: AddrList = None,
    file: File = DEFAULT_FILE,
    ns: Ns = "",
    level: LevelOption = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
    password_file: PasswordFile = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    json: Json = False,
) -> None:
    """Delete one key.

    Exits with 1 if the key does not exist, with 3 if it may or may not have been deleted.

    Examples:
      kvlab delete city
    """
    with _connect(addr, file, ns, level, timeout, (password_file, tls, tls_ca), meta=json) as node:
        try:
            reply = node.request("DELETE", key)
            deleted = deleted_of(reply, key)
        except ClientError as error:
            raise explained(error) from None
    if json:
        _show({"key": key, "deleted": deleted}, reply)
    elif deleted:
        print("(deleted)")
        _warn(reply)
    _exit_if_missing(not deleted, json=json)


def find_addresses(addr: Sequence[str] | None, file: Path) -> tuple[Address, ...]:
    """Return the addresses named, else those of the running cluster of `file`, else the fallback.

    Raises NotRunningError if `file` was named and its cluster does not run.
    """
    return _find(addr, file)[0]


def _find(addr: Sequence[str] | None, file: Path) -> tuple[tuple[Address, ...], str]:
    """Return addresses and what is spoken there."""
    if addr:
        return parse_addresses(addr), "json"
    # Loaded only here: with --addr no laboratory is needed.
    from kvlab.lab.state import find_cluster

    try:
        running = find_cluster(file)
    except NotRunningError:
        if file != DEFAULT_FILE:
            raise
        return parse_addresses(FALLBACK_ADDRESS), "json"
    nodes = running.nodes
    if not nodes:
        raise NotRunningError(f"the cluster of {file} has no node", hint="add one with: kvlab add")
    places = [(node.host, node.port) for node in nodes.values()]
    return parse_addresses(places), running.protocol


def explained(error: ClientError) -> KvlabError:
    """Turn what a node said into the error that has the right exit code."""
    if isinstance(error, UncertainError):
        return UnknownError(error.message, hint=error.hint)
    if error.code in _CALLERS_FAULT:
        return UsageError(error.message, hint=error.hint)
    return error


def history_path() -> Path:
    """Return where the prompt keeps its lines, as the XDG specification says."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "kvlab" / "client_history"


def _connect(
    addr: Sequence[str] | None,
    file: Path,
    ns: str,
    level: Level | None,
    timeout: str,
    access: tuple[Path | None, bool, Path | None],
    *,
    meta: bool,
) -> BlockingClient | RespClient:
    timeout_us = _duration("--timeout", timeout)
    addresses, protocol = _find(addr, file)
    if protocol == "resp":
        if ns or level:
            raise UsageError("servers that speak RESP know no --level and no --ns")
        if any(access):
            raise UsageError("--password-file, --tls and --tls-ca are for servers that speak JSON")
        return RespClient(addresses, timeout=timeout_us / _US_PER_S)
    return BlockingClient(
        addresses,
        timeout=timeout_us / _US_PER_S,
        access=find_access(bool(addr), file, *access),
        ns=ns or None,
        level=level.value if level else None,
        meta=True if meta else None,
    )


def _duration(option: str, text: str) -> int:
    try:
        us = parse_duration(text)
    except UnitError as error:
        raise UsageError(f"{option}: {error}") from None
    if not us:
        raise UsageError(f"{option} must be greater than 0", hint="write one such as 2s")
    return us


def _stdin_text() -> str:
    data = sys.stdin.buffer.read(VALUE_LIMIT_BYTES + 2)
    if data.endswith(b"\n"):
        data = data[:-1]
    if len(data) > VALUE_LIMIT_BYTES:
        raise UsageError(f"the value on standard input is larger than {VALUE_LIMIT_BYTES // MIB}mb")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(
            "the value on standard input is not UTF-8 text", hint="encode it first, e.g. base64"
        ) from None


def _print_value(value: str) -> None:
    from kvlab.cli.repl import open_output
    from kvlab.cli.repl_words import quote

    out = open_output(sys.stdout)
    # A terminal must not obey what somebody stored.
    print(quote(value) if out.isatty() and not value.isprintable() else value, file=out)


def _show(fields: dict[str, Any], reply: Any) -> None:
    from kvlab.cli.out import show_json
    from kvlab.cli.repl import facts

    show_json(fields | facts(reply))


def _warn(reply: Any) -> None:
    from kvlab.cli.repl import degraded_text

    if reply.degraded:
        print(f"WARNING: {degraded_text(reply)}", file=sys.stderr)


def _exit_if_missing(missing: bool, *, json: bool) -> None:
    if not missing:
        return
    if not json:
        print(MISSING_TEXT, file=sys.stderr)
    raise typer.Exit(EXIT_MISSING)
