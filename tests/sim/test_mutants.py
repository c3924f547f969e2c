"""Every planted bug is found, and leaves nothing behind."""

from __future__ import annotations

import pytest

from kvlab.check.verdict import Verdict
from kvlab.errors import UsageError
from kvlab.sim.contest import contested, resettled
from kvlab.sim.mutants import MUTANTS, mutant, planted
from kvlab.sim.rates import Tally, tally, wilson
from kvlab.sim.run import run
from kvlab.sim.stress import dense, lossy, moving, parted, skewed, split


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    chosen = mutant(name)

    for seed in range(chosen.seed, chosen.seeds_max + 1):
        found = tally(name, [seed], chosen.scenario)
        if found.seeds:
            break

    assert found.seeds, f"{name} went unseen in seeds 1 to {chosen.seeds_max}"
    assert set(found.checks) & set(chosen.caught_by)
    assert "crashes" not in found.checks  # a node that falls over its bug shows nothing


@pytest.mark.parametrize(
    "scenario", [dense, skewed, moving, lossy, parted, split, contested, resettled]
)
def test_the_real_nodes_stand_where_the_mutants_fall(scenario: object) -> None:
    assert callable(scenario)
    for seed in (1, 2):
        outcome = run(scenario(seed))

        assert outcome.judgement.verdict is Verdict.VALID, outcome.judgement.because


def test_nothing_stays_planted() -> None:
    before = run(dense(1)).history
    originals = {
        (one.name, attribute): vars(owner)[attribute]
        for one in MUTANTS.values()
        for owner, attribute, _ in one.patches
    }

    for name in MUTANTS:
        with pytest.raises(ZeroDivisionError):
            _fail_with(name, originals)

    for one in MUTANTS.values():
        for owner, attribute, _ in one.patches:
            assert vars(owner)[attribute] is originals[one.name, attribute]
    assert run(dense(1)).history == before


def _fail_with(name: str, originals: dict[tuple[str, str], object]) -> None:
    with planted(name) as chosen:
        for owner, attribute, _ in chosen.patches:
            assert vars(owner)[attribute] is not originals[name, attribute]
        raise ZeroDivisionError


def test_an_unknown_mutant_is_answered_with_the_names() -> None:
    with pytest.raises(UsageError) as caught, planted("no-such-sin"):
        pass

    assert "no-such-sin" in caught.value.message
    assert all(name in caught.value.hint for name in MUTANTS)


def test_enough_mutants_with_a_sentence_each() -> None:
    assert len(MUTANTS) >= 12
    assert all(one.sin.endswith(".") and one.caught_by for one in MUTANTS.values())


@pytest.mark.parametrize(
    ("hits", "tried", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_is_that_of_wilson(hits: int, tried: int, low: float, high: float) -> None:
    assert wilson(hits, tried) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_the_seeds_needed_follow_from_the_rate() -> None:
    assert Tally(tried=10, seeds=[1]).seeds_needed == 29
    assert Tally(tried=2, seeds=[1, 2]).seeds_needed == 1
    assert Tally(tried=10).seeds_needed == 0
