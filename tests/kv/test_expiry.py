"""Values that end by themselves, in both namespaces, on one node and on three."""

from __future__ import annotations

import pytest
from resp_talk import Talk
from session_client import solo_world
from world import World

from kvlab.ring.slot import slot_of
from kvlab.wire.json_lines import Request
from kvlab.wire.value import Expiring, live, stored


def world_of(count: int) -> World:
    return solo_world() if count == 1 else World(3)


@pytest.fixture(params=[(1, "0"), (1, "1"), (3, "0"), (3, "1")], ids=str)
def talk(request: pytest.FixtureRequest) -> Talk:
    count, db = request.param
    one = Talk(world_of(count))
    assert one("SELECT", db) == b"OK"
    return one


def test_a_value_is_there_until_its_end(talk: Talk) -> None:
    assert talk.lines("SET k v PX 500", "GET k", "PTTL k", "TTL k") == [b"OK", b"v", 500, 1]
    assert talk("MGET", "k", "nothing") == [b"v", None]

    talk.world.tick(4)
    assert talk("GET", "k") == b"v"
    assert 90 <= talk("PTTL", "k") <= 100

    talk.world.tick(1)
    assert talk.lines("GET k", "PTTL k", "EXISTS k", "STRLEN k") == [None, -2, 0, 0]
    assert talk("MGET", "k", "nothing") == [None, None]
    assert talk("DEL", "k") == 0


def test_a_value_without_an_end_says_so(talk: Talk) -> None:
    assert talk.lines("SET k v", "TTL k", "EXPIRETIME k", "TTL nothing") == [b"OK", -1, -1, -2]


def test_a_later_set_takes_the_end_away(talk: Talk) -> None:
    talk.lines("SETEX k 1 v", "SET k w")
    talk.world.tick(20)

    assert talk("GET", "k") == b"w"


def test_ends_are_told_as_times_too(talk: Talk) -> None:
    at_s = talk.world.now_us // 1_000_000 + 5
    talk("SET", "k", "v", "EXAT", str(at_s))

    assert talk("EXPIRETIME", "k") == at_s
    assert talk("PEXPIRETIME", "k") == at_s * 1000
    talk("PSETEX", "k", "1500", "v")
    assert talk("TTL", "k") in (1, 2)


def test_the_end_of_a_value_that_is_there_is_changed_in_the_linear_namespace() -> None:
    talk = Talk(World(3))
    talk("SELECT", "1")

    assert talk.lines("EXPIRE k 5", "SET k 1", "EXPIRE k 5", "TTL k") == [0, b"OK", 1, 5]
    assert talk.lines("INCR k", "APPEND k 0", "TTL k", "GET k") == [2, 2, 5, b"20"]
    assert talk.lines("PERSIST k", "PERSIST k", "TTL k", "PERSIST nothing") == [1, 0, -1, 0]
    assert talk.lines("EXPIRE k -1", "GET k", "SETNX k v") == [1, None, 1]
    assert talk.lines("SET k v EX 1 XX", "SET n v EX 1 NX", "TTL n") == [b"OK", b"OK", 1]


@pytest.mark.parametrize("ns", ["", "linear"])
@pytest.mark.parametrize("count", [1, 3])
def test_json_says_for_how_long(count: int, ns: str) -> None:
    world = world_of(count)
    [reply] = world.ask("server1", Request("SET", "k", "v", ns=ns, ttl_ms=300))
    assert reply.status == "SUCCESS"
    assert world.get("server1", "k", ns=ns) == "v"

    world.tick(3)

    assert world.get("server1", "k", ns=ns) is None
    assert world.delete("server1", "k", ns=ns).code == "NOT_FOUND"
    [reply] = world.ask("server1", Request("GET", "k", ns=ns, ttl_ms=300))
    assert reply.code == "BAD_REQUEST"


def test_what_has_expired_takes_no_room_and_leaves_its_version() -> None:
    world = World(3)
    world.ask("server1", Request("SET", "k", "v", ttl_ms=300))
    node = world.nodes["server1"]
    table, index = node.state.table, slot_of(b"k") >> node.state.shift
    version, digest = table.ranges[index][b"k"][0], table.digest(index)
    assert (table.key_count, table.byte_count) == (1, 2)

    world.tick(4)

    assert (table.key_count, table.byte_count) == (0, 0)
    assert table.ranges[index][b"k"] == (version, None, None)
    assert table.digest(index) == digest


def test_a_value_that_was_replaced_does_not_end_with_the_one_before() -> None:
    world = World(3)
    world.ask("server1", Request("SET", "k", "v", ttl_ms=300))
    world.ask("server1", Request("SET", "k", "w", ttl_ms=3000))

    world.tick(10)

    assert world.get("server2", "k") == "w"


def test_an_end_travels_with_its_range() -> None:
    world = World(3)
    keys = [f"key{number}" for number in range(30)]
    for key in keys:
        world.ask("server1", Request("SET", key, "v", ttl_ms=5000))
        world.ask("server1", Request("SET", key, "v", ttl_ms=5000, ns="linear"))
    world.start("server4")
    world.mesh()
    world.run()
    world.settle()
    assert all(world.get("server4", key) == "v" for key in keys)

    world.tick(60)

    for ns in ("", "linear"):
        assert all(world.get("server4", key, ns=ns) is None for key in keys)
    assert not world.nodes["server4"].state.table.key_count


@pytest.mark.parametrize("raw", [1, True, [], ["v"], ["v", -1], ["v", 2**63], [1, 1], ["v", 1, 1]])
def test_what_is_no_value_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="a value is"):
        stored(raw)


def test_an_end_is_a_moment() -> None:
    value = stored(["v", 10])

    assert value == Expiring("v", 10)
    assert (live(value, 9), live(value, 10), live("w", 10), live(None, 0)) == ("v", None, "w", None)
