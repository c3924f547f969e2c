"""Command templates: text with {placeholders}, as `engine.command` of cluster.yaml holds it.

It knows the names and what they mean, not their values: `engine` fills them in for each start.

A placeholder is a lower-case word in braces. Other braces stay as they are, and so does a word in
doubled braces: {{word}} becomes {word}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

PLACEHOLDERS: Final[Mapping[str, str]] = {
    "id": "the node's name",
    "index": "its number, from 1 in the order of the file and then of joining",
    "host": "the address that it must listen on",
    "port": "the port that it must listen on",
    "listen_fd": "instead of both: the number of an inherited socket that listens already",
    "advertise": "host:port that other nodes must use to reach it, so that links can be cut",
    "advertise_host": "the same in two parts, for servers that take them so",
    "advertise_port": "the other part",
    "peers": "the other nodes' advertised addresses, as host:port,host:port",
    "peers_named": "the same as id=host:port,id=host:port",
    "members": "all nodes, this one too, as id=host:port,id=host:port",
    "data": "a folder of its own, empty at first, kept until `kvlab up --fresh`",
    "cluster": "the cluster's name",
    "python": "the Python that runs kvlab",
}
SOCKET: Final = "listen_fd"
"""The one that only the process itself can fill in."""

_BRACES = re.compile(r"\{\{([a-z_]+)\}\}|\{([a-z_]+)\}")


def placeholders_of(template: str) -> tuple[str, ...]:
    """Return the names in a template, known or not, in their order."""
    return tuple(found[2] for found in _BRACES.finditer(template) if found[2])


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values in the place of placeholders; what has no value stays as it is."""

    def replace(found: re.Match[str]) -> str:
        literal, name = found.groups()
        return f"{{{literal}}}" if literal else values.get(name, found[0])

    return _BRACES.sub(replace, template)
