"""Planted bugs that the simulator must find: each the real node with one small thing done wrong.

A node cannot reach them: nothing in `kv` knows of this file. `planted` puts replacements in the place
of functions of `kv` while a run goes on, in this process, and takes them out again. One run at a time.

Invariant: after `planted`, however its body ended, every patched attribute is the very object it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from kvlab.errors import UsageError
from kvlab.kv import proposer, quorum, replica
from kvlab.kv.acceptor import Acceptor
from kvlab.kv.agreement import Agreement
from kvlab.kv.answer import Batch
from kvlab.kv.exchange import Exchange
from kvlab.kv.group import Group, Route
from kvlab.kv.handoff import Handoff
from kvlab.kv.keeper import Keeper
from kvlab.kv.membership import Membership
from kvlab.kv.node import Node
from kvlab.kv.proposer import Proposer
from kvlab.kv.purge import Purge
from kvlab.kv.quorum import Quorum
from kvlab.kv.state import State
from kvlab.kv.transfer import Transfers
from kvlab.kv.version import Clock
from kvlab.sim import linear_sins, sins
from kvlab.sim.contest import atomic, contested, resettled
from kvlab.sim.draw import draw
from kvlab.sim.stress import (
    falling,
    hinted,
    lossy,
    moving,
    parted,
    rotting,
    skewed,
    split,
    strangers,
    two_drivers,
    voters,
)
from kvlab.spec.scenario import ScenarioSpec
from kvlab.storage.memory import Table

Patch: TypeAlias = tuple[Any, str, Callable[[Any], Any]]
"""A class or module, the name of one of its attributes, and what makes the replacement of it."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug."""

    name: str
    sin: str  # in one sentence
    caught_by: tuple[str, ...]  # the checks that found it so far; not every seed breaks all
    patches: tuple[Patch, ...]
    scenario: Callable[[int], ScenarioSpec] = draw
    seeds_max: int = 10  # from 1 on, of `scenario`: one of them finds it
    seed: int = 1  # where its test begins: those before it are known not to


