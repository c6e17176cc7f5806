"""The status document of this node: for whoever asks, and from a primary once a second for its followers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from cluster.bulletin import PrimaryState
from cluster.effects import Now
from cluster.events import EventKind
from cluster.node import Node
from cluster.overview import ReignView, View, followed, for_followers, led, without_others
from cluster.policies import Policies
from cluster.primary import Primary, refusal
from cluster.settings import Settings as ClusterSettings
from cluster.watch import Watch
from redwire.frame import Kind
from redwire.handshake import Principal
from redwire.position import Lsn, NodeId
from redwire.status import Cluster, Settings, Status
from regions.lag import Behind, CaughtUp, Lag


class StatusDesk:
    """Makes the documents of one node, and notices what they show to have changed."""

    def __init__(
        self, node: Node, settings: Callable[[], ClusterSettings], policies: Callable[[], Policies]
    ) -> None:
        """`settings` and `policies` are those in force when called."""
        self._node = node
        self._settings = settings
        self._policies = policies
        self._watch = Watch()

    def document(self) -> Status:
        """All that this node knows now."""
        node, now = self._node, self._node.clock()
        role = node.role
        if isinstance(role, Primary):
            reign = self._reign(role, now)  # first: looking at the table may put other members into force
            return led(self._view(now), reign)
        status = role.status()
        return followed(self._view(now), status.source_head)

    def document_for(self, principal: Principal) -> Status:
        """What of it `principal` may see."""
        document = self.document()
        return document if principal.topology_read else without_others(document)

    def observe(self) -> None:
        """Notice who leads; to be called often."""
        node, now = self._node, self._node.clock()
        state, leader = self._leader()
        before = node.bulletin.sees(state, leader, now)
        if before is None or node.leads:
            return
        if state is PrimaryState.LEADING:
            node.happened(EventKind.PRIMARY_FOUND, f"{leader} leads")
        elif before.state == PrimaryState.LEADING and before.node != node.storage.me:
            node.happened(
                EventKind.PRIMARY_LOST, f"{before.node} is not heard any more, and nobody else leads"
            )

    def second(self) -> None:
        """Another second has passed: tell followers how the cluster is, and everybody what changed."""
        node, now = self._node, self._node.clock()
        role = node.role
        vitals = node.bulletin.vitals
        found = [] if vitals is None else self._watch.own(vitals)
        if isinstance(role, Primary) and len(role.coordinator.membership.members) > 1:
            for row in role.coordinator.status(now.ms).members:
                node.bulletin.falls_behind(row.id, _records(row.lag), now)
            document = self.document()
            found += self._watch.reign(document, now.ms)
            self._tell_followers(document)
        for kind, text in found:
            node.happened(kind, text)

    def _tell_followers(self, document: Status) -> None:
        """Whoever still listens; for one that does not it would only pile up."""
        body = for_followers(document).encode()
        roster = self._node.roster
        for session in roster.feeds:
            row = document.node(roster.ends[session].node)
            if row is not None and row.lag.state != "unknown":
                roster.ends[session].send(Kind.CLUSTER_STATUS, body, urgent=True)

    def _leader(self) -> tuple[PrimaryState, str]:
        """Who leads, or who was followed last, or nobody ("")."""
        node, role = self._node, self._node.role
        if isinstance(role, Primary):
            return PrimaryState.LEADING, node.storage.me
        source = role.leader
        leader = source or node.roster.leader(role.term_min)
        if leader is not None:
            return PrimaryState.LEADING, leader
        last = role.reign.primary if role.reign is not None else node.storage.me
        return (PrimaryState.NONE, "") if last == node.storage.me else (PrimaryState.LOST, last)

    def _view(self, now: Now) -> View:
        node, storage, role = self._node, self._node.storage, self._node.role
        settings, policies = self._settings(), self._policies()
        config = settings.cluster
        own = node.introduction()
        if own.vitals is not None:
            own = replace(own, vitals=replace(own.vitals, durable=storage.log.durable))
        membership = role.coordinator.membership if isinstance(role, Primary) else config.membership
        return View(
            own=own,
            cluster=Cluster(id=storage.meta.cluster, name=config.name),
            term=None if role.reign is None else role.reign.term,
            epoch=node.announcer.current.epoch,
            watermark=role.watermark,
            members=membership.members,
            settings=Settings(
                lsn=settings.lsn,
                policy=str(policies.default),
                floor=str(policies.floor),
                policy_timeout_ms=config.policy_timeout_ms,
                replica_timeout_ms=config.replica_timeout_ms,
                pending=role.changes.pending if isinstance(role, Primary) else "",
            ),
            timeout_ms=config.replica_timeout_ms,
            bulletin=node.bulletin,
            now=now,
        )

    def _reign(self, role: Primary, now: Now) -> ReignView:
        backlog = role.backlog
        commits = role.waiter.times.summary(now.ms)
        error = refusal(role, self._node.storage.room(), now)
        return ReignView(
            table=role.coordinator.status(now.ms),
            sent=self._sent(),
            commits=replace(commits, waiting=backlog.requests, waiting_bytes=backlog.size),
            refusal="" if error is None else error.message,
        )

    def _sent(self) -> Mapping[NodeId, Lsn]:
        roster = self._node.roster
        return {roster.ends[session].node: feed.after for session, feed in roster.feeds.items()}


def _records(lag: Lag) -> int | None:
    match lag:
        case CaughtUp():
            return 0
        case Behind(records=records):
            return records
        case _:
            return None
