"""Who calls: from an accepted TCP connection to the node whose process opened it.

It changes nothing and asks the caller nothing: the kernel knows which socket has the other end
(`sock_diag`, or the rows of /proc/net/tcp where that is missing), and /proc/<pid>/fd tells which
process holds that socket. Only registered processes and their descendants are looked at, so the
cost grows with the cluster and not with the machine. Linux only; elsewhere nobody is ever found.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Final

Address = tuple[str, int]
"""(IP address, port)."""

DESCENT_MAX: Final = 4
"""Levels of child processes below a registered one that still count as its node."""

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_ANSWER_BYTES_MAX: Final = 8192
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_REQUEST: Final = struct.Struct("=BBBBI")  # inet_diag_req_v2: family, protocol, ext, pad, states
_PORTS: Final = struct.Struct("!HH")
_ANY_STATE: Final = 0xFFFFFFFF
_ANY_DEVICE: Final = struct.pack("=I", 0)
_NO_COOKIE: Final = b"\xff" * 8
_INODE_OFFSET: Final = _HEADER.size + 4 + 48 + 16  # inet_diag_msg: state, id, four counters
_ROW_FIELDS_MIN: Final = 10
_ROW_LOCAL, _ROW_REMOTE, _ROW_INODE = 1, 2, 9  # columns of /proc/net/tcp


class Callers:
    """The registered processes, and the question which of them holds a socket."""

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self._seen: dict[int, frozenset[str]] = {}
        self._netlink = _open_netlink()

    def register(self, node: str, pid: int | None) -> None:
        """Set the process of a node; None forgets it."""
        old = self._pids.pop(node, None)
        if old is not None:
            self._seen.pop(old, None)
        if pid is not None:
            self._pids[node] = pid

    def inode(self, caller: Address, callee: Address) -> int | None:
        """Find the socket at `caller` whose other end is `callee`.

        Gives its inode; 0 when its owner has closed it already, None when there is no such socket.
        """
        if self._netlink is not None:
            with contextlib.suppress(OSError):
                return _ask_netlink(self._netlink, caller, callee)
        return _search_table(caller, callee)

    def owners(self, inodes: Iterable[int]) -> dict[int, str]:
        """Find the nodes that hold these sockets. What nobody registered holds is left out."""
        wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
        found: dict[int, str] = {}
        if not wanted:
            return found
        for node, pid, names in self._descriptors():
            for name in names:
                inode = wanted.get(_link_text(pid, name))
                if inode is not None:
                    found.setdefault(inode, node)
                    if len(found) == len(wanted):
                        return found
        return found

    def close(self) -> None:
        """Give the netlink socket back."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _descriptors(self) -> Iterator[tuple[str, int, Iterable[str]]]:
        """Go through the descriptors of all registered processes, the likely ones first.

        A connection that was just accepted mostly has a descriptor number that the last look did
        not see. Numbers are reused, so the others follow; then the child processes.
        """
        later: list[tuple[str, int, Iterable[str]]] = []
        for node, pid in list(self._pids.items()):
            now = frozenset(_listed(f"/proc/{pid}/fd"))
            before = self._seen.get(pid, frozenset())
            self._seen[pid] = now
            yield node, pid, now - before
            later.append((node, pid, now & before))
        yield from later
        for node, pid in list(self._pids.items()):
            for child in _descendants(pid, DESCENT_MAX):
                yield node, child, _listed(f"/proc/{child}/fd")


def _descendants(pid: int, levels: int) -> Iterator[int]:
    if levels == 0:
        return
    for task in _listed(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            continue
        for child in children:
            yield child
            yield from _descendants(child, levels - 1)


def _listed(folder: str) -> list[str]:
    """List a folder of /proc; a process that is gone has nothing."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _link_text(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{name}")
    except OSError:
        return ""


def _open_netlink() -> socket.socket | None:
    if sys.platform != "linux":
        return None
    try:
        netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
        )
        netlink.settimeout(0.1)
        netlink.bind((0, 0))
    except OSError:
        return None
    return netlink


def _ask_netlink(netlink: socket.socket, caller: Address, callee: Address) -> int | None:
    """Ask sock_diag(7) for exactly one connection: about ten microseconds, whatever else is open.

    Raises OSError when the kernel has no sock_diag for TCP.
    """
    family = socket.AF_INET6 if ":" in caller[0] else socket.AF_INET
    ends = _packed(family, caller[0]) + _packed(family, callee[0])
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE)
    body += _PORTS.pack(caller[1], callee[1]) + ends + _ANY_DEVICE + _NO_COOKIE
    header = _HEADER.pack(
        _HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, caller[1], 0
    )
    netlink.send(header + body)
    while True:
        answer = netlink.recv(_ANSWER_BYTES_MAX)
        _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
        if sequence == caller[1]:
            break
    if kind != _SOCK_DIAG_BY_FAMILY:
        error = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if error == errno.ENOENT:
            return None
        raise OSError(error, os.strerror(error))
    inode: int = struct.unpack_from("=I", answer, _INODE_OFFSET)[0]
    return inode


def _packed(family: int, host: str) -> bytes:
    return socket.inet_pton(family, host.partition("%")[0]).ljust(16, b"\0")


def _search_table(caller: Address, callee: Address) -> int | None:
    """Find the row of the connection in /proc/net/tcp or, for IPv6 sockets, /proc/net/tcp6."""
    for path, local, remote in (
        ("/proc/net/tcp", _table_text(caller, mapped=False), _table_text(callee, mapped=False)),
        ("/proc/net/tcp6", _table_text(caller, mapped=True), _table_text(callee, mapped=True)),
    ):
        try:
            with open(path, encoding="ascii") as file:
                rows = file.readlines()
        except OSError:
            continue
        for row in rows:
            if local in row:
                words = row.split()
                if len(words) < _ROW_FIELDS_MIN:
                    continue
                if (words[_ROW_LOCAL], words[_ROW_REMOTE]) == (local, remote):
                    return int(words[_ROW_INODE])
    return None


def _table_text(address: Address, *, mapped: bool) -> str:
    """Write an address as the kernel's table does: 32-bit words in the machine's byte order."""
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    raw = ip.packed
    if mapped and ip.version == 4:
        raw = b"\0" * 10 + b"\xff\xff" + raw
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
