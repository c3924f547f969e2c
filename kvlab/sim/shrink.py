"""A failing scenario becomes a small one that fails the same way. It only runs scenarios and compares.

What can be left out is found by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating
Failure-Inducing Input", 2002): ever smaller parts are taken out, until no single one can go. Chance is
shared by all that happens in a world, so what is taken out changes the delays of the rest; a smaller
scenario counts because it fails, not because it is a part of the larger one.

Invariants:

1. The result fails by the same predicate as the scenario given, and no count of it is larger.
2. The same scenario, the same result; no more than `budget_runs` runs.
3. What is drawn by the scenario's seed is written out first, so that no later step draws it anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

from kvlab.errors import UsageError
from kvlab.experiment import make_plan
from kvlab.fault.fault import KILLS, LASTING, Fault
from kvlab.sim.run import run
from kvlab.spec.scenario import SECOND_US, FaultSpec, ScenarioSpec, WorkloadSpec

MS_US = 1_000
DOWN_US_MIN = SECOND_US // 2
"""Where clocks step, a node that lost its memory stays away longer than that (see sim.draw)."""
FIRST_US = SECOND_US // 2
"""The nodes have found each other by then (see sim.draw)."""
GAP_US = 5 * MS_US  # what is tried first between two events
GAPS_MAX = 20  # events, above which gaps are left as they are
SPARE_SHARE = 0.2  # of the budget, kept in the first round for what comes after operations
ROUNDS_MAX = 4
DRAWN_WORDS = re.compile(r"\b(?:one|minority|majority)\b")

Fails = Callable[[ScenarioSpec], bool]
Progress = Callable[[str, int, int], object]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Size:
    """How large a scenario is."""

    nodes: int
    operations: int
    faults: int
    clocks: int
    time_us: int


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest scenario that was found, and what it took."""

    spec: ScenarioSpec
    runs: int
    before: Size
    after: Size
    is_minimal: bool  # no single operation or fault can go; False: too few runs to tell


def shrink(
    spec: ScenarioSpec,
    *,
    fails: Fails | None = None,
    budget_runs: int = 300,
    progress: Progress | None = None,
) -> Shrunk:
    """Return a small scenario that fails as `spec` does.

    `fails` tells whether a scenario fails that way; without it, one is run, and fails if one of the
    checks is invalid that were so for `spec`. Whenever less is left, `progress` is told what was
    tried, how many operations and faults are left, and the number of runs so far. Raises UsageError
    if `spec` does not fail.
    """
    search = _Search(spec, fails or same_failure(spec), budget_runs, progress)
    if not search.holds(spec):
        raise UsageError("this scenario does not fail: there is nothing to shrink")
    before = size_of(spec)
    search.accepts("written out", written_out(spec))
    is_minimal = _reduce(search)
    return Shrunk(search.best, search.runs, before, size_of(search.best), is_minimal)


def size_of(spec: ScenarioSpec) -> Size:
    """Count what a scenario has; operations that are drawn count too."""
    return Size(
        nodes=spec.nodes,
        operations=len(spec.operations) or spec.workload.operations,
        faults=len(spec.faults),
        clocks=len(spec.clocks),
        time_us=spec.time_us,
    )


def same_failure(spec: ScenarioSpec) -> Fails:
    """Return what tells whether a scenario fails as `spec` does: in one of the same checks.

    `spec` itself is run when that is first asked, which must be of `spec`.
    """
    wanted: set[str] = set()

    def fails(candidate: ScenarioSpec) -> bool:
        failed = run(candidate).failed
        if candidate is spec:
            wanted.update(failed)
        return not wanted.isdisjoint(failed)

    return fails


def written_out(spec: ScenarioSpec) -> ScenarioSpec:
    """Return a scenario of the same plan that draws nothing: neither operations nor targets."""
    plan = make_plan(spec)
    operations = [one for each in plan.operations.values() for one in each]
    given = sorted(spec.faults, key=lambda fault: fault.at_us)
    return replace(
        spec,
        operations=tuple(sorted(operations, key=lambda one: one.at_us)),
        # Where no operation is left, none is to be drawn.
        workload=WorkloadSpec(operations=0, span_us=min(WorkloadSpec().span_us, spec.time_us)),
        faults=tuple(_named(*pair) for pair in zip(given, plan.faults, strict=True)),
    )


