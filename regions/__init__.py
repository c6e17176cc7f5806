"""How far a replicated log is committed: policies, who counts for them, and the one ack table."""

from regions.binding import Member, MemberKind, Membership, default_policy, require_satisfiable
from regions.commit_policy import AckN, CommitPolicy, Local, Majority, Quorum, Regions, RemoteWal
from regions.commit_time import Distances, Never, Unmeasured, expected_commit_ms
from regions.coordinator import ProvedLess, QuorumCoordinator
from regions.errors import (
    AckInvalid,
    InsufficientReplicas,
    MembershipInvalid,
    MemberUnknown,
    MissingRegions,
    QuorumError,
    RegionUnknown,
    Timeout,
)
from regions.lag import DEFAULT_REPLICA_TIMEOUT_MS, Behind, CaughtUp, Health, Lag, LagConfig, Unknown, lag_ms
from regions.prover import Loss, LossVerdict, SinglePoints, Verdict, Writable, prove, what_if
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
from regions.transition import Step
from regions.waits import Cancelled, QuorumNotRequired, QuorumReached, QuorumWait

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
    "Distances",
    "Health",
    "InsufficientReplicas",
    "Lag",
    "LagConfig",
    "Local",
    "Loss",
    "LossVerdict",
    "Majority",
    "Member",
    "MemberKind",
    "MemberStatus",
    "MemberUnknown",
    "Membership",
    "MembershipInvalid",
    "MissingRegions",
    "Never",
    "ProvedLess",
    "Quorum",
    "QuorumConfig",
    "QuorumCoordinator",
    "QuorumError",
    "QuorumMode",
    "QuorumNotRequired",
    "QuorumReached",
    "QuorumWait",
    "RegionUnknown",
    "Regions",
    "RemoteWal",
    "SinglePoints",
    "Step",
    "Timeout",
    "Unknown",
    "Unmeasured",
    "Verdict",
    "Writable",
    "at_least",
    "compile_rule",
    "default_policy",
    "expected_commit_ms",
    "lag_ms",
    "minimal_sets",
    "prove",
    "require_satisfiable",
    "satisfied_by",
    "watermark",
    "what_if",
]
