"""Settle what single moves cannot: shift copies along a cheapest path through other members.

It is used by `claim` alone, after the direct moves, and mostly has nothing to do.

Successive shortest paths of a minimum-cost flow (Ford and Fulkerson; Busacker and Gowen 1960) on
the residual graph of a board. Its vertices are members, ranges, and the cells (range, rack) where
a rack could break its limit. A step into a range takes a member out, a step from a range stands a
member in; standing in costs 1 unless the member has the data already.

A flow stays a cheapest one of its size when it grows along a shortest path, and the shortest never
gets shorter. So `settle_free` first uses up the paths that cost nothing, and from then on a direct
move, which costs 1, is as short as any path: `claim` takes those without a search.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise

from kvlab.ring.board import Board

Vertex = tuple[int, int, int]  # (member, range, rack), -1 where a part does not apply


def settle(board: Board) -> None:
    """Make every member hold its target and every range its copies, at the least cost."""
    while sources := _sources(board):
        path = _cheapest_path(board, sources)
        # Quotas respect the caps of members and racks, so there is a solution in fractions:
        # target/ranges of each member in each range. Hence a whole one, and hence a path.
        assert path, "targets cannot be met; quotas broke a cap"
        _apply(board, path)


def settle_free(board: Board) -> None:
    """Do what no copy must be sent for: members stand where they have the data already."""
    while sources := _sources(board):
        path = _cheapest_path(board, sources, most=0)
        if not path:
            return
        _apply(board, path)


def _sources(board: Board) -> list[Vertex]:
    surplus = [(one, -1, -1) for one in range(board.size) if board.short[one] < 0]
    vacant = [(-1, at, -1) for at in range(board.range_count) if len(board.at[at]) < board.copies]
    return surplus + vacant


def _cheapest_path(board: Board, sources: list[Vertex], most: int | None = None) -> list[Vertex]:
    """Return the path of least cost to a member that is short, [] without one.

    Bellman-Ford with a queue. `most` bounds the cost of every beginning of the path.
    """
    distance = dict.fromkeys(sources, 0)
    parent: dict[Vertex, Vertex] = {}
    queue = deque(sources)
    queued = set(sources)
    while queue:
        vertex = queue.popleft()
        queued.discard(vertex)
        base = distance[vertex]
        for following, cost in _edges(board, vertex):
            if most is not None and base + cost > most:
                continue
            known = distance.get(following)
            if known is None or base + cost < known:
                distance[following] = base + cost
                parent[following] = vertex
                if following not in queued:
                    queue.append(following)
                    queued.add(following)
    ends = [vertex for vertex in distance if vertex[0] >= 0 and board.short[vertex[0]] > 0]
    if not ends:
        return []
    path = [min(ends, key=lambda vertex: (distance[vertex], vertex))]
    while path[-1] in parent:
        path.append(parent[path[-1]])
    return path[::-1]


def _edges(board: Board, vertex: Vertex) -> Iterator[tuple[Vertex, int]]:
    member, index, rack = vertex
    if member >= 0:
        rack = board.rack[member]
        cell = rack if board.binding[rack] else -1
        for held in sorted(board.ranges_of[member]):
            yield (-1, held, cell), -board.cost(held, member)
    elif rack >= 0:
        yield from _entries(board, index, board.in_rack[rack])
        if any(board.rack[one] == rack for one in board.at[index]):
            yield (-1, index, -1), 0
    else:
        for place, inside in enumerate(board.in_rack):
            if not board.binding[place]:
                yield from _entries(board, index, inside)
            elif sum(1 for one in inside if one in board.at[index]) < board.rack_limit:
                yield (-1, index, place), 0


def _entries(board: Board, index: int, members: list[int]) -> Iterator[tuple[Vertex, int]]:
    for one in members:
        if one not in board.at[index]:
            yield (one, -1, -1), board.cost(index, one)


def _apply(board: Board, path: list[Vertex]) -> None:
    changes: list[tuple[int, int, bool]] = []
    for here, there in pairwise(path):
        if here[0] >= 0:
            changes.append((there[1], here[0], False))
        elif there[0] >= 0:
            changes.append((here[1], there[0], True))
    for index, member, enters in changes:
        if not enters:
            board.drop(index, member)
    for index, member, enters in changes:
        if enters:
            board.add(index, member)
