"""FLUSHALL and FLUSHDB: every key that is there is deleted, in steps, on one node and over several."""

from __future__ import annotations

import pytest
from resp_talk import Talk, command
from session_client import solo_world
from world import World

from kvlab.kv import resp_flush, scan

STEP_KEYS = 20
KEYS = [f"key{number}" for number in range(5 * STEP_KEYS)]


@pytest.fixture(params=[1, 3, 5])
def talk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Talk:
    monkeypatch.setattr(resp_flush, "STEP_KEYS", STEP_KEYS)
    one = Talk(solo_world() if request.param == 1 else World(request.param))
    for db in "01":
        one("SELECT", db)
        one("MSET", *[word for key in KEYS for word in (key, "v")])
    one("SELECT", "0")
    return one


def there(talk: Talk, db: str) -> int:
    talk("SELECT", db)
    return talk("EXISTS", *KEYS)


def test_one_namespace_is_emptied(talk: Talk) -> None:
    talk("SELECT", "1")
    assert talk("FLUSHDB") == b"OK"
    assert (there(talk, "0"), there(talk, "1")) == (len(KEYS), 0)
    talk("SELECT", "0")
    assert talk("flushdb", "async") == b"OK"
    assert there(talk, "0") == 0
    assert talk("SET", "key1", "again") == b"OK"
    assert talk("GET", "key1") == b"again"


def test_all_is_emptied(talk: Talk) -> None:
    assert talk("FLUSHALL", "SYNC") == b"OK"
    assert (there(talk, "0"), there(talk, "1")) == (0, 0)
    assert talk("FLUSHALL") == b"OK"


def test_it_has_its_place_in_a_pipeline(talk: Talk) -> None:
    told = talk.lines("SET a 1", "FLUSHALL", "GET a", "SET b 2", "GET key1", "GET b")
    assert told == [b"OK", b"OK", None, b"OK", None, b"2"]


def test_other_clients_come_between_the_steps(talk: Talk) -> None:
    other = Talk(talk.world)
    replies = talk.send(command("FLUSHDB"))
    steps = 0
    while not replies:
        talk.deliver()
        assert other("SET", "other", f"{steps}") == b"OK"
        replies = talk.turn()
        steps += 1
    assert replies == [b"OK"]
    assert steps > len(KEYS) // (2 * STEP_KEYS)


def test_what_only_one_copy_holds_is_found() -> None:
    """A write is acknowledged before its last copy has it, and another node may be asked."""
    talk = Talk(World(3))
    late = Talk(talk.world, "server3")
    for name in ("server1", "server2"):
        talk.world.cut.add((name, "server3"))
    talk("MSET", *[word for key in KEYS[:40] for word in (key, "v")])
    assert talk.node.state.table.key_count == 40
    assert late.node.state.table.key_count == 0
    for name in ("server1", "server2"):
        lost = talk.world.wires[name, "server3"]
        lost.clear()  # and what it should have been told is lost with it
        talk.world.cut.discard((name, "server3"))

    assert late("FLUSHALL") == b"OK"
    assert talk("EXISTS", *KEYS[:40]) == 0


def test_what_cannot_be_looked_at_is_told() -> None:
    talk = Talk(World(5))
    talk("MSET", *[word for key in KEYS for word in (key, "v")])
    for name in ("server3", "server4", "server5"):
        talk.world.kill(name)

    told = talk("FLUSHALL")

    assert "no replica of a range can be reached" in told
    left = there(talk, "0") if told.startswith("UNAVAILABLE") else 0
    assert told.startswith("UNKNOWN") or left


def test_a_node_that_takes_no_writes_does_not_flush(talk: Talk) -> None:
    talk.node.state.refuse("the disk is full")
    assert talk("FLUSHDB").startswith(("READ_ONLY", "UNAVAILABLE"))
    assert there(talk, "0") == len(KEYS)


def test_it_waits_for_its_turn_where_many_scan(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "SCANS_MAX", 0)
    assert talk("FLUSHALL").startswith("BUSY")


@pytest.mark.parametrize("line", ["FLUSHALL NOW", "FLUSHDB SYNC SYNC"])
def test_what_is_wrong_is_told(talk: Talk, line: str) -> None:
    assert talk.lines(line) == ["ERR syntax error"]
