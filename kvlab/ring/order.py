"""Order the replicas of each range so that first places are spread fairly.

It moves no copy: the set of every range stays what it is.

First places are an assignment of ranges to one of their holders. A member with `t` copies of `n`
each should have t/n of them, rounded either way; giving every holder 1/n of each range is such an
assignment in fractions, so a whole one exists and shifting along paths reaches it.
"""

from __future__ import annotations

from collections import deque


def spread_first_places(orders: list[list[int]], target: list[int], copies: int) -> None:
    """Rotate `orders` in place until each member's first places are target/copies, rounded.

    As few ranges as the paths allow are touched; where nothing is out of bounds nothing changes.
    """
    low = [count // copies for count in target]
    high = [-(-count // copies) for count in target]
    first: list[set[int]] = [set() for _ in target]
    stands: list[set[int]] = [set() for _ in target]
    for index, order in enumerate(orders):
        first[order[0]].add(index)
        for member in order:
            stands[member].add(index)
    for member in range(len(target)):
        while len(first[member]) > high[member]:
            _shift(orders, first, _path_from(orders, first, member, high))
    for member in range(len(target)):
        while len(first[member]) < low[member]:
            _shift(orders, first, _path_to(orders, first, stands, member, low))


Step = tuple[int, int, int]  # (range, member who gives up the first place, member who gets it)


def _shift(orders: list[list[int]], first: list[set[int]], path: list[Step]) -> None:
    assert path, "no way to share first places; the copies of members do not add up"
    for index, giver, taker in path:
        first[giver].remove(index)
        first[taker].add(index)
        order = orders[index]
        place = order.index(taker)
        order[0], order[place] = order[place], order[0]


def _path_from(
    orders: list[list[int]], first: list[set[int]], start: int, high: list[int]
) -> list[Step]:
    """Return a shortest way for a first place from `start` to somebody below the upper bound."""
    came: dict[int, Step | None] = {start: None}
    queue = deque([start])
    while queue:
        member = queue.popleft()
        if len(first[member]) < high[member]:
            return _trace(came, member, giver_first=True)
        for index in sorted(first[member]):
            for other in orders[index]:
                if other not in came:
                    came[other] = (index, member, other)
                    queue.append(other)
    return []


def _path_to(
    orders: list[list[int]],
    first: list[set[int]],
    stands: list[set[int]],
    end: int,
    low: list[int],
) -> list[Step]:
    """Return a shortest way for a first place to `end` from somebody above the lower bound."""
    came: dict[int, Step | None] = {end: None}
    queue = deque([end])
    while queue:
        member = queue.popleft()
        if len(first[member]) > low[member]:
            return _trace(came, member, giver_first=False)
        for index in sorted(stands[member]):
            giver = orders[index][0]
            if giver not in came:
                came[giver] = (index, giver, member)
                queue.append(giver)
    return []


def _trace(came: dict[int, Step | None], member: int, *, giver_first: bool) -> list[Step]:
    path: list[Step] = []
    step = came[member]
    while step is not None:
        path.append(step)
        step = came[step[1] if giver_first else step[2]]
    return path
