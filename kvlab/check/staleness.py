"""How old was what gets returned: in versions, in time, and how likely, by the time since a write.

It is a measurement; a judgement only where a bound is given. A store that is eventually consistent
promises none, and its readers want to know these figures.

1. A get is behind by the writes of its key that were acknowledged before it began and are newer than
   what it saw (origins says what is certainly newer). A get that is behind by k shows that the
   history is not k-atomic (Golab, Li and Shah, "Analyzing consistency properties for fun and profit",
   2011): the figure is a lower bound. Not behind at all does not mean linear.
2. The age of a get is the time from the first of these acknowledgements to its beginning.
3. The share of gets that are behind, by the time since the last acknowledgement of a write of their
   key (Bailis and others, "Probabilistically bounded staleness", 2012).
4. INVALID needs a bound and shows the writes that exceed it; all figures count all judged gets.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from kvlab.check.counts import Counts
from kvlab.check.operations import Operations
from kvlab.check.origins import Origin, Origins, end_of, in_order, is_read, is_write, told, written
from kvlab.check.verdict import Check, Verdict
from kvlab.check.words import at, name_of
from kvlab.history import Op
from kvlab.units import format_duration

NAME = "staleness"
BUCKETS_US = tuple(step * 10**power for power in range(2, 8) for step in (1, 2, 5))
VERSIONS_LISTED = 10
SHARES = (0.5, 0.99)


class _Behind(msgspec.Struct, frozen=True, gc=False):
    """A get that is behind: by how much, and the first write that it should have seen."""

    key: str
    get: Op
    first: Op
    versions: int
    age_us: int


class _Figures:
    def __init__(self) -> None:
        self.judged = 0
        self.versions: Counter[int] = Counter()
        self.ages_us: list[int] = []
        self.reads: Counter[int] = Counter()  # by bucket of the time since the last write
        self.stale: Counter[int] = Counter()
        self.most: _Behind | None = None  # versions
        self.oldest: _Behind | None = None

    def add(self, found: _Behind) -> None:
        """Count a get that is behind."""
        self.versions[found.versions] += 1
        self.ages_us.append(found.age_us)
        if self.most is None or found.versions > self.most.versions:
            self.most = found
        if self.oldest is None or found.age_us > self.oldest.age_us:
            self.oldest = found

    def to_builtins(self) -> dict[str, Any]:
        """Return them by name, for `Check.figures`."""
        self.ages_us.sort()
        stale = len(self.ages_us)
        listed = [(str(k), self.versions[k]) for k in sorted(self.versions) if k < VERSIONS_LISTED]
        more = sum(n for k, n in self.versions.items() if k >= VERSIONS_LISTED)
        listed += [(f"{VERSIONS_LISTED}+", more)] if more else []
        figures: dict[str, Any] = {
            "reads": self.judged,
            "behind": stale,
            "behind_share": stale / self.judged if self.judged else 0.0,
            "versions_max": max(self.versions, default=0),
        }
        if stale:
            for share in SHARES:
                figures[f"age_p{share * 100:.0f}_us"] = self.ages_us[int(share * (stale - 1))]
            figures["age_max_us"] = self.ages_us[-1]
            figures["by_versions"] = [
                {"versions_behind": k, "reads": n, "share": n / self.judged} for k, n in listed
            ]
            figures["by_time_since_write"] = [
                {
                    "since_write_up_to_us": BUCKETS_US[n] if n < len(BUCKETS_US) else None,
                    "reads": self.reads[n],
                    "behind": self.stale[n],
                    "share": self.stale[n] / self.reads[n],
                }
                for n in sorted(self.reads)
            ]
        return figures


def check_staleness(
    history: Operations, *, versions_max: int | None = None, age_us_max: int | None = None
) -> Check:
    """Measure every get; judge them where a bound is given. O(n log n) for n operations."""
    figures = _Figures()
    over = 0
    for key, ops in history.by_key().items():
        for found in _behind(key, ops, figures):
            figures.add(found)
            over += _is_over(found, versions_max, age_us_max)
    if not figures.judged:
        because = "no get came after an acknowledged write of its key"
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because=because)
    worst = next(
        (
            one
            for one in (figures.most, figures.oldest)
            if one is not None and _is_over(one, versions_max, age_us_max)
        ),
        None,
    )
    evidence: tuple[int, ...] = ()
    if worst is not None:
        because, shown = _explain(history, worst, versions_max)
        because += f" (and {over - 1} more beyond the bound)" if over > 1 else ""
        evidence = in_order(shown)
    else:
        because = _sentence(figures, bounded=versions_max is not None or age_us_max is not None)
    return Check(
        name=NAME,
        verdict=Verdict.VALID if worst is None else Verdict.INVALID,
        because=because,
        evidence=evidence,
        judged=figures.judged,
        violations=over,
        figures=figures.to_builtins(),
    )


def _is_over(found: _Behind, versions_max: int | None, age_us_max: int | None) -> bool:
    too_many = versions_max is not None and found.versions > versions_max
    return too_many or (age_us_max is not None and found.age_us > age_us_max)


def _sentence(figures: _Figures, *, bounded: bool) -> str:
    bound = "" if bounded else "; no bound was given"
    if figures.most is None or figures.oldest is None:
        return f"none of {figures.judged} gets was behind{bound}"
    return (
        f"{len(figures.ages_us)} of {figures.judged} gets were behind, by at most"
        f" {_many(figures.most.versions)} and {format_duration(figures.oldest.age_us)}{bound}"
    )


def _many(versions: int) -> str:
    return f"{versions} version{'' if versions == 1 else 's'}"


def _behind(key: str, ops: Sequence[Op], figures: _Figures) -> list[_Behind]:
    """Return the gets of a key that are behind, and count all of them."""
    writes = sorted((op for op in ops if is_write(op)), key=end_of)
    if not writes:
        return []
    origins = Origins(ops)
    scales = _Scale(writes, by_version=True), _Scale(writes, by_version=False)
    ends = [end_of(op) for op in writes]
    asked: list[tuple[Op, _Scale, int, Op]] = []
    for get in ops:
        before = bisect_left(ends, get.start) if is_read(get) else 0
        origin = origins.seen(get) if before else None
        if origin is None:
            continue
        figures.judged += 1
        bucket = bisect_left(BUCKETS_US, get.start_us - (writes[before - 1].end_us or 0))
        figures.reads[bucket] += 1
        scale = scales[0] if origin.version and scales[0] else scales[1]
        first = scale.first_ended(rank := scale.rank_after(origin))
        if first is not None and end_of(first) < get.start:
            figures.stale[bucket] += 1
            asked.append((get, scale, rank, first))
    found = []
    for scale in scales:
        some = [one for one in asked if one[1] is scale]
        counts = scale.counts([(get.start, rank) for get, _, rank, _ in some])
        for (get, _, _, first), versions in zip(some, counts, strict=True):
            age_us = get.start_us - (first.end_us or 0)
            found.append(_Behind(key, get, first, versions, age_us))
    return found


class _Scale:
    """The acknowledged writes of a key in the order of versions, or of their beginnings."""

    def __init__(self, writes: Sequence[Op], *, by_version: bool) -> None:
        self._by_version = by_version
        some = [op for op in writes if op.version] if by_version else list(writes)
        some.sort(key=lambda op: op.version if by_version else op.start)
        self._ranks = [op.version if by_version else op.start for op in some]
        self._writes = some
        self._first_ends: list[Op] = []
        for op in reversed(some):
            best = self._first_ends[-1] if self._first_ends else op
            self._first_ends.append(op if end_of(op) <= end_of(best) else best)
        self._first_ends.reverse()

    def __len__(self) -> int:
        return len(self._writes)

    def rank_after(self, origin: Origin) -> int:
        """Return the rank of the first write that is newer than what was seen."""
        return bisect_right(self._ranks, origin.version if self._by_version else origin.ended)

    def first_ended(self, rank: int) -> Op | None:
        """Return the write that ended first of those from a rank on."""
        return self._first_ends[rank] if rank < len(self._first_ends) else None

    def counts(self, asked: Sequence[tuple[int, int]]) -> list[int]:
        """For each (place, rank), count the writes from the rank on that ended before the place.

        The places must not decrease.
        """
        if not asked:
            return []
        ends = sorted((end_of(op), rank) for rank, op in enumerate(self._writes))
        counts, added, found = Counts(len(ends)), 0, []
        for place, rank in asked:
            while added < len(ends) and ends[added][0] < place:
                counts.add(ends[added][1])
                added += 1
            found.append(counts.from_rank(rank))
        return found


def _explain(history: Operations, found: _Behind, versions_max: int | None) -> tuple[str, list[Op]]:
    """Say what one get missed, with as many of the writes as show it."""
    ops = history.by_key()[found.key]
    origins = Origins(ops)
    origin = origins.seen(found.get)
    assert origin is not None
    missed = [
        op
        for op in ops
        if is_write(op) and end_of(op) < found.get.start and origin.is_older(written(op))
    ]
    few = missed[: versions_max + 1] if versions_max is not None else missed[:1]
    by_version = bool(found.get.version and found.first.version)
    shown = [*few, found.first, found.get]
    if not by_version:
        shown += origins.writers(found.get)
    because = (
        f"key {found.key}: {name_of(found.get)} at {at(found.get)} saw"
        f" {told(found.get, by_version=by_version)}, {_many(found.versions)} and"
        f" {format_duration(found.age_us)} behind: {name_of(found.first)} of"
        f" {told(found.first, by_version=by_version)} was acknowledged at {at(found.first)}"
    )
    return because, shown
