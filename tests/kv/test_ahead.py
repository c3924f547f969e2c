"""Changes under a ballot that was promised with the change before."""

from __future__ import annotations

from kvlab.kv.ahead import AHEAD_MAX, Ahead, BallotsAhead
from kvlab.storage.registers import EMPTY
from kvlab.wire.json_lines import Request
from tests.kv.test_linear import LINEAR, ask, owners
from tests.kv.world import World


def test_a_change_after_another_is_done_in_one_round_trip():
    world = World(3)
    ask(world, "server1", "SET", "v")
    first, second, _ = owners(world)

    batch = world.submit(first, Request("CAS", "k", "w", expected="v", ns=LINEAR))
    world.collect()
    world.deliver(first, second)
    world.collect()
    world.deliver(second, first)

    [reply] = world.replies(batch)
    assert reply.status == "SUCCESS"


def test_what_was_promised_ahead_gives_way_to_another_proposer():
    world = World(3)
    ask(world, "server1", "SET", "v")
    first, second, third = owners(world)

    def meanwhile(verb: str, value: str | None = None) -> None:
        for other in (second, third):
            world.disconnect(first, other)
        assert ask(world, second, verb, value).status == "SUCCESS"
        for other in (second, third):
            world.connect(first, other)

    # What the first node knows from its own last change is old: nothing that rests on it may be told.
    meanwhile("SET", "w")
    assert ask(world, first, "CAS", "x", expected="w").status == "SUCCESS"
    meanwhile("DELETE")
    assert ask(world, first, "DELETE").code == "NOT_FOUND"
    assert ask(world, first, "SETNX", "y").status == "SUCCESS"
    meanwhile("SET", "z")
    assert ask(world, first, "SETNX", "y").code == "CONFLICT"
    assert ask(world, third, "GET").value == "z"


def test_a_ballot_is_taken_once_and_not_after_the_range_changed_hands():
    ahead = BallotsAhead()
    ahead.put(b"k", Ahead(EMPTY, 7, 3, ("a", "b")))
    assert ahead.take(b"k", 3).ballot == 7
    assert ahead.take(b"k", 3) is None

    ahead.put(b"k", Ahead(EMPTY, 9, 3, ("a", "b")))
    assert ahead.take(b"k", 4) is None


def test_the_keys_that_were_changed_last_are_kept():
    ahead = BallotsAhead()
    for number in range(AHEAD_MAX + 1):
        ahead.put(b"%d" % number, Ahead(EMPTY, number + 1, 1, ("a",)))

    assert ahead.take(b"0", 1) is None
    assert ahead.take(b"1", 1).ballot == 2
