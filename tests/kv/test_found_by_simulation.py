"""Bugs that seeds of the simulator found, each as the smallest dialogue that shows it."""

from __future__ import annotations

from dataclasses import replace

from world import World

from kvlab.kv.answer import Batch
from kvlab.kv.version import microseconds
from kvlab.ring.change import commit, leave
from kvlab.ring.cluster_map import RangeState
from kvlab.ring.slot import slot_of
from kvlab.wire.json_lines import Request


def test_a_delete_through_a_slow_clock_is_not_lost_in_silence() -> None:
    # Seed 411: one copy, clocks 200 ms apart; the tombstone was older than the value and was
    # dropped, yet acknowledged.
    world = World(3)
    world.now_us += 200_000
    world.set("server1", "k", "by the fast clock")
    world.now_us -= 200_000

    assert world.delete("server2", "k").status == "SUCCESS"
    assert [world.get(name, "k") for name in world.nodes] == [None, None, None]


def test_a_delete_through_a_slow_clock_counts_where_only_others_hold_the_key() -> None:
    world = World(4, replication=1, r=1, w=1)
    world.now_us += 200_000
    world.set("server1", "k", "by the fast clock")
    world.now_us -= 200_000
    [owner] = world.holders("k")
    stranger = next(name for name in world.nodes if name not in (owner, "server1"))

    assert world.delete(stranger, "k").status == "SUCCESS"
    assert world.get(owner, "k") is None


def test_a_node_that_is_no_member_any_more_answers_what_it_had_begun() -> None:
    # Seed 40: operations of a leaver were refused by a newer map, and there was no route for them.
    world = World(3)
    server3 = world.nodes["server3"]
    batch = world.submit("server3", Request("SET", "k", "v"))
    server3.take_frames()
    for group in list(server3.quorum.open.values()):
        group.nacked = world.nodes["server1"].state.epoch + 1
        server3.quorum.retry.append(group)
    server3.state.routes = []

    server3.quorum.reroute(world.now_us)

    [reply] = world.replies(batch)
    assert reply.code == "UNKNOWN"


def test_a_second_round_takes_no_time_from_the_future() -> None:
    # Seed 176: the second round of a write took its version from the end of its time, so that every
    # later write through another node was older, and lost.
    world = World(3)
    world.cut = {("server1", "server2"), ("server2", "server1")}
    world.now_us += 200_000
    world.set("server1", "k", "by the fast clock")
    world.now_us -= 200_000

    assert world.set("server2", "k", "above it", timeout_ms=60_000).status == "SUCCESS"

    assert world.get("server3", "k") == "above it"
    assert microseconds(world.nodes["server2"].state.clock.last) < world.now_us + 300_000


def test_a_delete_that_was_not_heard_everywhere_is_not_said_to_have_found_nothing() -> None:
    # Whoever was asked may hold a value and delete it: only silence came back.
    world = World(3)
    batch = world.submit("server1", Request("DELETE", "k"))
    world.collect()
    world.deliver("server1", "server2")
    world.collect()
    world.deliver("server2", "server1")
    world.disconnect("server1", "server3")

    [reply] = world.replies(batch)
    assert reply.code == "UNKNOWN"


def test_what_only_a_leaver_holds_is_fetched_before_it_goes() -> None:
    # Seed 3870: two nodes, two copies; the range shrank to the one that stayed, which was never
    # compared with the one that left.
    world = World(3)
    world.cut = {("server1", "server3"), ("server2", "server3")}
    world.set("server1", "k", "v")
    assert "server3" not in world.holders("k")
    for wire in world.wires.values():
        wire.clear()
    world.cut = set()

    for leaver in ("server1", "server2"):
        world.nodes[leaver].membership.ask_leave(leaver)
        world.settle()

    assert world.nodes["server2"].state.left
    assert world.holders("k")["server3"] == "v"


def test_a_delete_reaches_who_is_about_to_get_the_old_value() -> None:
    # Seed 453: one copy; a newcomer that had nothing yet asked the holder to delete, and then took
    # in the value from a chunk that had been read before.
    world = World(2, replication=1, r=1, w=1, range_count=1)
    world.set("server1", "k", "v")
    [donor] = world.holders("k")
    world.nodes[donor].membership.ask_leave(donor)
    for _ in range(50):
        for node in world.nodes.values():
            node.tick(world.now_us)
        world.collect()
        newcomer = _chunk_under_way(world, donor)
        if newcomer:
            break
        for pair in list(world.wires):
            world.deliver(*pair)

    batch = world.submit(newcomer, Request("DELETE", "k"))
    world.settle()

    assert world.replies(batch)[0].status == "SUCCESS"
    world.tick(5)
    assert world.nodes[donor].state.left
    assert world.get(newcomer, "k") is None


