"""Dialogues about the linear namespace, in the words of RESP clients."""

from __future__ import annotations

import pytest
from resp_talk import Talk
from session_client import solo_world
from world import World


@pytest.fixture(params=[1, 3], ids=["alone", "three"])
def talk(request: pytest.FixtureRequest) -> Talk:
    one = Talk(solo_world() if request.param == 1 else World(3))
    assert one("SELECT", "1") == b"OK"
    return one


@pytest.mark.parametrize(
    ("lines", "replies"),
    [
        (["GET k", "SET k v", "GET k"], [None, b"OK", b"v"]),
        (["SET k v NX", "SET k w NX", "GET k"], [b"OK", None, b"v"]),
        (["SET k v XX", "SET k v", "SET k w xx", "GET k"], [None, b"OK", b"OK", b"w"]),
        (["SET k v GET", "SET k w GET", "GET k"], [None, b"v", b"w"]),
        (["SETNX k v", "SETNX k w"], [1, 0]),
        (["GETSET k v", "GETSET k w"], [None, b"v"]),
        (["SET k v NX GET", "SET k w NX GET", "GET k"], [None, b"v", b"v"]),
        (
            ["SET k v XX GET", "GET k", "SET k v", "SET k w XX GET", "GET k"],
            [None, None, b"OK", b"v", b"w"],
        ),
        (["SET k v EX 100", "SET k w KEEPTTL", "TTL k", "GET k"], [b"OK", b"OK", 100, b"w"]),
        (["SET k v EX 100", "SET k w XX GET KEEPTTL", "TTL k"], [b"OK", b"v", 100]),
        (["SET k v KEEPTTL", "TTL k", "SET k v", "TTL k"], [b"OK", -1, b"OK", -1]),
        (["GETEX k EX 10", "SET k v", "GETEX k", "TTL k"], [None, b"OK", b"v", -1]),
        (
            ["SET k v", "GETEX k PX 9000", "TTL k", "GETEX k PERSIST", "TTL k"],
            [b"OK", b"v", 9, b"v", -1],
        ),
        (["SET k v", "GETEX k PXAT 1", "GET k"], [b"OK", b"v", None]),
        (["GETDEL k", "SET k v", "GETDEL k", "GET k"], [None, b"OK", b"v", None]),
        (["INCR k", "INCRBY k 41", "DECR k", "DECRBY k -1", "GET k"], [1, 42, 41, 42, b"42"]),
        (["APPEND k ab", "APPEND k c", "STRLEN k"], [2, 3, 3]),
        (
            ["MSET a 1 b 2", "MGET a b c", "EXISTS a b c", "DEL a b c"],
            [b"OK", [b"1", b"2", None], 2, 2],
        ),
        (["SET k v", "TYPE k", "DBSIZE"], [b"OK", b"string", 1]),
    ],
)
def test_commands_do_what_redis_does(talk: Talk, lines: list[str], replies: list[object]) -> None:
    assert [reply for line in lines for reply in talk.lines(line)] == replies


def test_a_pipeline_is_done_in_its_order(talk: Talk) -> None:
    assert talk.lines("SET k 1", "INCR k", "GET k", "DEL k", "INCR k") == [b"OK", 2, b"2", 1, 1]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("SET k v NX XX", "ERR SET takes NX or XX, not both"),
        ("SET k v EX 0", "ERR invalid expire time in 'set' command"),
        ("SET k v PX 10 KEEPTTL", "ERR syntax error"),
        ("SET k v IFEQ w", "ERR SET IFEQ: SET takes NX, XX or GET"),
        ("GETEX k EX 0", "ERR invalid expire time in 'getex' command"),
        ("GETEX k KEEPTTL", "ERR syntax error"),
        ("EXPIRE k soon", "ERR value is not an integer"),
        ("SET k v FLY", "ERR syntax error"),
        ("INCRBY k 1.5", "ERR value is not an integer"),
        ("INCRBY k 9223372036854775808", "ERR value is not an integer"),
        ("DECRBY k -9223372036854775808", "ERR value is not an integer"),
        ("INCR", "ERR wrong number of arguments"),
        ("INCRBYFLOAT k 1", "ERR INCRBYFLOAT: it changes several keys or parts"),
        ("INCR word", "ERR value is not an integer"),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(talk: Talk, line: str, told: str) -> None:
    talk("SET", "word", "w")

    [reply] = talk.lines(line)

    assert str(reply).startswith(told)
    assert talk.lines("GET k", "GET word") == [None, b"w"]


def test_the_namespace_is_that_of_the_connection(talk: Talk) -> None:
    talk("SET", "k", "linear")
    assert b"db=1" in talk("CLIENT", "INFO")

    assert talk.lines("SELECT 0", "GET k", "SET k eventual", "SELECT 1", "GET k") == [
        b"OK",
        None,
        b"OK",
        b"OK",
        b"linear",
    ]
    assert talk("RESET") == b"RESET"
    assert talk("GET", "k") == b"eventual"
    assert str(talk("INCR", "k")).startswith("ERR INCR: it reads and writes in one step")


def test_without_a_majority_nothing_is_done() -> None:
    talk = Talk(World(3))
    talk("SELECT", "1")
    talk("SET", "k", "v")
    talk.world.disconnect("server1", "server2")
    talk.world.disconnect("server1", "server3")

    for line in ("GET k", "INCR n", "MGET k n", "DEL k"):
        [reply] = talk.lines(line)
        assert str(reply).startswith("UNAVAILABLE")
