"""The configuration of a node: what is its own business, and what its file says of its cluster.

`parse_node_config` takes what a YAML file holds (`cluster.yaml_file` reads it) and checks every rule that can
be checked without looking at the machine: the node is a member, and may be what it is told to be. What makes
a cluster stands in `cluster.cluster_config`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from cluster import schema
from cluster.address import Address
from cluster.cluster_config import ClusterConfig, NodeName, RegionName, check_cluster
from cluster.log_config import LogConfig
from cluster.metrics_config import MetricsConfig
from redwire.errors import ConfigInvalid
from redwire.node_role import NodeRole
from redwire.spelling import guess
from regions.binding import MemberKind

FilePath = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]+\Z", description="a path")]
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
    """Where authentications and administrative acts are written down: `files` of up to `bytes_max` bytes for
    each part of the log. One alone would have to be emptied whenever it is full.

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
    def reached_at(self) -> Address:
        """Where the other members reach this node, by its file."""
        member = self.cluster.member(self.node.id)
        assert member is not None
        return member.addr

    @property
    def advertised(self) -> Address:
        """Where clients reach this node, by its file."""
        return self.node.advertise or self.reached_at

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
    check_cluster(read.cluster, file)
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


def _below(folder: str, path: str) -> str:
    return path if path.startswith("/") else folder + path


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
        message = f"{node.id} is a reader under cluster.members, and cannot be primary"
        hint = "if it was promoted since (redwire members list), write kind: voter there"
        raise ConfigInvalid(file, "node.role", message, hint=hint)
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
