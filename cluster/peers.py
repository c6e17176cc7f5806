"""A session with another member that this node has dialled: it says where it stands every second and hears
the same, and follows one of the members.

That is how a follower finds the primary and how a node that is about to lead asks everybody. What arrives is
posted to the node; what to do about it is for the role.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import anyio

from cluster.bell import Bell
from cluster.catchup import PARTED_HINT
from cluster.challenge import lacks_committed
from cluster.effects import BatchesReceived, HeartbeatReceived, Rebuild, SourceFound, SourceLost
from cluster.node import Node
from cluster.peer_end import ChannelEnd
from cluster.primary import BEAT_MS
from cluster.replica import Replica
from cluster.snapshot import SnapshotReceiver
from redwire import status
from redwire.batch import Batch, parse_batch
from redwire.body import decode, encode
from redwire.dial import Dialled
from redwire.errors import BatchInvalid, Code, ProtocolError, RedwireError, Refused
from redwire.frame import Frame, Kind, kind_name
from redwire.message.client import TopologyNotice
from redwire.message.failure import Failure
from redwire.message.peer import Following, Heartbeat, Report, SnapshotChunk, SnapshotManifest
from redwire.position import Lsn, NodeId, Position

HELLO_S = 1.0
"""Five within the time for which a silent member counts as in reach."""
SILENCE_S = 5 * HELLO_S
"""Five hellos without an answer: the line is dead, whatever TCP thinks.

Every member answers them, whatever its role: that the one who is followed has stopped beating while its line
lives is for `replica.SILENCE_MS` to find. Nothing has to hold between the two:
over a dead line both run out, and the first ends the session, once.
"""


class PeerSession:
    """One session that we have dialled: hello for hello, and what the member says of its log. `number` is the
    roster's.
    """

    def __init__(self, node: Node, member: NodeId, dialled: Dialled, up: Callable[[], None]) -> None:
        """Owns `dialled` until `close`. `up` is called once, when the member has answered."""
        self._node = node
        self._member = member
        self._dialled = dialled
        self._end = ChannelEnd(member, dialled.channel)
        self.number = node.roster.attach(self._end, dialled=True)
        self._up: Callable[[], None] | None = up
        self._asked: Position | None = None  # where our log ended when we asked; None while no answer is due
        self._waits_since: float | None = None  # for the next words; None while we are busy with some
        self._hellos = _Hellos()
        self._snapshot: SnapshotReceiver | None = None

    async def run(self) -> None:
        """Talk until it ends, which raises why."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end.run)
            tasks.start_soon(self._say_hello)
            await self._listen()

    def close(self) -> None:
        """It is over, whatever for."""
        node = self._node
        node.bulletin.silent(self._member)
        node.roster.detach(self.number)
        node.inbox.post(SourceLost(self.number))
        self._dialled.channel.close()

    def follow(self) -> None:
        """Ask the member for its log, where no answer is due, and none is here that the role has not heard
        yet: a second one would end the session over which the member is followed since the first.
        """
        if self._asked is None and not self._node.inbox.holds(SourceFound):
            self._asked = self._node.storage.log.end
            self._end.send(Kind.FOLLOW, encode(self._node.report()))

    def greet(self) -> None:
        """Say hello at once, not only when the second is over."""
        self._hellos.due.ring()

    def rebuild(self, receiver: SnapshotReceiver) -> None:
        """Fetch a snapshot; `receiver` takes it."""
        self._snapshot = receiver
        self._end.send(Kind.SNAPSHOT_FETCH, encode(receiver.request()))

    async def _say_hello(self) -> None:
        while True:
            hello, number = encode(self._node.introduction()), self._hellos.next(self._node.clock().us)
            self._end.send(Kind.PEER_HELLO, hello, urgent=True, correlation=number)
            with anyio.move_on_after(HELLO_S):
                await self._hellos.due.wait()
            since = self._waits_since
            if since is not None and anyio.current_time() - since > SILENCE_S:
                self._end.drop(ProtocolError(f"{self._member} has been silent for {SILENCE_S:g} s"))

    async def _listen(self) -> None:
        journal = self._node.storage.journal
        while True:
            self._waits_since = anyio.current_time()
            frames = await self._dialled.receive()
            self._waits_since = None
            batches: list[Batch] = []
            if not frames and self._followed:
                # a batch of 15 MiB is under way for longer than a silence lasts where the line is slow
                self._node.inbox.post(BatchesReceived(self.number, []))
            for frame in frames:
                if frame.kind == Kind.BATCH:
                    batches.append(self._batch(frame))
                    continue
                self._deliver(batches)
                batches = []
                await self._take(frame)
            self._deliver(batches)
            while journal.behind:
                with anyio.move_on_after(BEAT_MS / 1000):  # or who minds a silent second would call us silent
                    await journal.keeping_up()
                if self._followed:
                    self._node.inbox.post(BatchesReceived(self.number, []))  # it is we who do not listen

    def _deliver(self, batches: list[Batch]) -> None:
        if batches:
            self._node.inbox.post(BatchesReceived(self.number, batches), now=True)

    def _batch(self, frame: Frame) -> Batch:
        try:
            return parse_batch(frame.payload)
        except BatchInvalid as error:
            if error.newer and self._followed:
                self._node.storage.fail(error)
            raise

    @property
    def _followed(self) -> bool:
        """Whether it is this member's log that the node follows: what others send of a log means nothing."""
        role = self._node.role
        return isinstance(role, Replica) and role.session == self.number

    async def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.PEER_WELCOME:
                self._welcome(decode(frame.payload, Report), frame.correlation)
            case Kind.FOLLOWING:
                reply = decode(frame.payload, Following)
                local = await self._node.storage.journal.position_at(Lsn(reply.common_lsn))
                asked, self._asked = self._asked, None
                if asked is None:
                    raise ProtocolError(f"{self._member} answers what nobody asked")
                theirs = self._node.roster.reports.get(self._member)
                over = theirs is not None and self._node.report().given_up(theirs)
                found = SourceFound(self._member, self.number, reply, local, asked, over)
                self._node.inbox.post(found)
            case Kind.HEARTBEAT:
                self._node.inbox.post(HeartbeatReceived(self.number, Heartbeat.decode(frame.payload)))
            case Kind.TOPOLOGY:
                notice = TopologyNotice.decode(frame.payload)
                if self._followed:
                    self._node.announcer.relay(notice.blob)
            case Kind.CLUSTER_STATUS:
                if self._followed:
                    self._node.bulletin.relayed(status.decode(frame.payload), self._node.clock())
            case Kind.SNAPSHOT_MANIFEST if self._snapshot is not None:
                await self._snapshot.begin(decode(frame.payload, SnapshotManifest))
            case Kind.SNAPSHOT_CHUNK if self._snapshot is not None:
                if await self._snapshot.take(SnapshotChunk.decode(frame.payload)):
                    self._snapshot = None
            case Kind.FAILURE:
                self._failed(decode(frame.payload, Failure).to_error())
            case _:
                raise ProtocolError(f"{self._member} sends {kind_name(frame.kind)} to a follower")

    def _welcome(self, report: Report, number: int) -> None:
        """The answer to hello `number`; to a Follow where that is 0."""
        check_report(report, self._member, self._node)
        self._node.roster.taken.pop(self._member, None)
        up, self._up = self._up, None
        if up is not None:
            up()
        took_us = self._hellos.answered(number, self._node.clock().us)
        if took_us is not None:
            self._node.bulletin.answered(self._member, took_us)
        self._node.heard(report)

    def _failed(self, error: RedwireError) -> None:
        """The member does not give what was asked for. A snapshot is taken where our log still ends as it did
        then, and nobody else has answered with his: it would take the place of what he was sent acks for. Nor
        does it take the place of what is known committed here alone, unless that was given up.
        """
        if error.code != Code.SNAPSHOT_NEEDED:
            raise error
        asked, self._asked = self._asked, None  # asked anew behind the snapshot, whoever gives it
        role, mine = self._node.role, self._node.report()
        theirs = self._node.roster.reports.get(self._member)
        if not isinstance(role, Replica) or not role.searching or asked != role.end or theirs is None:
            return
        lacks = lacks_committed(theirs, mine)
        if lacks and not mine.given_up(theirs):
            text = f"{self._member} lacks some of what is known committed here up to LSN {mine.watermark}"
            raise Refused(Code.PRIMARY_LACKS_COMMITTED, text, hint=PARTED_HINT)
        effect = Rebuild(self.number, error.message, diverged=lacks, given_up=lacks)
        self._node.outbox.rebuild(effect)


