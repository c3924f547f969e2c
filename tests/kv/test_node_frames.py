"""What a peer may send: every frame is taken or ends its link, and the node goes on serving."""

from __future__ import annotations

from binascii import crc_hqx

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import World

from kvlab.wire.json_lines import Request
from kvlab.wire.peer import TURN, FrameError

encode = msgspec.msgpack.Encoder().encode

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 20)
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.sampled_from(["server1", "server2", "server3", "full", "list", "", "x"])
    | st.sampled_from([b"a", b"b", b"{t}", b"", b"\xff"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "address", "client_address", "incarnation", "weight", "rack", "epoch"]
            ),
            inner,
            max_size=7,
        )
    ),
    max_leaves=10,
)
wishes = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["server2", "server9", ""]) | scalars,
        "address": st.just("server9:1") | scalars,
        "client_address": st.just("server9:2") | scalars,
        "incarnation": st.integers(1, 2**62) | scalars,
        "weight": st.floats(0.5, 2) | scalars | st.just(float("nan")) | st.just(float("inf")),
        "rack": st.just("") | scalars,
    }
)
names = st.sampled_from(
    [
        *("map", "join", "leave", "ready", "refused", "put", "pull", "chunk", "more", "fetch"),
        *(
            "records",
            "wait",
            "what",
            "offer",
            "want",
            "digests",
            "absent",
            "agree",
            "scan",
            "scanned",
        ),
        *("hush", "quiet", "cut", "counted", "purge", "do", "did", "answer"),
    ]
)
controls = (
    st.builds(lambda name, rest: [name, *rest], names, st.lists(values, max_size=4))
    | st.builds(lambda wish, hops: ["join", wish, hops], wishes, st.integers(-5, 5))
    | st.builds(
        lambda kind, one, ns, records, more: [kind, one, ns, records, more],
        st.sampled_from(["chunk", "records"]),
        st.integers(0, 40),
        st.integers(0, 1),
        st.lists(scalars, max_size=6),
        st.booleans() | st.integers(-3, 5),
    )
    | st.builds(lambda records: ["put", records], st.lists(scalars, max_size=6))
    | st.builds(
        lambda kind, numbers: [kind, *numbers],
        st.sampled_from(["hush", "quiet", "counted", "cut", "purge"]),
        st.lists(st.integers(-1, 5) | st.integers(2**57, 2**64 - 1) | st.none(), max_size=4),
    )
    | st.builds(
        lambda index, leaves: ["pull", 1, index, 1, leaves],
        st.integers(-1, 16),
        st.none() | st.binary(max_size=64),
    )
    | st.builds(
        lambda what, key, number, rest: ["register", what, 1, 5, key, number, *rest],
        st.sampled_from(["query", "prepare", "accept", "ask"]),
        st.sampled_from([b"a", b"b"]) | scalars,
        st.integers(-1, 2**63),
        st.lists(scalars | st.just([]) | st.just([["id", 1, True, None]]), max_size=4),
    )
    | st.builds(
        lambda what, rest: [what, *rest],
        st.sampled_from(["answer", "do", "did"]),
        st.lists(
            scalars | st.just([]) | st.sampled_from(["get", "set", "state", "no"]), max_size=9
        ),
    )
)
records = st.tuples(
    st.sampled_from([b"a", b"b", b"c"]), st.integers(-1, 2**63), st.text(max_size=3) | scalars
)
groups = st.tuples(
    st.integers(1, 9) | scalars,
    st.lists(records | st.tuples(scalars, scalars, values), max_size=4).map(
        lambda triples: [part for triple in triples for part in triple]
    )
    | values,
)
exceptions = st.lists(
    st.tuples(st.integers(0, 60) | scalars, st.integers(-3, 3) | scalars, scalars, scalars),
    max_size=3,
).map(lambda quadruples: [part for quadruple in quadruples for part in quadruple])
turns = st.builds(
    lambda epoch, clock, some, ack, said, rare: [TURN, epoch, clock, some, ack, said, rare],
    st.integers(0, 4) | scalars,
    st.integers(0, 2**62) | scalars,
    st.lists(groups, max_size=3) | values,
    st.integers(0, 60) | scalars,
    exceptions | values,
    st.lists(controls, max_size=3) | values,
)


def _recount(world: World) -> None:
    """The counters of every table say what is there."""
    for node in world.nodes.values():
        table = node.state.table
        for index, held in enumerate(table.ranges):
            live = {key: record[1] for key, record in held.items() if record[1] is not None}
            assert table.keys[index] == len(live)
            assert table.sizes[index] == sum(len(key) + len(v) for key, v in live.items())


def _serves(world: World) -> None:
    for name in world.nodes:
        assert world.set(name, "probe", f"by {name}").status == "SUCCESS"
        assert world.get("server1", "probe") == f"by {name}"


def _send(world: World, body: bytes) -> bool:
    """Hand a frame to server1 as if it came from server2; False if it ended the link."""
    node = world.nodes["server1"]
    try:
        node.frame(node.state.up["server2"], body, world.now_us)
    except FrameError:
        world.disconnect("server1", "server2")
        world.run()
        world.connect("server1", "server2")
        return False
    return True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(turns.map(encode) | values.map(encode) | st.binary(max_size=30), max_size=3))
def test_after_any_frame_of_a_peer_the_node_serves(bodies):
    world = World(3)
    # Something is under way, so that answers to it, right and wrong, meet it.
    batch = world.submit("server1", Request("SET", "a", "1"), Request("GET", "b"))
    world.collect()

    for body in bodies:
        _send(world, body)
    world.run()
    world.tick(13)

    assert batch.pending == 0
    batch.encode()
    _serves(world)
    _recount(world)


