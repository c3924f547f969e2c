"""Workloads by name: the operations of a set, counters, growing texts, carts, and those of YCSB.

They are drawn before the run, with the times at which they are due; what a cart writes is made of what
its client reads then. Mixes by shares are operations.py's.

Values are unique: each is named by the number of its operation.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvlab.rng import Rng
from kvlab.spec.scenario import YCSB_KINDS, OperationSpec, ScenarioSpec
from kvlab.workload.keys import KeySpace, chooser
from kvlab.workload.mix import preset
from kvlab.workload.stream import Workload
from kvlab.workload.values import Values, least_size

ADD_SHARE = 0.8  # of the operations of a set
READ_SHARE = 0.4  # of those of counters, texts and carts
STEP_MAX = 5  # that a counter grows by at once
LOAD_SHARE = 0.2  # of the time of a YCSB workload, in which all keys are written first
TAG = "y"  # of the values of YCSB

Act = tuple[str, str, str]
"""A verb, a key and a value."""


def draw_kind(spec: ScenarioSpec, rng: Rng) -> Iterator[OperationSpec]:
    """Draw the operations of a kind, in order of time."""
    work = spec.workload
    if work.kind in YCSB_KINDS:
        yield from _ycsb(spec, rng)
        return
    act = {
        "register": _register,
        "set": _set,
        "counter": _counter,
        "append": _append,
        "cart": _cart,
    }[work.kind]
    for number, at_us in enumerate(_times(rng, work.operations, 1, work.span_us)):
        yield _operation(spec, rng, at_us, act(spec, rng, number))


def _times(rng: Rng, count: int, from_us: int, until_us: int) -> list[int]:
    """Draw when operations are due: independent of each other, as requests of many people are."""
    return sorted(rng.randrange(from_us, until_us) for _ in range(count))


def _operation(
    spec: ScenarioSpec, rng: Rng, at_us: int, act: Act, client: int = 0
) -> OperationSpec:
    verb, key, value = act
    work = spec.workload
    return OperationSpec(
        at_us=at_us,
        client=f"c{client or rng.randint(1, work.clients)}",
        verb=verb,
        key=key,
        value=value,
        level=work.level,
        meta=spec.ns == "eventual" and not spec.is_of_others,
        timeout_us=work.timeout_us,
    )


def _value(spec: ScenarioSpec, number: int) -> str:
    return f"v{number}".ljust(spec.workload.value_bytes, ".")


def _register(spec: ScenarioSpec, rng: Rng, number: int) -> Act:
    key = f"k{rng.randrange(spec.workload.keys)}"
    return ("get", key, "") if rng.random() < READ_SHARE else ("set", key, _value(spec, number))


def _set(spec: ScenarioSpec, rng: Rng, number: int) -> Act:
    # Some of the keys asked for are never added: a number is either an addition or a read.
    if number and rng.random() >= ADD_SHARE:
        return "get", f"e{rng.randrange(number)}", ""
    return "set", f"e{number}", _value(spec, number)


def _counter(spec: ScenarioSpec, rng: Rng, number: int) -> Act:  # noqa: ARG001 - as the others
    key = f"n{rng.randrange(spec.workload.keys)}"
    reads = rng.random() < READ_SHARE
    return ("get", key, "") if reads else ("incr", key, str(rng.randint(1, STEP_MAX)))


def _append(spec: ScenarioSpec, rng: Rng, number: int) -> Act:
    key = f"t{rng.randrange(spec.workload.keys)}"
    return ("get", key, "") if rng.random() < READ_SHARE else ("append", key, f"{number},")


def _cart(spec: ScenarioSpec, rng: Rng, number: int) -> Act:
    key = f"cart{rng.randrange(spec.workload.keys)}"
    verb = "add" if spec.ns == "eventual" else "add-cas"
    return ("get", key, "") if rng.random() < READ_SHARE else (verb, key, f"i{number}")


def _ycsb(spec: ScenarioSpec, rng: Rng) -> Iterator[OperationSpec]:
    """Write every key once, then draw units; what a unit sends after its answer is due with it."""
    work = spec.workload
    chosen = preset(work.kind.removeprefix("ycsb-"))
    space = KeySpace(work.keys)
    size = max(work.value_bytes, least_size(TAG))
    values = Values(size, tag=TAG, rng=rng.child("values"))
    load_us = max(2, round(work.span_us * LOAD_SHARE))
    for number, at_us in enumerate(_times(rng, work.keys, 1, load_us)):
        yield _operation(spec, rng, at_us, ("set", space.name(number), values.next()))
    keys = chooser(chosen.distribution, space, rng.child("keys"))
    stream = Workload(chosen.mix, space, keys, values, rng.child("units"))
    for at_us in _times(rng, work.operations, load_us, max(load_us + 1, work.span_us)):
        unit, client = stream.next_unit(), rng.randint(1, work.clients)
        for one in (*unit.first, *unit.then):
            yield _operation(spec, rng, at_us, (one.f, one.key, one.value or ""), client)
