"""One root seed, one named stream of chance per purpose.

It is the only module that may draw. It is not a source of secrets.

Invariant: the streams of a seed do not disturb each other. Adding a purpose, or drawing more from
one stream, changes no other stream, because each is seeded by (seed, its full name) alone.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Rng(random.Random):
    """A stream of chance with a name; `child` opens another that is independent of this one."""

    def __init__(self, seed: int, name: str = "root") -> None:
        self.root_seed = seed
        self.name = name
        digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
        super().__init__(int.from_bytes(digest, "big"))

    def child(self, name: str) -> Rng:
        """Open the stream `name` below this one, the same for the same seed and path."""
        return Rng(self.root_seed, f"{self.name}/{name}")

    def pick(self, items: Sequence[T], count: int) -> tuple[T, ...]:
        """Draw `count` distinct items, returned in the order of `items`."""
        chosen = set(self.sample(range(len(items)), count))
        return tuple(item for index, item in enumerate(items) if index in chosen)

    def __reduce__(self) -> tuple[type[Rng], tuple[int, str], object]:
        return Rng, (self.root_seed, self.name), self.getstate()


def fresh_seed() -> int:
    """Draw a seed from the system, for a run whose user gave none; print it, so it can be kept."""
    return random.SystemRandom().randrange(1, 2**31)
