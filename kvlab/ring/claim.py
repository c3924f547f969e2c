"""The claim: which members hold which range, moving the fewest copies from what is held now.

It does not know epochs or phases: `change` turns its answer into a map.

Invariants of the answer:

1. Replicas of a range are distinct members, and no rack holds more of them than `rack_limit`.
2. Every member holds exactly its target (`quota`): its weighted share, rounded.
3. No assignment with these targets moves fewer copies (`augment`). Without racks and with equal
   weights that is the bound of `minimum_moves` wherever the bound can be reached at all.
4. First places are shared as fairly as copies (`order`).
5. The same input gives the same answer on every machine; the order of `members` does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvlab.ring.augment import settle, settle_free
from kvlab.ring.board import Board
from kvlab.ring.cluster_map import Member
from kvlab.ring.order import spread_first_places
from kvlab.ring.quota import Held, minimum_moves, targets

__all__ = ["Held", "claim", "minimum_moves", "targets"]


def claim(
    range_count: int, replication: int, members: Sequence[Member], held: Held = ()
) -> tuple[tuple[str, ...], ...]:
    """Return the preference list of each range, given who holds what now.

    `held` has one tuple of ids per range, or is empty for a new ring; ids that are not among
    `members` hold nothing that stays. Raises ValueError when the question cannot be answered.
    """
    if not members:
        raise ValueError("a ring needs at least one member to place ranges on")
    if replication < 1:
        raise ValueError(f"{replication} copies of each range; at least 1 is needed")
    if held and len(held) != range_count:
        raise ValueError(f"{len(held)} lists of holders for {range_count} ranges")
    board = Board(range_count, replication, members, held)
    if board.trimmed:
        settle_free(board)  # else everybody stands wherever the data is
    _fill_vacant(board)
    _move_surplus(board)
    settle(board)
    orders = _orders(board, held)
    spread_first_places(orders, board.target, board.copies)
    return tuple(tuple(board.ids[member] for member in order) for order in orders)


def _fill_vacant(board: Board) -> None:
    """Give vacant places to those most short, and among them to who meets the others least."""
    for index in range(board.range_count):
        while len(board.at[index]) < board.copies:
            inside = board.at[index]
            able = [
                one
                for one in range(board.size)
                if board.short[one] > 0 and one not in inside and board.rack_has_room(index, one)
            ]
            if not able:
                break  # only a path through others fills it
            board.add(index, min(able, key=lambda one: _vacancy_rank(board, index, one)))


def _vacancy_rank(board: Board, index: int, member: int) -> tuple[int, int, int, int]:
    row = board.together[member]
    meets = sum(row[other] for other in board.at[index])
    return board.cost(index, member), -board.short[member], meets, member


def _move_surplus(board: Board) -> None:
    """Move copies straight from who has too many to who is short, wherever a range allows it."""
    for taker in range(board.size):
        givers = [one for one in range(board.size) if board.short[one] < 0]
        while board.short[taker] > 0 and givers:
            giver = min(givers, key=lambda one: (board.short[one], one))
            index = _best_range(board, giver, taker)
            if index < 0:
                givers.remove(giver)
                continue
            board.drop(index, giver)
            board.add(index, taker)
            if board.short[giver] == 0:
                givers.remove(giver)


def _best_range(board: Board, giver: int, taker: int) -> int:
    """Return the range of `giver` that `taker` may take and that spreads pairs most, or -1."""
    gives, takes = board.together[giver], board.together[taker]
    best, best_rank = -1, (0, 0, 0)
    for index in board.ranges_of[giver] - board.ranges_of[taker]:
        if board.racks_bind and not board.rack_has_room(index, taker, leaving=giver):
            continue
        meets = 0
        for other in board.at[index]:
            if other != giver:
                meets += takes[other] - gives[other]
        rank = (board.cost(index, taker), meets, index)
        if best < 0 or rank < best_rank:
            best, best_rank = index, rank
    return best


def _orders(board: Board, held: Held) -> list[list[int]]:
    """Keep the places of those who stay; newcomers take the places of those who go."""
    place = {one: index for index, one in enumerate(board.ids)}
    orders: list[list[int]] = []
    for index, inside in enumerate(board.at):
        before = [place.get(one, -1) for one in held[index]] if held else []
        arriving = sorted(inside.difference(before))
        order: list[int] = []
        for member in before:
            if member in inside:
                order.append(member)
            elif arriving:
                order.append(arriving.pop(0))
        if not before:
            # A range made from nothing: turn first places round, so that few must be shifted later.
            turn = index % len(arriving) if arriving else 0
            arriving = arriving[turn:] + arriving[:turn]
        orders.append(order + arriving)
    return orders