def _named(given: FaultSpec, planned: Fault) -> FaultSpec:
    """Write the names that were drawn in place of words that would draw."""
    if given.kind in ("link", "reset"):
        if not DRAWN_WORDS.search(f"{given.source} {given.target}"):
            return given
        sources = ",".join(dict.fromkeys(source for source, _ in planned.links))
        targets = ",".join(dict.fromkeys(target for _, target in planned.links))
        return replace(given, source=sources, target=targets)
    if DRAWN_WORDS.search(given.targets):
        return replace(given, targets=",".join(planned.nodes))
    return given


class _Search:
    """The smallest scenario so far, and the budget of runs."""

    def __init__(
        self, spec: ScenarioSpec, fails: Fails, budget_runs: int, progress: Progress | None
    ) -> None:
        self.best = spec
        self.runs = 0
        self.limit = self.budget_runs = budget_runs
        self.is_over = False  # something was left untried
        self._fails = fails
        self._progress = progress
        self._known: dict[bytes, bool] = {}

    def holds(self, candidate: ScenarioSpec) -> bool:
        """Tell whether a scenario fails; one that was tried before costs no run."""
        # A scenario has a dict, so it cannot be a key itself.
        key = hashlib.sha256(repr(candidate).encode(errors="surrogatepass")).digest()
        known = self._known.get(key)
        if known is not None:
            return known
        if self.runs >= self.limit:
            self.is_over = True
            return False
        self.runs += 1
        try:
            answer = self._fails(candidate)
        except UsageError:  # it names what is not there any more
            answer = False
        self._known[key] = answer
        return answer

    def accepts(self, what: str, candidate: ScenarioSpec) -> bool:
        """Take a scenario as the smallest so far if it fails."""
        if candidate != self.best and self.holds(candidate):
            self.best = candidate
            if self._progress is not None:
                left = len(candidate.operations) + len(candidate.faults)
                self._progress(what, left, self.runs)
            return True
        return False


# -- the order of things -------------------------------------------------------------------------


def _reduce(search: _Search) -> bool:
    """Take out what can go, until a whole round changes nothing; tell whether it came to that."""
    spare = int(search.budget_runs * SPARE_SHARE)
    for number in range(ROUNDS_MAX):
        before, search.is_over = search.best, False
        search.limit = search.budget_runs - (spare if number == 0 else 0)
        _fewer_faults(search)
        _fewer_operations(search)
        search.limit = search.budget_runs
        _earlier(search)
        _fewer_nodes(search)
        _fewer_clocks(search)
        search.accepts("no jitter", replace(search.best, jitter_us=0))
        _shorter_faults(search)
        _shorter_time(search)
        if search.best == before and not search.is_over:
            return True
    return False


def _fewer_faults(search: _Search) -> None:
    def take(faults: Sequence[FaultSpec]) -> bool:
        return search.accepts("faults", replace(search.best, faults=tuple(faults)))

    minimize(search.best.faults, take)


def _fewer_operations(search: _Search) -> None:
    minimize(
        search.best.operations,
        lambda some: search.accepts("operations", replace(search.best, operations=tuple(some))),
    )


