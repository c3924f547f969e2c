from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.storage.journal import Journal, Saved
from kvlab.storage.memory import Table
from kvlab.storage.registers import Register, Registers

keys = st.sampled_from([b"a", b"b", b"c", b"d"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.integers(1, 9), st.sampled_from(["v", b"\xff", None])),
        st.tuples(st.just("drop"), st.integers(0, 1)),
        st.tuples(st.just("drop registers"), st.integers(0, 1)),
        st.tuples(st.just("accept"), keys, st.integers(1, 9)),
        st.tuples(st.just("promise"), keys, st.integers(1, 9)),
        st.tuples(st.just("purge"), st.integers(0, 1), st.integers(1, 9), st.sets(keys)),
        st.tuples(st.just("meta"), st.sampled_from("xy"), st.integers()),
        st.tuples(st.just("take")),
    ),
    max_size=30,
)


def range_of(key: bytes) -> int:
    return key[0] % 2


@given(steps)
def test_what_was_journaled_makes_the_same_table_and_registers(some) -> None:
    table, registers, saved, meta = Table(2), Registers(2), Saved(2, range_of), {}
    table.journal = registers.journal = journal = Journal()
    for what, *rest in some:
        if what == "put":
            key, version, value = rest
            table.put(range_of(key), key, version, value)
        elif what == "drop":
            table.drop(rest[0])
        elif what == "drop registers":
            registers.drop(rest[0])
        elif what == "accept":
            registers.accept(range_of(rest[0]), rest[0], Register(rest[1], "v", 1))
        elif what == "promise":
            if rest[1] > registers.promised(range_of(rest[0]), rest[0]):
                registers.promise(range_of(rest[0]), *rest)
        elif what == "purge":
            index, version, some_keys = rest
            table.purge(index, version, [key for key in some_keys if range_of(key) == index])
        elif what == "meta":
            journal.meta(*rest)
            meta[rest[0]] = rest[1]
        else:
            saved.apply(journal.take())
            assert not journal
    saved.apply(journal.take())

    assert saved.table.ranges == table.ranges
    assert (saved.table.keys, saved.table.sizes) == (table.keys, table.sizes)
    assert saved.table.purged == table.purged
    assert (saved.registers.ranges, saved.registers.promises) == (
        registers.ranges,
        registers.promises,
    )
    assert saved.meta == meta


def test_a_reset_voids_what_came_before() -> None:
    saved = Saved(2, range_of)

    saved.apply([[0, [b"a", 5, "v"]], [2, "x", 1], [3], [0, [b"b", 1, "w"]]])

    assert saved.table.get(0, b"b") == (1, "w", None)
    assert saved.table.key_count == 1
    assert saved.meta == {}


def test_an_unknown_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="does not know"):
        Saved(2, range_of).apply([[9]])
