"""What the verb check is asked to judge: names of checks, or what a store promises and clients did."""

from __future__ import annotations

from kvlab.check import CHECKERS, GROUPS, SUMMARIES
from kvlab.errors import UsageError
from kvlab.spec.scenario import NAMESPACES

MODELS: dict[str, tuple[str, ...]] = {
    "register": ("lost", "reads"),
    "set": ("set",),
    "counter": ("counter",),
    "append": ("append",),
    "cart": ("cart", "reads"),
}
"""What clients did -> the checks of it."""


def asked_checks(given: list[str] | None) -> tuple[str, ...] | None:
    """Return the checks asked for, each once, in the order of the list; None if none were."""
    if not given:
        return None
    wanted: set[str] = set()
    for name in sorted(asked_names(given)):
        if name == "all":
            wanted |= SUMMARIES.keys()
        elif name in GROUPS:
            wanted |= set(GROUPS[name])
        elif name in SUMMARIES:
            wanted.add(name)
        else:
            known = ", ".join([*SUMMARIES, *GROUPS, "all"])
            raise UsageError(f'there is no check "{name}"', hint=f"the checks are {known}")
    return tuple(name for name in SUMMARIES if name in wanted)


def check_promise(ns: str, model: str, checks: list[str] | None) -> None:
    """Raise UsageError for a namespace or model that is none, or beside --check."""
    if ns not in ("", *NAMESPACES):
        raise UsageError(f"--ns is {' or '.join(NAMESPACES)}, not {ns}")
    if model not in ("", *MODELS):
        raise UsageError(f"there is no model {model}", hint=f"the models are {', '.join(MODELS)}")
    if checks and (ns or model):
        raise UsageError("--check says what to judge", hint="leave --ns and --model out")


def promised_checks(ns: str, model: str) -> tuple[str, ...] | None:
    """Return the checks that a promise and a model ask for; None if neither is given."""
    if not ns and not model:
        return None
    found = MODELS.get(model, CHECKERS)
    wanted = {*found, "linear"} if ns == "linear" else {*found}
    return tuple(name for name in SUMMARIES if name in wanted)


def asked_names(given: list[str] | None) -> set[str]:
    """Return the names of all options, groups as they are."""
    return {one.strip() for text in given or () for one in text.split(",")}
