"""Serving a member that dialled us: hello for hello, our log from where its own ends, and snapshots.

Any node lends its log; only a primary counts the acks. The first ack on a session says that the follower is
ready at the common point, and starts the stream.
"""

from __future__ import annotations

from typing import Protocol

from anyio.abc import TaskGroup

from cluster.catchup import Common, SnapshotNeeded, plan
from cluster.effects import FollowerAcked, FollowerJoined, FollowerLeft
from cluster.errors import NodeError
from cluster.events import EventKind
from cluster.feed import Feed
from cluster.log_config import Level
from cluster.node import Node
from cluster.peer_end import ChannelEnd
from cluster.peers import check_report
from cluster.primary import Primary
from cluster.roster import Life
from redwire.body import decode, encode
from redwire.errors import Code, NotPrimary, ProtocolError, RedwireError, Refused
from redwire.frame import Frame, Kind, kind_name
from redwire.message.failure import Failure
from redwire.message.peer import Ack, Following, Report, SnapshotFetch
from redwire.position import NO_REIGN, Incarnation, Lsn, NodeId, Reign, Term

DEPOSING = frozenset((Code.STALE_TERM, Code.PRIMARY_LACKS_COMMITTED))
"""What a follower's refusal must say to end a reign (R3, R5)."""
_OF_REIGNS = DEPOSING | {Code.TERM_TAKEN}
"""What only a follower can say that was offered our log."""
_REFUSALS = _OF_REIGNS | {Code.OTHER_CLUSTER, Code.OTHER_NODE}
"""Who says one of these means us. Anything else, such as our silence, only ends a session."""
_TWINS = "two processes have this id: stop one of them; one that has ended is forgotten within 3 s"
_OF_CLIENTS = "this is a node's certificate; clients show a user's: redwire certs issue user NAME"
_OF_SOURCES = frozenset(
    (
        *(Kind.PEER_WELCOME, Kind.FOLLOWING, Kind.BATCH, Kind.HEARTBEAT, Kind.TOPOLOGY),
        *(Kind.SNAPSHOT_MANIFEST, Kind.SNAPSHOT_CHUNK, Kind.CLUSTER_STATUS),
    )
)
"""What only a source says: a member that sends it to one has lost its way."""


class SnapshotServer(Protocol):
    """Sends snapshots to followers that need one."""

    async def serve(self, end: ChannelEnd, asked: SnapshotFetch) -> None:
        """Send the manifest and the chunks that are asked for; returns when the last one is buffered."""


