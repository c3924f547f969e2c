"""Dialogues about the connection, the node and the cluster, in the words of RESP clients."""

from __future__ import annotations

import pytest
from redis._parsers.helpers import parse_client_info, parse_cluster_nodes, parse_info
from resp_talk import Talk
from session_client import solo_world
from world import World

from kvlab.kv.resp_cluster import mark_of
from kvlab.kv.resp_commands import COMMANDS
from kvlab.ring.slot import slot_of


@pytest.fixture
def alone() -> Talk:
    return Talk(solo_world())


@pytest.fixture
def talk() -> Talk:
    return Talk(World(3))


# -- the connection -------------------------------------------------------------------------------


def test_a_ping_is_answered(alone: Talk) -> None:
    assert alone("PING") == b"PONG"
    assert alone("PING", "a b") == b"a b"
    assert alone("ECHO", "c") == b"c"
    assert alone("PING", "a", "b").startswith("ERR wrong number of arguments for 'ping'")


def test_hello_changes_the_version(alone: Talk) -> None:
    told = alone("HELLO", "3", "SETNAME", "me")
    assert told[b"proto"] == 3
    assert (told[b"mode"], told[b"role"]) == (b"cluster", b"master")
    assert alone("CLIENT", "GETNAME") == b"me"
    assert isinstance(alone("CONFIG", "GET", "save"), dict)

    assert isinstance(alone("HELLO", "2"), list)
    assert alone("CONFIG", "GET", "save") == [b"save", b""]
    assert isinstance(alone("HELLO"), list)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("HELLO x", "ERR Protocol version is not an integer"),
        ("HELLO 3 AUTH default secret", "ERR Client sent AUTH, but no password is set"),
        ("HELLO 3 SETNAME", "ERR syntax error"),
        ("HELLO 3 FLY x", "ERR syntax error"),
        ("AUTH secret", "ERR Client sent AUTH, but no password is set"),
        ("SELECT 2", "ERR DB index is out of range"),
        ("SELECT x", "ERR value is not an integer"),
        ("CLIENT KILL x", "ERR unknown subcommand 'KILL' of CLIENT"),
        ("CLIENT MAINT_NOTIFICATIONS ON", "ERR unknown subcommand"),
        ("CLIENT ID x", "ERR wrong number of arguments for 'client|id' command"),
        ("CLIENT REPLY OFF", "ERR CLIENT REPLY: every request is answered"),
        ("CLIENT NO-EVICT x", "ERR syntax error"),
        ("CLIENT SETINFO FLY x", "ERR CLIENT SETINFO knows"),
        ("CONFIG SET save x", "ERR CONFIG SET: a node is told its options"),
        ("CONFIG GET", "ERR wrong number of arguments for 'config|get' command"),
        ("CONFIG FLY", "ERR unknown subcommand 'FLY' of CONFIG"),
        ("COMMAND FLY", "ERR unknown subcommand"),
        ("CLUSTER FAILOVER", "ERR unknown subcommand 'FAILOVER' of CLUSTER"),
        ("CLUSTER KEYSLOT", "ERR wrong number of arguments for 'cluster|keyslot' command"),
    ],
)
def test_what_is_wrong_is_told(alone: Talk, line: str, told: str) -> None:
    [reply] = alone.lines(line)

    assert reply.startswith(told)
    assert alone("CLIENT", "GETNAME") is None
    assert not alone.session.closing


def test_harmless_wishes_are_granted(alone: Talk) -> None:
    for line in (
        "SELECT 0",
        "SELECT 1",
        "CLIENT SETNAME me",
        "CLIENT SETINFO LIB-NAME redis-py",
        "CLIENT SETINFO lib-ver 1",
        "CLIENT NO-EVICT on",
        "CLIENT NO-TOUCH OFF",
        "CLIENT REPLY ON",
        "READONLY",
        "READWRITE",
        "ASKING",
    ):
        assert alone.lines(line) == [b"OK"]
    assert alone("CLIENT", "SETNAME", "two words").startswith("ERR Client names cannot contain")
    assert alone("CLIENT", "GETNAME") == b"me"
    assert alone("CLIENT", "GETREDIR") == -1


def test_a_connection_tells_of_itself(talk: Talk) -> None:
    other = Talk(talk.world)
    talk("CLIENT", "SETNAME", "me")
    talk("CLIENT", "SETINFO", "LIB-NAME", "redis-py")
    assert (talk("CLIENT", "ID"), other("CLIENT", "ID")) == (1, 2)

    told = parse_client_info(talk("CLIENT", "INFO"))

    assert (told["id"], told["name"], told["db"], told["lib-name"]) == (1, "me", 0, "redis-py")
    assert len(talk("CLIENT", "LIST").splitlines()) == 1


def test_reset_begins_anew(alone: Talk) -> None:
    alone("HELLO", "3", "SETNAME", "me")

    assert alone("RESET") == b"RESET"
    assert alone("CLIENT", "GETNAME") is None
    assert isinstance(alone("HELLO"), list)


# -- the node -------------------------------------------------------------------------------------


def test_info_is_read_by_the_client_library(talk: Talk) -> None:
    talk("SET", "k", "v")

    told = parse_info(talk("INFO"))

    assert told["kvlab_node"] == "server1"
    assert told["redis_mode"] == "cluster"
    assert told["cluster_enabled"] == 1
    assert told["db0"] == {"keys": 1, "expires": 0, "avg_ttl": 0}
    assert told["used_memory"] == 2
    assert told["total_commands_processed"] == 2


