"""The cluster's shape as it travels: the v1 topology blob, byte for byte as RedDB's drivers know it.

    u8  tag, 1
    u32 length of the body
    body: u64 epoch, str32 primary address, str32 primary region, u32 replicas, for each:
          str32 address, str32 region, u8 healthy, u32 lag in ms (0xFFFFFFFF: unknown), u64 last applied LSN
          then one byte for each replica: it is being rebuilt

Later versions append to the body without a new tag, so what follows the known fields is ignored, and so is
what follows the body; a missing tail means "not being rebuilt". A tag above 1 is not an error either: the
reader has no topology then and stays with what it was configured with.
"""

from __future__ import annotations

import struct

import msgspec
from msgspec.structs import replace

from redwire.errors import BodyInvalid, TopologyInvalid
from redwire.message.cursor import Cursor, str32
from redwire.position import Term

_COUNTER_BITS = 24
"""Of an epoch, below the term (R12): room for nineteen days of ten changes a second in one reign."""
LAG_UNKNOWN = 0xFFFF_FFFF
"""The field's highest value."""
_TAG = 1
"""The version of this layout."""
_HEAD = struct.Struct("<BI")
_EPOCH = struct.Struct("<Q")
_STATE = struct.Struct("<BIQ")
_REPLICA_BYTES_MIN = 4 + 4 + _STATE.size


def epoch_of(term: Term, counter: int = 0) -> int:
    """The epoch of topology number `counter` of `term`: one of a later term is always higher."""
    assert counter >> _COUNTER_BITS == 0
    return term << _COUNTER_BITS | counter


class Endpoint(msgspec.Struct, frozen=True):
    """A node at an address that clients can dial; `addr` is "" while no primary is known."""

    addr: str
    region: str


class ReplicaEntry(msgspec.Struct, frozen=True):
    """One replica. `lag_ms` is None when the lag is not known, which is never the same as 0."""

    addr: str
    region: str
    healthy: bool
    lag_ms: int | None
    last_applied_lsn: int
    rebootstrapping: bool = False


class Topology(msgspec.Struct, frozen=True):
    """Who is primary and who follows, in one version: a higher epoch replaces a lower one (R12).

    `epoch` is made by `epoch_of`.
    """

    epoch: int
    primary: Endpoint
    replicas: tuple[ReplicaEntry, ...] = ()

    @property
    def term(self) -> Term:
        """The term in which it was numbered."""
        return Term(self.epoch >> _COUNTER_BITS)

    def primary_only(self) -> Topology:
        """What a caller may see who does not hold `cluster:topology:read`: the real epoch, no replicas."""
        return replace(self, replicas=())

    def encode(self) -> bytes:
        """The v1 blob."""
        parts = [_EPOCH.pack(self.epoch), str32(self.primary.addr), str32(self.primary.region)]
        parts.append(len(self.replicas).to_bytes(4, "little"))
        for replica in self.replicas:
            lag = LAG_UNKNOWN if replica.lag_ms is None else min(replica.lag_ms, LAG_UNKNOWN - 1)
            state = _STATE.pack(replica.healthy, lag, replica.last_applied_lsn)
            parts += (str32(replica.addr), str32(replica.region), state)
        parts.append(bytes(replica.rebootstrapping for replica in self.replicas))
        body = b"".join(parts)
        return _HEAD.pack(_TAG, len(body)) + body

    def __str__(self) -> str:
        healthy = sum(replica.healthy for replica in self.replicas)
        primary = self.primary.addr or "no primary"
        return (
            f"epoch {self.epoch}: {primary} ({self.primary.region}), {healthy}/{len(self.replicas)} healthy"
        )


def decode(blob: bytes | memoryview) -> Topology | None:
    """The topology in `blob`; None for a version that nobody here knows. Raises `TopologyInvalid`."""
    if len(blob) < _HEAD.size:
        raise TopologyInvalid(f"a topology has {_HEAD.size} bytes or more; this one has {len(blob)}")
    tag, length = _HEAD.unpack_from(blob)
    if tag > _TAG:
        return None
    body = memoryview(blob)[_HEAD.size :]
    if length > len(body):
        raise TopologyInvalid(f"the topology announces {length} bytes, {len(body)} follow")
    try:
        return _decode_body(Cursor(body[:length], "topology"))
    except BodyInvalid as error:
        raise TopologyInvalid(error.message) from error


def _decode_body(cursor: Cursor) -> Topology:
    (epoch,) = cursor.unpack(_EPOCH, "epoch")
    primary = Endpoint(cursor.str32("primary address"), cursor.str32("primary region"))
    count = cursor.count32("replica count", _REPLICA_BYTES_MIN)
    replicas = [_decode_replica(cursor) for _ in range(count)]
    if cursor.left >= count:
        flags = cursor.take(count, "rebuild flags")
        replicas = [
            replace(replica, rebootstrapping=flag != 0) for replica, flag in zip(replicas, flags, strict=True)
        ]
    return Topology(epoch, primary, tuple(replicas))


def _decode_replica(cursor: Cursor) -> ReplicaEntry:
    addr, region = cursor.str32("replica address"), cursor.str32("replica region")
    healthy, lag, applied = cursor.unpack(_STATE, "replica state")
    return ReplicaEntry(addr, region, healthy != 0, None if lag == LAG_UNKNOWN else lag, applied)
