"""The `nodes` of cluster.yaml -> NodeSpecs: a count, a template or a list of entries.

It knows no other key of the file. Only loopback addresses come out of it.

Invariants:

1. No two nodes share an id, nor an address whose port is not 0.
2. No id is a word that selects nodes (SELECTORS).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import yaml

from kvlab.spec.cluster import HOST_DEFAULT, NODE_NAME_DEFAULT, NodeSpec
from kvlab.spec.document import Problems, is_null, join, line_of, shown, shown_text
from kvlab.spec.section import Section

NODE_COUNT_MAX: Final = 100
NAME_CHARS_MAX: Final = 40
RACK_CHARS_MAX: Final = 40
PORT_MIN: Final = 1024
"""Lower ports are for root, which nothing here needs to be."""
PORT_MAX: Final = 65_535
WEIGHT_MIN: Final = 0.01
WEIGHT_MAX: Final = 100.0
SELECTORS: Final = frozenset({"all", "any", "each", "majority", "minority", "none", "one"})
"""Words that stand for nodes in commands and scenarios; a node so named would be out of reach."""

NAME_ADVICE: Final = f"write letters, digits, - and _, at most {NAME_CHARS_MAX}, such as"
_ADDR_ADVICE: Final = "write a host and a port, such as localhost:8081"
_NODES_ADVICE: Final = "write a count, such as nodes: 3, or a list of nodes with id and addr"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_ADDR = re.compile(r"(?P<host>[^\s]+):(?P<port>[0-9]{1,5})")
_SELECTOR_COMPLAINT: Final = ", a word that selects nodes in commands"
_SELECTOR_ADVICE: Final = "write another name, such as server1"
_ENTRY_KEYS: Final = ("id", "addr", "weight", "rack")
_COUNT_KEYS: Final = ("count", "name", "host", "base_port")
_DEFAULT: Final = NodeSpec(id="")
"""Where the readers below find the defaults of a node."""


def is_name(text: str) -> bool:
    """Say whether a text can name a cluster, a node or a rack."""
    return len(text) <= NAME_CHARS_MAX and _NAME.fullmatch(text) is not None


def read_nodes(file: Section) -> tuple[NodeSpec, ...]:
    """Read `nodes` in any of its three forms; with problems, return what was understood."""
    node = file.get("nodes")
    if isinstance(node, yaml.MappingNode):
        return _from_template(file.section("nodes", _COUNT_KEYS, sample="{count: 3}"))
    if isinstance(node, yaml.SequenceNode):
        return _from_entries(file.problems, node)
    if node is None or is_null(node):
        file.wrong("nodes", _NODES_ADVICE)
        return ()
    count = file.integer("nodes", 0, low=1, high=NODE_COUNT_MAX)
    return tuple(NodeSpec(_numbered(NODE_NAME_DEFAULT, index)) for index in range(1, count + 1))


def _from_template(section: Section) -> tuple[NodeSpec, ...]:
    """Read {count: 5, name: "server{i}", host: 127.0.0.1, base_port: 8081}."""
    count = 0
    if section.get("count") is None:
        section.wrong("count", f"write a whole number from 1 to {NODE_COUNT_MAX}")
    else:
        count = section.integer("count", 0, low=1, high=NODE_COUNT_MAX)
    template = _name_template(section, count)
    host = _host_of_template(section)
    base_port = _base_port(section, count)
    return tuple(
        NodeSpec(
            id=_numbered(template, index),
            host=host,
            port=base_port + index - 1 if base_port else 0,
        )
        for index in range(1, count + 1)
    )


def _name_template(section: Section, count: int) -> str:
    if section.get("name") is None:
        return NODE_NAME_DEFAULT
    template = section.text("name") or ""
    longest = _numbered(template, max(count, 1))
    if not is_name(longest):
        section.wrong("name", f"{NAME_ADVICE} {NODE_NAME_DEFAULT}, where {{i}} counts from 1")
    elif longest == template and count > 1:
        section.wrong(
            "name",
            f"write {{i}} where the number belongs, such as {shown_text(template)}{{i}}",
            complaint=f" for all {count} nodes",
        )
    elif longest in SELECTORS:
        section.wrong("name", _SELECTOR_ADVICE, complaint=_SELECTOR_COMPLAINT)
    return template


def _host_of_template(section: Section) -> str:
    if section.get("host") is None:
        return HOST_DEFAULT
    text = section.text("host") or ""
    host, complaint, advice = _loopback(text)
    if complaint:
        section.wrong("host", advice, complaint=complaint)
    return host


def _base_port(section: Section, count: int) -> int:
    """Read the port of the first node; the others follow it."""
    text = section.text("base_port") or ""
    if section.get("base_port") is None or text == "0":
        return 0
    high = PORT_MAX - max(count, 1) + 1
    if text.isascii() and text.isdigit() and PORT_MIN <= int(text[:6]) <= high:
        return int(text)
    section.wrong(
        "base_port",
        f"write 0 (any free one) or a port from {PORT_MIN} to {high}",
        complaint=f", from which {count} ports must fit" if count > 1 else "",
    )
    return 0


def _from_entries(problems: Problems, node: yaml.SequenceNode) -> tuple[NodeSpec, ...]:
    """Read [{id: server1, addr: "localhost:8081", weight: 1, rack: a}, ...]."""
    if not 1 <= len(node.value) <= NODE_COUNT_MAX:
        said = f"nodes is a list of {len(node.value)}"
        problems.add(line_of(node), f"{said}; write from 1 to {NODE_COUNT_MAX} nodes")
        return ()
    nodes = []
    line_of_id: dict[str, int] = {}
    line_of_addr: dict[str, int] = {}
    for index, item in enumerate(node.value, start=1):
        path, line = f"nodes[{index}]", line_of(item)
        if not isinstance(item, yaml.MappingNode):
            advice = 'write {id: server1, addr: "localhost:8081"}'
            problems.add(line, f"{path} is {shown(item)}; {advice}")
            continue
        section = Section(problems, path, item, _ENTRY_KEYS, line=line)
        spec = _entry(section, index)
        _unique(section, "id", spec.id, line_of_id)
        if spec.port:
            _unique(section, "addr", spec.addr, line_of_addr)
        nodes.append(spec)
    return tuple(nodes)


def _entry(section: Section, index: int) -> NodeSpec:
    host, port = _addr(section)
    return NodeSpec(
        id=_id(section, index),
        host=host,
        port=port,
        weight=section.number("weight", _DEFAULT.weight, low=WEIGHT_MIN, high=WEIGHT_MAX),
        rack=_rack(section),
    )


def _id(section: Section, index: int) -> str:
    default = _numbered(NODE_NAME_DEFAULT, index)
    if section.get("id") is None:
        return default
    name = section.text("id") or ""
    if not is_name(name):
        section.wrong("id", f"{NAME_ADVICE} {default}")
    elif name.lower() in SELECTORS:
        section.wrong("id", _SELECTOR_ADVICE, complaint=_SELECTOR_COMPLAINT)
    return name


def _addr(section: Section) -> tuple[str, int]:
    if section.get("addr") is None:
        return _DEFAULT.host, _DEFAULT.port
    found = _ADDR.fullmatch(section.text("addr") or "")
    if found is None:
        section.wrong("addr", f"{_ADDR_ADVICE} (port 0: any free one)")
        return _DEFAULT.host, _DEFAULT.port
    host, complaint, advice = _loopback(found["host"])
    if complaint:
        section.wrong("addr", advice, complaint=complaint)
    port = int(found["port"])
    if port and not PORT_MIN <= port <= PORT_MAX:
        section.wrong("addr", f"write port 0 (any free one) or one from {PORT_MIN} to {PORT_MAX}")
    return host, port


def _rack(section: Section) -> str | None:
    if section.get("rack") is None:
        return _DEFAULT.rack
    rack = section.text("rack") or ""
    if not is_name(rack):
        section.wrong("rack", f"{NAME_ADVICE} rack1, or leave it out")
    return rack


def _unique(section: Section, key: str, value: str, first_lines: dict[str, int]) -> None:
    """Report a value that an earlier entry has; `first_lines` remembers which line took it."""
    line = section.line_of(key)
    if value not in first_lines:
        first_lines[value] = line
        return
    said = f"{join(section.path, key)} is {shown_text(value)}, as on line {first_lines[value]}"
    section.problems.add(line, f"{said}; give each node its own")


def _loopback(text: str) -> tuple[str, str, str]:
    """Return the IPv4 loopback address that `text` means, or what is wrong and what to write."""
    advice = "write localhost or 127.0.0.1"
    if text.lower() == "localhost":
        # One fixed address: two nodes must not differ in what they make of a name.
        return HOST_DEFAULT, "", ""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return HOST_DEFAULT, ", and only loopback addresses can be used for now", advice
    if isinstance(address, ipaddress.IPv4Address) and address.is_loopback:
        return str(address), "", ""
    if address.is_loopback:
        return HOST_DEFAULT, ", and only IPv4 can be used for now", advice
    complaint = ", which others can reach; without passwords and TLS nodes stay on this machine"
    return HOST_DEFAULT, complaint, advice


def _numbered(template: str, index: int) -> str:
    return template.replace("{i}", str(index))
