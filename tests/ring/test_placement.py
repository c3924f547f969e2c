"""The placements side by side: what all promise, and what each is known for."""

from __future__ import annotations

import zlib
from hashlib import blake2b
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlab.errors import UsageError
from kvlab.ring.claim import claim
from kvlab.ring.cluster_map import Member
from kvlab.ring.placement import PLACEMENTS, PointRing, build_placement, jump_bucket
from kvlab.ring.slot import slot_of

KEYS = [b"key%d" % number for number in range(3000)]


def nodes(count, weight=None):
    return [
        Member(f"server{one}", one, f"localhost:{8080 + one}", weight=(weight or {}).get(one, 1.0))
        for one in range(1, count + 1)
    ]


def build(name, members, replication=3):
    return build_placement(name, members, replication=replication, range_count=256)


@pytest.mark.parametrize("name", PLACEMENTS)
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 7), st.integers(1, 4), st.binary(max_size=12))
def test_replicas_are_distinct_nodes_as_many_as_can_be(name, count, replication, key):
    found = build(name, nodes(count), replication).replicas(key)
    assert len(set(found)) == len(found) == min(count, replication)
    assert {one.id for one in nodes(count)}.issuperset(found)


@pytest.mark.parametrize("name", [name for name in PLACEMENTS if name != "claim"])
def test_the_owner_does_not_depend_on_how_many_copies_there_are(name):
    # `claim` assigns sets as a whole, so it alone does not promise this.
    one, three = build(name, nodes(6), 1), build(name, nodes(6), 3)
    assert all(one.replicas(key)[0] == three.replicas(key)[0] for key in KEYS[:300])


@pytest.mark.parametrize("name", PLACEMENTS)
def test_a_join_moves_keys_only_to_the_newcomer(name):
    before, after = nodes(5), nodes(6)
    old = build_placement(name, before, replication=1, range_count=256)
    held = claim(256, 1, before)
    new = build_placement(name, after, replication=1, range_count=256, before=held)
    moved = [key for key in KEYS if old.replicas(key) != new.replicas(key)]
    assert moved
    assert {new.replicas(key)[0] for key in moved} == {"server6"}


@pytest.mark.parametrize("name", ["tokens", "rendezvous"])
def test_weights_attract_keys(name):
    found = build(name, nodes(4, {4: 3.0}), 1)
    share = sum(found.replicas(key) == ("server4",) for key in KEYS) / len(KEYS)
    assert 0.43 < share < 0.57  # 3 of 6 parts; 1 of 4 without weights


def test_the_claim_answers_by_slot():
    assignment = claim(256, 3, nodes(4))
    found = build("claim", nodes(4))
    assert all(found.replicas(key) == assignment[slot_of(key) // 64] for key in KEYS[:200])


def test_crc32_owns_as_a_sorted_list_of_points_does():
    members = nodes(4)
    points = sorted(
        (zlib.crc32(f"{one.address}:{number}".encode()), one.id)
        for one in members
        for number in range(10)
    )
    found = build("crc32", members, 1)
    for key in KEYS[:500]:
        after = [owner for position, owner in points if position >= zlib.crc32(key)]
        assert found.replicas(key) == ((after or [points[0][1]])[0],)


def test_crc32_with_ten_points_is_as_uneven_as_it_is_known_to_be():
    # The fullest of ten nodes localhost:8081 to 8090 was measured at 4.62 times its fair share.
    found = build("crc32", nodes(10), 1)
    owned = dict.fromkeys((one.id for one in nodes(10)), 0)
    for number in range(20_000):
        owned[found.replicas(blake2b(b"%d" % number).digest())[0]] += 1
    assert max(owned.values()) / 2000 == pytest.approx(4.62, rel=0.05)


def test_a_ring_wraps_past_its_last_point():
    ring = PointRing([(10, "a"), (20, "b")], 2, len)
    assert ring.replicas(b"x" * 10) == ("a", "b")  # the point itself owns its position
    assert ring.replicas(b"x" * 11) == ("b", "a")
    assert ring.replicas(b"x" * 21) == ("a", "b")


def test_jump_moves_only_to_the_new_bucket():
    for value in range(0, 2**64, 2**64 // 500):
        buckets = [jump_bucket(value, count) for count in range(1, 20)]
        assert buckets[0] == 0
        for count, (was, now) in enumerate(pairwise(buckets), 1):
            assert now in {was, count}


def test_unknown_names_and_impossible_rings_are_refused():
    with pytest.raises(UsageError, match="no placement 'maglev'") as caught:
        build("maglev", nodes(2))
    assert "rendezvous" in caught.value.hint
    with pytest.raises(UsageError, match="at least one node"):
        build("jump", [])
    with pytest.raises(UsageError, match="power of two"):
        build_placement("claim", nodes(2), replication=3, range_count=100)
    with pytest.raises(UsageError, match="replication 0"):
        build("tokens", nodes(2), 0)
