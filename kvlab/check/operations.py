"""What a checker is given: operations, one after the other or key by key. It judges nothing.

`History` (kvlab/history.py) is one: all of it in memory, as it was recorded. `Table` (columns.py) is
another: a row of numbers per operation, and operations made of them when somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from kvlab.check.verdict import Check
from kvlab.history import Op


class Operations(Protocol):
    """Operations in the order of their invocations."""

    @property
    def ops(self) -> Sequence[Op]:
        """Return all of them."""

    def by_key(self) -> Mapping[str, Sequence[Op]]:
        """Return those of each key. Take one key after the other: they may be made on the way."""


Checker: TypeAlias = Callable[[Operations], Check]
