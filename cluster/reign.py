"""Starting to lead: ask the members, follow a longer log first, then open a reign (R3, R5)."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence

import anyio

from cluster.bell import Bell
from cluster.changes import Changes
from cluster.cluster_config import ClusterConfig
from cluster.config import NodeConfig
from cluster.events import EventKind
from cluster.log_config import Level
from cluster.logged import Logged
from cluster.node import Node
from cluster.opening import Bootstrap, Decision, FollowFirst, Open, Opening, Refuse, Stand, TakeOver, Wait
from cluster.primary import Primary
from cluster.pursuit import ASK_AGAIN_S, Pursuit
from cluster.replica import Replica
from cluster.settings import Settings
from cluster.topology_advertiser import TopologyAdvertiser
from redwire import __version__
from redwire.errors import Code, Refused
from redwire.message.log import ClusterRecord, TermStart
from redwire.position import ClusterId, Incarnation, Lsn, NodeId, Position, Reign, Term
from regions.quorum import satisfied_by

ASK_S = 0.05
"""Reports come once a second, or at once from who is greeted: a look costs nothing, and a start no time."""
GIVE_WAY_S, GIVE_WAY_MAX_S = 0.1, 1.0
"""Another candidate leads a round trip and two looks after it has the vote that it asked for, and is heard a
round trip later: within a second between the furthest regions, and at once where it is near.
"""


class Candidate:
    """A node that was told to lead."""

    def __init__(
        self, node: Node, config: NodeConfig, chance: random.Random, *, take_over: TakeOver | None
    ) -> None:
        self._node = node
        self._config = config
        self._chance = chance
        self._take_over = take_over
        self._outbid = 0  # how often another one has, since our last reign that came to something
        self._read: tuple[Position, Lsn] | None = None  # where what `_logged` is of ended, and was durable
        self._logged = Logged([], {})
        self._wrote: Reign | None = None  # the reign of the last batch of the same

    async def run(self, asked_ms: int = 0) -> None:
        """Return when the reign has begun. Raises the error when this node must not lead.

        For `asked_ms` the members had been asked before this was called.
        """
        node, candidacy, said = self._node, self._node.roster.candidacy, ""
        started_ms = node.clock().ms - asked_ms
        while True:
            opening = None if node.roster.rebuilding else await self._opening()
            if opening is None or node.roster.rebuilding:  # which may have begun while our log was read
                await anyio.sleep(ASK_S)  # the log to decide by, and to go on from, is the snapshot's
                continue
            decision = opening.decide(node.report(), node.roster.reports, node.clock().ms - started_ms)
            stood, candidacy.stands = candidacy.stands, _stands(decision)
            match decision:
                case Stand(term) if 0 < stood < term:
                    candidacy.stands = Term(0)
                    await self._give_way()
                case Wait() | Stand():
                    if decision.reason != said:
                        said = decision.reason
                        node.note(said)
                    if candidacy.stands:
                        node.roster.lines.greet(None)
                    await anyio.sleep(ASK_S)
                case Refuse(error):
                    raise error
                case FollowFirst(member):
                    following = f"{member} has the longer log: following it to its end first"
                    if following != said:
                        said = following
                        node.note(said)
                    await self._catch_up(member)
                    await self._part(member)
                case Bootstrap(incarnations):
                    term = Term(self._node.storage.meta.term + 1)  # 1, but after a start that came to nothing
                    await self._open(term, self._new_cluster(incarnations))
                    return
                case Open(term):
                    await self._open(term, None)
                    return

    async def renew(self) -> None:
        """Whenever our reign is outbid, have a newer one follow it, unless something known now stands against
        that: for ever. What does is an event, for the member stays away until an operator acts. Where another
        one was quicker, this node follows that one.
        """
        node, said = self._node, ""
        while True:
            await node.roster.candidacy.outbid.wait()
            await self._give_way()
            if isinstance(node.role, Replica):
                continue  # what it hears now is for who leads
            opening = await self._opening()
            match opening.decide(node.report(), node.roster.reports, opening.patience_ms):
                case Open() | Stand() | FollowFirst() if node.leads:
                    node.roster.candidacy.aspires = True
                    text = (
                        "a member knows of a newer term and follows nobody of this one: a newer reign begins"
                    )
                    node.end_reign(Refused(Code.STALE_TERM, text, hint="retry"))
                    try:
                        await self.run(asked_ms=opening.patience_ms)
                        node.roster.candidacy.outbid = Bell()  # what rang meanwhile was of the reign before
                    except Refused as error:
                        node.roster.candidacy.aspires = False
                        node.note(f"leads no more: {error}", Level.WARNING)
                case Refuse(error) if node.leads and error.message != said:
                    said = error.message
                    text = f"a member of a newer term stays away, and none may begin here: {error}"
                    node.happened(EventKind.MEMBER_UNHEALTHY, text)

    async def _give_way(self) -> None:
        """Leave the members to whoever asks them for more than we did, for a while by chance: of two who need
        the same vote, and do not hear of each other, one is quicker then.
        """
        role = self._node.role
        if isinstance(role, Primary) and role.ready:
            self._outbid = 0
        await anyio.sleep(self._chance.uniform(0, min(GIVE_WAY_S * 2**self._outbid, GIVE_WAY_MAX_S)))
        self._outbid += 1

    async def _opening(self) -> Opening:
        """The question, put to the members that this node knows of by now. Where one leads it is answered,
        and the log, which may follow that one and never stand still, is not read for it. Our own reign's is
        read once: what that grows by is ours, and before a newer one begins it is asked again.
        """
        storage, roster = self._node.storage, self._node.roster
        while self._read != (span := (storage.log.end, storage.log.durable)):
            if roster.leader(storage.meta.term) is not None:
                break
            self._read, self._logged = span, await storage.logged()
            self._wrote = await storage.journal.last_reign()
            if self._node.leads:
                break
        applied, logged = storage.settings, self._logged
        settings = _in_force(applied, logged.settings)
        ever = [each.cluster for each in settings]
        record = next((each.record for each in settings if each.record), None)
        return Opening(
            me=storage.me,
            members=frozenset(member.id for member in applied.cluster.members),
            voters=frozenset(voter.id for cluster in ever for voter in cluster.membership.voters),
            admitted={**storage.admitted(record), **logged.admits},
            patience_ms=applied.cluster.replica_timeout_ms,
            take_over=self._take_over,
            enough=lambda copies: any(_enough(cluster, copies) for cluster in ever),
            enough_by_all=lambda copies: all(_enough(cluster, copies) for cluster in ever),
            wrote_last=self._wrote is not None and self._wrote.primary == storage.me,
            taken=frozenset(roster.taken),
            stands=roster.candidacy.stands,
        )

    async def _catch_up(self, member: NodeId) -> None:
        """Follow `member` until our log is as long as it last said its own is, or it is gone, or gives us
        nothing, or somebody leads by now.
        """
        roster, storage, pursuit = self._node.roster, self._node.storage, Pursuit(anyio.current_time())
        while True:
            role, now_s = self._node.role, anyio.current_time()
            searching = isinstance(role, Replica) and role.searching
            if searching and not roster.rebuilding and pursuit.asks(now_s):
                roster.lines.follow(member)
            await anyio.sleep(ASK_S)
            report, log = roster.reports.get(member), storage.log
            over = pursuit.over(log.end, log.durable, report, now_s, rebuilding=roster.rebuilding)
            if over or roster.leader(storage.meta.term) is not None:
                return

    async def _part(self, member: NodeId) -> None:
        """Borrow no more of `member`: another one may have more, and who follows somebody votes for nobody.
        The line to it begins anew; return when it is heard over that one, or is not to be heard.
        """
        roster, role = self._node.roster, self._node.role
        if not isinstance(role, Replica) or role.session is None or role.leader is not None:
            return
        parted = role.session
        self._node.stop_following()
        for _ in range(round(ASK_AGAIN_S / ASK_S)):
            if member in roster.reports and roster.dialled.get(member) != parted:
                break
            await anyio.sleep(ASK_S)

    async def _open(self, term: Term, record: ClusterRecord | None) -> None:
        candidacy = self._node.roster.candidacy
        candidacy.opens = True
        try:
            await self._begin(term, record)
        finally:
            candidacy.opens = False

    async def _begin(self, term: Term, record: ClusterRecord | None) -> None:
        node = self._node
        node.stop_following()
        await node.storage.journal.synced()
        logged = (await node.storage.logged()).settings
        self._changes(logged, record)  # refuses, where it must, before there is a new term
        await node.storage.begin_reign(term, ClusterId(record.cluster if record else ""))
        changes, log = self._changes(logged, record), node.storage.log
        primary = Primary(
            reign=Reign(term, node.storage.me),
            end=log.end,
            time_ms=log.time_ms,
            applied=node.storage.applied.lsn,
            changes=changes,
            lookup=node.storage.state.lookup,
            start=TermStart(__version__, tuple(sorted(self._take_over.lost)) if self._take_over else ()),
            record=record,
        )
        advertised = {NodeId(report.node): report.advertise for report in node.roster.reports.values()}
        advertised[node.storage.me] = node.report().advertise
        members = changes.coordinator.membership.members
        node.announcer.lead(TopologyAdvertiser(term, node.storage.me, members, advertised))
        node.become_primary(primary)
        self._take_over = None  # for this once: who was given up may be back when the reign is renewed

    def _changes(self, logged: Sequence[Settings], record: ClusterRecord | None) -> Changes:
        """The settings to begin with, by what is applied at this moment; `logged` were above it before."""
        storage = self._node.storage
        settings = _in_force(storage.settings, logged)
        watermark, admitted = self._node.role.watermark, storage.admitted(record)
        return Changes.at_opening(storage.me, settings, watermark, admitted)

    def _new_cluster(self, incarnations: Mapping[NodeId, str]) -> ClusterRecord:
        cluster = self._node.storage.meta.cluster or ClusterId(secrets.token_hex(16))
        admitted = {node: Incarnation(incarnation) for node, incarnation in incarnations.items()}
        self._node.note(f"new cluster {cluster[:8]} with {', '.join(sorted(admitted))}")
        return self._config.cluster.to_record(cluster, secrets.token_bytes(32), admitted)


def _stands(decision: Decision) -> Term:
    """The term for which a node asks for votes that has come to this."""
    return decision.term if isinstance(decision, Stand) else Term(0)


def _in_force(applied: Settings, logged: Sequence[Settings]) -> list[Settings]:
    """Those that are or may be: what is `applied` by now, and what was `logged` above it."""
    return [applied, *(each for each in logged if each.lsn > applied.lsn)]


def _enough(cluster: ClusterConfig, copies: frozenset[NodeId]) -> bool:
    """Whether these alone can have committed a record under these settings, one of them having led."""
    voters = [voter.id for voter in cluster.membership.voters if voter.id in copies]
    return any(satisfied_by(cluster.commit_rule, led, copies, cluster.membership) for led in voters)
