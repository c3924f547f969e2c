from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvlab.storage.journal import Journal, Saved
from kvlab.storage.registers import EMPTY, Register, Registers

KEYS = [b"a", b"b", b"c"]


def range_of(key: bytes) -> int:
    return key[0] % 2


steps = st.lists(
    st.tuples(
        st.sampled_from(["accept", "promise", "drop"]),
        st.sampled_from(KEYS),
        st.integers(1, 50),
        st.sampled_from(["v", b"\xff", None]),
    )
)


@given(steps)
def test_what_was_journaled_is_what_was_held(given_steps):
    registers, saved = Registers(2), Saved(2, range_of)
    journal = registers.journal = Journal()
    for what, key, ballot, value in given_steps:
        index = range_of(key)
        if what == "drop":
            registers.drop(index)
        elif what == "promise" and ballot > registers.promised(index, key):
            registers.promise(index, key, ballot)
        elif what == "accept" and ballot >= registers.promised(index, key):
            window = ((ballot, ballot, True, None),)
            registers.accept(index, key, Register(ballot, value, 1, 0, window))
        saved.apply(journal.take())

    assert saved.registers.ranges == registers.ranges
    assert saved.registers.promises == registers.promises
    assert saved.registers.keys == registers.keys
    assert saved.registers.sizes == registers.sizes
    assert [saved.registers.digest(one) for one in (0, 1)] == [
        registers.digest(one) for one in (0, 1)
    ]
    live = [
        (key, one.value)
        for records in registers.ranges
        for key, one in records.items()
        if one.value is not None
    ]
    assert sum(registers.keys) == len(live)
    assert sum(registers.sizes) == sum(len(key) + len(value) for key, value in live)
    assert saved.version >= max(
        (one.ballot for each in registers.ranges for one in each.values()), default=0
    )


def test_a_promise_is_forgotten_when_it_is_kept():
    registers = Registers(1)
    registers.promise(0, b"k", 7)
    assert registers.promised(0, b"k") == 7
    assert registers.get(0, b"k") == EMPTY

    assert registers.accept(0, b"k", Register(7, "v"))

    assert registers.promised(0, b"k") == 7
    assert not registers.promises[0]
    assert not registers.accept(0, b"k", Register(6, "w"))


def test_a_promise_above_what_is_accepted_stays():
    registers = Registers(1)
    registers.promise(0, b"k", 7)

    registers.accept(0, b"k", Register(5, "v"))

    assert registers.promised(0, b"k") == 7
