"""How far a replicated log is committed: policies, who counts for them, and the one ack table."""

from regions.binding import Member, MemberKind, Membership, default_policy, satisfiable
from regions.commit_policy import AckN, CommitPolicy, Local, Majority, Quorum, Regions, RemoteWal
from regions.coordinator import ProvedLess, QuorumCoordinator
from regions.errors import (
    AckInvalid,
    InsufficientReplicas,
    MembershipInvalid,
    MemberUnknown,
    MissingRegions,
    QuorumError,
    Timeout,
)
from regions.lag import DEFAULT_REPLICA_TIMEOUT_MS, Behind, CaughtUp, Health, Lag, LagConfig, Unknown, lag_ms
from regions.quorum import (
    CompiledRule,
    QuorumConfig,
    QuorumMode,
    at_least,
    compile_rule,
    minimal_sets,
    satisfied_by,
    watermark,
)
from regions.status import CoordinatorStatus, MemberStatus
from regions.waits import Cancelled, NotRequired, QuorumWait, Reached

__all__ = [
    "DEFAULT_REPLICA_TIMEOUT_MS",
    "AckInvalid",
    "AckN",
    "Behind",
    "Cancelled",
    "CaughtUp",
    "CommitPolicy",
    "CompiledRule",
    "CoordinatorStatus",
    "Health",
    "InsufficientReplicas",
    "Lag",
    "LagConfig",
    "Local",
    "Majority",
    "Member",
    "MemberKind",
    "MemberStatus",
    "MemberUnknown",
    "Membership",
    "MembershipInvalid",
    "MissingRegions",
    "NotRequired",
    "ProvedLess",
    "Quorum",
    "QuorumConfig",
    "QuorumCoordinator",
    "QuorumError",
    "QuorumMode",
    "QuorumWait",
    "Reached",
    "Regions",
    "RemoteWal",
    "Timeout",
    "Unknown",
    "at_least",
    "compile_rule",
    "default_policy",
    "lag_ms",
    "minimal_sets",
    "satisfiable",
    "satisfied_by",
    "watermark",
]
