"""What the log says above what is applied: settings that are not in force here yet, and lives of members."""

from __future__ import annotations

from typing import NamedTuple

from cluster.settings import Settings
from redwire.batch import Batch
from redwire.body import decode
from redwire.message.log import Admit, ClusterRecord
from redwire.position import Incarnation, Lsn, NodeId
from redwire.record import REQUEST_HEADER, RequestKind, request_heads


class Logged(NamedTuple):
    """`settings`, oldest first, and which incarnation of a member was admitted last."""

    settings: list[Settings]
    admits: dict[NodeId, Incarnation]

    def take(self, batch: Batch) -> None:
        """Add what the next batch says."""
        lsn = batch.first
        for head in request_heads(batch.body):
            body = head.data[REQUEST_HEADER.size :]
            if head.kind is RequestKind.CONFIG:
                self.settings.append(Settings.of(decode(body, ClusterRecord), lsn))
            elif head.kind is RequestKind.ADMIT:
                admit = decode(body, Admit)
                self.admits[NodeId(admit.node)] = Incarnation(admit.incarnation)
            lsn = Lsn(lsn + head.count)
