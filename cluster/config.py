"""The configuration of a node: what it must agree on with its cluster, and what is its own business.

`parse_node_config` takes what a YAML file holds (`cluster.yaml_file` reads it) and checks every rule that can
be checked without looking at the machine: names are unique, the node is a member, the members can meet the
policies. `ClusterConfig` is the part that a new cluster begins with; afterwards the log decides
(`cluster.settings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec

from cluster import schema
from cluster.address import Address
from cluster.log_config import LogConfig
from cluster.metrics_config import MetricsConfig
from redwire.errors import ConfigInvalid, PolicyInvalid
from redwire.handshake import DNS_LABEL, USER_NAME
from redwire.message.log import ADMINS_MAX, MEMBERS_MAX, ClusterRecord, MemberRecord
from redwire.node_role import NodeRole
from redwire.position import ClusterId, Incarnation, NodeId, Region
from redwire.spelling import guess
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
FilePath = Annotated[str, msgspec.Meta(min_length=1, description="a path")]
Millis = Annotated[int, msgspec.Meta(ge=1, le=3_600_000, description="whole milliseconds, 1 to 3600000")]
ReplicaMillis = Annotated[
    int, msgspec.Meta(ge=1_000, le=600_000, description="whole milliseconds, 1000 to 600000")
]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=31_536_000, description="whole seconds, 1 to 31536000")]
AuditSize = Annotated[
    int, msgspec.Meta(ge=4096, le=1 << 40, description="a whole number of bytes, at least 4096")
]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 60, description="a whole number of bytes")]


class ReplicationRole(StrEnum):
    """What a node is told to do in its cluster when it starts: the two of `NodeRole` that can be told."""

    PRIMARY = NodeRole.PRIMARY.value
    REPLICA = NodeRole.REPLICA.value


class AnonymousAccess(StrEnum):
    """What a session that names nobody may do."""

    OFF = "off"
    READ = "read"
    WRITE = "write"


class Off(StrEnum):
    """Not at all, which needs a word: an empty key is more often a mistake."""

    OFF = "off"


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
        _check_cluster(config, "the cluster's record", "")
        return config


class NodeSection(msgspec.Struct, frozen=True, kw_only=True):
    """This process: who it is, where it listens, and where its data lies.

    `advertise` is where clients reach it, unless it is the member's `addr`. `dial` replaces the address of a
    peer that this node reaches by another way: NAT, a tunnel, a link with a delay.
    """

    id: NodeName
    region: RegionName
    role: ReplicationRole
    listen: Address
    data_dir: FilePath
    advertise: Address | None = None
    dial: dict[NodeName, Address] = {}


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster's authority, and this node's certificate and key: PEM files."""

    ca: FilePath
    cert: FilePath
    key: FilePath


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who may come in without a name."""

    anonymous: AnonymousAccess = AnonymousAccess.OFF


class RetentionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How much log a slow follower may hold back before it must take a snapshot instead."""

    bytes_max: Size = 4 << 30
    age_max_s: Seconds = 86_400
    disk_free_min_bytes: Size = 256 << 20


class AuditConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where authentications and administrative acts are written down: `files` of up to `bytes_max` bytes.
    One alone would have to be emptied whenever it is full.

    `file` is None in a file that leaves it to the default, which is `audit.log` in the data directory.
    """

    file: FilePath | Off | None = None
    bytes_max: AuditSize = 16 << 20
    files: Annotated[int, msgspec.Meta(ge=2, le=1_000, description="a whole number, 2 to 1000")] = 5


class ReplicationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A node's role and the times of its cluster as its file has them, for services of one's own.

    A node itself goes by the settings in the log, which may have been changed since.
    """

    role: ReplicationRole
    policy_timeout_ms: int
    replica_timeout_ms: int


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `redwire-node` is told. `tls` is None only for a single node on loopback.

    Paths are absolute, or relative to the folder of the file that named them and then begin with that folder.
    """

    node: NodeSection
    tls: TlsConfig | None
    auth: AuthConfig
    retention: RetentionConfig
    audit: AuditConfig
    log: LogConfig
    metrics: MetricsConfig
    cluster: ClusterConfig

    @property
    def advertised(self) -> Address:
        """Where clients reach this node, by its file."""
        member = self.cluster.member(self.node.id)
        assert member is not None
        return self.node.advertise or member.addr

    @property
    def replication(self) -> ReplicationConfig:
        """The role, with the cluster's times."""
        return ReplicationConfig(
            role=self.node.role,
            policy_timeout_ms=self.cluster.policy_timeout_ms,
            replica_timeout_ms=self.cluster.replica_timeout_ms,
        )