def test_info_tells_the_sections_that_were_asked_for(talk: Talk) -> None:
    heads = [line for line in talk("INFO").decode().splitlines() if line.startswith("#")]
    assert [
        *("# Server", "# Clients", "# Memory", "# Persistence", "# Stats"),
        *("# Replication", "# Cluster", "# Keyspace"),
    ] == heads
    assert talk("INFO", "CLIENTS") == b"# Clients\r\nconnected_clients:0\r\nblocked_clients:0\r\n"
    assert talk("INFO", "fly") == b""
    assert b"# Server" in talk("INFO", "clients", "everything")


def test_options_are_found_by_pattern(alone: Talk) -> None:
    assert alone("CONFIG", "GET", "SAVE", "append*") == [b"appendonly", b"no", b"save", b""]
    assert alone("CONFIG", "GET", "*-policy") == [b"maxmemory-policy", b"noeviction"]
    assert alone("CONFIG", "GET", "fly") == []
    assert alone("CONFIG", "GET", "*" * 100_000) == []


def test_the_time_is_told(alone: Talk) -> None:
    seconds, rest = map(int, alone("TIME"))

    assert seconds * 1_000_000 + rest == alone.world.now_us


def test_the_table_of_commands_is_told(alone: Talk) -> None:
    table = alone("COMMAND")
    assert alone("COMMAND", "COUNT") == len(COMMANDS) == len(table)
    assert [b"mset", -3, [b"write", b"denyoom"], 1, -1, 2, [], [], [], []] in table
    assert alone("COMMAND", "DOCS", "get") == []
    assert [entry and entry[0] for entry in alone("COMMAND", "INFO", "get", "fly")] == [
        b"get",
        None,
    ]
    assert sorted(alone("COMMAND", "LIST")) == sorted(name.lower() for name in COMMANDS)
    assert alone("COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2") == [b"a", b"b"]
    assert alone("COMMAND", "GETKEYS", "PING").startswith("ERR the command has no key arguments")
    assert alone("COMMAND", "GETKEYS", "GET").startswith("ERR Invalid number of arguments")


# -- the cluster ----------------------------------------------------------------------------------


def test_every_slot_has_a_node_that_holds_it(talk: Talk) -> None:
    world = talk.world
    ranges = talk.node.state.map.ranges
    slots = talk("CLUSTER", "SLOTS")

    assert [first for first, _, _ in slots] == [0, *[last + 1 for _, last, _ in slots[:-1]]]
    assert slots[-1][1] == 16383
    names = {mark_of(name).encode(): name for name in world.nodes}
    for first, last, (host, port, mark, _) in slots:
        name = names[mark]
        assert (host, port) == (name.encode(), 2 if name == "server1" else 1)
        for slot in (first, last):
            assert ranges[slot >> talk.node.state.shift].replicas[0] == name


def test_a_node_that_cannot_be_reached_is_not_sent_to(talk: Talk) -> None:
    talk.world.kill("server2")

    told = talk("CLUSTER", "SLOTS")

    assert mark_of("server2").encode() not in {node[2] for _, _, node in told}
    nodes = parse_cluster_nodes(talk("CLUSTER", "NODES"))
    [dead] = [node for node in nodes.values() if not node["connected"]]
    assert dead["node_id"] == mark_of("server2")
    assert dead["slots"] == []
    assert b"cluster_state:ok" in talk("CLUSTER", "INFO")


def test_a_cluster_that_lost_a_range_says_so() -> None:
    world = World(3, replication=1, r=1, w=1)
    world.kill("server2")
    talk = Talk(world)

    told = dict(line.split(":") for line in talk("CLUSTER", "INFO").decode().split())

    assert told["cluster_state"] == "fail"
    assert int(told["cluster_slots_ok"]) + int(told["cluster_slots_fail"]) == 16384
    assert int(told["cluster_slots_fail"]) > 0
    assert talk("CLUSTER", "SLOTS")[-1][1] == 16383


def test_the_views_of_the_cluster_agree(talk: Talk) -> None:
    nodes = parse_cluster_nodes(talk("CLUSTER", "NODES"))
    slots = talk("CLUSTER", "SLOTS")
    shards = talk("CLUSTER", "SHARDS")

    assert talk("CLUSTER", "MYID").decode() == mark_of("server1")
    assert [node["node_id"] for node in nodes.values() if "myself" in node["flags"]] == [
        mark_of("server1")
    ]
    of_nodes = sorted(
        [int(first), int(last), node["node_id"].encode()]
        for node in nodes.values()
        for first, last in node["slots"]
    )
    assert of_nodes == sorted([first, last, node[2]] for first, last, node in slots)
    of_shards = []
    for shard in shards:
        told = dict(zip(shard[::2], shard[1::2], strict=True))
        [node] = told[b"nodes"]
        mark = dict(zip(node[::2], node[1::2], strict=True))[b"id"]
        runs = told[b"slots"]
        of_shards += [[a, b, mark] for a, b in zip(runs[::2], runs[1::2], strict=True)]
    assert sorted(of_shards) == of_nodes
    assert talk("CLUSTER", "KEYSLOT", "{user}.a") == slot_of(b"user")
