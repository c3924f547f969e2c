from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import World

from kvlab.kv.leaves import LEAF_BYTES, LEAVES_MAX, differs, leaves_of
from kvlab.kv.state import Settings, State
from kvlab.storage.registers import Register

RECORDS = st.dictionaries(st.binary(max_size=8), st.integers(1, 9), max_size=60)


def _version(key: bytes, number: int) -> int:
    """A version is given once: to one write of one key."""
    return crc32(key) << 8 | number << 1


def _state(records: dict[bytes, int], registers: dict[bytes, int]) -> State:
    state = State(Settings("a", "test", "a:1", "a:2", boot=1, range_count=4))
    for key, number in records.items():
        state.table.put(1, key, _version(key, number), "v")
    for key, number in registers.items():
        state.registers.accept(1, key, Register(_version(key, number) | 1, "v", 1))
    return state


@given(RECORDS, RECORDS, RECORDS, RECORDS)
def test_whatever_differs_lies_in_a_leaf_that_does(here, there, here_linear, there_linear):
    ours, theirs = _state(here, here_linear), _state(there, there_linear)

    is_wanted = differs(ours, 1, leaves_of(theirs, 1))

    for one, other in ((here, there), (here_linear, there_linear)):
        for key in {*one, *other}:
            assert is_wanted(key) or one.get(key) == other.get(key)


@given(RECORDS, RECORDS)
def test_the_same_records_have_the_same_leaves_in_any_order(records, registers):
    one = _state(records, registers)
    other = _state(dict(reversed(records.items())), dict(reversed(registers.items())))

    is_wanted = differs(one, 1, leaves_of(other, 1))

    assert leaves_of(one, 1) == leaves_of(other, 1)
    assert not any(is_wanted(key) for key in {*records, *registers})


@pytest.mark.parametrize(
    ("keys", "leaves"), [(0, 1), (8, 1), (9, 2), (2000, 256), (50_000, LEAVES_MAX)]
)
def test_a_range_has_as_many_leaves_as_its_keys_are_worth(keys, leaves):
    state = _state({f"key{number}".encode(): 1 for number in range(keys)}, {})

    assert len(leaves_of(state, 1)) == leaves * LEAF_BYTES


@pytest.mark.parametrize("size", [0, 7, 9, 24, 2 * LEAVES_MAX * LEAF_BYTES])
def test_what_cannot_be_leaves_is_refused(size):
    with pytest.raises(ValueError, match="leaves"):
        differs(_state({}, {}), 1, bytes(size))


def test_one_key_that_differs_among_many_is_all_but_alone_in_the_list():
    world = World(3, range_count=1)
    for number in range(1000):
        world.set("server1", f"key{number}", "v")
    ours, theirs = world.nodes["server1"], world.nodes["server2"]
    ours.state.table.put(0, b"key7", ours.state.clock.next(world.now_us), "newer")
    listed = []
    for link in theirs.state.links.values():
        link.controls = listed  # whatever it says to anybody

    pulls = ours.transfers
    pulls.compare(0, "server2")
    pulls.advance()
    [pull] = ours.state.links["server2"].controls
    theirs.transfers.donations.on_pull(theirs.state.links["server1"], *pull[1:])

    [[kind, _, _, records, more, *_]] = listed
    assert (kind, more) == ("chunk", False)
    assert b"key7" in records[::2]
    assert len(records[::2]) < 40


def test_what_one_replica_alone_has_reaches_the_others_through_the_leaves():
    world = World(3, range_count=2)
    for number in range(100):
        world.set("server1", f"key{number}", "v")
    node = world.nodes["server3"]
    index = node.state.range_of(b"key7")
    node.state.table.put(index, b"key7", node.state.clock.next(world.now_us), "newer")
    node.state.table.put(index, b"key8", node.state.clock.next(world.now_us), None)

    world.tick(40)

    assert set(world.holders("key7").values()) == {"newer"}
    digests = {one.state.table.digest(index) for one in world.nodes.values()}
    assert len(digests) == 1