def _chunk_under_way(world: World, donor: str) -> str:
    """Return to whom a part of a range is on its way."""
    for (source, target), wire in world.wires.items():
        if source == donor and any(b"chunk" in data for data in wire):
            return target
    return ""


def test_a_second_round_goes_by_the_map_of_today() -> None:
    # Found while reading: answers to an old map began a second round by the same old map, but in a
    # frame of the new epoch, so that no fence refused it.
    world = World(4, range_count=1)
    world.now_us += 200_000
    world.set("server1", "k", "by the fast clock")
    world.now_us -= 200_000
    stranger = next(name for name in world.nodes if name not in world.holders("k"))
    quorum = world.nodes[stranger].quorum
    batch = world.submit(stranger, Request("SET", "k", "above it"))
    world.collect()
    for holder in world.holders("k"):
        world.deliver(stranger, holder)
    world.collect()
    world.nodes[stranger].state.rebuild()

    for holder in world.holders("k"):
        world.deliver(holder, stranger)
    routes = [group.route for group in (*quorum._turn, *quorum.open.values()) if not group.done]

    assert routes
    assert all(route in world.nodes[stranger].state.routes for route in routes)
    world.run()
    assert world.replies(batch)[0].status == "SUCCESS"
    assert world.get("server1", "k") == "above it"


def test_a_life_is_not_gone_because_an_earlier_one_left() -> None:
    # Seed 59: server2 was leaving when it died; its next life heard first of the map that still
    # named the old one, then of the map without it, and took that for its own leave.
    world = World(4)
    old = world.nodes["server1"].state.map
    assert old is not None
    leaving = leave(old, "server2")
    without = commit(leaving, leaving.joint_ranges())
    world.kill("server2")
    again = world.start("server2", initial=world.initial)
    world.connect("server2", "server1")

    again.membership.adopt(replace(old, epoch=5), world.now_us)
    again.membership.adopt(replace(without, epoch=6), world.now_us)

    assert not again.state.left


def test_a_range_that_comes_back_is_not_dropped_for_having_gone() -> None:
    # Seed 59: server2 was filled with a range again before it had dropped what it held of it.
    world = World(2, replication=1, r=1, w=1, range_count=1)
    world.set("server1", "k", "v")
    [holder] = world.holders("k")
    [other] = set(world.nodes) - {holder}
    node = world.nodes[holder]
    here = node.state.map
    assert here is not None
    gone = replace(here, epoch=2, ranges=(RangeState((other,)),))
    back = replace(here, epoch=3, ranges=(RangeState((other,), (holder,)),))
    node.membership.adopt(gone, world.now_us)
    assert node.transfers.giving
    node.membership.adopt(back, world.now_us)
    world.nodes[other].membership.adopt(back, world.now_us)
    world.run()

    node.transfers.drop_moved()

    assert world.holders("k")[holder] == "v"


def test_a_life_that_is_not_filled_yet_gives_nothing() -> None:
    # Found while reading: an empty table would have counted as one of the majority that a range is
    # compared with before it moves.
    world = World(3)
    world.kill("server2")
    again = world.start("server2", initial=world.initial)
    world.connect("server2", "server1")
    assert not again.state.serving
    link = again.state.links["server1"]

    again.transfers.donations.on_pull(link, 7, 0, 0, "full")

    assert link.controls[-1] == ["wait", 7]


def test_a_range_is_compared_with_those_who_hold_it_now() -> None:
    # Found while reading: a pull went on with the replicas of the map that began it.
    world = World(4, replication=2, range_count=1)
    node = world.nodes["server1"]
    here = node.state.map
    assert here is not None
    for epoch, replicas in ((2, ("server2", "server3")), (3, ("server3", "server4"))):
        place = RangeState(replicas, ("server1", "server3"))
        node.membership.adopt(replace(here, epoch=epoch, ranges=(place,)), world.now_us)

    [pull] = node.transfers._pulls.values()
    assert pull.sources == ["server3", "server4"]


