"""What a node process is told: its options and their spelling on a command line. It starts nothing.

`kvlab node` and `python -m kvlab.live` share this parser. The flags are accepted in the form of Go
programs too: `-id server1 -addr localhost:8081 -join localhost:8081`.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvlab.errors import UsageError
from kvlab.kv.keeper import Policy
from kvlab.live.security import (
    ENV_CLUSTER_SECRET,
    ENV_PASSWORD,
    WILDCARDS,
    Security,
    Tls,
    from_environment,
    is_loopback,
    read_cluster_secret,
    read_secret,
)
from kvlab.units import parse_duration, parse_size

ID_LENGTH_MAX = 64
COPIES_MAX = 16
DEAD_AFTER_US_MAX = 24 * 3600 * 1_000_000
NAME_LENGTH_MAX = 64  # of a cluster and of a rack
_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{ID_LENGTH_MAX - 1}}}")
_PORT = re.compile("[0-9]{1,5}")
_EPILOG = (
    "examples:\n"
    "  kvlab node --id server1 --addr localhost:8081\n"
    "  kvlab node --id server2 --addr localhost:8082 --join localhost:8081\n"
    "  kvlab node -id server3 -addr localhost:8083 -join localhost:8081\n\n"
    "  kvlab node --id server1 --addr localhost:8081 --data ./server1\n"
    "  kvlab node --id server1 --addr 10.0.0.1:8081 --password-file ./password\n\n"
    "Without --data the data is kept in memory: a node that ends forgets it, and is refilled\n"
    "by the others when it comes back. KVLAB_PASSWORD and KVLAB_CLUSTER_SECRET may stand in\n"
    "for the files of --password-file and --cluster-secret-file."
)


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """The options of one node; `initial` holds (id, "host:port") of every founding member.

    `first_map` may give the map that the founders begin with (as `ClusterMap.to_builtins`), with
    weights and racks; without it each makes one of equal members by itself.
    """

    id: str
    host: str = "127.0.0.1"
    port: int = 0
    join: tuple[str, ...] = ()
    initial: tuple[tuple[str, str], ...] = ()
    advertise: str = ""
    cluster: str = "kvlab"
    replication: int = 3
    ranges: int = 256
    r: int = 0  # 0: a majority of `replication`
    w: int = 0
    dead_after_us: int = 600_000_000  # 0: never
    hint_bytes_max: int = 256 * 1024 * 1024
    weight: float = 1.0
    rack: str = ""
    data: str = ""  # a folder; "": in memory only
    sync: Policy = "always"
    together: bool = False  # all members are on this machine: see kv.keeper.life_of
    listen_fd: int | None = None
    ready_fd: int | None = None
    log_level: str = "info"
    password: str = field(default="", repr=False)
    password_file: str = ""
    cluster_secret: str = field(default="", repr=False)
    cluster_secret_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    insecure: bool = False
    first_map: dict[str, Any] | None = None
    clock_us: int = 0  # how far its clock is off: for the laboratory, not on the command line


def split_address(text: str, what: str = "address") -> tuple[str, int]:
    """Return (host, port) of "host:port"; raises UsageError that says what to write."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not _PORT.fullmatch(port) or int(port) > 65535:
        raise UsageError(f"{what} {text!r} is not host:port", hint="write, e.g., localhost:8081")
    return host, int(port)


def parse(argv: Sequence[str]) -> NodeOptions:
    """Parse a node's command line; raises UsageError, or SystemExit for --help and bad flags."""
    given = vars(node_parser().parse_args(list(argv)))
    host, port = split_address(given.pop("addr"), "--addr")
    _check_id("--id", given["id"])
    for flag, least in (("cluster", 1), ("rack", 0)):
        if not least <= len(given[flag]) <= NAME_LENGTH_MAX:
            raise UsageError(f"--{flag}: write {least} to {NAME_LENGTH_MAX} characters")
    for seed in given["join"]:
        split_address(seed, "--join")
    initial: list[tuple[str, str]] = []
    for item in filter(None, given.pop("initial").split(",")):
        member, equals, address = item.partition("=")
        if not equals:
            raise UsageError(f"--initial: {item!r} is not id=host:port")
        _check_id("--initial", member)
        if member in dict(initial):
            raise UsageError(f"--initial names {member} twice; give each node its own id")
        split_address(address, "--initial")
        initial.append((member, address))
    if given["advertise"]:
        split_address(given["advertise"], "--advertise")
    given["join"] = tuple(given["join"])
    given["dead_after_us"] = _dead_after(given.pop("dead_after"))
    given["hint_bytes_max"] = _max_hints(given.pop("max_hints"))
    given["password"], given["cluster_secret"] = _secrets(given)
    options = NodeOptions(host=host, port=port, initial=tuple(initial), **given)
    _check_numbers(options)
    _check_security(options)
    return options


def _secrets(given: dict[str, Any]) -> tuple[str, str]:
    """Return what the environment says in place of files."""
    environment = dict(os.environ)
    for flag, name in (
        ("password_file", ENV_PASSWORD),
        ("cluster_secret_file", ENV_CLUSTER_SECRET),
    ):
        if given[flag]:
            environment.pop(name, None)
    return from_environment("", "", environment)