_ALL = (
    Mutant(
        "first-answer-is-enough",
        "One replica's answer is a quorum, of a read and of a write.",
        ("fresh",),
        ((Group, "enough", sins.first_answer_is_enough),),
        lossy,
    ),
    Mutant(
        "degraded-in-silence",
        "Fewer replicas than wanted answered, and the reply does not say so.",
        ("fresh",),
        ((Quorum, "_finish", sins.degraded_in_silence),),
        parted,
    ),
    Mutant(
        "failure-as-success",
        "A write that did not get its quorum is reported as done.",
        ("fresh",),
        ((Quorum, "_fail", sins.success_whatever_happened),),
        parted,
        25,
    ),
    Mutant(
        "doubt-denied",
        "A write that may have happened is reported as one that did not.",
        ("reads",),
        ((Batch, "fail", sins.doubt_denied),),
        parted,
        15,
    ),
    Mutant(
        "refusal-counts",
        "A replica that refuses a write because of an old map counts as having acknowledged it.",
        ("fresh", "lost"),
        ((Quorum, "_note", sins.refusal_counts),),
        moving,
    ),
    Mutant(
        "never-fenced",
        "A replica takes writes that were routed by a map from before a range moved.",
        ("fresh", "lost"),
        ((replica, "_is_fenced", sins.never_fenced),),
        moving,
        120,
        seed=112,
    ),
    Mutant(
        "local-read",
        "A read answers with what the asked node holds, though another said that it holds newer.",
        ("fresh", "lost"),
        ((Group, "answer_found", sins.nothing_done),),
        draw,
    ),
    Mutant(
        "no-second-round",
        "A write that met a newer version is acknowledged and not written again above it.",
        ("linear",),
        ((Quorum, "_reissue", sins.nothing_done),),
        skewed,
    ),
    Mutant(
        "tombstone-forgotten",
        "A delete takes the record away, so that an older value can come back.",
        ("fresh", "lost"),
        ((Table, "put", sins.tombstone_forgotten),),
        moving,
    ),
    Mutant(
        "last-to-arrive-wins",
        "A write replaces a newer one that came before it.",
        ("fresh", "lost"),
        ((Table, "put", sins.last_to_arrive_wins),),
        lossy,
    ),
    Mutant(
        "ready-at-once",
        "A node reports a range as copied before it has asked for it.",
        ("fresh", "lost"),
        ((Transfers, "_ask", sins.ready_at_once),),
        moving,
    ),
    Mutant(
        "values-only",
        "A copy of a range leaves the tombstones behind.",
        ("converged", "fresh"),
        ((Transfers, "_store", sins.values_only),),
        moving,
        25,
    ),
    Mutant(
        "dropped-before-the-switch",
        "A donor drops a range when its move begins, not when it has ended.",
        ("fresh", "lost"),
        ((Transfers, "drop_moved", sins.dropped_before_the_switch),),
        moving,
    ),
    Mutant(
        "hints-forgotten",
        "What a node took in place of others is thrown away, and not handed over.",
        ("lost",),
        ((Handoff, "_begin", sins.hints_forgotten),),
        hinted,
    ),
    Mutant(
        "purged-alone",
        "A node erases old tombstones of its own accord, whoever has seen them.",
        ("converged",),
        ((Purge, "_ask", sins.purged_alone),),
        hinted,
    ),
    Mutant(
        "watermark-forgotten",
        "After a purge, copies from before it are taken as if they were new.",
        ("fresh", "lost"),
        ((Table, "purge", sins.watermark_forgotten),),
        hinted,
        seeds_max=40,
        seed=24,
    ),
    Mutant(
        "hints-uncounted",
        "Tombstones are erased while others hold hints that are as old.",
        ("lost",),
        ((Purge, "on_cut", sins.hints_uncounted),),
        hinted,
        seeds_max=40,
        seed=5,
    ),
    Mutant(
        "newcomers-unasked",
        "While a range moves, writes do not go to those who will hold it.",
        ("fresh", "lost"),
        ((Route, "__init__", sins.newcomers_unasked),),
        moving,
        15,
    ),
    Mutant(
        "first-life-for-ever",
        "A node that lost its memory is counted as a replica before it was filled again.",
        ("fresh",),
        (
            (Membership, "met", sins.first_life_for_ever),
            (State, "is_current", sins.any_life_is_current),
        ),
        lossy,
        40,
    ),
    Mutant(
        "minority-rules",
        "A part of the nodes that is no majority changes the map.",
        ("owners",),
        ((Membership, "tick", sins.minority_rules),),
        split,
    ),
    Mutant(
        "two-heads",
        "A member votes for every next map that it is asked about, whatever it promised before.",
        ("owners",),
        ((Agreement, "_accept", sins.votes_for_all), (Agreement, "_prepare", sins.promises_all)),
        two_drivers,
        seeds_max=20,
    ),
    Mutant(
        "promises-forgotten",
        "A member that was started again has forgotten what it promised and voted for.",
        ("owners",),
        ((Agreement, "restore", sins.nothing_done),),
        voters,
        seeds_max=20,
    ),
    Mutant(
        "lives-forgotten",
        "A node that was started again has forgotten which lives of the others it had met.",
        ("fresh", "lost", "converged"),
        ((Node, "_remember_lives", sins.nothing_done),),
        strangers,
        seeds_max=40,
        seed=14,
    ),
    Mutant(
        "read-and-gone",
        "What the disk refused is read from memory, until a restart takes it back.",
        ("linear",),
        ((Keeper, "_doubt", sins.nothing_done),),
        rotting,
        seeds_max=40,
    ),
    Mutant(
        "overtaken",
        "Where the disk failed, replies leave before those that waited for it.",
        ("answers",),
        ((Keeper, "_cut_waiting", sins.nothing_done),),
        rotting,
        seeds_max=40,
    ),
    Mutant(
        "said-before-kept",
        "A write is acknowledged when the system has it, though the disk should have it.",
        ("lost", "fresh", "linear"),
        ((Keeper, "end_turn", sins.said_before_kept),),
        falling,
        seeds_max=40,
    ),
    Mutant(
        "clock-stands",
        "A node gives one version to two writes, when its clock is behind.",
        ("linear",),
        ((Clock, "next", sins.clock_stands),),
        skewed,
    ),
    Mutant(
        "number-forgotten",
        "Versions do not carry the member's number, so two nodes may give the same.",
        ("linear",),
        ((Clock, "next", sins.number_forgotten),),
        skewed,
    ),
    Mutant(
        "replies-reversed",
        "Replies of one batch leave in the wrong order.",
        ("answers",),
        ((Batch, "encode", sins.replies_reversed),),
        draw,
    ),
    Mutant(
        "never-compared",
        "What a replica missed is looked for neither in the background nor when its link is back.",
        ("converged",),
        (
            (Exchange, "on_digests", sins.nothing_done),
            (Transfers, "on_link_up", sins.never_catches_up),
        ),
        parted,
    ),
    Mutant(
        "blind-retry",
        "What may have been accepted is done again, as if nothing had been sent.",
        ("linear",),
        (
            (proposer, "recall", linear_sins.never_recalls),
            (Proposer, "_done_before", linear_sins.sent_and_unknown),
        ),
        contested,
    ),
    Mutant(
        "id-of-a-minority",
        "A request whose id one replica holds is answered before a majority has it.",
        ("linear",),
        ((Proposer, "_do", linear_sins.told_by_a_minority),),
        contested,
        seeds_max=40,
        seed=10,
    ),
    Mutant(
        "read-at-home",
        "A linear read tells what the first replica holds that answers: its own node.",
        ("linear",),
        ((Proposer, "_look", linear_sins.reads_at_home),),
        contested,
    ),
    Mutant(
        "promise-broken",
        "An acceptor accepts below what it has promised.",
        ("linear",),
        ((Acceptor, "accept", linear_sins.promises_broken),),
        contested,
        seeds_max=20,
        seed=11,
    ),
    Mutant(
        "told-ahead",
        "What changes nothing is answered by what its proposer knew from the change before.",
        ("linear",),
        ((Proposer, "_do", linear_sins.told_ahead),),
        contested,
        seeds_max=100,
        seed=78,
    ),
    Mutant(
        "no-write-back",
        "An atomic read tells the newest version that it met, and leaves the others as they are.",
        ("linear",),
        ((quorum, "second_rounds", linear_sins.only_writes_have_two),),
        atomic,
        seeds_max=40,
        seed=14,
    ),
    Mutant(
        "registers-left-behind",
        "A range moves without its registers.",
        ("linear",),
        ((Transfers, "_store_registers", sins.nothing_done),),
        resettled,
    ),
)
MUTANTS: dict[str, Mutant] = {one.name: one for one in _ALL}


def mutant(name: str) -> Mutant:
    """Return a mutant by its name; raises UsageError that lists the names if there is none."""
    if name not in MUTANTS:
        raise UsageError(f"there is no mutant {name!r}", hint=f"mutants: {', '.join(MUTANTS)}")
    return MUTANTS[name]


@contextmanager
def planted(name: str) -> Iterator[Mutant]:
    """Make every node that is built or runs meanwhile commit one sin."""
    chosen = mutant(name)
    before = [(owner, attribute, vars(owner)[attribute]) for owner, attribute, _ in chosen.patches]
    try:
        for (owner, attribute, make), (_, _, original) in zip(chosen.patches, before, strict=True):
            setattr(owner, attribute, make(original))
        yield chosen
    finally:
        for owner, attribute, original in before:
            setattr(owner, attribute, original)