def test_a_delete_keeps_that_it_found_a_value_when_it_is_routed_again() -> None:
    # Seed 807: asked again by a newer map it met the tombstone of a later delete everywhere.
    world = World(3)
    world.set("server1", "k", "v")
    world.cut = {("server1", "server2")}
    batch = world.submit("server1", Request("DELETE", "k", level="all"))
    world.collect()
    for pair in (("server1", "server3"), ("server3", "server1")):
        world.deliver(*pair)
        world.collect()
    world.set("server2", "k", "w")
    world.delete("server2", "k")
    quorum = world.nodes["server1"].quorum
    for group in quorum.open.values():
        group.nacked = world.nodes["server1"].state.epoch + 1
        quorum.retry.append(group)
    world.cut = set()
    world.wires["server1", "server2"].clear()

    quorum.reroute(world.now_us)
    world.run()

    [reply] = world.replies(batch)
    assert reply.code != "NOT_FOUND"


def test_a_write_is_above_what_a_clock_far_ahead_has_written() -> None:
    # stress.skewed with clocks two seconds off: 17 of 80 seeds, once they were drawn.
    world = World(3)
    world.now_us += 10_000_000
    world.set("server1", "k", "from the future")
    world.now_us -= 10_000_000

    assert world.set("server2", "k", "now").status == "SUCCESS"
    assert world.get("server3", "k") == "now"
    assert world.delete("server3", "k").status == "SUCCESS"
    assert world.get("server1", "k") is None


def test_a_node_alone_writes_above_the_future_too() -> None:
    world = World(1)
    node = world.nodes["server1"]
    node.membership.alone(world.now_us)
    world.set("server1", "k", "old")
    index = next(at for at, records in enumerate(node.state.table.ranges) if records)
    node.state.table.put(index, b"k", (1 << 62), "from the future")

    world.set("server1", "k", "now")

    assert world.get("server1", "k") == "now"
    world.delete("server1", "k")
    assert world.get("server1", "k") is None


def test_a_range_that_shrinks_is_compared_again_after_a_lost_link_and_then_done() -> None:
    # Seed 7593: two nodes; the one that stayed counted itself among those to be compared with.
    world = World(2, replication=2, range_count=1)
    world.set("server1", "k", "v")
    world.nodes["server2"].membership.ask_leave("server2")
    while not world.nodes["server1"].transfers.ready:  # and not yet reported
        for node in world.nodes.values():
            node.tick(world.now_us)
        world.run()
    world.disconnect("server1", "server2")
    world.connect("server1", "server2")

    world.settle()

    assert world.nodes["server2"].state.left
    assert world.holders("k")["server1"] == "v"


def test_a_comparison_that_gave_way_to_another_says_nothing_any_more() -> None:
    # rotting 1038: a range that was ready was being compared again, a link came back, and its answer
    # ended the pull that had taken its place.
    world = World(4)
    server4, [index] = world.nodes["server4"], _ranges_of(world, "server4")[:1]
    transfers, donor = server4.transfers, world.nodes["server4"].state.links["server1"]
    transfers._ready.add(index)
    assert transfers.compare(index, "server1")
    transfers.advance()
    [asked] = transfers._asked

    transfers.on_link_up(server4.state.links["server2"], was_known=False)
    transfers.on_chunk(donor, asked, 0, [], world.now_us, more=False, left=0, purged=0)

    assert index in transfers._pulls
    assert not transfers._asked


def test_a_replica_does_not_tell_what_it_may_not_have_kept() -> None:
    world = World(3)
    world.set("server1", "k", "v")
    world.nodes["server2"].state.doubtful = frozenset([b"k"])
    world.nodes["server3"].state.doubtful = frozenset([b"k"])

    [reply] = world.ask("server1", Request("GET", "k", level="quorum", timeout_ms=100))

    assert reply.code == "UNAVAILABLE"
    assert world.get("server1", "other") is None


def _ranges_of(world: World, name: str) -> list[int]:
    current = world.nodes[name].state.map
    assert current is not None
    return [index for index, place in enumerate(current.ranges) if name in place.replicas]


def test_a_second_round_that_is_routed_again_stays_one() -> None:
    # swarm 5034: a replica with a newer map refused the second round of a write; routed again it was
    # taken for a first one, and wrote its old value above what had replaced it.
    world = World(3)
    quorum = world.nodes["server1"].quorum
    world.set("server1", "k", "v")
    state = world.nodes["server1"].state
    route = state.routes[slot_of(b"k") >> state.shift]
    batch = Batch(None, "", 0, camel=False)
    batch.acknowledge("k")
    batch.pending = 1
    first = quorum.explicit(route, 2, world.now_us + 1_000_000, atomic=True)
    first.reissue = True
    quorum.add(first, batch, 0, b"k", 1, "old")

    quorum.reroute(world.now_us)
    world.run()

    assert batch.pending == 0
    assert world.get("server2", "k") == "v"
