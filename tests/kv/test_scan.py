"""SCAN: a walk through all keys, on one node and over several, while things change."""

from __future__ import annotations

import pytest
from resp_talk import Talk
from session_client import solo_world
from world import World

from kvlab.kv import scan
from kvlab.kv.resp_scan import pattern_of

KEYS = [f"key{number}" for number in range(300)]


def walk(
    talk: Talk, *options: str, cursor: str = "0", steps: int = 10_000
) -> tuple[list[str], str]:
    """Scan on from a cursor; return all keys and the last cursor."""
    found: list[str] = []
    for _ in range(steps):
        following, keys = talk("SCAN", cursor, *options)
        cursor = following.decode()
        found += [key.decode() for key in keys]
        if cursor == "0":
            break
    return found, cursor


@pytest.fixture(params=[(1, "0"), (1, "1"), (5, "0"), (5, "1")], ids=str)
def talk(request: pytest.FixtureRequest) -> Talk:
    count, db = request.param
    one = Talk(solo_world() if count == 1 else World(count))
    one("SELECT", db)
    for key in KEYS:
        one("SET", key, "v")
    return one


@pytest.mark.parametrize("count", ["1", "10", "1000"])
def test_all_keys_are_told_once_where_nothing_changes(talk: Talk, count: str) -> None:
    found, cursor = walk(talk, "COUNT", count)

    assert cursor == "0"
    assert sorted(found) == sorted(KEYS)


def test_small_pages_tell_all_keys(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "PAGE_KEYS", 2)
    assert sorted(walk(talk, "COUNT", "1")[0]) == sorted(KEYS)
    monkeypatch.setattr(scan, "PAGE_BYTES", 1)
    assert sorted(walk(talk, "COUNT", "1")[0]) == sorted(KEYS)


def test_keys_with_one_checksum_are_told_together(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "PAGE_KEYS", 3)
    monkeypatch.setattr(scan, "crc32", len)

    assert sorted(walk(talk, "COUNT", "1")[0]) == sorted(KEYS)


def test_what_is_gone_or_does_not_match_is_left_out(talk: Talk) -> None:
    talk("DEL", "key7")
    talk("SET", "key8", "v", "PX", "100")
    talk.world.tick(2)

    assert sorted(walk(talk, "MATCH", "key?")[0]) == [f"key{n}" for n in (0, 1, 2, 3, 4, 5, 6, 9)]
    assert len(walk(talk, "TYPE", "string", "COUNT", "50")[0]) == len(KEYS) - 2
    assert walk(talk, "TYPE", "list")[0] == []


def test_another_node_goes_on_where_one_stopped_though_ranges_moved() -> None:
    talk = Talk(World(3))
    for key in KEYS:
        talk("SET", key, "v")
    found, cursor = walk(talk, "COUNT", "50", steps=2)
    assert cursor != "0"

    world = talk.world
    world.start("server4")
    world.mesh()
    world.run()
    world.settle()
    world.tick(5)
    more, cursor = walk(Talk(world, "server4"), cursor=cursor)

    assert cursor == "0"
    assert set(found + more) == set(KEYS)


def test_a_node_that_is_lost_is_asked_no_more() -> None:
    world = World(5)
    talk = Talk(world, "server1")
    for key in KEYS:
        talk("SET", key, "v")
    world.kill("server2")

    assert sorted(walk(talk, "COUNT", "1000")[0]) == sorted(KEYS)
    for name in ("server3", "server4", "server5"):
        world.disconnect("server1", name)
    [reply] = talk.lines("SCAN 0 COUNT 1000")
    assert str(reply).startswith("UNAVAILABLE")


def test_an_answer_that_does_not_come_ends_the_scan() -> None:
    world = World(5)
    talk = Talk(world, "server1")
    for key in KEYS:
        talk("SET", key, "v")
    world.cut |= {(name, "server1") for name in world.nodes}
    node = world.nodes["server1"]
    told: list[object] = []

    node.scans.begin(0, 0, 1000, lambda cursor, keys: told.append((cursor, keys)), world.now_us)
    world.run()
    assert told == []
    world.tick(11)

    assert told == [(0, None)]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("SCAN x", "ERR invalid cursor"),
        ("SCAN 99999999999999999999", "ERR invalid cursor"),
        ("SCAN 0 COUNT", "ERR value is not an integer"),
        ("SCAN 0 COUNT 0", "ERR syntax error"),
        ("SCAN 0 FLY x", "ERR syntax error"),
        ("SCAN", "ERR wrong number of arguments"),
    ],
)
def test_what_is_wrong_is_told(line: str, told: str) -> None:
    [reply] = Talk(solo_world()).lines(line)

    assert str(reply).startswith(told)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("h?llo", "hello", True),
        ("h*llo", "heeeello", True),
        ("h[^e]llo", "hello", False),
        ("h[^e]llo", "hallo", True),
        ("h[a-b]llo", "hbllo", True),
        (r"h\*llo", "hello", False),
        (r"h\*llo", "h*llo", True),
        (r"h\[x]", "h[x]", True),
        ("*", "", True),
        ("*a" * 200 + "b", "a" * 2000, False),
    ],
)
def test_patterns_mean_what_they_mean_in_redis(pattern: str, text: str, matches: bool) -> None:
    assert bool(pattern_of(pattern.encode())(text)) is matches
