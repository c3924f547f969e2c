"""Key choosers: which key the next operation touches.

They are not a hash ring: they know key numbers and names, not nodes.

1. A chooser returns numbers in [0, loaded + inserted by this worker), and the same sequence for
   the same stream of chance.
2. Workers never insert the same key: worker w of n inserts loaded + w, loaded + w + n, ...
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Protocol

from kvlab.errors import UsageError
from kvlab.rng import Rng

THETA = 0.99  # skew of the zipfian choosers, as in YCSB
GOLDEN = 0.6180339887498949  # spreads neighbours of a sequence farthest apart
PAIR = 2  # below three items the zipfian formula is not needed, and divides by zero


class KeySpace:
    """The names of the keys: `loaded` at the start, then those that this worker inserts."""

    def __init__(
        self, loaded: int, *, prefix: str = "user", worker: int = 0, workers: int = 1
    ) -> None:
        if loaded < 1:
            raise UsageError(f"a workload needs at least 1 key, not {loaded}")
        if not 0 <= worker < workers:
            raise UsageError(f"worker {worker} of {workers} does not exist")
        self.loaded = loaded
        self.prefix = prefix
        self.inserted = 0
        self._worker = worker
        self._workers = workers

    def __len__(self) -> int:
        return self.loaded + self.inserted

    def name(self, index: int) -> str:
        """Name of key number `index`; this worker's inserts follow the loaded keys."""
        if index >= self.loaded:
            index = self.loaded + (index - self.loaded) * self._workers + self._worker
        return f"{self.prefix}{index}"

    def insert(self) -> str:
        """Name of a key that nobody has written yet; it counts as present from now on."""
        self.inserted += 1
        return self.name(len(self) - 1)


class KeyChooser(Protocol):
    """Anything that names the next key by its number."""

    def choose(self) -> int:
        """Return the number of the next key."""
        ...


class Uniform:
    """Every loaded key is as likely as any other."""

    def __init__(self, space: KeySpace, rng: Rng) -> None:
        self._count = space.loaded
        self._random = rng.random

    def choose(self) -> int:
        """Return a number in [0, loaded)."""
        return int(self._random() * self._count)


class Sequential:
    """0, 1, 2, ... and round again; worker w of n starts at its share of the circle."""

    def __init__(self, space: KeySpace, start: int = 0) -> None:
        self._count = space.loaded
        self._next = start % space.loaded

    def choose(self) -> int:
        """Return the number after the last one."""
        chosen = self._next
        self._next = (chosen + 1) % self._count
        return chosen


class Zipf:
    """Ranks 0, 1, 2, ... with weights 1/(rank+1)^theta, drawn without rejection.

    Source: Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994), the
    formula that YCSB uses: exact for the first two ranks, close to it for the others. `grow`
    extends the sum of weights, so that a growing key space costs one addition per new key.
    """

    def __init__(self, count: int, rng: Rng, *, theta: float = THETA) -> None:
        if count < 1:
            raise UsageError(f"a zipfian chooser needs at least 1 item, not {count}")
        if not 0 < theta < 1:
            raise UsageError(f"theta must lie between 0 and 1, not {theta}")
        self._random = rng.random
        self._theta = theta
        self._alpha = 1 / (1 - theta)
        self._second = 1 + 0.5**theta
        self._sum = 0.0
        self.count = 0
        self.grow(count)

    def grow(self, count: int) -> None:
        """Draw from `count` ranks from now on (never fewer than before)."""
        theta = self._theta
        self._sum += sum(i**-theta for i in range(self.count + 1, count + 1))
        self.count = count
        self._eta = 0.0
        if count > PAIR:
            self._eta = (1 - (2 / count) ** (1 - theta)) / (1 - self._second / self._sum)

    def draw(self) -> int:
        """Return a rank in [0, count); 0 is the most likely."""
        u = self._random()
        weighted = u * self._sum
        if weighted < 1:
            return 0
        if weighted < self._second:
            return min(1, self.count - 1)
        rank = int(self.count * (self._eta * (u - 1) + 1) ** self._alpha)
        return min(rank, self.count - 1)


class Zipfian:
    """A few keys are hot, and the hot ones lie anywhere in the key space (scrambled).

    YCSB scatters ranks with a hash, where two ranks may fall on one key and some keys are never
    chosen. Here the scatter is a permutation, so the skew over keys is exactly that of the ranks.
    """

    def __init__(self, space: KeySpace, rng: Rng, *, theta: float = THETA) -> None:
        self._zipf = Zipf(space.loaded, rng, theta=theta)
        self._count = space.loaded
        self._step = _coprime_near(int(space.loaded * GOLDEN) or 1, space.loaded)

    def choose(self) -> int:
        """Return a number in [0, loaded)."""
        return self._zipf.draw() * self._step % self._count


class Latest:
    """The newest keys are hot: what was inserted last is read most."""

    def __init__(self, space: KeySpace, rng: Rng, *, theta: float = THETA) -> None:
        self._space = space
        self._zipf = Zipf(len(space), rng, theta=theta)

    def choose(self) -> int:
        """Return a number in [0, loaded + inserted)."""
        count = len(self._space)
        if count != self._zipf.count:
            self._zipf.grow(count)
        return count - 1 - self._zipf.draw()


def _coprime_near(wanted: int, count: int) -> int:
    """Return the first number from `wanted` up that shares no factor with `count`."""
    while gcd(wanted, count) != 1:
        wanted += 1
    return wanted


def _sequential(space: KeySpace, rng: Rng) -> Sequential:
    return Sequential(space, start=rng.randrange(space.loaded))


DISTRIBUTIONS: dict[str, Callable[[KeySpace, Rng], KeyChooser]] = {
    "uniform": Uniform,
    "zipfian": Zipfian,
    "latest": Latest,
    "sequential": _sequential,
}


def chooser(name: str, space: KeySpace, rng: Rng) -> KeyChooser:
    """Make the chooser called `name`. Raises UsageError that lists the names there are."""
    make = DISTRIBUTIONS.get(name)
    if make is None:
        raise UsageError(
            f"no key distribution is called {name!r}",
            hint=f"choose from {', '.join(DISTRIBUTIONS)}",
        )
    return make(space, rng)
