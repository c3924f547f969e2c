"""The text of cluster.yaml -> ClusterSpec: every rule about the file, all problems at once.

It has no defaults (they are the fields of cluster.py) and opens no file (callers hand it the text).
The rules about nodes are in cluster_nodes.py, those about engines in cluster_engine.py.
"""

from __future__ import annotations

from typing import Final, cast

import yaml

from kvlab.spec.cluster import (
    ClusterSpec,
    LimitsSpec,
    LinkSpec,
    LogSpec,
    NetworkSpec,
    ReadySpec,
    ReplicationSpec,
    RestartPolicy,
    RestartSpec,
    SecuritySpec,
    StopSpec,
    StorageSpec,
    Sync,
    TlsSpec,
    quorum,
)
from kvlab.spec.cluster_engine import read_engine
from kvlab.spec.cluster_nodes import NAME_ADVICE, is_name, read_nodes
from kvlab.spec.document import Problems, compose, is_null, join, line_of, shown
from kvlab.spec.section import Section, either

COPIES_MAX: Final = 16
RANGES_MIN: Final = 16
RANGES_MAX: Final = 4096
RESTARTS_MAX: Final = 1000
OPEN_FILES_MIN: Final = 64
"""A node with fewer cannot hold its own files and a connection to each of a few peers."""
OPEN_FILES_MAX: Final = 1 << 20
SEED_MAX: Final = 2**63 - 1

RESTART_POLICIES: Final = ("never", "on-failure", "always")
SYNCS: Final = ("always", "interval", "os", "memory")
STOP_SIGNALS: Final = ("TERM", "INT", "HUP", "QUIT", "KILL")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
VERSIONS: Final = ("1",)

_MS: Final = 1_000
_SECOND: Final = 1_000_000
_MINUTE: Final = 60 * _SECOND

CLUSTER_KEYS: Final = tuple(name.removesuffix("_us") for name in ClusterSpec.__dataclass_fields__)
_DEFAULT: Final = ClusterSpec(nodes=())
"""What a file says that says nothing: where each reader below finds its defaults."""


def parse_cluster(text: str, *, source: str = "cluster.yaml") -> ClusterSpec:
    """Read the text of a cluster.yaml; raise SpecError with every problem, each with its line."""
    problems = Problems(source)
    root = compose(text, problems)
    if root is None:
        problems.raise_if_any()
    mapping = root if isinstance(root, yaml.MappingNode) else None
    if root is not None and mapping is None:
        said = f"the file is {shown(root)}; write keys and values, such as nodes: 3"
        problems.add(line_of(root), said)
        problems.raise_if_any()
    spec = read_cluster(Section(problems, "", mapping, CLUSTER_KEYS, line=1))
    problems.raise_if_any()
    return spec


def read_cluster(file: Section) -> ClusterSpec:
    """Read a whole cluster out of a mapping with CLUSTER_KEYS; what is wrong becomes a problem."""
    nodes = read_nodes(file)
    return ClusterSpec(
        nodes=nodes,
        version=int(file.choice("version", str(_DEFAULT.version), VERSIONS)),
        name=read_name(file, _DEFAULT.name),
        engine=read_engine(file, nodes),
        seed=_seed(file),
        replication=read_replication(file, _DEFAULT.replication),
        ranges=read_ranges(file, _DEFAULT.ranges),
        dead_after_us=file.duration(
            "dead_after", _DEFAULT.dead_after_us, low_us=0, high_us=24 * 60 * _MINUTE
        ),
        storage=_storage(file),
        restart=_restart(file),
        stop=_stop(file),
        ready=_ready(file),
        network=_network(file),
        limits=_limits(file),
        log=_log(file),
        security=_security(file),
    )


def read_name(file: Section, default: str) -> str:
    """Read `name`, which also names a folder."""
    if file.get("name") is None:
        return default
    name = file.text("name") or ""
    if not is_name(name):
        file.wrong("name", f"{NAME_ADVICE} ring5")
    return name


def _seed(file: Section) -> int | None:
    node = file.get("seed")
    if node is None or is_null(node):
        return _DEFAULT.seed
    return file.integer("seed", 0, low=0, high=SEED_MAX)


def read_replication(file: Section, default: ReplicationSpec) -> ReplicationSpec:
    """Read `replication`, whose r and w are majorities of n where the file does not say."""
    section = file.section("replication", ("n", "r", "w"), sample="{n: 3, r: 2, w: 2}")
    before = len(file.problems.found)
    n = section.integer("n", default.n, low=1, high=COPIES_MAX)
    # With a wrong n there is nothing to hold r and w against.
    high = n if len(file.problems.found) == before else COPIES_MAX
    return ReplicationSpec(
        n=n, r=_copies(section, "r", n, high=high), w=_copies(section, "w", n, high=high)
    )


def _copies(section: Section, key: str, n: int, *, high: int) -> int:
    copies = section.integer(key, quorum(n), low=1, high=COPIES_MAX)
    if copies > high:
        advice = f"write a whole number from 1 to {high}"
        section.wrong(key, advice, complaint=", more than n")
    return copies


def read_ranges(file: Section, default: int) -> int:
    """Read `ranges`, a power of two."""
    if file.get("ranges") is None:
        return default
    text = file.text("ranges") or ""
    powers = {str(1 << power) for power in range(RANGES_MAX.bit_length())}
    if text in powers and RANGES_MIN <= int(text) <= RANGES_MAX:
        return int(text)
    file.wrong("ranges", f"write a power of two from {RANGES_MIN} to {RANGES_MAX}, such as 256")
    return default


