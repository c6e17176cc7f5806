"""One node: its log and state on disk, its roles, and the sessions that it serves.

The names below are for services of one's own; they are imported when they are first used. What goes into the
cores and comes out of them stands in `cluster.effects`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.ack_waits import AwaitOutcome, NotRequired, Reached, TimedOut
    from cluster.commit_waiter import CommitWaiter
    from cluster.config import ReplicationConfig, ReplicationRole
    from cluster.primary import Primary as PrimaryReplication
    from cluster.replica import Replica as ReplicaReplication
    from cluster.topology_advertiser import TOPOLOGY_READ_CAPABILITY, TopologyAdvertiser, TopologyAuthGate
    from cluster.waiting import Waiting
    from regions.lag import DEFAULT_REPLICA_TIMEOUT_MS

__all__ = [
    "DEFAULT_REPLICA_TIMEOUT_MS",
    "TOPOLOGY_READ_CAPABILITY",
    "AwaitOutcome",
    "CommitWaiter",
    "NotRequired",
    "PrimaryReplication",
    "Reached",
    "ReplicaReplication",
    "ReplicationConfig",
    "ReplicationRole",
    "TimedOut",
    "TopologyAdvertiser",
    "TopologyAuthGate",
    "Waiting",
]

_HOMES = {
    **dict.fromkeys(("AwaitOutcome", "NotRequired", "Reached", "TimedOut"), "ack_waits"),
    **dict.fromkeys(("ReplicationConfig", "ReplicationRole"), "config"),
    **dict.fromkeys(
        (
            "TOPOLOGY_READ_CAPABILITY",
            "TopologyAdvertiser",
            "TopologyAuthGate",
        ),
        "topology_advertiser",
    ),
    "CommitWaiter": "commit_waiter",
    "DEFAULT_REPLICA_TIMEOUT_MS": "cluster_config",
    "PrimaryReplication": "primary",
    "ReplicaReplication": "replica",
    "Waiting": "waiting",
}
_NAMES = {"PrimaryReplication": "Primary", "ReplicaReplication": "Replica"}


if not TYPE_CHECKING:  # whoever checks types is to find a name that is none

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'cluster' has no attribute {name!r}")
        return getattr(import_module(f"cluster.{_HOMES[name]}"), _NAMES.get(name, name))


def __dir__() -> list[str]:
    return sorted(__all__)
