"""CLUSTER: the cluster map in the words of Redis Cluster. It moves nothing and redirects nobody.

Any node answers for any key, so a client that knows nothing of clusters works as well; one that does
spares a hop between nodes.

Invariants:

1. Every slot is told, with one node: the first of its replicas that this node can reach, or the very
   first if it reaches none. Copies are not listed: a node that is master of some slots and copy of
   others, as all are here, does not exist in Redis.
2. A node is told by 40 hex digits made of its id, which is what clients of Redis Cluster expect.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from kvlab.kv.resp_answer import RespBatch, failure
from kvlab.kv.resp_words import unknown_subcommand, wrong_count
from kvlab.kv.state import State
from kvlab.ring.cluster_map import ClusterMap, Member
from kvlab.ring.slot import SLOT_COUNT, slot_of
from kvlab.wire.resp_encode import bulk, encode, integer

if TYPE_CHECKING:
    from kvlab.kv.resp_client import RespClient


def cluster(client: RespClient, batch: RespBatch, args: list[bytes], _now_us: int) -> bytes:
    """CLUSTER INFO | MYID | SLOTS | SHARDS | NODES | KEYSLOT key."""
    word, state = args[1].upper(), client.node.state
    count = _COUNTS.get(word)
    if count is None:
        return unknown_subcommand("CLUSTER", args[1])
    if len(args) != count:
        return wrong_count(b"CLUSTER|" + word)
    if word == b"KEYSLOT":
        return integer(slot_of(args[2]))
    if word == b"MYID":
        return bulk(mark_of(state.settings.id).encode())
    current = state.map
    if current is None:
        return failure(client.node.state.why_closed, client.node.membership.starting())
    match word:
        case b"SLOTS":
            return encode(_slots(state, current), batch.protocol)
        case b"SHARDS":
            return encode(_shards(state, current), batch.protocol)
        case b"NODES":
            return bulk(_nodes(state, current).encode())
        case _:
            return bulk(_info(state, current).encode())


_COUNTS = {b"INFO": 2, b"MYID": 2, b"SLOTS": 2, b"SHARDS": 2, b"NODES": 2, b"KEYSLOT": 3}


def mark_of(member_id: str) -> str:
    """Return the 40 hex digits by which a node is known to RESP clients."""
    return blake2b(member_id.encode(), digest_size=20).hexdigest()


def _slots(state: State, current: ClusterMap) -> list[Any]:
    told = []
    for first, last, member in _runs(state, current):
        host, port = _address(state, member)
        told.append([first, last, [host, port, mark_of(member.id), []]])
    return told


def _shards(state: State, current: ClusterMap) -> list[Any]:
    told = []
    for member, runs in _by_member(state, current).items():
        host, port = _address(state, member)
        node = {
            "id": mark_of(member.id),
            "port": port,
            "ip": host,
            "endpoint": host,
            "role": "master",
            "replication-offset": 0,
            "health": "online" if _reaches(state, member) else "fail",
        }
        slots = [slot for run in runs for slot in run]
        told.append({"slots": slots, "nodes": [node]})
    return told


def _nodes(state: State, current: ClusterMap) -> str:
    lines = []
    for member, runs in _by_member(state, current).items():
        host, port = _address(state, member)
        reached = _reaches(state, member)
        flags = "myself,master" if member.id == state.settings.id else "master"
        words = [
            mark_of(member.id),
            f"{host}:{port}@{port}",
            flags if reached else f"{flags},fail",
            "- 0 0",
            str(current.epoch),
            "connected" if reached else "disconnected",
            *(str(first) if first == last else f"{first}-{last}" for first, last in runs),
        ]
        lines.append(" ".join(words) + "\n")
    return "".join(lines)


def _info(state: State, current: ClusterMap) -> str:
    served = sum(route.owners.reachable > 0 for route in state.routes)
    slots_each = SLOT_COUNT // current.range_count
    told = {
        "cluster_enabled": 1,
        "cluster_state": "ok" if served == current.range_count else "fail",
        "cluster_slots_assigned": SLOT_COUNT,
        "cluster_slots_ok": served * slots_each,
        "cluster_slots_pfail": 0,
        "cluster_slots_fail": SLOT_COUNT - served * slots_each,
        "cluster_known_nodes": len(current.members),
        "cluster_size": sum(bool(runs) for runs in _by_member(state, current).values()),
        "cluster_current_epoch": current.epoch,
        "cluster_my_epoch": current.epoch,
    }
    return "".join(f"{name}:{value}\r\n" for name, value in told.items())


def _by_member(state: State, current: ClusterMap) -> dict[Member, list[tuple[int, int]]]:
    """Return the runs of slots that are told with each member, also where it has none."""
    runs: dict[Member, list[tuple[int, int]]] = {member: [] for member in current.members}
    for first, last, member in _runs(state, current):
        runs[member].append((first, last))
    return runs


def _runs(state: State, current: ClusterMap) -> Iterator[tuple[int, int, Member]]:
    """Yield (first slot, last slot, member) of all slots in order, as long as possible."""
    reached = {member.id: member for member in current.members if _reaches(state, member)}
    begun: tuple[int, Member] | None = None
    for index, place in enumerate(current.ranges):
        name = next((one for one in place.replicas if one in reached), place.replicas[0])
        member = current.member(name)
        assert member is not None
        first = current.slots_of_range(index).start
        if begun is None or begun[1] is not member:
            if begun is not None:
                yield begun[0], first - 1, begun[1]
            begun = first, member
    assert begun is not None
    yield begun[0], SLOT_COUNT - 1, begun[1]


def _reaches(state: State, member: Member) -> bool:
    return member.id == state.settings.id or state.is_current(member)


def _address(state: State, member: Member) -> tuple[str, int]:
    """Return (host, port) where clients dial a member; peers' where the map tells nothing else."""
    if member.id == state.settings.id:
        address = state.settings.client_address
    else:
        address = member.client_address or member.address
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0
