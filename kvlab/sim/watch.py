"""Who looks on while simulated nodes run: what must hold at every moment, and which states were met.

It changes nothing. What it finds ends up as checks beside those of the history.

    crashes   no node raises, and none says what its peers cannot parse
    epochs    the epoch of a node's map never falls in one life
    owners    there is one map of each epoch, so one set of owners for each range
    answers   every request is answered once, in order
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from kvlab.check.verdict import Check, Verdict
from kvlab.kv.link import Link
from kvlab.kv.node import Node
from kvlab.kv.state import Settings
from kvlab.ring.change import describe
from kvlab.ring.cluster_map import ClusterMap
from kvlab.sim.stream import Trace
from kvlab.storage.journal import Saved

FOUND_MAX = 20  # violations kept per check
NAMES = ("crashes", "epochs", "owners", "answers")


class Watch:
    """Collects what went wrong and what was reached."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {name: [] for name in NAMES}
        self.reached: Counter[str] = Counter()
        self.judged: Counter[str] = Counter()
        self.trace: Trace | None = None
        self.now_us: Callable[[], int] = lambda: 0
        self._maps: dict[int, tuple[str, str]] = {}  # epoch -> (digest, who had it first)

    def wrong(self, check: str, sentence: str) -> None:
        """Note that something does not hold."""
        found = self.found[check]
        if len(found) < FOUND_MAX:
            found.append(f"{sentence} (at {self.now_us() / 1e6:.6f} s)")
        if self.trace is not None:
            self.trace(self.now_us(), "wrong", "", "", f"{check}: {sentence}")

    def crashed(self, host: str, story: str) -> None:
        """A node raised."""
        last = story.strip().splitlines()[-1]
        self.wrong("crashes", f"{host}: {last}\n{story}")

    def log(self, host: str, line: str) -> None:
        """A node wrote a line to its log."""
        if line.startswith("a peer connection was closed"):
            self.wrong("crashes", f"{host}: {line}")
        if self.trace is not None:
            self.trace(self.now_us(), "log", host, "", line)

    def saw(self, state: str) -> None:
        """A state of the protocol was reached."""
        self.reached[state] += 1

    def map_changed(self, node: Node, old: ClusterMap | None, new: ClusterMap) -> None:
        """A node serves by another map."""
        host = node.state.settings.id
        self.judged["epochs"] += 1
        self.judged["owners"] += 1
        if old is not None and new.epoch < old.epoch:
            self.wrong("epochs", f"{host} went from epoch {old.epoch} back to {new.epoch}")
        digest = node.membership.digest
        first, who = self._maps.setdefault(new.epoch, (digest, host))
        if first != digest:
            self.wrong("owners", f"{host} and {who} serve by two maps of epoch {new.epoch}")
        if old is not None:
            self.saw(f"map: {describe(old, new).kind}")

    def checks(self) -> list[Check]:
        """Return one check per thing that was watched."""
        return [self._check(name) for name in NAMES]

    def _check(self, name: str) -> Check:
        found = self.found[name]
        if found:
            because = found[0].splitlines()[0]
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            return Check(
                name=name,
                verdict=Verdict.INVALID,
                because=because + more,
                judged=self.judged[name],
                violations=len(found),
            )
        because = "nothing was seen that should not be"
        return Check(name=name, verdict=Verdict.VALID, because=because, judged=self.judged[name])


class WatchedNode(Node):
    """A node that somebody looks at; it behaves as any other."""

    def __init__(
        self, settings: Settings, now_us: int, watch: Watch, saved: Saved | None = None
    ) -> None:
        self._watch = watch
        super().__init__(settings, now_us, saved)

    def _map_changed(self, old: ClusterMap | None, new: ClusterMap) -> None:
        self._watch.map_changed(self, old, new)
        super()._map_changed(old, new)

    def _control(self, link: Link, control: list[Any], now_us: int) -> None:
        self._watch.saw(f"control: {control[0]}")
        super()._control(link, control, now_us)
