"""A search for one order of the operations of one key, in slices that can be resumed.

It knows no keys, no budget and no verdict: `run` gets a number of steps and says what is known.

The search takes, again and again, an operation that may be next: no other that is still to come
ended before it began (Wing and Gong, "Testing and verifying concurrent objects", 1993), and goes
back where nothing fits. Situations that led nowhere are kept (Lowe, "Testing for linearizability",
2017). A situation is what was taken and the value now; what was taken is written as the number of
operations that all were, a bit set of those beyond, and how many of each kind of doubtful ones.

Each shortcut keeps an order if there is one:

1. A get that fits now is taken now: it changes nothing, and waiting does not help it.
2. Of equal operations that may be next, only the one that ends first is tried: any order with the
   other first stays right when the two swap places.
3. Doubtful ones (`info`) are tried after the sure ones, the oldest of equal ones first, and not
   beside an equal sure one: the sure one could take its place, and it the place of the sure one.
4. A doubtful write is tried only where something that may be next sees what it writes: else it
   might as well not have happened. One whose value nobody ever sees is left out from the start.
5. A value is not overwritten while sure operations still have to see it for which too few are left
   to write it in time: who writes it must begin before who sees it ends. One write is enough for
   many gets, but each compare-and-set uses one up. A few that end first are looked at.
6. Where there are only gets and appends, a value that is no beginning of what a get still to come
   saw leads nowhere. A doubtful part that is in nothing that anybody saw is left out, unless some
   append was told a length, which counts it.

4 and 5 do not hold where values are made of earlier ones (`incr`, `append`), and are not used there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeAlias

import msgspec

from kvlab.check.linear_model import MADE, NEVER, STEPS, Call, Mark, State, StateOrMark

Situation: TypeAlias = tuple[int, int, tuple[int, ...], State]
Choice: TypeAlias = int
"""A sure operation by its number, or the next doubtful one of kind k as -1 - k."""

SEERS_MAX = 16  # that a look at one value takes in


class _Frame:
    """A situation on the way, what may still be tried from it, and what was taken to get there."""

    __slots__ = ("choices", "situation", "taken")

    def __init__(
        self, situation: Situation, choices: Iterator[Choice], taken: list[Choice]
    ) -> None:
        self.situation = situation
        self.choices = choices
        self.taken = taken


class Search:
    """One key's search. `result` is True once an order was found, False when there is none."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.result: bool | None = None
        self.steps = 0  # taken or tried so far
        functions = {call.f for call in calls}
        self._made = bool(functions & MADE)
        self._grows = functions <= {"get", "append"}
        self._sure = [call for call in calls if call.sure]
        doubtful = [call for call in calls if not call.sure]
        if not self._made:
            seen = frozenset(call.sees for call in calls)
            doubtful = [call for call in doubtful if call.writes in seen]
        elif "incr" not in functions and all(call.op.result is None for call in calls):
            # What was written stays in what grows from it: a part that nobody saw was not missed.
            texts = "\0".join(call.sees for call in calls if isinstance(call.sees, str))
            doubtful = [
                call for call in doubtful if call.f == "delete" or (call.op.value or "") in texts
            ]
        gets = [i for i, call in enumerate(self._sure) if call.f == "get"]
        self._gets = sorted(gets, key=lambda i: len(_text(self._sure[i].sees)))
        kinds: dict[object, int] = {}
        self._doubtful: list[list[Call]] = []
        for call in doubtful:
            kind = kinds.setdefault(_kind(call), len(kinds))
            if kind == len(self._doubtful):
                self._doubtful.append([])
            self._doubtful[kind].append(call)
        self._kinds = [kinds.setdefault(_kind(call), len(kinds)) for call in self._sure]
        self._waiting = Waiting(self._sure, doubtful)
        self._dead_ends: set[Situation] = set()
        self._stack: list[_Frame] = []
        self._enter((0, 0, (0,) * len(self._doubtful), None), [])

    def run(self, steps: int) -> bool | None:
        """Search on for about so many steps; return `result`."""
        until = self.steps + steps
        while self.result is None and self.steps < until:
            frame = self._stack[-1]
            choice = next(frame.choices, None)
            if choice is None:
                self._leave()
            else:
                self.steps += 1
                self._try(frame.situation, choice)
        return self.result

    def _try(self, situation: Situation, choice: Choice) -> None:
        """Take one operation, if it fits and costs nobody what he needs."""
        base, mask, used, state = situation
        call = self._call(choice)
        after = STEPS[call.f](state, call)
        if isinstance(after, Mark):
            return
        self._take(choice)
        if not self._made and call.writes != state and self._waiting.is_stranded(state):
            self._put_back(choice)
            return
        if choice >= 0:
            base, mask = _with(base, mask, choice)
        else:
            kind = -1 - choice
            used = (*used[:kind], used[kind] + 1, *used[kind + 1 :])
        self._enter((base, mask, used, after), [choice])

    def _enter(self, situation: Situation, taken: list[Choice]) -> None:
        """Take the gets that fit (1), and go on from there unless it is known to lead nowhere."""
        base, mask, used, state = situation
        sure = self._sure
        while True:
            nexts = self._nexts(base, mask)
            fitting = [i for i in nexts if sure[i].f == "get" and sure[i].sees == state]
            if not fitting:
                break
            self.steps += len(fitting)
            for i in fitting:
                base, mask = _with(base, mask, i)
                self._take(i)
            taken += fitting
        situation = (base, mask, used, state)
        if base == len(sure):
            self.result = True
        if situation in self._dead_ends or (self._grows and self._outgrown(base, mask, state)):
            for choice in taken:
                self._put_back(choice)
            if not self._stack:
                self.result = False
            return
        self._dead_ends.add(situation)  # as it is once we are back, and nobody meets it before
        self._stack.append(_Frame(situation, iter(self._choices(nexts, used, state)), taken))

    def _leave(self) -> None:
        """Go back: nothing from the last situation led to an order."""
        for choice in self._stack.pop().taken:
            self._put_back(choice)
        if not self._stack:
            self.result = False

    def _outgrown(self, base: int, mask: int, state: State) -> bool:
        """Say whether a get still to come saw what no more appends can make of a value (6)."""
        for i in self._gets:  # the shortest that is still to come: the others begin like it
            if i >= base and not mask >> (i - base) & 1:
                return not _text(self._sure[i].sees).startswith(state or "")
        return False

    def _nexts(self, base: int, mask: int) -> list[int]:
        """Return the sure operations that may be next: none to come ended before they began."""
        sure, count = self._sure, len(self._sure)
        found: list[int] = []
        first_end, i = NEVER + 1, base
        while i < count:
            if mask & 1:
                ones = _ones(mask)
                mask >>= ones
                i += ones
                continue
            call = sure[i]
            if call.start > first_end:
                break
            first_end = min(first_end, call.end)
            found.append(i)
            mask >>= 1
            i += 1
        return found

    def _choices(self, nexts: list[int], used: tuple[int, ...], state: State) -> list[Choice]:
        """Return what is worth trying, the most urgent first."""
        sure = self._sure
        firsts: dict[int, int] = {}  # of each kind of operation, the one that ends first (2)
        for i in nexts:
            kind = self._kinds[i]
            if kind not in firsts or sure[i].end < sure[firsts[kind]].end:
                firsts[kind] = i
        urgent: dict[StateOrMark, int] = {}  # of each value that somebody waits for, until when
        for i in nexts:
            urgent[sure[i].sees] = min(urgent.get(sure[i].sees, NEVER), sure[i].end)
        choices = sorted(
            (i for i in firsts.values() if sure[i].f != "get"),
            key=lambda i: (sure[i].f != "cas", urgent.get(sure[i].writes, NEVER), sure[i].end),
        )
        if not self._doubtful:
            return choices
        first_end = min((sure[i].end for i in nexts), default=NEVER)
        doubtful = {
            kind: calls[used[kind]]
            for kind, calls in enumerate(self._doubtful)
            if used[kind] < len(calls) and calls[used[kind]].start < first_end
        }
        wanted = {sure[i].sees for i in nexts} | {call.sees for call in doubtful.values()}
        for kind, call in doubtful.items():
            useful = self._made or (call.writes in wanted and call.writes != state)
            if useful and kind not in firsts:
                choices.append(-1 - kind)
        return choices

    def _call(self, choice: Choice) -> Call:
        """Return what a choice stands for; of equal doubtful ones, any."""
        return self._sure[choice] if choice >= 0 else self._doubtful[-1 - choice][0]

    def _take(self, choice: Choice) -> None:
        self._waiting.take(self._call(choice), choice)

    def _put_back(self, choice: Choice) -> None:
        self._waiting.put_back(self._call(choice), choice)


