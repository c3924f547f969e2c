"""What a client sees of a node's process, asked of a real process and of a simulated host alike.

Where the two differ, the bodies ask for what both promise:

    killed           the kernel ends a connection by what was unread, the simulated one by chance: a
                     client may see an end or a reset, and may lose the last replies with a reset
    half-close       a real client may end its requests and still read the replies; a simulated end
                     that closes hears nothing more
    a reset          in both worlds it may overtake the word that says why: only who has sent nothing
                     more than the node had read can count on that word
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kvlab.wire.peer import MAGIC
from tests.conformance.host_worlds import Real, Simulated

WORLDS = [pytest.param(None, marks=pytest.mark.live, id="real")]
WORLDS += [pytest.param(seed, id=f"simulated-{seed}") for seed in range(3)]

SET = {"type": "SET", "key": "k", "value": "v"}
GET = {"type": "GET", "key": "k"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    made = Real(tmp_path_factory.mktemp("node"))
    yield made
    made.end()


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[Real | Simulated]:
    if request.param is None:
        made: Real | Simulated = request.getfixturevalue("real")
    else:
        made = Simulated(request.param)
    made.begin()
    yield made
    made.close()


def _lines(*requests: dict) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in requests)


def _serves(world: Real | Simulated) -> bool:
    return world.answer(type="PING")["status"] == "SUCCESS"


def test_requests_of_one_write_are_answered_in_order(world):
    end = world.connect()
    requests = [
        {"type": kind, "key": f"k{number}", "req_id": f"{kind} {number}"} | more
        for number in range(100)
        for kind, more in (("SET", {"value": f"v{number}"}), ("GET", {}), ("PING", {}))
    ]
    end.write(_lines(*requests))
    world.wait_for(lambda: len(end.replies) >= len(requests) or end.gone, "all replies")

    assert [one["req_id"] for one in end.replies] == [one["req_id"] for one in requests]
    assert [one["value"] for one in end.replies[1::3]] == [f"v{number}" for number in range(100)]
    assert not end.gone


def test_plain_requests_of_one_write_are_answered_in_order(world):
    end = world.connect()
    keys = [f"k{number}" for number in range(500)]
    end.write(_lines(*({"type": "SET", "key": key, "value": key} for key in keys)))
    end.write(_lines(*({"type": "GET", "key": key} for key in reversed(keys))))
    world.wait_for(lambda: len(end.replies) >= 1000 or end.gone, "all replies")

    assert [one["key"] for one in end.replies] == keys + keys[::-1]
    assert [one["value"] for one in end.replies[500:]] == keys[::-1]


def test_requests_in_pieces_are_answered_as_if_whole(world):
    end = world.connect()
    for byte in _lines(SET, GET):
        end.write(bytes([byte]))
    world.wait_for(lambda: len(end.replies) >= 2 or end.gone, "both replies")

    assert end.replies[1]["value"] == "v"


def test_a_reply_of_megabytes_comes_whole(world):
    value = "x" * 3_000_000
    assert world.answer(**SET | {"value": value})["status"] == "SUCCESS"

    assert world.answer(**GET)["value"] == value


@pytest.mark.parametrize("garbage", [b'{"type" "GET"}\n', b"\x00\x01\x02\x03\n", b"{]\n"])
def test_garbage_gets_an_error_behind_the_replies_due_and_a_close(world, garbage):
    end = world.connect()
    end.write(_lines(SET, GET) + garbage)
    world.wait_for(lambda: end.gone, "the end")

    assert [one["status"] for one in end.replies] == ["SUCCESS", "SUCCESS", "ERROR"]
    assert end.replies[-1]["code"] == "BAD_REQUEST"
    assert _serves(world)


def test_a_wrong_request_gets_an_error_and_the_next_is_served(world):
    end = world.connect()
    end.write(_lines({"type": "FLY", "key": "k"}, {"type": "SET", "key": "k"}, SET))
    world.wait_for(lambda: len(end.replies) >= 3 or end.gone, "all replies")

    codes = [one.get("code") for one in end.replies]
    assert codes[:2] == ["BAD_TYPE", "BAD_REQUEST"]
    assert end.replies[2]["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 "),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 "),
    ],
)
def test_whoever_speaks_http_gets_one_answer_and_the_end(world, asked, answer):
    end = world.connect()
    end.write(asked)
    world.wait_for(lambda: end.gone, "the end")

    assert end.got.startswith(answer)


def test_half_a_request_is_not_answered_and_its_client_may_leave(world):
    end = world.connect()
    end.write(_lines(SET) + b'{"type":"GET","ke')
    world.wait_for(lambda: end.replies, "the reply to the whole one")
    world.never(lambda: len(end.replies) > 1 or end.gone, "half a request was answered")
    end.close()

    assert _serves(world)


def test_a_client_that_resets_with_replies_due_harms_nobody(world):
    for _ in range(5):
        end = world.connect()
        end.write(_lines(SET, *[GET] * 200))
        end.abort()

    assert _serves(world)


def test_a_kill_ends_connections_and_the_port_refuses(world):
    ends = [world.connect() for _ in range(3)]
    ends[0].ask(**SET)
    world.wait_for(lambda: ends[0].replies, "a reply")
    ends[1].write(b'{"type":"GET","ke')
    world.kill()
    world.wait_for(lambda: all(end.gone for end in ends), "the connections to end")
    late = world.dial()
    world.wait_for(lambda: late.over, "the connect to be refused")

    assert not late.connected
    assert [len(end.replies) for end in ends] == [1, 0, 0]


def test_a_node_that_was_killed_and_starts_again_forgot_its_memory(world):
    old = world.connect()
    assert world.answer(**SET)["status"] == "SUCCESS"
    assert world.answer(**GET)["value"] == "v"
    world.kill()
    world.wait_for(lambda: old.gone, "the old connection to end")
    world.start()

    assert world.answer(**GET)["code"] == "NOT_FOUND"
    assert world.answer(**SET)["status"] == "SUCCESS"
    assert world.answer(**GET)["value"] == "v"


def test_a_node_that_is_asked_to_end_answers_what_it_owes_and_is_gone(world):
    ends = [world.connect() for _ in range(2)]
    ends[0].ask(**SET)
    world.wait_for(lambda: ends[0].replies, "a reply")
    ends[1].ask(**GET)
    world.stop()
    world.wait_for(lambda: all(end.gone for end in ends), "the connections to end")
    late = world.dial()
    world.wait_for(lambda: late.over, "the connect to be refused")

    assert not late.connected
    [reply] = ends[1].replies
    assert reply["value"] == "v" or reply["code"] == "ENDING"
    world.start()
    assert world.answer(**GET)["code"] == "NOT_FOUND"


def test_a_paused_node_says_nothing_and_answers_all_when_it_runs_on(world):
    old = world.connect()
    old.ask(**SET)
    world.wait_for(lambda: old.replies, "a reply")
    world.pause()
    old.write(_lines(GET, SET | {"value": "w"}, GET))
    new = world.dial()
    if new.connected:
        new.ask(**GET)
    world.never(lambda: len(old.replies) > 1 or new.got or old.gone or new.over, "a reply came")
    world.resume()

    world.wait_for(lambda: len(old.replies) == 4, "the replies")
    assert [one["value"] for one in old.replies] == ["", "v", "", "w"]
    world.wait_for(lambda: new.connected, "the new connection")
    new.ask(**GET)
    world.wait_for(lambda: new.replies, "its reply")
    assert new.replies[0]["value"] in {"v", "w"}


def test_a_client_that_leaves_a_paused_node_had_its_requests_done(world):
    end = world.connect()
    world.pause()
    end.ask(**SET)
    world.never(lambda: end.got or end.gone, "a reply came")
    end.close()
    world.resume()

    world.wait_for(lambda: world.answer(**GET).get("value") == "v", "what was sent to be done")


def test_a_paused_node_can_be_killed(world):
    old = world.connect()
    world.pause()
    old.ask(**SET)
    new = world.dial()
    world.never(lambda: old.gone or new.over, "a paused process ended a connection")
    world.kill()
    world.wait_for(lambda: old.gone and new.gone, "the connections to end")
    assert old.got == new.got == b""
    world.start()

    assert world.answer(**GET)["code"] == "NOT_FOUND"


def test_a_resume_of_what_runs_changes_nothing(world):
    end = world.connect()
    world.resume()
    end.ask(**SET)

    world.wait_for(lambda: end.replies, "a reply")


def test_memory_stays_over_a_pause(world):
    assert world.answer(**SET)["status"] == "SUCCESS"
    world.pause()
    world.reaches(lambda: False, 20_000)
    world.resume()

    assert world.answer(**GET)["value"] == "v"


def test_a_peer_that_talks_rubbish_is_cut_off_without_a_word(world):
    end = world.connect()
    end.write(MAGIC + b"\xff\xff\xff\xff" + bytes(1000))
    world.wait_for(lambda: end.gone, "the end")

    assert end.got == b""
    assert _serves(world)
