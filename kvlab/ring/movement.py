"""What differs between two assignments: which copies must be sent, and how much that is.

It decides nothing about assignments and sends nothing.

An assignment is a sequence of preference lists, one per item; items are ranges, or keys where a
placement knows no ranges. Amounts are copies unless weighed by keys or bytes per item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kvlab.ring.cluster_map import Member
from kvlab.ring.quota import copies_of, minimum_moves

Assignment = Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Move:
    """One copy of a range that must be sent to `target`.

    `source_candidates` hold the range in full; the one that `target` replaces comes first.
    """

    range: int
    source_candidates: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class Movement:
    """How much moves from one assignment to the next.

    `moved` and `between_survivors` (moved although its old holder and its new one were there
    before and after) are in units of weight; `copies` counts moves, `minimum_copies` bounds them
    from below. `k_over_n` is what K/N of the textbook gives, in units of weight.
    """

    moves: tuple[Move, ...]
    copies: int
    minimum_copies: int
    moved: int
    between_survivors: int
    k_over_n: float


def range_moves(index: int, before: Sequence[str], after: Sequence[str]) -> tuple[Move, ...]:
    """Return the moves of one range: one for each member of `after` that was not in `before`."""
    leaving = [one for one in before if one not in after]
    staying = [one for one in before if one in after]
    moves: list[Move] = []
    for target in after:
        if target in before:
            continue
        # Each newcomer replaces another leaver, so their streams do not meet at one source.
        moves.append(Move(index, (*leaving, *staying), target))
        leaving = leaving[1:] + leaving[:1]
    return tuple(moves)


def moves_between(before: Assignment, after: Assignment) -> tuple[Move, ...]:
    """Return every copy that is in `after` and not in `before`, in the order of items."""
    return tuple(
        move
        for index, (was, now) in enumerate(zip(before, after, strict=True))
        if was != now
        for move in range_moves(index, was, now)
    )


def weigh(moves: Iterable[Move], weights: Sequence[int] | Mapping[int, int]) -> int:
    """Return the total of keys or bytes of the moves, given those of each range."""
    return sum(weights[move.range] for move in moves)


def between_survivors(
    moves: Iterable[Move],
    after: Assignment,
    members_before: Iterable[Member],
    members_after: Iterable[Member],
) -> tuple[Move, ...]:
    """Return the moves that shuffle data among members who were there before and stay.

    A move to a survivor is one, unless the range lost a member who is gone.
    """
    stayers = {one.id for one in members_before} & {one.id for one in members_after}
    shuffles: list[Move] = []
    excused: dict[int, int] = {}  # range -> copies of gone members that are not replaced yet
    for move in moves:
        if move.target not in stayers:
            continue
        if move.range not in excused:
            holders = move.source_candidates
            gone = sum(1 for one in holders if one not in stayers)
            fresh = sum(1 for one in after[move.range] if one not in stayers)
            excused[move.range] = max(0, gone - fresh)
        if excused[move.range] > 0:
            excused[move.range] -= 1
        else:
            shuffles.append(move)
    return tuple(shuffles)


def k_over_n(
    items: int, replication: int, before: Sequence[Member], after: Sequence[Member]
) -> float:
    """Return the copies that a perfect placement moves: the fair share of those who come or go.

    For one equal node that joins M others it is items x copies / (M + 1). Newcomers can take what
    leavers held, so the greater of both shares counts. Where a departure also lowers the number
    of copies, what nobody can hold any more is not counted.
    """
    old_ids, new_ids = {one.id for one in before}, {one.id for one in after}
    come = sum(one.weight for one in after if one.id not in old_ids)
    go = sum(one.weight for one in before if one.id not in new_ids)
    copies_before, copies_after = copies_of(replication, before), copies_of(replication, after)
    due = items * copies_after * come / sum(one.weight for one in after)
    freed = items * copies_before * go / sum(one.weight for one in before)
    return max(due, freed - items * max(0, copies_before - copies_after))


def movement(
    before: Assignment,
    after: Assignment,
    *,
    replication: int,
    members_before: Sequence[Member],
    members_after: Sequence[Member],
    weights: Sequence[int] | None = None,
) -> Movement:
    """Compare two assignments of the same items; `weights` are keys or bytes per item (else 1)."""
    moves = moves_between(before, after)
    shuffles = between_survivors(moves, after, members_before, members_after)
    each = weights if weights is not None else [1] * len(before)
    scale = sum(each) / len(each)
    return Movement(
        moves=moves,
        copies=len(moves),
        minimum_copies=minimum_moves(len(before), replication, members_after, before),
        moved=weigh(moves, each),
        between_survivors=weigh(shuffles, each),
        k_over_n=scale * k_over_n(len(before), replication, members_before, members_after),
    )
