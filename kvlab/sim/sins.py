"""What the mutants do in place of a node's own code: one small wrong function each.

It plants nothing and runs nothing: `mutants` puts these in the place of what they are made from, and
takes them out again. Each is a factory: it is given the original and returns the replacement.
"""

from __future__ import annotations

from typing import Any

from kvlab.kv.answer import Batch
from kvlab.kv.donation import LINEAR
from kvlab.kv.purge import cut
from kvlab.kv.version import EPOCH_US, NUMBER_BITS
from kvlab.wire.peer import STALE


def first_answer_is_enough(_original: Any) -> Any:
    """Group.enough: one replica is a quorum."""
    return property(lambda group: group.acks >= 1)


def degraded_in_silence(original: Any) -> Any:
    """Quorum._finish: fewer replicas than wanted answered, and nobody is told."""

    def finish(quorum: Any, group: Any) -> None:
        group.degraded = False
        original(quorum, group)

    return finish


def success_whatever_happened(_original: Any) -> Any:
    """Quorum._fail: a write without its quorum is reported as done."""
    return lambda quorum, group: quorum._finish(group)  # noqa: SLF001


def refusal_counts(original: Any) -> Any:
    """Quorum._note: what a replica refused because of an old map counts as acknowledged."""

    def note(quorum: Any, link: Any, exceptions: list[Any]) -> Any:
        each = iter(exceptions)
        kept = [one for one in zip(each, each, each, each, strict=True) if one[1] != STALE]
        return original(quorum, link, [field for one in kept for field in one])

    return note


def never_fenced(_original: Any) -> Any:
    """Replica._is_fenced: a write routed by an old map is taken."""
    return lambda _state, _epoch, _ops: False


def nothing_done(_original: Any) -> Any:
    """Do nothing in place of what should be done."""
    return lambda *_arguments: None


def doubt_denied(original: Any) -> Any:
    """Batch.fail: a write that may have happened is said not to have."""

    def fail(batch: Batch, index: int, key: str, code: str, error: str) -> None:
        original(batch, index, key, "UNAVAILABLE" if code == "UNKNOWN" else code, error)

    return fail


def tombstone_forgotten(original: Any) -> Any:
    """Table.put: a delete takes the record away, version and all."""

    def put(table: Any, index: int, key: bytes, version: int, value: Any) -> bool:
        done: bool = original(table, index, key, version, value)
        if done and value is None:
            del table.ranges[index][key]
            table.forget_digests()
        return done

    return put


def last_to_arrive_wins(original: Any) -> Any:
    """Table.put: whatever comes replaces what is there, older or not."""

    def put(table: Any, index: int, key: bytes, version: int, value: Any) -> bool:
        old = table.ranges[index].get(key)
        if old is not None and old[0] > version:
            del table.ranges[index][key]
            table.forget_digests()
        return bool(original(table, index, key, version, value))

    return put


def ready_at_once(original: Any) -> Any:
    """Transfers._ask: a range that moves here counts as copied before anything was."""

    def ask(transfers: Any, pull: Any) -> None:
        pull.sources = pull.sources if pull.catch_up else []
        original(transfers, pull)
        if not pull.sources:
            transfers._complete(pull)  # noqa: SLF001

    return ask


def values_only(original: Any) -> Any:
    """Transfers._store: the tombstones among what was copied are thrown away."""

    def store(transfers: Any, pull: Any, ns: int, records: list[Any]) -> None:
        each = iter(records)
        triples = zip(each, each, each, strict=True)
        kept = [one for one in triples if ns == LINEAR or one[2] is not None]
        original(transfers, pull, ns, [field for one in kept for field in one])

    return store


def purged_alone(_original: Any) -> Any:
    """Purge._ask: tombstones go after a while, whoever has seen them."""

    def ask(purge: Any, index: int, version: int, _digest: int) -> None:
        table = purge.state.table
        _, erasable = cut(table, index, version, purge.state.now_us)
        table.purge(index, version, erasable)
        table.purged[index] = 0

    return ask


def watermark_forgotten(original: Any) -> Any:
    """Table.purge: what is as old as the tombstones that went is taken again."""

    def purge(table: Any, index: int, version: int, keys: Any) -> int:
        before = table.purged[index]
        count: int = original(table, index, version, keys)
        table.purged[index] = before
        return count

    return purge


