from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.errors import UsageError
from kvlab.rng import Rng
from kvlab.workload.arrivals import Arrivals
from kvlab.workload.keys import KeySpace, chooser
from kvlab.workload.mix import PRESETS, SCAN_KEYS, Mix, preset
from kvlab.workload.stream import Request, Requests, Unit, Workload, batches
from kvlab.workload.values import Values, least_size


def workload(mix: Mix, *, keys: int = 50, seed: int = 1) -> Workload:
    space = KeySpace(keys)
    values = Values(32, tag="t0", rng=Rng(seed, "values"))
    return Workload(mix, space, chooser("zipfian", space, Rng(seed)), values, Rng(seed, "mix"))


def test_the_presets_are_those_of_ycsb():
    shares = {letter: p.mix.describe() for letter, p in PRESETS.items()}
    assert shares == {
        "a": "50 % read, 50 % update",
        "b": "95 % read, 5 % update",
        "c": "100 % read",
        "d": "95 % read, 5 % insert",
        "e": "5 % insert, 95 % scan",
        "f": "50 % read, 50 % rmw",
    }
    assert preset("D").distribution == "latest"
    assert "replaced" in PRESETS["e"].note


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(UsageError) as caught:
        preset("z")
    assert "a (update heavy)" in caught.value.hint


def test_a_mix_that_does_not_add_up_is_refused():
    with pytest.raises(UsageError, match="add up to 1"):
        Mix(read=0.5, update=0.4)


def test_a_mix_draws_its_shares():
    source = workload(Mix(read=0.7, update=0.2, delete=0.1))
    drawn = Counter(source.next_unit().first[0].f for _ in range(20_000))
    assert drawn["get"] / 20_000 == pytest.approx(0.7, abs=0.02)
    assert drawn["delete"] / 20_000 == pytest.approx(0.1, abs=0.02)


def test_a_scan_is_gets_of_consecutive_keys():
    unit = workload(Mix(scan=1.0)).next_unit()
    numbers = [int(request.key.removeprefix("user")) for request in unit.first]
    assert len(numbers) == SCAN_KEYS
    assert all((b - a) % 50 == 1 for a, b in pairwise(numbers))


def test_a_read_modify_write_sets_the_key_it_read_afterwards():
    unit = workload(Mix(rmw=1.0)).next_unit()
    assert [r.f for r in unit.first] == ["get"]
    assert [r.f for r in unit.then] == ["set"]
    assert unit.first[0].key == unit.then[0].key


@given(st.integers(1, 20), st.sampled_from("abcdef"))
def test_batches_keep_every_write_behind_the_read_it_waits_for(size, letter):
    source = workload(PRESETS[letter].mix)
    units: list[Unit] = []

    class Spy:
        def next_unit(self):
            units.append(source.next_unit())
            return units[-1]

    cut = list(islice(batches(Spy(), size), 40))
    assert all(len(batch) == size for batch in cut)
    place = {id(request): n for n, batch in enumerate(cut) for request in batch}
    for unit in units:
        for after in unit.then:
            if id(after) in place:
                assert all(place[id(first)] < place[id(after)] for first in unit.first)


@given(st.integers(0, 30), st.integers(1, 7))
def test_batches_of_a_finite_source_lose_nothing(count, size):
    requests = [Request("get", f"k{i}") for i in range(count)]
    assert [r for batch in batches(Requests(requests), size) for r in batch] == requests


@given(st.integers(least_size("t0"), 60), st.integers(1, 300))
def test_values_are_unique_and_of_one_size(size, count):
    values = Values(size, tag="t0", rng=Rng(1))
    drawn = [values.next() for _ in range(count)]
    assert len(set(drawn)) == count
    assert {len(value) for value in drawn} == {size}


def test_values_of_two_tags_are_never_equal_even_when_cut_short():
    one, two = (Values(least_size(t), tag=t, rng=Rng(1)) for t in ("a1", "a1b"))
    first = {one.next() for _ in range(2000)}
    assert not first & {two.next() for _ in range(2000)}


def test_values_too_small_to_be_unique_are_refused():
    with pytest.raises(UsageError) as caught:
        Values(4, tag="t0", rng=Rng(1))
    assert str(least_size("t0")) in caught.value.hint


def test_constant_arrivals_of_workers_interleave_evenly():
    parts = [Arrivals(1000, Rng(1), shape="constant", worker=w, workers=3) for w in range(3)]
    times = sorted(part.next_us() for part in parts for _ in range(10))
    assert times == list(range(0, 30_000, 1000))


def test_poisson_arrivals_come_at_the_rate_and_not_evenly():
    arrivals = Arrivals(2000, Rng(9))
    times = [arrivals.next_us() for _ in range(20_000)]
    assert times == sorted(times)
    assert 20_000 / times[-1] * 1e6 == pytest.approx(2000, rel=0.05)
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance**0.5 / mean == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(UsageError):
        Arrivals(rate, Rng(1))