class _File(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeSection
    tls: TlsConfig | Off
    cluster: ClusterConfig
    auth: AuthConfig = AuthConfig()
    retention: RetentionConfig = RetentionConfig()
    audit: AuditConfig = AuditConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()


def parse_node_config(data: object, file: str) -> NodeConfig:
    """The configuration in `data`, which is what the YAML file `file` holds. Raises `ConfigInvalid`."""
    read = schema.read(_File, data, file)
    _check_file_cluster(read.cluster, file)
    _check_node(read.node, read.cluster, file)
    read.metrics.check(file, read.node.listen, certificate=not isinstance(read.tls, Off))
    folder = file[: file.rfind("/") + 1]
    if isinstance(read.tls, Off):
        _check_tls_off(read, file)
        tls = None
    else:
        tls = TlsConfig(**{name: _below(folder, getattr(read.tls, name)) for name in ("ca", "cert", "key")})
    node = msgspec.structs.replace(read.node, data_dir=_below(folder, read.node.data_dir))
    audit, kept = read.audit.file, read.audit
    if not isinstance(audit, Off):
        path = f"{node.data_dir}/audit.log" if audit is None else _below(folder, audit)
        kept = msgspec.structs.replace(kept, file=path)
    return NodeConfig(
        node=node,
        tls=tls,
        auth=read.auth,
        retention=read.retention,
        audit=kept,
        log=read.log,
        metrics=read.metrics,
        cluster=read.cluster,
    )


def parse_cluster_config(data: object, file: str) -> ClusterConfig:
    """The cluster in `data`, the `cluster:` section of the YAML file `file`. Raises `ConfigInvalid`."""
    cluster = schema.read(ClusterConfig, data, file, "cluster")
    _check_file_cluster(cluster, file)
    return cluster


def _below(folder: str, path: str) -> str:
    return path if path.startswith("/") else folder + path


def _check_file_cluster(cluster: ClusterConfig, file: str) -> None:
    _check_cluster(cluster, file, "cluster.")
    for index, member in enumerate(cluster.members):
        if not member.region:
            raise ConfigInvalid(file, f"cluster.members[{index}].region", "is empty", hint="name a region")


def _check_cluster(cluster: ClusterConfig, file: str, prefix: str) -> None:
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


def _check_node(node: NodeSection, cluster: ClusterConfig, file: str) -> None:
    member = cluster.member(node.id)
    ids = [other.id for other in cluster.members]
    if member is None:
        hint = guess(node.id, ids, f"members are {', '.join(ids)}")
        raise ConfigInvalid(
            file, "node.id", f"{node.id} is no member of the cluster {cluster.name}", hint=hint
        )
    if member.region != node.region:
        message = f"{node.region}, but cluster.members says that {node.id} is in {member.region}"
        raise ConfigInvalid(file, "node.region", message, hint="one of them is wrong")
    if member.kind is MemberKind.READER and node.role is ReplicationRole.PRIMARY:
        raise ConfigInvalid(
            file, "node.role", f"{node.id} is a reader and cannot be primary", hint="make it a voter"
        )
    for other in node.dial:
        if other == node.id:
            raise ConfigInvalid(file, f"node.dial.{other}", "a node does not dial itself")
        if other not in ids:
            text = "is no member of the cluster"
            raise ConfigInvalid(file, f"node.dial.{other}", text, hint=guess(other, ids))


def _check_tls_off(read: _File, file: str) -> None:
    if not read.node.listen.is_loopback:
        message = f"off is for loopback only, and this node listens on {read.node.listen}"
        raise ConfigInvalid(file, "tls", message, hint="make certificates with 'redwire certs'")
    if len(read.cluster.members) > 1:
        message = "off leaves peers without proof of who they are, and this cluster has several members"
        raise ConfigInvalid(file, "tls", message, hint="make certificates with 'redwire certs'")
