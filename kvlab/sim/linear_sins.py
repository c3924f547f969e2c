"""What the mutants of the linear namespace do in place of a node's own code; see `sins`."""

from __future__ import annotations

from typing import Any

from kvlab.kv.register import step


def never_recalls(_original: Any) -> Any:
    """Recall: nothing is remembered of what was done; what may have happened is done again."""
    return lambda _register, _request: None


def sent_and_unknown(original: Any) -> Any:
    """Proposer._done_before: ... and it is not noticed that it was sent."""

    def done_before(proposer: Any, operation: Any, register: Any, best: Any) -> Any:
        operation.sent = False
        return original(proposer, operation, register, best)

    return done_before


def told_by_a_minority(original: Any) -> Any:
    """Proposer._do: an id that is found in a promise is answered, chosen or not."""

    def do(proposer: Any, one: Any) -> None:
        best = max(one.states.values(), key=lambda each: each.ballot)
        for operation in one.operations:
            outcome = proposer._done_before(operation, best, best)  # noqa: SLF001
            if outcome is not None and operation.kind != "touch":
                operation.conclude(outcome)
        original(proposer, one)

    return do


def reads_at_home(original: Any) -> Any:
    """Proposer._look: the first replica that answers tells a read its value, the own one if it is."""

    def look(proposer: Any, one: Any) -> None:
        if not one.states:
            original(proposer, one)
            return
        best = max(one.states.values(), key=lambda each: each.ballot)
        for operation in one.operations:
            operation.conclude(step(best, "get", [], None, 0, proposer.now_us)[1])
        proposer._close(one)  # noqa: SLF001

    return look


def promises_broken(_original: Any) -> Any:
    """Acceptor.accept: what was promised to another is accepted all the same."""

    def accept(
        acceptor: Any, index: int, key: bytes, epoch: int, register: Any, _following: int
    ) -> Any:
        closed = acceptor._closed(index, epoch)  # noqa: SLF001
        if closed:
            return closed
        acceptor.state.registers.accept(index, key, register)
        return ("kept",)

    return accept


def told_ahead(original: Any) -> Any:
    """Proposer._do: what a change finds that changes nothing is told as it was after the one before."""

    def do(proposer: Any, one: Any) -> None:
        one.is_ahead = False
        original(proposer, one)

    return do


def only_writes_have_two(original: Any) -> Any:
    """Quorum's second_rounds: what an atomic read has met is told, and not given to a majority."""

    def rounds(quorum: Any, group: Any) -> None:
        kept, group.seen = group.seen, [one for one in group.seen or () if one[0] in group.then]
        original(quorum, group)
        group.seen = kept

    return rounds
