from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from kvlab.storage.memory import Table

RANGES = 3
values = st.none() | st.text(max_size=4) | st.binary(max_size=4)
keys = st.sampled_from([b"", b"a", b"bb", b"ccc"])
# As in a cluster, a version names one write: writes of one version are equal.
writes = st.lists(
    st.tuples(st.integers(0, RANGES - 1), keys, values),
    max_size=30,
).map(lambda some: [(index, key, n + 1, value) for n, (index, key, value) in enumerate(some)])


def _content(table: Table) -> list[dict[bytes, tuple]]:
    return [{key: record[:2] for key, record in one.items()} for one in table.ranges]


def _apply(some) -> Table:
    table = Table(RANGES)
    for index, key, version, value in some:
        table.put(index, key, version, value)
    return table


def _recount(table: Table) -> None:
    for index, records in enumerate(table.ranges):
        live = {key: record[1] for key, record in records.items() if record[1] is not None}
        assert table.keys[index] == len(live)
        assert table.sizes[index] == sum(len(key) + len(value) for key, value in live.items())
    assert table.key_count == sum(table.keys)
    assert table.byte_count == sum(table.sizes)


@given(writes, st.integers(0, 2**32), st.integers(1, 3))
def test_the_same_writes_in_any_order_and_number_lead_to_the_same_table(some, seed, times):
    shuffled = some * times
    random.Random(seed).shuffle(shuffled)

    assert _content(_apply(shuffled)) == _content(_apply(some))


@given(writes, st.integers(0, 2**32))
def test_the_counters_are_a_recount_after_every_write(some, seed):
    random.Random(seed).shuffle(some)
    table = Table(RANGES)
    for index, key, version, value in some:
        table.put(index, key, version, value)
        _recount(table)


def test_every_change_of_state_of_one_key_is_counted():
    for first, second, third in itertools.product([None, "v", "longer", b"\xff"], repeat=3):
        table = Table(1)
        for version, value in enumerate((first, second, third), 1):
            assert table.put(0, b"key", version, value)
            _recount(table)


@given(writes)
def test_put_says_whether_it_changed_anything(some):
    table = Table(RANGES)
    for index, key, version, value in some:
        before = table.get(index, key)
        changed = table.put(index, key, version, value)
        assert changed is (before is None or before[0] < version)
        assert table.put(index, key, version, "another") is False  # the same version again
        held = table.get(index, key)
        assert held is not None
        assert held[:2] == (version, value)


def test_an_older_write_changes_nothing_also_over_a_tombstone():
    table = Table(1)
    table.put(0, b"k", 5, None)

    assert not table.put(0, b"k", 4, "late")
    assert table.get(0, b"k")[:2] == (5, None)
    assert (table.keys[0], table.sizes[0]) == (0, 0)


def test_a_new_value_forgets_the_reply_that_was_kept_for_the_old_one():
    table = Table(1)
    table.put(0, b"k", 1, "old")
    table.ranges[0][b"k"] = (1, "old", b"prepared")

    table.put(0, b"k", 2, "new")

    assert table.get(0, b"k") == (2, "new", None)


@given(writes)
def test_a_dropped_range_is_empty_and_the_others_stay(some):
    table = _apply(some)
    before = _content(table)

    table.drop(1)

    assert _content(table) == [before[0], {}, before[2]]
    _recount(table)
    assert table.snapshot(1) == []
    assert [index for index, _, _ in table.held()] == [n for n in (0, 2) if before[n]]


def test_a_snapshot_does_not_follow_what_comes_later():
    table = Table(1)
    table.put(0, b"a", 1, "v")
    table.put(0, b"b", 2, None)
    keys = table.snapshot(0)
    table.put(0, b"c", 3, "v")

    assert keys == [b"a", b"b"]  # tombstones too: they must travel