class Waiting:
    """Who still has to see each value, and how many are left that could write it (5)."""

    def __init__(self, sure: Sequence[Call], doubtful: Sequence[Call]) -> None:
        starts: dict[StateOrMark, list[int]] = {}
        for call in [*sure, *doubtful]:
            if call.writes is not Mark.NOTHING:
                starts.setdefault(call.writes, []).append(call.start)
        self._left = Counter({value: len(some) for value, some in starts.items()})
        for some in starts.values():
            some.sort()
        self._seers: dict[StateOrMark, list[_Seer]] = {}  # of each value, by their ends
        self._place = [0] * len(sure)
        for number in sorted(range(len(sure)), key=lambda number: sure[number].end):
            call = sure[number]
            if call.sees is not Mark.NOTHING:
                some = starts.get(call.sees, [])
                seers = self._seers.setdefault(call.sees, [])
                self._place[number] = len(seers)
                late = len(some) - bisect_left(some, call.end)
                seers.append(_Seer(number, late, call.f == "cas" and call.writes != call.sees))
        self._first = dict.fromkeys(self._seers, 0)  # before it, all seers were taken
        self._taken = bytearray(len(sure))

    def take(self, call: Call, number: int) -> None:
        """Count an operation as done; `number` is that of a sure one, or negative."""
        if call.writes is not Mark.NOTHING:
            self._left[call.writes] -= 1
        if number >= 0:
            self._taken[number] = 1

    def put_back(self, call: Call, number: int) -> None:
        """Count an operation as still to come."""
        if call.writes is not Mark.NOTHING:
            self._left[call.writes] += 1
        if number >= 0:
            self._taken[number] = 0
            if call.sees is not Mark.NOTHING:
                self._first[call.sees] = min(self._first[call.sees], self._place[number])

    def is_stranded(self, value: State) -> bool:
        """Say whether somebody still has to see a value that too few are left to write in time."""
        seers = self._seers.get(value)
        if seers is None:
            return False
        place = self._first[value]
        while place < len(seers) and self._taken[seers[place].number]:
            place += 1
        self._first[value] = place
        left, users = self._left[value], 0
        for seer in islice(seers, place, place + SEERS_MAX):
            if not self._taken[seer.number]:
                users += seer.uses
                if left - seer.late < max(users, 1):
                    return True
        return False


class _Seer(msgspec.Struct, frozen=True, gc=False):
    """A sure operation that must see a value; `late` writers of it begin only after it ended."""

    number: int
    late: int
    uses: bool  # the value is gone when it is done


def _kind(call: Call) -> tuple[str, StateOrMark, StateOrMark, str | None, str | None]:
    """Return what equal operations have in common."""
    return call.f, call.sees, call.writes, call.op.value, call.op.result


def _with(base: int, mask: int, number: int) -> tuple[int, int]:
    """Return what was taken with one more: all below `base`, and the bits of `mask` from there."""
    mask |= 1 << (number - base)
    if mask & 1:
        ones = _ones(mask)
        return base + ones, mask >> ones
    return base, mask


def _text(seen: StateOrMark) -> str:
    """Return a value that was seen as text; nothing at all is the empty one."""
    return seen if isinstance(seen, str) else ""


def _ones(mask: int) -> int:
    """Return how many ones a number ends with."""
    return (~mask & (mask + 1)).bit_length() - 1
