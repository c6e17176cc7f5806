"""A node's status document: one frozen view that CLI, monitor and tests read."""

from __future__ import annotations

from typing import Any

import msgspec

from cluster.disk import DiskStatus
from cluster.node import Node
from cluster.policies import Policies
from cluster.primary import Primary
from redwire.position import Region
from regions.lag import Behind, CaughtUp, Lag, Unknown
from regions.status import MemberStatus

SCHEMA = 1


def node_status(node: Node, region: Region, policies: Policies) -> dict[str, Any]:
    """What this node knows of itself and, while it leads, of its followers. Times in ms, sizes in bytes."""
    storage, role, log = node.storage, node.role, node.storage.log
    reign = role.reign
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "cluster": {"id": storage.meta.cluster, "name": storage.config.cluster.name},
        "node": storage.me,
        "region": region,
        "role": node.role_name,
        "term": reign.term if reign else 0,
        "primary": reign.primary if reign else "",
        "epoch": node.announcer.current.epoch,
        "policy": {"default": str(policies.default), "floor": str(policies.floor)},
        "log": {
            "base": log.base.lsn,
            "end": log.end.lsn,
            "durable": log.durable,
            "watermark": role.watermark,
        },
        "applied": storage.applied.lsn,
        "disk": _disk(storage.journal.disk.status()),
    }
    if isinstance(role, Primary):
        now_ms = node.clock().ms
        document["reign"] = msgspec.to_builtins(role.status())
        document["commits"] = msgspec.to_builtins(role.waiter.status())
        document["members"] = [_member(row, now_ms) for row in role.coordinator.status(now_ms).members]
    else:
        status = role.status()
        document["follows"] = {
            "state": status.state.value,
            "source": status.source,
            "source_head": status.source_head,
            "behind_records": max(0, status.source_head - status.applied) if status.source else None,
        }
    return document


def _member(row: MemberStatus, now_ms: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "region": row.region,
        "kind": row.kind.value,
        "connected": row.connected,
        "streaming": row.streaming,
        "uncounted": row.uncounted,
        "received": row.received,
        "durable": row.durable,
        "applied": row.applied,
        "acked_ms_ago": None if row.acked_ms is None else max(0, now_ms - row.acked_ms),
        "lag": _lag(row.lag),
        "healthy": row.health.healthy,
        "why": row.health.reason,
    }


def _lag(lag: Lag) -> dict[str, Any]:
    match lag:
        case CaughtUp():
            return {"state": "caught_up"}
        case Behind():
            return {"state": "behind", **msgspec.to_builtins(lag)}
        case Unknown():
            return {"state": "unknown", **msgspec.to_builtins(lag)}


def _disk(status: DiskStatus) -> dict[str, Any]:
    return {
        "state": status.state.value,
        "group_p50_us": status.group_p50_us,
        "group_p99_us": status.group_p99_us,
        "groups": status.groups,
        "batches": status.batches,
        "log_bytes": status.wal.bytes,
    }