_UNANSWERED_MAX = 16
"""Hellos that an answer is still looked up for: more than can be under way before the line is called dead."""


class _Hellos:
    """Those of one session: each has a number, by which its answer says how far the member is. `due` asks for
    one at once.
    """

    def __init__(self) -> None:
        self.due = Bell()
        self._numbers = count(1)
        self._asked_us: dict[int, int] = {}

    def next(self, now_us: int) -> int:
        """The number of one that leaves now."""
        number = next(self._numbers)
        self._asked_us[number] = now_us
        self._asked_us.pop(number - _UNANSWERED_MAX, None)
        return number

    def answered(self, number: int, now_us: int) -> int | None:
        """How long the answer to this one took, in microseconds; None for what answers none."""
        asked_us = self._asked_us.pop(number, None)
        return None if asked_us is None else now_us - asked_us


def check_report(report: Report, member: str, node: Node) -> None:
    """Refuse a member of another cluster, and one that is not who its certificate says. Raises `Refused`."""
    name, cluster = node.storage.config.cluster.name, node.storage.meta.cluster
    if report.name != name or report.cluster and cluster and report.cluster != cluster:
        theirs, ours = f"{report.name} {report.cluster[:8]}".rstrip(), f"{name} {cluster[:8]}".rstrip()
        text = f"{report.node} belongs to cluster {theirs}, this node to {ours}"
        raise Refused(Code.OTHER_CLUSTER, text, hint="check the addresses of the members")
    if report.node != member:
        raise Refused(
            Code.OTHER_NODE,
            f"the node at the address of {member} says it is {report.node}",
            hint="check the addresses of the members",
        )