def _check_security(options: NodeOptions) -> None:
    """Raise UsageError where strangers could reach a node that asks nothing of them."""
    if bool(options.tls_cert) != bool(options.tls_key):
        raise UsageError("--tls-cert and --tls-key belong together: give both, or neither")
    if options.tls_ca and not options.tls_cert:
        raise UsageError("--tls-ca says whom to trust; give --tls-cert and --tls-key with it")
    asks = options.password or options.password_file or options.tls_cert
    if not asks and not options.insecure and not is_loopback(options.host):
        raise UsageError(
            f"--addr {options.host}: others can reach this address, and nothing is asked of them",
            hint="give --password-file FILE, or --tls-cert and --tls-key, or use localhost;"
            " --insecure starts it all the same",
        )
    if options.host in WILDCARDS and not options.advertise:
        raise UsageError(
            f"--addr {options.host} is no address that others could dial",
            hint="add the one that they dial: --advertise HOST:PORT",
        )


def _max_hints(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"--max-hints: {error}", hint="write, e.g., 256mb") from error


def _dead_after(text: str) -> int:
    try:
        dead_after_us = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--dead-after: {error}", hint="write, e.g., 10m; 0s: never") from error
    if not 0 <= dead_after_us <= DEAD_AFTER_US_MAX:
        raise UsageError(f"--dead-after {text}: write 0s to 24h")
    return dead_after_us


def _check_id(flag: str, name: str) -> None:
    if not _ID.fullmatch(name):
        advice = f"use 1 to {ID_LENGTH_MAX} letters, digits, - or _"
        raise UsageError(f"{flag} {name[:80]!r}: {advice}")


def _check_numbers(options: NodeOptions) -> None:
    if not 1 <= options.replication <= COPIES_MAX:
        raise UsageError(
            f"--replication {options.replication}: write a number from 1 to {COPIES_MAX}"
        )
    if options.ranges not in {1 << bits for bits in range(4, 13)}:
        raise UsageError(f"--ranges {options.ranges}: write a power of two from 16 to 4096")
    for name, value in (("--r", options.r), ("--w", options.w)):
        if not 0 <= value <= options.replication:
            raise UsageError(f"{name} {value}: write a number from 1 to {options.replication}")
    if not 0 < options.weight <= 1000:
        raise UsageError(f"--weight {options.weight}: write a number above 0, at most 1000")
    for name, fd in (("--listen-fd", options.listen_fd), ("--ready-fd", options.ready_fd)):
        if fd is not None and fd < 0:
            raise UsageError(f"{name} {fd}: write the number of an open file")


def node_parser() -> argparse.ArgumentParser:
    """Return the parser of a node's command line."""
    parser = argparse.ArgumentParser(
        prog="kvlab node",
        description="Run one node of the store: an ordinary TCP server for JSON and Redis clients.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--id", "-id", required=True, help="the node's name, unique in its cluster")
    add("--addr", "-addr", required=True, metavar="HOST:PORT", help="listen here; port 0: any")
    add(
        "--join",
        "-join",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="a node of the cluster to join; may be given several times",
    )
    add(
        "--initial",
        default="",
        metavar="ID=HOST:PORT,...",
        help="every founding member with its advertised address, this one included",
    )
    add("--advertise", default="", metavar="HOST:PORT", help="what peers dial (default: --addr)")
    add("--cluster", default="kvlab", help="the cluster's name; nodes of others are refused")
    add("--replication", type=int, default=3, metavar="N", help="copies of each key (3)")
    add("--r", type=int, default=0, help="replicas that answer a read (a majority)")
    add("--w", type=int, default=0, help="replicas that confirm a write (a majority)")
    add("--ranges", type=int, default=256, help="ranges of the ring (256)")
    add(
        "--dead-after",
        default="10m",
        metavar="DURATION",
        help="replace a node that is away so long; 0s: never (10m)",
    )
    add(
        "--max-hints",
        default="256mb",
        metavar="SIZE",
        help="stand in for nodes that are away until so much is held for others (256mb)",
    )
    add("--weight", type=float, default=1.0, help="this node's share against the others' (1.0)")
    add("--rack", default="", help="copies of a range avoid sharing a rack")
    add("--data", default="", metavar="DIR", help="keep the data in this folder (memory only)")
    add(
        "--sync",
        default="always",
        choices=("always", "interval", "os"),
        help="with --data: answer when the disk has it (always), or sync ten times a second,"
        " or leave it to the system",
    )
    _add_security(parser)
    add("--listen-fd", type=int, default=None, help=argparse.SUPPRESS)
    add("--ready-fd", type=int, default=None, help=argparse.SUPPRESS)
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def _add_security(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--password-file", default="", metavar="FILE", help="what clients must tell (AUTH)")
    add(
        "--cluster-secret-file",
        default="",
        metavar="FILE",
        help="what nodes must prove to each other to know (the password, if there is one)",
    )
    add("--tls-cert", default="", metavar="FILE", help="speak TLS only, with this certificate")
    add("--tls-key", default="", metavar="FILE", help="the key of the certificate")
    add(
        "--tls-ca",
        default="",
        metavar="FILE",
        help="whom to trust; nodes must show a certificate of it (default: the system's)",
    )
    add(
        "--insecure",
        action="store_true",
        help="listen where others can reach it without asking anything of them",
    )


def security_of(options: NodeOptions, warn: Callable[[str], object]) -> Security:
    """Read the files that the options name; raises UsageError."""
    password, secret = options.password, options.cluster_secret
    if options.password_file:
        password = read_secret(options.password_file, "the password", warn)
    if options.cluster_secret_file:
        secret = read_cluster_secret(options.cluster_secret_file, warn)
    return Security(password, secret, Tls(options.tls_cert, options.tls_key, options.tls_ca))