def hints_uncounted(original: Any) -> Any:
    """Purge.on_cut: whoever is no owner says that it holds nothing of the range."""

    def on_cut(purge: Any, link: Any, one: int, epoch: int, index: int, version: int) -> None:
        if purge.state.holds(index):
            original(purge, link, one, epoch, index, version)
        else:
            link.controls.append(["counted", one, 0])

    return on_cut


def dropped_before_the_switch(original: Any) -> Any:
    """Transfers.drop_moved: a range is dropped when its move begins, not when it has ended."""

    def drop_moved(transfers: Any) -> None:
        original(transfers)
        state = transfers.state
        for index, place in enumerate(state.map.ranges if state.map is not None else ()):
            if place.next is not None and state.settings.id not in place.next:
                state.table.drop(index)

    return drop_moved


def hints_forgotten(_original: Any) -> Any:
    """Handoff._begin: what is held for others is thrown away as soon as they could be asked."""

    def begin(handoff: Any, index: int) -> None:
        handoff.state.table.drop(index)

    return begin


def newcomers_unasked(original: Any) -> Any:
    """Route.__init__: while a range moves, those who will hold it are not written to."""

    def init(route: Any, replicas: Any, _coming: Any, **others: Any) -> None:
        original(route, replicas, None, **others)

    return init


def first_life_for_ever(original: Any) -> Any:
    """Membership.met: a node that lost its memory does not listen when peers say who it was."""

    def met(membership: Any, link: Any, hello: Any, now_us: int) -> None:
        hello.known_boot = 0
        hello.epoch = min(hello.epoch, 1)
        original(membership, link, hello, now_us)

    return met


def any_life_is_current(_original: Any) -> Any:
    """State.is_current: whoever can be reached under a member's name is that member."""

    def is_current(state: Any, member: Any) -> bool:
        link = state.up.get(member.id)
        return link is not None and link.epoch > 0

    return is_current


def minority_rules(original: Any) -> Any:
    """Membership.tick: whoever sees no lower number changes the map, alone or not."""

    def tick(membership: Any, now_us: int) -> None:
        original(membership, now_us)
        state = membership.state
        if membership.is_member and not state.left and membership.driver() == state.settings.id:
            driver, reach = membership._driver, {*state.up, state.settings.id}  # noqa: SLF001
            new = driver.next_map(state.map, reach)
            if new is not state.map:
                membership._chosen(new, now_us)  # noqa: SLF001

    return tick


def clock_stands(_original: Any) -> Any:
    """Clock.next: two writes in one microsecond get one version."""

    def following(clock: Any, now_us: int) -> int:
        clock.observe(_version_at(now_us), now_us)
        return int(clock.last | clock.number)

    return following


def _version_at(now_us: int) -> int:
    return (now_us - EPOCH_US) << NUMBER_BITS


def number_forgotten(original: Any) -> Any:
    """Clock.next: two members may give one version to two writes."""

    def following(clock: Any, now_us: int) -> int:
        clock.number = 0
        return int(original(clock, now_us))

    return following


def never_catches_up(original: Any) -> Any:
    """Transfers.on_link_up: what was missed while a link was down is not looked for."""

    def on_link_up(transfers: Any, link: Any, *, was_known: bool) -> None:  # noqa: ARG001
        original(transfers, link, was_known=False)

    return on_link_up


def replies_reversed(original: Any) -> Any:
    """Batch.encode: the last request is answered first."""

    def encode(batch: Batch) -> bytes:
        batch.replies.reverse()
        return bytes(original(batch))

    return encode


def votes_for_all(_original: Any) -> Any:
    """Agreement._accept: vote for whatever is asked."""
    return lambda _agreement, base, ballot, _body: ["vote", base, *ballot, None]


def promises_all(_original: Any) -> Any:
    """Agreement._prepare: promise whatever is asked, and tell of no earlier vote."""
    return lambda _agreement, base, ballot: ["promise", base, *ballot, None]


def said_before_kept(original: Any) -> Any:
    """Keeper.end_turn: nobody waits for the disk."""

    def end_turn(keeper: Any) -> Any:
        turn = list(keeper._turn)  # noqa: SLF001
        waited = len(keeper._waiting)  # noqa: SLF001
        said = original(keeper)
        while len(keeper._waiting) > waited:  # noqa: SLF001
            keeper._waiting.pop()  # noqa: SLF001
            said = turn
        return said

    return end_turn
