"""Linearizability: on each key, one order of the operations explains everything that clients saw.

It is not a check for stores that promise less. One that is eventually consistent may return old
values, and is INVALID here without having broken its word; such stores are judged by `fresh`,
`lost` and `reads`. It is therefore not among the checkers that run by default.

The model is in linear_model: what each function does, what `info` means. An order explains a
history if no operation comes before one that ended before it began, and each sees what the one
before it left. Keys are independent of each other, so each is judged alone (Herlihy and Wing, 1990).

1. Three rungs, the cheapest that can decide a key does: zones for simple keys, all at once
   (linear_zones); for the others a look for values that were seen too early or too late
   (linear_proof); then a search (linear_search).
2. The search has a budget in steps, shared between the keys in rounds that grow, so that one hard
   key cannot take everything; a key over budget is UNKNOWN. It is never counted in seconds, so the
   same history has the same verdict everywhere. Where a key is wrong, the others get one round.
3. INVALID is certain: the evidence alone has no order (see linear_proof).
4. `judged` and `violations` count keys. A key where nobody saw anything proves nothing and is not
   judged; without any other the check is UNKNOWN.
"""

from __future__ import annotations

import msgspec

from kvlab.check.linear_model import Call, calls_of
from kvlab.check.linear_proof import Proof, clash, core, impossible
from kvlab.check.linear_search import Search
from kvlab.check.operations import Operations
from kvlab.check.verdict import Check, Verdict

NAME = "linear"
SEEING = frozenset({"get", "cas"})
BUDGET_STEPS = 500_000  # of all searches together: some seconds
ROUND_STEPS = 4_000  # that each key gets in the first round
ROUND_GROWTH = 4
CORE_STEPS = 200_000  # to make the evidence of one key small
PROOFS_MAX = 8  # keys that are explained; the smallest evidence of these is shown


class _Found(msgspec.Struct):
    """What is known so far; keys are counted, and the first wrong ones explained."""

    by_zones: int = 0
    by_search: int = 0
    wrong: int = 0
    undecided: int = 0
    proofs: list[Proof] = []


def check_linear(history: Operations, *, budget_steps: int = BUDGET_STEPS) -> Check:
    """Judge every key of a history. O(n log n) for n operations, but for keys that need a search."""
    # Late: numpy takes a tenth of a second to load, and no other checker needs it.
    from kvlab.check.linear_zones import sort_keys

    keys = sort_keys(history)
    found = _Found(by_zones=keys.valid, wrong=len(keys.wrong))
    explained = keys.wrong[:PROOFS_MAX]
    ops = history.by_key() if explained or keys.rest else {}
    for key in explained:
        some = ops[key]
        calls = calls_of(some)
        proof = impossible(key, some, calls) or clash(key, calls)
        assert proof is not None, f"key {key}: the zones clash, but no two of them do"
        found.proofs.append(proof)
    searches: dict[str, tuple[Search, list[Call]]] = {}
    for key in keys.rest:
        some = ops[key]
        calls = calls_of(some)
        if not any(call.f in SEEING or call.op.result is not None for call in calls if call.sure):
            continue
        proof = impossible(key, some, calls)
        if proof is None:
            searches[key] = (Search(calls), calls)
        else:
            found.wrong += 1
            found.proofs.append(proof)
    _search(searches, budget_steps, found)
    return _conclude(found, budget_steps)


def _search(
    searches: dict[str, tuple[Search, list[Call]]], budget_steps: int, found: _Found
) -> None:
    """Search all keys in rounds until all are decided, the budget is spent, or one is wrong."""
    steps, left = ROUND_STEPS, budget_steps
    while searches and left > 0:
        for key, (search, calls) in list(searches.items()):
            left += search.steps
            result = search.run(min(steps, left - search.steps))
            left -= search.steps
            if result is not None:
                del searches[key]
            if result is True:
                found.by_search += 1
            elif result is False:
                found.wrong += 1
                if len(found.proofs) < PROOFS_MAX:
                    found.proofs.append(core(key, calls, CORE_STEPS))
            if left <= 0:
                break
        if found.wrong:
            break
        steps *= ROUND_GROWTH
    found.undecided = len(searches)


def _conclude(found: _Found, budget_steps: int) -> Check:
    decided = found.by_zones + found.by_search + found.wrong
    ways = _ways(found)
    if found.wrong:
        proof = min(found.proofs, key=lambda one: len(one.ops))
        more = f" (and {found.wrong - 1} more)" if found.wrong > 1 else ""
        return Check(
            name=NAME,
            verdict=Verdict.INVALID,
            because=proof.because + more,
            evidence=tuple(op.start for op in proof.ops),
            judged=decided,
            violations=found.wrong,
        )
    if found.undecided:
        because = (
            f"{found.undecided} of {decided + found.undecided} keys were not decided within"
            f" {budget_steps} steps of search"
        )
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because=because, judged=decided)
    if not decided:
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because="nobody saw a value")
    because = f"an order explains all that was seen of {decided} keys ({ways})"
    return Check(name=NAME, verdict=Verdict.VALID, because=because, judged=decided)


def _ways(found: _Found) -> str:
    counts = (("zones", found.by_zones), ("search", found.by_search))
    return ", ".join(f"{count} by {name}" for name, count in counts if count)