@pytest.mark.parametrize(
    "turn",
    [
        [TURN, "1", 0, [], 0, [], []],
        [TURN, 1, "0", [], 0, [], []],
        [TURN, 1, 0, [[1, [b"a", "1", "v"]]], 0, [], []],
        [TURN, 1, 0, [[1, [b"a", 1, 5]]], 0, [], []],
        [TURN, 1, 0, [[1, [b"a", 1, ["v"]]]], 0, [], []],
        [TURN, 1, 0, [[1, ["a", 1, "v"]]], 0, [], []],
        [TURN, 1, 0, [[1, [[123], 1, "v"]]], 0, [], []],
        [TURN, 1, 0, [[1, [b"a", 1]]], 0, [], []],
        [TURN, 1, 0, [["1", []]], 0, [], []],
        [TURN, 1, 0, [5], 0, [], []],
        [TURN, 1, 0, [], 9, [1, 0, "2", "v"], []],
        [TURN, 1, 0, [], 9, [1, "0", 2, "v"], []],
        [TURN, 1, 0, [], 9, [1, 0, 2, ["v"]], []],
        [TURN, 1, 0, [], 9, [1, 0, 2], []],
        [TURN, 1, 0, [], 0, [], [["put", [b"a", 1, 5]]]],
        [TURN, 1, 0, [], 0, [], [["put", [b"a", "1", "v"]]]],
        [TURN, 1, 0, [], 0, [], [["join", {"id": "server9"}, 0]]],
        [TURN, 1, 0, [], 0, [], [["join", {"id": "server9"}, -1]]],
        [TURN, 1, 0, [], 0, [], [["ready", "server2", 1, [999]]]],
        [TURN, 1, 0, [], 0, [], [["pull", 1, -1, 1, None]]],
        [TURN, 1, 0, [], 0, [], [["pull", 1, 999, 1, None]]],
        [TURN, 1, 0, [], 0, [], [["pull", 1, 0, 1, b"seven b"]]],
        [TURN, 1, 0, [], 0, [], [["pull", 1, 0, 1, "full"]]],
        [TURN, 1, 0, [], 0, [], [["fetch", 1, 999, [b"a"]]]],
        [TURN, 1, 0, [], 0, [], [["fetch", 1, 0, [["a"]]]]],
        [TURN, 1, 0, [], 0, [], [["map", {}]]],
        [TURN, 1, 0, [], 0, [], [["fly"]]],
        [TURN, 1, 0, [], 0, [], [5]],
        [TURN, 1, 0, [], 0, [], [[]]],
    ],
    ids=repr,
)
def test_a_frame_with_a_wrong_part_ends_the_link_and_leaves_nothing_behind(turn):
    world = World(3)

    assert not _send(world, encode(turn))

    assert world.holders("a") == {}
    world.tick(3)
    _serves(world)
    _recount(world)


def test_a_wish_to_leave_of_a_node_that_is_gone_is_no_fault_of_the_messenger():
    world = World(3)

    assert _send(world, encode([TURN, 1, 0, [], 0, [], [["leave", "server9", 1]]]))

    _serves(world)


def test_a_member_that_passed_a_wish_on_is_not_the_one_that_is_refused():
    world = World(3)
    wish = {
        "id": "server3",
        "address": "server3:9",
        "client_address": "server3:8",
        "incarnation": world.now_us + 5,
        "weight": 1.0,
        "rack": "",
    }

    assert _send(world, encode([TURN, 1, 0, [], 0, [], [["join", wish, 1]]]))
    world.tick(3)

    assert [node.membership.refused for node in world.nodes.values()] == ["", "", ""]
    assert [node.state.epoch for node in world.nodes.values()] == [1, 1, 1]
    _serves(world)


@given(st.integers(2**40, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_a_clock_that_is_far_ahead_does_not_take_others_along(clock):
    world = World(3)
    before = world.nodes["server1"].state.clock.last

    _send(world, encode([TURN, 1, clock, [], 0, [], []]))

    assert world.nodes["server1"].state.clock.last <= max(
        before, (world.now_us + 500_000 - 1_735_689_600_000_000) << 12 | 4095
    )
    _serves(world)


def test_ranges_come_from_the_same_slots_at_sender_and_receiver():
    world = World(3)
    key = b"some key"
    body = encode([TURN, 1, 0, [[1, [key, 5, "v"]]], 0, [], []])

    assert _send(world, body)

    shift = world.nodes["server1"].state.shift
    held = world.nodes["server1"].state.table.get((crc_hqx(key, 0) & 16383) >> shift, key)
    assert held is not None
    assert held[:2] == (5, "v")


def test_a_second_life_is_refused_while_the_first_is_connected():
    world = World(3)
    one = world.nodes["server1"]
    world.start("server2")  # another process under the same id
    hello = world.nodes["server2"].hello("server1")

    assert one.why_refuse(hello) == (
        "running",
        "server2 is already running at server2:1; give each node its own --id",
    )
    one.link_down("server2")
    assert one.why_refuse(hello) == ("", "")


def test_a_node_that_dials_itself_is_told_from_a_double():
    world = World(1, found=False)
    one = world.nodes["server1"]
    hello = one.hello("")
    world.start("server1")

    assert one.why_refuse(hello)[0] == "self"
    assert one.why_refuse(world.nodes["server1"].hello(""))[0] == "running"
