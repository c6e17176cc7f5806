"""What all members of a cluster must agree on: its members, administrators, policies and times.

A new cluster begins with what its first node's file says; afterwards the log decides (`cluster.settings`).
Both are checked by the same rules: names are unique, and the members can meet the policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from cluster import schema
from cluster.address import Address
from redwire.errors import ConfigInvalid, PolicyInvalid
from redwire.handshake import DNS_LABEL, USER_NAME
from redwire.message.log import ADMINS_MAX, MEMBERS_MAX, ClusterRecord, MemberRecord
from redwire.position import ClusterId, Incarnation, NodeId, Region
from regions.binding import Member, MemberKind, Membership, default_policy, require_satisfiable
from regions.commit_policy import CommitPolicy, Quorum
from regions.lag import DEFAULT_REPLICA_TIMEOUT_MS
from regions.quorum import at_least

_LABEL = msgspec.Meta(
    pattern=rf"\A{DNS_LABEL.pattern}", description="a DNS label (a-z, 0-9 and - inside, at most 63)"
)
_USER = msgspec.Meta(
    pattern=rf"\A{USER_NAME.pattern}", description="a user name (A-Z a-z 0-9 . _ -, at most 64)"
)
NodeName = Annotated[NodeId, _LABEL]
RegionName = Annotated[Region, _LABEL]
Binding = Annotated[
    Region, msgspec.Meta(pattern=rf"\A({DNS_LABEL.pattern}|\Z)", description="a DNS label, or nothing")
]
ClusterName = Annotated[str, _LABEL]
UserName = Annotated[str, _USER]
Millis = Annotated[int, msgspec.Meta(ge=1, le=3_600_000, description="whole milliseconds, 1 to 3600000")]
ReplicaMillis = Annotated[
    int, msgspec.Meta(ge=1_000, le=600_000, description="whole milliseconds, 1000 to 600000")
]


class MemberConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One node as its cluster knows it; `addr` is where peers reach it. `region` is "" for a node that an
    operator has bound to none.
    """

    id: NodeName
    region: Binding
    addr: Address
    kind: MemberKind = MemberKind.VOTER


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What all members must agree on. It has at least one member; ids are unique.

    `policy` and `floor` are None where the file leaves them to the defaults: read `default_policy` and
    `commit_rule`.
    """

    name: ClusterName
    members: tuple[MemberConfig, ...]
    admins: tuple[UserName, ...] = ()
    policy: CommitPolicy | None = None
    floor: CommitPolicy | None = None
    policy_timeout_ms: Millis = 10_000
    replica_timeout_ms: ReplicaMillis = DEFAULT_REPLICA_TIMEOUT_MS

    @property
    def membership(self) -> Membership:
        """The members as the ack table and the commit rule know them."""
        return Membership(
            tuple(Member(member.id, member.region, member.kind, str(member.addr)) for member in self.members)
        )

    @property
    def default_policy(self) -> CommitPolicy:
        """What a write waits for that names no policy."""
        return self.policy if self.policy is not None else default_policy(self.membership)

    @property
    def commit_rule(self) -> CommitPolicy:
        """What every write waits for: the floor, and unless set, the default policy (R6)."""
        return self.floor if self.floor is not None else self.default_policy

    def member(self, node: NodeId) -> MemberConfig | None:
        """The member with this id."""
        return next((member for member in self.members if member.id == node), None)

    def to_record(
        self, cluster: ClusterId, secret: bytes, admitted: Mapping[NodeId, Incarnation]
    ) -> ClusterRecord:
        """The record that a new cluster begins with. `cluster` and the 32 bytes of `secret` are random.

        `admitted` names the data directories of the members that count from the start.
        """
        return ClusterRecord(
            cluster=cluster,
            name=self.name,
            members=tuple(
                MemberRecord(
                    id=member.id,
                    region=member.region,
                    addr=str(member.addr),
                    kind=member.kind.value,
                    incarnation=admitted.get(member.id),
                )
                for member in self.members
            ),
            admins=self.admins,
            policy=str(self.default_policy),
            floor=None if self.floor is None else str(self.floor),
            policy_timeout_ms=self.policy_timeout_ms,
            replica_timeout_ms=self.replica_timeout_ms,
            secret=secret,
        )

    @classmethod
    def from_record(cls, record: ClusterRecord) -> ClusterConfig:
        """What `record` says, checked like a file. Raises `ConfigInvalid`."""
        plain = msgspec.to_builtins(record, builtin_types=(bytes,))
        for name in ("cluster", "secret", "by", "text", "lost"):
            del plain[name]
        for member in plain["members"]:
            del member["incarnation"]
        config = schema.read(cls, plain, "the cluster's record")
        _check(config, "the cluster's record", "")
        return config


def parse_cluster_config(data: object, file: str) -> ClusterConfig:
    """The cluster in `data`, the `cluster:` section of the YAML file `file`. Raises `ConfigInvalid`."""
    cluster = schema.read(ClusterConfig, data, file, "cluster")
    check_cluster(cluster, file)
    return cluster


def check_cluster(cluster: ClusterConfig, file: str) -> None:
    """Raises `ConfigInvalid` for what the file `file` cannot say of a cluster."""
    _check(cluster, file, "cluster.")
    for index, member in enumerate(cluster.members):
        if not member.region:
            raise ConfigInvalid(file, f"cluster.members[{index}].region", "is empty", hint="name a region")


def _check(cluster: ClusterConfig, file: str, prefix: str) -> None:
    where = f"{prefix}members"
    for at, count, least, most in (
        (where, len(cluster.members), 1, MEMBERS_MAX),
        (f"{prefix}admins", len(cluster.admins), 0, ADMINS_MAX),
    ):
        if not least <= count <= most:
            raise ConfigInvalid(file, at, f"names {count}, {least} to {most} are possible")
    _check_unique([member.id for member in cluster.members], file, where, ".id")
    _check_unique([str(member.addr) for member in cluster.members], file, where, ".addr")
    _check_unique(cluster.admins, file, f"{prefix}admins", "")
    if all(member.kind is MemberKind.READER for member in cluster.members):
        raise ConfigInvalid(file, where, "no member is a voter", hint="a reader's copy never counts")
    for name, policy in (("policy", cluster.default_policy), ("floor", cluster.commit_rule)):
        try:
            require_satisfiable(policy, cluster.membership)
        except PolicyInvalid as error:
            hint = error.hint if Quorum() not in policy.clauses else "write majority, ack_n=N or regions(...)"
            raise ConfigInvalid(file, prefix + name, error.message, hint=hint) from error
    for voter in cluster.membership.voters:
        if not at_least(cluster.default_policy, cluster.commit_rule, cluster.membership, voter.id):
            message = f"{cluster.default_policy} can be met without the floor {cluster.commit_rule}"
            hint = f"write {cluster.default_policy & cluster.commit_rule}, or lower the floor"
            raise ConfigInvalid(file, f"{prefix}policy", f"{message} while {voter.id} leads", hint=hint)


def _check_unique(values: Sequence[str], file: str, path: str, suffix: str) -> None:
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if first.setdefault(value, index) != index:
            at = f"{path}[{index}]{suffix}"
            raise ConfigInvalid(file, at, f"{value} stands in {path}[{first[value]}]{suffix} already")