class Source:
    """One accepted session of a member."""

    def __init__(self, node: Node, end: ChannelEnd, snapshots: SnapshotServer, tasks: TaskGroup) -> None:
        """`tasks` is the session's own: what it starts ends with it."""
        self.end = end
        self.session = node.roster.attach(end, dialled=False)
        self.feed: Feed | None = None
        self._node = node
        self._snapshots = snapshots
        self._tasks = tasks
        self._report: Report | None = None
        self._offer: Following | None = None
        self._sending = False

    async def handle(self, frame: Frame) -> None:
        """Take one frame. Raises `RedwireError` when the session must end, after saying why."""
        match frame.kind:
            case Kind.ACK:
                self._ack(Ack.decode(frame.payload))
            case Kind.PEER_HELLO:
                self._node.greeted(self._hello(decode(frame.payload, Report), frame.correlation))
            case Kind.FOLLOW:
                self._hello(decode(frame.payload, Report), 0)
                await self._follow()
            case Kind.SNAPSHOT_FETCH:
                self._fetch(decode(frame.payload, SnapshotFetch))
            case Kind.FAILURE:
                self._refused(decode(frame.payload, Failure).to_error())
            case _ if frame.kind in _OF_SOURCES:
                raise ProtocolError(f"{self.end.node} sends {kind_name(frame.kind)} to a source")
            case _:
                text = f"{kind_name(frame.kind)} is not served to a member"
                self._say(Refused(Code.UNSUPPORTED, text, hint=_OF_CLIENTS))

    def _fetch(self, asked: SnapshotFetch) -> None:
        """Send a snapshot, one at a time: each new one is a whole copy of the state on disk. Where that
        cannot be made the member is told why.
        """
        if self._report is None:
            raise ProtocolError(f"{self.end.node} asks for a snapshot before it said who it is")
        if self._sending:
            raise Refused(Code.BUSY, f"{self.end.node} is being sent a snapshot already")
        self._sending = True

        async def send() -> None:
            try:
                await self._snapshots.serve(self.end, asked)
            except NodeError as error:
                text = f"{self._node.storage.me} cannot give a snapshot: {error.message}"
                self._node.note(f"{text}; {self.end.node} needs one", Level.WARNING)
                self.end.drop(Refused(error.code, text, hint=error.hint))
            finally:
                self._sending = False

        self._tasks.start_soon(send)

    def close(self) -> None:
        """The session is over."""
        self._node.roster.detach(self.session)
        self._node.inbox.post(FollowerLeft(self.end.node, self.session))

    def _hello(self, report: Report, number: int) -> Report:
        """Say welcome to hello `number`, 0 for a Follow; the report, which is the member's own."""
        check_report(report, self.end.node, self._node)
        if self._node.storage.settings.cluster.member(self.end.node) is None:
            # it was one when its connection began; the settings may have changed during its handshake
            raise Refused(Code.OTHER_CLUSTER, f"{self.end.node} is no member of this cluster any more")
        life = Life(Incarnation(report.incarnation), report.process, self._node.clock().ms)
        twin = self._node.roster.claim(self.session, life)
        if twin is not None:
            same = "the same or a copy" if twin.incarnation == life.incarnation else twin.incarnation
            text = f"another {self.end.node} is connected, with data directory {same}"
            if self._node.roster.twins.refused(self.end.node, life.heard_ms):
                who = f"a second {self.end.node} comes from {self.end.place}, with data directory"
                told = f"{who} {life.incarnation}, and is refused: stop one of the two"
                self._node.happened(EventKind.ID_TAKEN, told)
            raise Refused(Code.ID_TAKEN, text, hint=_TWINS)
        self._report = report
        welcome = encode(self._node.introduction())
        self.end.send(Kind.PEER_WELCOME, welcome, urgent=True, correlation=number)
        return report

    async def _follow(self) -> None:
        """Find the last point at which both logs agree, and say so with its chain as proof (R4)."""
        node, report = self._node, self._report
        assert report is not None
        log = node.storage.log
        planned = plan(report, node.storage.meta.cluster, log.terms, log.end, log.base)
        match planned:
            case Refused():
                raise planned
            case SnapshotNeeded(reason):
                self._say(Refused(Code.SNAPSHOT_NEEDED, reason))
            case Common(lsn):
                position = await node.storage.journal.position_at(lsn)
                if position is None:
                    self._say(Refused(Code.SNAPSHOT_NEEDED, f"no batch ends at LSN {lsn} here"))
                    return
                self.feed = None
                reign = node.role.reign or NO_REIGN
                self._offer = Following(
                    term=reign.term,
                    primary=reign.primary,
                    leads=node.leads,
                    common_term=position.term,
                    common_lsn=position.lsn,
                    common_chain=position.chain,
                    head=log.end.lsn,
                    watermark=node.role.watermark,
                    settled=isinstance(node.role, Primary) and node.role.ready,
                )
                self.end.send(Kind.FOLLOWING, encode(self._offer))

    def _ack(self, ack: Ack) -> None:
        node, reign = self._node, self._node.role.reign
        if node.leads and reign != Reign(Term(ack.term), NodeId(ack.primary)):
            text = f"{self.end.node} acks in the reign {ack.term}:{ack.primary}, this is {reign}"
            raise ProtocolError(text)
        if self.feed is not None:
            if node.leads:
                node.inbox.post(FollowerAcked(self.end.node, self.session, ack), now=True)
            return
        offer = self._offer
        if offer is None or self._report is None:
            raise ProtocolError(f"{self.end.node} acks before it follows")
        if offer.leads and not node.leads:
            raise NotPrimary(f"{node.storage.me} leads no more")
        if ack.durable > offer.common_lsn:
            raise ProtocolError(
                f"{self.end.node} acks LSN {ack.durable}, the logs agree up to {offer.common_lsn}"
            )
        log = node.storage.log
        common = Lsn(offer.common_lsn)
        self.feed = Feed(log, node.storage.journal.read, self.end, common, lambda: log.end.lsn)
        if node.leads:
            matched, life = Lsn(ack.durable), Incarnation(self._report.incarnation)
            joined = FollowerJoined(self.end.node, self.session, life, matched, Lsn(ack.applied), offer.reign)
            node.inbox.post(joined)
        self._tasks.start_soon(self.feed.run)
        node.outbox.follower_joined(self.session, self.feed, node.role)

    def _refused(self, error: RedwireError) -> None:
        """The follower's last word: it will not follow us, which can mean that we must not lead, or it hangs
        up.
        """
        if error.code in _OF_REIGNS and self._offer is None:
            raise ProtocolError(f"{self.end.node} refuses what it was not offered: {error}")
        if error.code is Code.TERM_TAKEN:
            self._node.roster.candidacy.outbid.ring()
        elif error.code in DEPOSING:
            self._node.end_reign(error)
        if error.code in _REFUSALS:
            self._node.note(f"{self.end.node} refuses to follow: {error}", Level.WARNING)
        else:
            self._node.note(f"{self.end.node} ends its session: {error}")

    def _say(self, error: RedwireError) -> None:
        self.end.send(Kind.FAILURE, encode(Failure.from_error(error)))
