"""A workload becomes operations: what is left to chance is drawn, values are unique.

It knows nothing of faults, and does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kvlab.experiment.workloads import draw_kind
from kvlab.rng import Rng
from kvlab.spec.scenario import VERBS, OperationSpec, ScenarioSpec, WorkloadSpec

MADE_SHARE = 0.5  # of reads and deletes are of counters and growing texts, where there are any
EXPECTS_SHARE = 0.8  # of compare-and-sets expect a value
MADE_PER_KEY = 20  # operations of any kind for each key of counters and of texts
AGAIN_SHARE = 0.5  # of operations are asked again where their end is unknown


def draw_operations(
    spec: ScenarioSpec, founders: tuple[str, ...], rng: Rng
) -> Iterable[OperationSpec]:
    """Draw the operations of a workload: evenly spread over time, values unique."""
    if spec.workload.kind != "mix":
        yield from draw_kind(spec, rng)
        return
    work = spec.workload
    styles = [_style(rng) for _ in range(work.clients)]
    for number in range(work.operations):
        client = rng.randrange(work.clients)
        level, meta = styles[client]
        draw = rng.random()
        verb = "get" if draw < work.get else "set" if draw < work.get + work.set else "delete"
        value = f"v{number}".ljust(work.value_bytes, ".") if verb == "set" else ""
        if work.level:
            level, meta = work.level, True
        elif level == "mixed":
            level = rng.choice(("", "", "one", "quorum", "all"))
        operation = OperationSpec(
            at_us=rng.randrange(1, work.span_us),
            client=f"c{client + 1}",
            verb=verb,
            key=f"k{rng.randrange(work.keys)}",
            value=value,
            node=rng.choice(founders) if rng.random() < 0.1 else "",
            level=level,
            meta=meta,
            timeout_us=work.timeout_us,
        )
        if spec.ns == "linear":
            operation = _linear(operation, number, work, rng)
        if spec.is_of_others:  # they know neither levels nor what was asked before
            operation = replace(operation, level="", meta=False, again=False)
        yield operation


def _linear(one: OperationSpec, number: int, work: WorkloadSpec, rng: Rng) -> OperationSpec:
    """Make of a drawn operation one of the linear namespace, which has more verbs and no levels.

    Counters and growing texts have keys of their own: any of their values shows how often each
    operation was done. A cas expects one of the values that were written lately.
    """
    shares = {verb: getattr(work, verb) for verb in VERBS}
    [verb] = rng.choices(tuple(shares), tuple(shares.values()))
    made = [kind for kind in ("incr", "append") if shares[kind]]
    kind = verb if verb in made else ""
    if made and verb in ("get", "delete") and rng.random() < MADE_SHARE:
        kind = rng.choice(made)
    key = one.key
    if kind:  # many, as what many clients do to one key at once takes long to judge
        key = f"{kind}{rng.randrange(max(work.keys, work.operations // MADE_PER_KEY))}"
    value = expected = ""
    if verb in ("set", "cas"):
        value = f"v{number}".ljust(work.value_bytes, ".")
    elif verb == "append":
        value = f"{number},"
    if verb == "cas" and rng.random() < EXPECTS_SHARE:
        expected = f"v{max(0, number - rng.randint(1, 4))}".ljust(work.value_bytes, ".")
    return replace(
        one, verb=verb, key=key, value=value, expected=expected, level="", meta=False,
        again=rng.random() < AGAIN_SHARE,
    )  # fmt: skip


def _style(rng: Rng) -> tuple[str, bool]:
    """Draw how a client asks: plainly, with versions told, or at levels of its own."""
    return rng.choice((("", False), ("", True), ("", True), ("mixed", True)))
