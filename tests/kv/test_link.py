from __future__ import annotations

from world import World

from kvlab.kv import link as link_module
from kvlab.kv.link import Link
from kvlab.wire.json_lines import Request
from kvlab.wire.peer import FrameReader, encode_raw, parse_turn


def _frames(link: Link) -> list[list]:
    return [parse_turn(body) for body in FrameReader().feed(link.take_frame(3, 99))]


def test_one_turn_is_one_frame_and_leaves_the_link_empty():
    link = Link("server2")
    link.groups = [encode_raw([1, [b"k", 5, "v"]]), encode_raw([2, [b"l", 6, None]])]
    link.ack, link.exceptions, link.controls = 7, [7, 0, 4, "w"], [["wait", 1]]

    assert _frames(link) == [
        [3, 3, 99, [[1, [b"k", 5, "v"]], [2, [b"l", 6, None]]], 7, [7, 0, 4, "w"], [["wait", 1]]]
    ]
    assert not link.has_frame


def test_heavy_groups_leave_in_frames_of_their_own_and_in_order(monkeypatch):
    monkeypatch.setattr(link_module, "FRAME_BYTES_SOFT", 1000)
    link = Link("server2")
    link.groups = [encode_raw([gid, [b"k", gid, "v" * 600]]) for gid in range(1, 6)]
    link.ack, link.exceptions = 9, [9, 0, 1, None]

    frames = _frames(link)

    assert [group[0] for frame in frames for group in frame[3]] == [1, 2, 3, 4, 5]
    assert len(frames) == 5
    assert [frame[4] for frame in frames] == [0, 0, 0, 0, 9]  # acknowledged when all is told


def test_heavy_answers_leave_in_several_frames_before_their_acknowledgement(monkeypatch):
    monkeypatch.setattr(link_module, "FRAME_BYTES_SOFT", 1000)
    link = Link("server2")
    said = [part for index in range(6) for part in (4, index, 8, "v" * 400)]
    link.ack, link.exceptions = 4, list(said)

    frames = _frames(link)

    assert [part for frame in frames for part in frame[5]] == said
    assert all(sum(len(value) for value in frame[5][3::4]) <= 1400 for frame in frames)
    assert [frame[4] for frame in frames] == [0] * (len(frames) - 1) + [4]


def test_heavy_values_reach_a_coordinator_that_holds_none_of_them(monkeypatch):
    monkeypatch.setattr(link_module, "FRAME_BYTES_SOFT", 1000)
    world = World(5, replication=2, r=2, w=2)
    [held] = world.ask("server1", Request("INSPECT", "k"))
    outside = next(name for name in world.nodes if name not in held.info["owners"])
    world.set("server1", "k", "v" * 700)

    replies = world.ask(outside, *[Request("GET", "k")] * 10)

    assert [reply.value for reply in replies] == ["v" * 700] * 10
    assert {reply.status for reply in replies} == {"SUCCESS"}


def test_a_connection_that_begins_anew_says_nothing_of_the_old_one():
    link = Link("server2")
    link.groups, link.exceptions, link.controls = [encode_raw([1, []])], [1, 0, 1, None], [["x"]]
    link.ack, link.ack_due, link.misses = 5, True, 9

    link.reset()

    assert not link.has_frame
    assert (link.ack, link.misses) == (0, 0)
