"""One cluster as the verbs see it: its supervisor's answers, and what its nodes say themselves.

It shows nothing. A cluster is reached through its supervisor (the daemon of cluster.yaml) or,
with --addr, through any one of its nodes, whoever started it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlab.cli import out
from kvlab.errors import ClientError, InfraError, NotRunningError, UsageError

if TYPE_CHECKING:
    from kvlab.lab.state import Running, StateDir
    from kvlab.live.security import Access
    from kvlab.ring.cluster_map import ClusterMap
    from kvlab.spec import ClusterSpec

ASK_TIMEOUT_S = 2.0  # a paused node must not hold up a table for long
CONNECT_TIMEOUT_S = 0.5
SPEC_BYTES_MAX = 1 << 20
Infos = dict[str, dict[str, Any] | None]  # node id -> the `info` of its answer; None: no answer


def read_spec(file: Path) -> ClusterSpec:
    """Read cluster.yaml; raise UsageError when it cannot be read, SpecError when it is wrong."""
    from kvlab.spec import parse_cluster

    try:
        with file.open("rb") as stream:
            raw = stream.read(SPEC_BYTES_MAX + 1)
        text = raw.decode()
    except FileNotFoundError:
        hint = "write one (a single line will do: nodes: 3) or name another with -f FILE"
        raise UsageError(f"there is no {file}", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}", hint="name another with -f FILE") from None
    if len(raw) > SPEC_BYTES_MAX:
        raise UsageError(f"{file} is larger than 1mb", hint="is it a cluster.yaml?")
    return parse_cluster(text, source=str(file))


def running_cluster(file: Path) -> Running:
    """Find the daemon of `file`; NotRunningError says, too, when the file itself is missing."""
    from kvlab.lab.state import find_cluster

    try:
        return find_cluster(file)
    except NotRunningError as error:
        if file.exists():
            raise
        raise NotRunningError(
            f"no cluster is running: there is no {file}",
            hint="go to the folder of your cluster.yaml, or name it with -f FILE; then kvlab up",
        ) from error


def state_directory(file: Path) -> StateDir:
    """Return the state directory of the cluster that `file` describes, running or not."""
    from kvlab.lab.state import find_cluster, state_dir

    try:
        return find_cluster(file).directory
    except NotRunningError:
        return state_dir(file, read_spec(file).name)


def call(file: Path, verb: str, args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ask the supervisor of `file` to do `verb`; its progress goes to stderr.

    Raises NotRunningError without a supervisor, and whatever error the supervisor answers.
    """
    from kvlab.lab.control import ControlClient

    running = running_cluster(file)
    with ControlClient(Path(running.control)) as client:
        answer: dict[str, Any] = client.call(verb, dict(args or {}), out.show_progress)
    return answer


class Cluster:
    """A running cluster, asked through its supervisor or through the node at `addr`."""

    def __init__(self, file: Path, addr: str = "") -> None:
        self._file = file
        self._addr = addr
        self._addresses: dict[str, str] | None = None
        self._found: Access | None = None

    @property
    def access(self) -> Access:
        """What lets questions in."""
        if self._found is None:
            from kvlab.cli.access import find_access

            self._found = find_access(bool(self._addr), self._file)
        return self._found

    def status(self) -> dict[str, Any]:
        """Return the supervisor's `status` answer, or one of its shape made from the nodes'."""
        if not self._addr:
            return call(self._file, "status")
        from kvlab.report.status import unsupervised_status

        return unsupervised_status(self.addresses(), self.ask("STATUS"))

    def addresses(self) -> dict[str, str]:
        """Return node id -> "host:port" for clients, of every node that has a process or a place.

        Without a supervisor these are the members in the map of the node at `addr`.
        """
        if self._addresses is None:
            self._addresses = self._members() if self._addr else self._supervised()
        return self._addresses

    def ask(self, kind: str, key: str = "") -> Infos:
        """Ask every node; one that does not answer in time has None. Raises if none answers."""
        infos: Infos = {}
        reason: ClientError | None = None
        for node, address in self.addresses().items():
            try:
                infos[node] = _ask(address, self.access, kind, key) if address else None
            except ClientError as error:
                infos[node] = None
                reason = error
        if any(infos.values()):
            return infos
        hint = "kvlab status shows what happened; kvlab logs shows why"
        said = f": {reason.message}" if reason else ""
        raise InfraError(f"no node of the cluster answers{said}", hint=hint)

    def map(self) -> ClusterMap:
        """Return the newest map that any node has."""
        from kvlab.ring.cluster_map import ClusterMap

        infos = [info for info in self.ask("MAP").values() if info]
        return ClusterMap.from_builtins(max(infos, key=lambda info: int(info["epoch"])))

    def _supervised(self) -> dict[str, str]:
        answer = call(self._file, "status")
        if not answer["is_ours"]:
            raise UsageError(
                "these servers are not kvlab's own: they have no ring, map or moves to ask for",
                hint="kvlab status shows what they tell",
            )
        nodes = answer["nodes"]
        # Others than running ones would only let us wait for the time-out.
        return {
            node["id"]: f"{node['host']}:{node['port']}" if node["state"] == "running" else ""
            for node in nodes
        }

    def _members(self) -> dict[str, str]:
        members = _ask(self._addr, self.access, "MAP")["members"]
        return {one["id"]: one["client_address"] or one["address"] for one in members}


def _ask(address: str, access: Access, kind: str, key: str = "") -> dict[str, Any]:
    from kvlab.live.blocking import BlockingClient

    with BlockingClient(
        address, timeout=ASK_TIMEOUT_S, connect_timeout=CONNECT_TIMEOUT_S, access=access
    ) as client:
        info: dict[str, Any] = client.ask(kind, key)
    return info