def _storage(file: Section) -> StorageSpec:
    section = file.section("storage", ("sync",), sample="{sync: always}")
    return StorageSpec(sync=cast("Sync", section.choice("sync", _DEFAULT.storage.sync, SYNCS)))


def _restart(file: Section) -> RestartSpec:
    default = _DEFAULT.restart
    keys = ("policy", "backoff", "max", "window")
    section = file.section("restart", keys, sample="{policy: on-failure}")
    backoff_us_min, backoff_us_max = _backoff(section, default)
    return RestartSpec(
        policy=cast("RestartPolicy", section.choice("policy", default.policy, RESTART_POLICIES)),
        backoff_us_min=backoff_us_min,
        backoff_us_max=backoff_us_max,
        count_max=section.integer("max", default.count_max, low=0, high=RESTARTS_MAX),
        window_us=section.duration(
            "window", default.window_us, low_us=_SECOND, high_us=60 * _MINUTE
        ),
    )


def _backoff(section: Section, default: RestartSpec) -> tuple[int, int]:
    """Read [shortest, longest]."""
    stand_in = (default.backoff_us_min, default.backoff_us_max)
    node = section.get("backoff")
    if node is None:
        return stand_in
    advice = "write the shortest and the longest wait, such as [100ms, 5s]"
    if not isinstance(node, yaml.SequenceNode):
        section.wrong("backoff", advice)
        return stand_in
    if len(node.value) != 2:
        section.wrong("backoff", advice, complaint=f" of {len(node.value)}")
        return stand_in
    name = join(section.path, "backoff")
    shortest, longest = (
        section.read_duration(item, f"{name}[{index}]", low_us=_MS, high_us=10 * _MINUTE)
        for index, item in enumerate(node.value, start=1)
    )
    if shortest is None or longest is None:
        return stand_in
    if shortest > longest:
        section.wrong("backoff", advice, complaint=" whose first wait is the longer one")
    return shortest, longest


def _stop(file: Section) -> StopSpec:
    default = _DEFAULT.stop
    section = file.section("stop", ("signal", "grace"), sample="{signal: TERM, grace: 3s}")
    signal = default.signal
    if section.get("signal") is not None:
        signal = (section.text("signal") or "").upper().removeprefix("SIG")
        if signal not in STOP_SIGNALS:
            section.wrong("signal", f"write {either(STOP_SIGNALS)}")
    return StopSpec(
        signal=signal,
        grace_us=section.duration("grace", default.grace_us, low_us=0, high_us=10 * _MINUTE),
    )


def _ready(file: Section) -> ReadySpec:
    section = file.section("ready", ("timeout",), sample="{timeout: 10s}")
    return ReadySpec(
        timeout_us=section.duration(
            "timeout", _DEFAULT.ready.timeout_us, low_us=100 * _MS, high_us=10 * _MINUTE
        )
    )


def _network(file: Section) -> NetworkSpec:
    default = _DEFAULT.network
    section = file.section("network", ("shims", "default"), sample="{shims: true}")
    links = section.section("default", ("latency", "jitter"), sample="{latency: 0ms, jitter: 0ms}")
    shims = section.boolean("shims", default=default.shims)
    link = LinkSpec(
        latency_us=links.duration("latency", default.default.latency_us, low_us=0, high_us=_MINUTE),
        jitter_us=links.duration("jitter", default.default.jitter_us, low_us=0, high_us=_MINUTE),
    )
    if not shims and link != LinkSpec(latency_us=0, jitter_us=0):
        section.wrong(
            "shims", "write true: only shims can delay links", complaint=", but default has a delay"
        )
    return NetworkSpec(shims=shims, default=link)


def _limits(file: Section) -> LimitsSpec:
    section = file.section("limits", ("open_files",), sample="{open_files: 1024}")
    return LimitsSpec(
        open_files=section.integer(
            "open_files", _DEFAULT.limits.open_files, low=OPEN_FILES_MIN, high=OPEN_FILES_MAX
        )
    )


def _log(file: Section) -> LogSpec:
    section = file.section("log", ("level",), sample="{level: info}")
    return LogSpec(level=section.choice("level", _DEFAULT.log.level, LOG_LEVELS))


def _security(file: Section) -> SecuritySpec:
    keys = ("password_file", "cluster_secret_file", "tls")
    section = file.section("security", keys, sample="{password_file: password}")
    tls = section.section("tls", ("cert", "key", "ca"), sample="{cert: c.pem, key: k.pem}")
    files = TlsSpec(*(_path(tls, key) for key in ("cert", "key", "ca")))
    for given, needed in (("cert", "key"), ("key", "cert"), ("ca", "cert")):
        if getattr(files, given) and not getattr(files, needed):
            tls.wrong(needed, f"write the file that belongs to {tls.path}.{given}")
            break
    security = SecuritySpec(
        password_file=_path(section, "password_file"),
        cluster_secret_file=_path(section, "cluster_secret_file"),
        tls=files,
    )
    if security != _DEFAULT.security and isinstance(file.get("engine"), yaml.MappingNode):
        file.wrong("security", "leave it out: servers of a command are told by that")
    return security


def _path(section: Section, key: str) -> str:
    node = section.get(key)
    if node is None or is_null(node):
        return ""
    text = section.text(key) or ""
    if not text or not text.isprintable():
        section.wrong(key, "write the name of a file, such as ./secret")
    return text