def minimize(items: Sequence[_Item], take: Callable[[Sequence[_Item]], bool]) -> list[_Item]:
    """Leave out what can be left out: ddmin, on complements.

    `take` tells whether a part of the items is enough. Returns a part that is, of which no single
    item can go. Costs about k log(n) questions for k of n items that matter, at worst their square.
    """
    kept = list(items)
    if not kept or take([]):
        return []
    parts = 2
    while len(kept) >= 2:
        bounds = [len(kept) * part // parts for part in range(parts + 1)]
        for start, end in pairwise(bounds):
            rest = kept[:start] + kept[end:]
            if rest and take(rest):
                kept = rest
                parts = max(parts - 1, 2)
                break
        else:
            if parts >= len(kept):
                break
            parts = min(2 * parts, len(kept))
    return kept


def _earlier(search: _Search) -> None:
    """Take out time in which nothing happens: before the first event, then between any two."""
    starts = _starts(search.best)
    if not starts or search.best.workload.operations:
        return
    if starts[0] > FIRST_US:
        search.accepts("earlier", _pulled(search.best, 0, starts[0] - FIRST_US))
    if len(starts) > GAPS_MAX:
        return
    for number in range(1, len(starts)):
        before_us, at_us = _starts(search.best)[number - 1 : number + 1]
        for gap_us in (GAP_US, (at_us - before_us) // 8, (at_us - before_us) // 2):
            by_us = at_us - before_us - gap_us
            if by_us < GAP_US or search.accepts("earlier", _pulled(search.best, at_us, by_us)):
                break


def _starts(spec: ScenarioSpec) -> list[int]:
    starts = [one.at_us for one in spec.operations] + [one.at_us for one in spec.faults]
    return sorted(starts)


def _pulled(spec: ScenarioSpec, from_us: int, by_us: int) -> ScenarioSpec:
    """Let what begins at a time or later begin earlier."""
    operations = tuple(
        replace(one, at_us=one.at_us - by_us) if one.at_us >= from_us else one
        for one in spec.operations
    )
    faults = tuple(
        replace(one, at_us=one.at_us - by_us) if one.at_us >= from_us else one
        for one in spec.faults
    )
    return replace(spec, operations=operations, faults=faults)


def _fewer_nodes(search: _Search) -> None:
    """Take nodes away from the end of the row, as far as nothing names them."""
    spec = search.best
    lowest = max([spec.copies, 1, *_numbers_named(spec)])
    if search.accepts("nodes", replace(spec, nodes=min(lowest, spec.nodes))):
        return
    while search.best.nodes > lowest:
        if not search.accepts("nodes", replace(search.best, nodes=search.best.nodes - 1)):
            return


def _numbers_named(spec: ScenarioSpec) -> list[int]:
    """Return the numbers of the first nodes that faults, operations and clocks name."""
    texts = [*spec.clocks, *(one.node for one in spec.operations)]
    for fault in spec.faults:
        texts += [fault.targets, fault.groups, fault.source, fault.target]
    numbers = {int(one) for text in texts for one in re.findall(r"\bserver(\d+)\b", text)}
    return sorted(number for number in numbers if number <= spec.nodes)


def _fewer_clocks(search: _Search) -> None:
    def take(names: Sequence[str]) -> bool:
        clocks = {name: spec.clocks[name] for name in names}
        return search.accepts("clocks", replace(search.best, clocks=clocks))

    spec = search.best
    minimize(list(spec.clocks), take)


def _shorter_faults(search: _Search) -> None:
    """Halve how long each fault lasts, as often as the scenario still fails."""
    steps = any(fault.kind == "skew" for fault in search.best.faults)
    for at, fault in enumerate(search.best.faults):
        if fault.kind in LASTING or fault.kind == "reset":
            continue
        low_us = DOWN_US_MIN if steps and fault.kind in KILLS else MS_US
        for_us = fault.for_us or search.best.time_us - fault.at_us
        while for_us // 2 >= low_us:
            for_us //= 2
            faults = list(search.best.faults)
            faults[at] = replace(fault, for_us=_whole_ms(for_us))
            if not search.accepts("shorter faults", replace(search.best, faults=tuple(faults))):
                break


def _shorter_time(search: _Search) -> None:
    """End the scenario with its last event, or as soon afterwards as it still fails."""
    spec = search.best
    if spec.workload.operations:  # they could not be written out
        return
    last_us = max(
        [MS_US]
        + [one.at_us for one in spec.operations]
        + [fault.at_us + fault.for_us for fault in spec.faults]
    )
    for more_us in (0, SECOND_US // 10, SECOND_US, 3 * SECOND_US):
        time_us = _whole_ms(last_us + more_us)
        if time_us >= spec.time_us:
            return
        # A file whose workload spans more than its time is not read.
        workload = replace(spec.workload, span_us=min(spec.workload.span_us, time_us))
        if search.accepts("time", replace(spec, time_us=time_us, workload=workload)):
            return


def _whole_ms(us: int) -> int:
    """Round up to a whole millisecond, which reads better."""
    return -(-us // MS_US) * MS_US
