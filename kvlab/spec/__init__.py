"""The files that people write, as frozen values: cluster.yaml -> ClusterSpec.

It reads text, never files: `cli` and `lab` open them. Every default and every check of such a file
lives in this room and nowhere else; what comes out needs no second look.

Scenarios are in scenario.py and scenario_file.py, matrices in matrix.py and matrix_file.py; neither
is loaded here: most verbs need none.
"""

from kvlab.spec.cluster import (
    ClusterSpec,
    EngineSpec,
    LimitsSpec,
    LinkSpec,
    LogSpec,
    NetworkSpec,
    NodeSpec,
    ReadySpec,
    ReplicationSpec,
    RestartPolicy,
    RestartSpec,
    SecuritySpec,
    StopSpec,
    StorageSpec,
    TlsSpec,
)
from kvlab.spec.cluster_file import parse_cluster

__all__ = [
    "ClusterSpec",
    "EngineSpec",
    "LimitsSpec",
    "LinkSpec",
    "LogSpec",
    "NetworkSpec",
    "NodeSpec",
    "ReadySpec",
    "ReplicationSpec",
    "RestartPolicy",
    "RestartSpec",
    "SecuritySpec",
    "StopSpec",
    "StorageSpec",
    "TlsSpec",
    "parse_cluster",
]
