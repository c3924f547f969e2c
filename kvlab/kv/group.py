"""Client operations that share replicas: counted together, acknowledged together. No I/O.

A group is all that one loop turn brings for one set of replicas. Counting acknowledgements per group
in place of per operation is what makes a quorum write cheap. It does not know how frames travel, and
it decides nothing about placement: a Route says who is asked.

Invariants:

1. A replica's answer counts once: links acknowledge by cumulative gid, in order.
2. `ops` is the very list that goes to the replicas and is not changed after it was sent; what the
   answers bring is kept in `found`, `missing`, `overtaken` and `seen`.
3. A group ends exactly once: `done` goes from False to True and never back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvlab.storage.memory import Value

if TYPE_CHECKING:
    from kvlab.kv.answer import Batch
    from kvlab.kv.link import Link


class Route:
    """Who holds a set of ranges, and who of them can be reached now.

    `replicas` answer; while the range moves, `coming` (its next replicas) must agree as well.
    `stand_ins` are others who take the places of those that cannot be reached (sloppy quorum, as in
    Dynamo: DeCandia and others, 2007); `owners` is the same route without them, for explicit levels.
    """

    __slots__ = (
        "coming",
        "coming_reachable",
        "degraded",
        "group",
        "links",
        "local",
        "owners",
        "r",
        "reachable",
        "replicas",
        "solo",
        "stand_ins",
        "w",
    )

    def __init__(
        self,
        replicas: tuple[str, ...],
        coming: tuple[str, ...] | None,
        *,
        me: str,
        up: dict[str, Link],
        r: int,
        w: int,
        stand_ins: tuple[str, ...] = (),
    ) -> None:
        self.replicas = replicas
        self.coming = coming
        self.stand_ins = stand_ins
        self.owners = self  # replaced where there are stand-ins
        everyone = dict.fromkeys(replicas + (coming or ()) + stand_ins)
        self.local = me in everyone
        self.links = [up[peer] for peer in everyone if peer in up]
        self.reachable = sum(1 for peer in replicas if peer == me or peer in up)
        self.degraded = self.reachable < min(max(r, w), len(replicas))
        self.reachable += len(stand_ins)
        self.r = min(r, self.reachable)
        self.w = min(w, self.reachable)
        self.coming_reachable = 0
        if coming is not None:
            self.coming_reachable = sum(1 for peer in coming if peer == me or peer in up)
            # What only those have who are about to go would go with them.
            self.degraded |= self.coming_reachable < min(max(r, w), len(coming))
            self.coming_reachable += len(stand_ins)
            self.reachable = min(self.reachable, self.coming_reachable)
        # Nobody else to ask: the whole operation is a look into the own table.
        self.solo = self.local and coming is None and replicas == (me,)
        self.group: Group | None = None  # the open group of this turn at the default level


class Group:
    """Operations of one turn on one route, and what the replicas said to them."""

    __slots__ = (
        "acks",
        "acks_coming",
        "answers",
        "atomic",
        "deadline_us",
        "degraded",
        "done",
        "found",
        "gid",
        "heavy_bytes",
        "lost",
        "metas",
        "missing",
        "nacked",
        "need",
        "need_coming",
        "ops",
        "overtaken",
        "owners",
        "reads",
        "reissue",
        "route",
        "seen",
        "strict",
        "then",
        "tries",
        "vouched",
        "waiting",
    )

    def __init__(
        self, gid: int, route: Route, *, need: int, strict: bool, me: str, deadline_us: int
    ) -> None:
        self.gid = gid
        self.route = route
        self.ops: list[Any] = []  # key, version, value; key, version, value; ...
        self.owners: list[tuple[Batch, int]] = []  # one per op: where its reply stands
        self.need = need
        self.strict = strict  # an explicit level: refuse rather than degrade
        self.atomic = False  # reads tell nothing that is not at a majority
        self.then: dict[int, Any] = {}  # what atomic writes write when their first round has ended
        self.reads = False  # its writes give back what a read has met: they change nothing
        self.deadline_us = deadline_us
        self.acks = 1 if me in route.replicas or me in route.stand_ins else 0
        coming = route.coming
        self.need_coming = 0
        if coming is not None:
            self.need_coming = min(need, len(coming) if strict else route.coming_reachable)
        self.vouched = route.owners.local  # somebody answered whose range it is
        self.acks_coming = 0
        if coming is not None and (me in coming or me in route.stand_ins):
            self.acks_coming = 1
        self.answers = 1 if route.local else 0  # everybody's who counts as having answered
        self.waiting = 0
        self.lost = False  # somebody was asked and went without an answer
        self.done = False
        self.degraded = route.degraded and not strict
        self.nacked = 0  # the newest epoch by which a replica refused the group
        self.tries = 0
        self.heavy_bytes = 0  # of large values
        self.reissue = False  # a second round above a newer version: there is no third
        self.found: dict[int, tuple[int, Value | None]] | None = None  # newer than what was held
        self.missing: dict[int, int] | None = None  # deletes: how many replicas held nothing
        self.overtaken: dict[int, int] | None = None  # writes: a newer version that was met
        self.seen: list[tuple[int, str, int]] | None = None  # reads: (op, replica, its version)
        self.metas: list[tuple[Batch, int, int]] | None = None  # replies that tell version, acks

    def insist(self) -> None:
        """Ask for a majority of the replicas, and while the range moves of the coming ones."""
        self.atomic = True
        self.need = len(self.route.replicas) // 2 + 1
        if self.route.coming is not None:
            self.need_coming = len(self.route.coming) // 2 + 1

    def count(self, peer: str) -> bool:
        """Count one replica's acknowledgement; True if it completes the quorum."""
        self.waiting -= 1
        self.answers += 1
        route = self.route
        if not self.vouched:
            self.vouched = peer not in route.stand_ins
        if route.coming is None:
            self.acks += 1
        else:
            stands_in = peer in route.stand_ins
            if stands_in or peer in route.replicas:
                self.acks += 1
            if stands_in or peer in route.coming:
                self.acks_coming += 1
        return not self.done and self.enough

    @property
    def is_held(self) -> bool:
        """Whether somebody has it who will also have it when the range has moved."""
        return self.acks > 0 and (self.route.coming is None or self.acks_coming > 0)

    @property
    def enough(self) -> bool:
        """Whether the quorum has answered: in the present and in the coming replicas.

        A delete that nobody knew of yet waits for all who can be asked: "not there" must be true.
        """
        if self.acks < self.need or self.acks_coming < self.need_coming:
            return False
        if self.missing is None or not self.waiting:
            return True
        return all(count < self.answers for count in self.missing.values())

    def note(self, index: int, peer: str, version: int, value: Any) -> None:
        """Keep what a replica said that is not the silent default, for op number `index`."""
        kind = self.ops[3 * index + 2]
        if kind is False:  # a read: the replica holds another version than the asker
            if self.seen is None:
                self.seen = []
            self.seen.append((index, peer, version))
            if value is False:  # an older one, or none
                return
            if self.found is None:
                self.found = {}
            best = self.found.get(index)
            if best is None or best[0] < version:
                self.found[index] = (version, value)
        elif kind is True and value is not False:  # a delete that found nothing there
            if self.missing is None:
                self.missing = {}
            self.missing[index] = self.missing.get(index, 0) + 1
        else:
            self.overtake(index, version)

    def is_write(self, index: int) -> bool:
        """Whether an operation writes unconditionally: all that is said of such is that it is old."""
        return self.ops[3 * index + 2] not in (True, False)

    def overtake(self, index: int, version: int) -> None:
        """Keep that a write met a newer version, which may be of an earlier write by a faster clock."""
        if self.overtaken is None:
            self.overtaken = {}
        self.overtaken[index] = max(version, self.overtaken.get(index, 0))

    def answer_found(self) -> None:
        """Put the newest values that reads met into their replies."""
        for number, (version, value) in (self.found or {}).items():
            if version > self.ops[3 * number + 1]:
                batch, index = self.owners[number]
                batch.answer(index, self.ops[3 * number].decode(), value)

    def disown(self) -> None:
        """Make errors of what stand-ins alone have answered and know nothing of.

        They cannot say that there is no such key. To write they need know nothing.
        """
        error = "no replica of the key can be reached, and those who stand in know nothing of it"
        for number, (batch, index) in enumerate(self.owners):
            key, version, value = self.ops[3 * number : 3 * number + 3]
            is_found = version or (self.found and number in self.found)
            if value is True:
                is_found = (self.missing or {}).get(number, 0) < self.answers
            if is_found or (value is not True and value is not False):
                continue
            # Who was asked and is not heard may have deleted it.
            is_doubtful = value is True and (self.waiting or self.lost)
            batch.fail(index, key.decode(), "UNKNOWN" if is_doubtful else "UNAVAILABLE", error)

    def tell_degraded(self) -> None:
        """Mark the replies that say something as answers of fewer replicas than wanted."""
        for number, (batch, index) in enumerate(self.owners):
            told = batch.full(index, self.ops[3 * number].decode())
            told.degraded = told.code in ("", "NOT_FOUND")

    def tell_metas(self) -> None:
        """Tell versions and acknowledgements in the replies that are to have them."""
        for batch, index, number in self.metas or ():
            reply = batch.full(index, self.ops[3 * number].decode())
            reply.acks = self.acks
            version = self.ops[3 * number + 1]
            if self.found and number in self.found:
                version = max(version, self.found[number][0])
            reply.version = str(version)

    def carry_meta(self, number: int, again: Group) -> None:
        """See to it that a reply tells of the group in which its operation is added next."""
        for batch, index, told in self.metas or ():
            if told == number:
                again.metas = [*(again.metas or ()), (batch, index, len(again.owners))]

    def repairs(self) -> list[tuple[int, int, list[str] | None]]:
        """Return what the reads of this group found out of step: (op, best version, replicas).

        The replicas are those known to be behind; None stands for all but those that reported the
        best version (the asker held an older one, and the silent ones hold the same as it).
        """
        todo: dict[int, tuple[int, list[str] | None]] = {}
        for index, peer, _ in self.seen or ():
            have = self.ops[3 * index + 1]
            best = max(have, (self.found or {}).get(index, (0, None))[0])
            if best == have:
                behind = todo.setdefault(index, (best, []))[1]
                assert behind is not None
                behind.append(peer)
            else:
                todo[index] = (best, None)
        return [(index, best, behind) for index, (best, behind) in todo.items()]
