from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.errors import UsageError
from kvlab.rng import Rng
from kvlab.workload.keys import DISTRIBUTIONS, KeySpace, Latest, Zipf, Zipfian, chooser

DRAWS = 20_000


@given(st.sampled_from(sorted(DISTRIBUTIONS)), st.integers(1, 300), st.integers(0, 2**31))
def test_every_chooser_stays_in_range(name, count, seed):
    keys = chooser(name, KeySpace(count), Rng(seed))
    assert all(0 <= keys.choose() < count for _ in range(50))


@given(st.sampled_from(sorted(DISTRIBUTIONS)), st.integers(0, 2**31))
def test_the_same_seed_chooses_the_same_keys(name, seed):
    one, two = (chooser(name, KeySpace(100), Rng(seed)) for _ in range(2))
    assert [one.choose() for _ in range(30)] == [two.choose() for _ in range(30)]


def test_zipf_draws_ranks_as_often_as_their_weights_say():
    count, theta = 100, 0.99
    zipf = Zipf(count, Rng(7), theta=theta)
    drawn = Counter(zipf.draw() for _ in range(DRAWS))
    total = sum(i**-theta for i in range(1, count + 1))
    for rank in (0, 1):  # exact in Gray's method
        assert drawn[rank] / DRAWS == pytest.approx((rank + 1) ** -theta / total, rel=0.1)
    deciles = [sum(drawn[r] for r in range(d, d + 10)) for d in range(0, count, 10)]
    assert deciles[0] > deciles[1] > deciles[2] > deciles[9] > 0


@given(st.integers(1, 50), st.integers(0, 40))
def test_a_zipf_that_grew_draws_as_one_that_was_made_so(count, more):
    grown, made = Zipf(count, Rng(3)), Zipf(count + more, Rng(3))
    grown.grow(count + more)
    assert [grown.draw() for _ in range(50)] == [made.draw() for _ in range(50)]


@given(st.integers(1, 500))
def test_the_scatter_of_zipfian_is_a_permutation(count):
    keys = Zipfian(KeySpace(count), Rng(1))
    assert len({rank * keys._step % count for rank in range(count)}) == count


def test_latest_prefers_what_was_inserted_last():
    space = KeySpace(1000)
    keys = Latest(space, Rng(5))
    for _ in range(50):
        space.insert()
    drawn = Counter(keys.choose() for _ in range(DRAWS))
    assert drawn.most_common(1)[0][0] == len(space) - 1
    assert max(drawn) < len(space)


def test_sequential_visits_every_key_before_any_twice():
    keys = chooser("sequential", KeySpace(10), Rng(1))
    assert sorted(keys.choose() for _ in range(10)) == list(range(10))


@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 9))
def test_workers_never_insert_the_same_key(workers, inserts, loaded):
    spaces = [KeySpace(loaded, worker=w, workers=workers) for w in range(workers)]
    names = [space.insert() for space in spaces for _ in range(inserts)]
    names += [spaces[0].name(i) for i in range(loaded)]
    assert len(set(names)) == len(names)


def test_an_unknown_distribution_names_those_there_are():
    with pytest.raises(UsageError) as caught:
        chooser("gaussian", KeySpace(1), Rng(1))
    assert "zipfian" in caught.value.hint
