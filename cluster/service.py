"""What the sessions of one node share: its policies, its topology, its reads and its answers about itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

import anyio

from cluster.announcer import Announcer
from cluster.answers import Caller
from cluster.audit import Audit
from cluster.driver_keys import DriverKeys
from cluster.effects import Proposal
from cluster.joining import unjoined
from cluster.node import Node
from cluster.policies import Policies
from cluster.primary import Primary
from cluster.reads import Reads
from cluster.settings import Settings
from cluster.status import StatusDesk
from cluster.unread import Unread
from redwire.errors import Code, NotPrimary, RedwireError, Refused
from redwire.handshake import Principal
from redwire.message.client import AckBlock, Opened, encode_ack_block
from redwire.position import Lsn, NodeId, Term
from redwire.record import Key, RequestKind

HEAVY_MAX = 1
"""Threads that expand and read large requests, all clients together: what they do is Python, of which the
event loop needs its own share.
"""
ANSWER_SHARE = 0.9
"""Of the caller's remaining time: what is left carries the answer back (R8)."""


class Service:
    """The node as its clients' sessions see it."""

    def __init__(self, node: Node, audit: Audit) -> None:
        self.node = node
        self.audit = audit
        self.reads = Reads(node)
        self.unread = Unread(time.monotonic)
        self.driver_keys = DriverKeys()
        self.heavy = anyio.CapacityLimiter(HEAVY_MAX)
        self.desk = StatusDesk(node, lambda: self.settings, lambda: self.policies)
        self.announcer: Announcer = node.announcer
        self._policies = Policies.of(self.settings, self.me)

    @property
    def me(self) -> NodeId:
        """This node."""
        return self.node.storage.me

    @property
    def settings(self) -> Settings:
        """What all nodes agree on, as far as it is in force here."""
        role = self.node.role
        return role.changes.settings if isinstance(role, Primary) else self.node.storage.settings

    @property
    def policies(self) -> Policies:
        """The policies of the settings in force."""
        role = self.node.role
        if isinstance(role, Primary):
            return role.changes.policies
        if self._policies.lsn != self.settings.lsn:
            self._policies = Policies.of(self.settings, self.me)
        return self._policies

    @property
    def admins(self) -> Sequence[str]:
        """The administrators by configuration."""
        return self.settings.cluster.admins

    @property
    def joined(self) -> bool:
        """Whether this node belongs to a cluster by now, which a new or wiped one does not."""
        return self.node.storage.meta.cluster != ""

    @property
    def issues_ids(self) -> bool:
        """Whether this node has the `secret` by now, which comes behind joining the cluster."""
        return self.node.storage.settings.record is not None

    def unjoined(self, principal: Principal) -> Refused:
        """What a node that has not `joined` tells `principal` instead."""
        members = (member.id for member in self.settings.cluster.members)
        reports, role = self.node.roster.reports, self.node.role_name
        return unjoined(self.me, members, reports, role, named=principal.topology_read)

    @property
    def applied(self) -> Lsn:
        """How far this node's state goes."""
        return self.node.storage.applied.lsn

    @property
    def secret(self) -> bytes:
        """The cluster's. Raises `Refused` (NOT_READY) before this node has applied the record with it: what
        it issued would be worth nothing, and what others have issued would seem a stranger's.
        """
        if not self.issues_ids:
            text = "this node has not applied the first record of its cluster yet"
            raise Refused(Code.NOT_READY, text, hint="retry")
        return self.node.storage.secret()

    def require_primary(self) -> Primary:
        """This node's reign. Raises `NotPrimary`, which names the primary in its hint."""
        role = self.node.role
        if isinstance(role, Primary):
            return role
        raise NotPrimary(f"{self.me} does not lead", hint=self.primary_hint)

    @property
    def primary_hint(self) -> str:
        """What to tell someone who wants to write here."""
        primary = self.announcer.current.primary.addr
        return f"the primary is {primary}" if primary else "no primary is known here"

    def proposal(
        self,
        caller: Caller,
        correlation: int,
        kind: RequestKind,
        request: bytes,
        *,
        count: int = 1,
        policy: str | None = None,
        remaining_ms: int | None = None,
        key: Key | None = None,
        attempt: int = 1,
    ) -> Proposal:
        """A request that arrives now, for which `caller` waits under `correlation`.

        `policy` is the text that it names, "" for the default and None for the commit rule. `remaining_ms` is
        what its caller has left, None for no limit: it is told "not confirmed" when most of that is over, or
        the policy timeout (R8). Raises what refuses the policy of a first attempt, or its collections; of a
        later one the intake says so, when it has looked for those before (R9), or apply.
        """
        if kind is RequestKind.WRITE and attempt == 1:
            self.node.storage.state.documents.check_room(request)
        try:
            effective = self.policies.effective(policy)
        except RedwireError:
            if policy is None or attempt == 1:
                raise
            effective = self.policies.unjudged(policy)
        limit_ms = float(self.settings.cluster.policy_timeout_ms)
        if remaining_ms is not None:
            limit_ms = min(limit_ms, remaining_ms * ANSWER_SHARE)
        arrived_us = self.node.clock().us
        return Proposal(
            caller,
            correlation,
            kind,
            request,
            count=count,
            policy=effective,
            deadline_us=arrived_us + int(limit_ms * 1000),
            key=key,
            attempt=attempt,
            arrived_us=arrived_us,
        )

    def term_at(self, lsn: Lsn) -> Term:
        """The term that wrote `lsn`."""
        return self.node.storage.log.terms.term_at(lsn)

    def bare_block(self, lsn: Lsn, policy: str) -> bytes:
        """An ack block for what was committed before: no copies are remembered of it."""
        rule = str(self.policies.floor)
        return encode_ack_block(
            AckBlock(self.term_at(lsn), self.node.role.watermark, rule, (policy,), None, ())
        )

    def opened(self, client_id: bytes, principal: Principal) -> Opened:
        """The answer to Open."""
        meta, cluster = self.node.storage.meta, self.settings.cluster
        reign = self.node.role.reign
        member = cluster.member(self.me)
        return Opened(
            node=self.me,
            region=member.region if member is not None else "",
            role=self.node.role_name,
            cluster=meta.cluster,
            name=cluster.name,
            term=reign.term if reign else 0,
            client_id=client_id,
            policy=str(self.policies.default),
            floor=str(self.policies.floor),
            policy_timeout_ms=cluster.policy_timeout_ms,
            topology=self.announcer.blob(principal),
        )
