"""A cluster of bare cores over a fake link: every message, sync and apply is a step, and is written down."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.address import Address
from cluster.catchup import Common, plan
from cluster.changes import Changes
from cluster.cluster_config import ClusterConfig, MemberConfig
from cluster.effects import (
    Append,
    Applied,
    BatchesReceived,
    Commit,
    Cut,
    Drop,
    Durable,
    Effect,
    EndReign,
    Fate,
    FollowerAcked,
    FollowerJoined,
    FollowerLeft,
    HeartbeatReceived,
    MetaSaved,
    Now,
    Proposal,
    Proposed,
    Result,
    SaveMeta,
    SendAck,
    SourceFound,
    SourceLost,
    TailCut,
    Tick,
)
from cluster.log_room import LogRoom
from cluster.policies import Effective
from cluster.primary import Primary
from cluster.replica import Replica
from cluster.settings import Settings
from redwire.batch import Batch
from redwire.message.log import TermStart
from redwire.message.peer import Ack, Following, Heartbeat, Report, report_terms
from redwire.position import EMPTY, Incarnation, Lsn, NodeId, Position, Region, Reign, Term, TermList
from redwire.record import Op, Record, RequestKind, encode_record, encode_write, request_heads
from regions.binding import Member, Membership
from regions.commit_policy import CommitPolicy
from regions.coordinator import QuorumCoordinator
from regions.quorum import at_least

ROOM = LogRoom(1 << 30, 1 << 30)


def life(node: str) -> Incarnation:
    return Incarnation(node.encode().hex().ljust(32, "0"))


@dataclass
class Machine:
    """One node: a core, its log as a list of batches, and what its disk and state have done so far."""

    name: NodeId
    role: Primary | Replica
    log: list[Batch] = field(default_factory=list)
    diverged: list[Batch] = field(default_factory=list)
    synced: int = 0
    applied: Lsn = Lsn(0)
    commit: Lsn = Lsn(0)
    saving: int = 0
    cutting: int = 0
    known: Lsn = Lsn(0)

    @property
    def end(self) -> Position:
        return self.log[-1].position if self.log else EMPTY

    @property
    def terms(self) -> TermList:
        terms = TermList()
        for batch in self.log:
            terms = terms.extended(batch.reign.term, batch.first, batch.chain)
        return terms

    def position_at(self, lsn: Lsn) -> Position | None:
        if lsn == 0:
            return EMPTY
        return next((batch.position for batch in self.log if batch.last == lsn), None)


class Play:
    """The stage. `lines` is what happened; sessions are numbered as they begin."""

    def __init__(self, nodes: dict[str, str], policy: str = "majority") -> None:
        self.lines: list[str] = []
        self.membership = Membership(
            tuple(Member(NodeId(n), Region(r), incarnation=life(n)) for n, r in nodes.items())
        )
        self.rule = CommitPolicy.parse(policy)
        self.machines = {
            NodeId(n): Machine(NodeId(n), Replica(None, EMPTY, Lsn(0), Lsn(0), Lsn(0))) for n in nodes
        }
        self.sessions: dict[int, tuple[NodeId, NodeId]] = {}
        self.cursors: dict[int, Lsn] = {}
        self.wire: dict[int, deque[Ack]] = {}
        self.clock_ms = 1_000
        self._proposals = 0

    @property
    def now(self) -> Now:
        return Now(self.clock_ms * 1000, 1_700_000_000_000 + self.clock_ms)

    def say(self, line: str) -> None:
        self.lines.append(f"# {line}")

    def wait(self, ms: int) -> None:
        self.clock_ms += ms

    def lead(self, name: str, term: int) -> None:
        node = self.machines[NodeId(name)]
        reign = Reign(Term(term), NodeId(name))
        coordinator = QuorumCoordinator(self.membership, node.name, self.rule)
        members = tuple(
            MemberConfig(id=member.id, region=member.region, addr=Address("h", at), kind=member.kind)
            for at, member in enumerate(self.membership.members, 5050)
        )
        settings = Settings(Lsn(0), ClusterConfig(name="shop", members=members, policy=self.rule))
        changes = Changes(node.name, coordinator, settings)
        node.role = Primary(reign, node.end, 0, node.applied, changes, lambda key: None, TermStart("test"))
        self.lines.append(f"{name} leads term {term}")
        self._effects(node, node.role.begin(node.known, self.now))

    def follow(self, name: str, source: str, *, durable: bool = True) -> int:
        """`name` asks `source` for its log; the session's number."""
        follower, leader = self.machines[NodeId(name)], self.machines[NodeId(source)]
        session = len(self.sessions) + 1
        self.sessions[session] = (follower.name, leader.name)
        self.wire[session] = deque()
        report = self._report(follower)
        planned = plan(report, "", leader.terms, leader.end, EMPTY)
        assert isinstance(planned, Common)
        at = leader.position_at(planned.lsn)
        assert at is not None and leader.role.reign is not None
        reply = Following(
            term=leader.role.reign.term,
            primary=leader.role.reign.primary,
            leads=isinstance(leader.role, Primary),
            common_term=at.term,
            common_lsn=at.lsn,
            common_chain=at.chain,
            head=leader.end.lsn,
            watermark=self._watermark(leader),
        )
        self.lines.append(f"{name} follows {source} in session {session}: common LSN {at.lsn}")
        self._step(
            follower, SourceFound(leader.name, session, reply, follower.position_at(at.lsn), follower.end)
        )
        return session

    def propose(
        self, name: str, count: int = 1, *, policy: str | None = None, timeout_ms: int = 10_000
    ) -> Proposal:
        node = self.machines[NodeId(name)]
        self._proposals += 1
        asked = self.rule & CommitPolicy.parse(policy) if policy else self.rule
        is_rule = at_least(self.rule, asked, self.membership, node.name)
        number = self._proposals
        data = encode_write(
            [encode_record(Record(Op.PUT, "c", f"k{number}.{i}", b"{}")) for i in range(count)]
        )
        deadline = self.now.us + timeout_ms * 1000
        proposal = Proposal(
            "client",
            number,
            RequestKind.WRITE,
            data,
            count,
            Effective(asked, str(asked), asked, is_rule),
            deadline,
        )
        self.lines.append(
            f"client proposes #{number} ({count}) to {name}{f' under {policy}' if policy else ''}"
        )
        self._step(node, Proposed([proposal], ROOM))
        return proposal

    def sync(self, *names: str) -> None:
        """The disks of these nodes finish what was asked of them."""
        for name in names:
            node = self.machines[NodeId(name)]
            while node.saving:
                node.saving -= 1
                self.lines.append(f"{name} meta is on disk")
                self._step(node, MetaSaved())
            while node.cutting:
                node.cutting -= 1
                self.lines.append(f"{name} cut is on disk")
                self._step(node, TailCut())
            if node.synced < len(node.log):
                node.synced = len(node.log)
                self.lines.append(f"{name} durable {node.end.lsn}")
                self._step(node, Durable(node.end.lsn))

    def apply(self, *names: str) -> None:
        """These nodes apply what is committed."""
        for name in names:
            node = self.machines[NodeId(name)]
            results = []
            for batch in node.log:
                if node.applied < batch.last <= node.commit:
                    lsn = int(batch.first)
                    one = []
                    for head in request_heads(batch.body):
                        one.append(Result(Fate.EXECUTED, lsn, b"\0" * 9 * head.count))
                        lsn += head.count
                    results.append((batch.last, one))
                    node.applied = batch.last
            if results:
                self.lines.append(f"{name} applied {node.applied}")
                self._step(node, Applied(node.applied, results))

    def send(self, *sessions: int) -> None:
        """The sources of these sessions send batches and a heartbeat; they arrive."""
        for session in sessions:
            follower, leader = (self.machines[name] for name in self.sessions[session])
            if session not in self.cursors:
                continue
            batches = [batch for batch in leader.log if batch.first > self.cursors[session]]
            if batches:
                self.cursors[session] = batches[-1].last
                self.lines.append(f"{leader.name} -> {follower.name}: {' '.join(map(str, batches))}")
                self._step(follower, BatchesReceived(session, batches))
            reign = leader.role.reign
            assert reign is not None
            watermark = self._watermark(leader)
            beat = Heartbeat(reign.term, leader.end.lsn, watermark, self.now.wall_ms, reign.primary)
            self.lines.append(
                f"{leader.name} -> {follower.name}: heartbeat head={leader.end.lsn} wm={watermark}"
            )
            self._step(follower, HeartbeatReceived(session, beat))

    def acks(self, *sessions: int) -> None:
        """The acks that are on their way in these sessions arrive."""
        for session in sessions:
            follower, leader = (self.machines[name] for name in self.sessions[session])
            while self.wire[session]:
                ack = self.wire[session].popleft()
                if session not in self.cursors:
                    self.cursors[session] = Lsn(ack.durable)
                    durable, applied = Lsn(ack.durable), Lsn(ack.applied)
                    reign = Reign(Term(ack.term), NodeId(ack.primary))
                    event = FollowerJoined(
                        follower.name, session, life(follower.name), durable, applied, reign
                    )
                    self.lines.append(f"{follower.name} -> {leader.name}: joined at {durable}")
                    self._told(leader, event)
                else:
                    self.lines.append(f"{follower.name} -> {leader.name}: ack {ack.durable}")
                    self._told(leader, FollowerAcked(follower.name, session, ack))

    def part(self, session: int) -> None:
        """The line of a session breaks; what is on its way is lost."""
        follower, leader = (self.machines[name] for name in self.sessions[session])
        self.wire[session].clear()
        self.cursors.pop(session, None)
        self.lines.append(f"session {session} breaks")
        self._step(follower, SourceLost(session))
        if isinstance(leader.role, Primary):
            self._step(leader, FollowerLeft(follower.name, session))

    def crash(self, name: str) -> None:
        """The node loses its memory and what was not synced, and comes back as a follower."""
        node = self.machines[NodeId(name)]
        lost = node.log[node.synced :]
        del node.log[node.synced :]
        reign = node.role.reign
        node.saving = node.cutting = 0
        for session, pair in self.sessions.items():
            if node.name in pair:
                self.wire[session].clear()
                self.cursors.pop(session, None)
        self.lines.append(f"{name} crashes and loses {len(lost)} batches")
        node.commit = node.known = node.applied
        node.role = Replica(reign, node.end, node.end.lsn, node.applied, node.applied)

    def tick(self, *names: str) -> None:
        for name in names:
            self._step(self.machines[NodeId(name)], Tick())

    def _watermark(self, node: Machine) -> Lsn:
        role = node.role
        return role.coordinator.commit_watermark() if isinstance(role, Primary) else role.watermark

    def _report(self, node: Machine) -> Report:
        reign = node.role.reign
        end = node.end
        return Report(
            cluster="",
            name="play",
            node=node.name,
            region="r",
            incarnation=life(node.name),
            process="0" * 32,
            role="replica",
            term=reign.term if reign else 0,
            primary=reign.primary if reign else "",
            last_term=end.term,
            last_lsn=end.lsn,
            last_chain=end.chain,
            watermark=self._watermark(node),
            applied=node.applied,
            base=0,
            terms=report_terms(node.terms),
        )

    def _told(self, leader: Machine, event: object) -> None:
        """Only a primary hears of its followers: whoever lends its log just sends."""
        if isinstance(leader.role, Primary):
            self._step(leader, event)

    def _step(self, node: Machine, event: object) -> None:
        self._effects(node, node.role.step(event, self.now))  # type: ignore[arg-type]

    def _effects(self, node: Machine, effects: list[Effect]) -> None:
        for effect in effects:
            self.lines.append(f"  {node.name}: {effect}")
            match effect:
                case Append(batch):
                    node.log.append(batch)
                case Commit(watermark):
                    node.commit = watermark
                    node.known = max(node.known, watermark)
                case SendAck(session, ack):
                    self.wire[session].append(ack)
                case SaveMeta():
                    node.saving += 1
                case Cut(to, _):
                    node.diverged = [batch for batch in node.log if batch.last > to.lsn]
                    node.log = [batch for batch in node.log if batch.last <= to.lsn]
                    node.synced = min(node.synced, len(node.log))
                    node.cutting += 1
                case Drop(session, _):
                    self.cursors.pop(session, None)
                case EndReign():
                    reign = node.role.reign
                    durable = node.log[node.synced - 1].last if node.synced else Lsn(0)
                    node.role = Replica(reign, node.end, durable, node.known, node.applied)
                case _:
                    pass


@pytest.fixture
def play() -> type[Play]:
    """Makes a stage: `play({"a": "eu", "b": "us"}, "majority")`."""
    return Play


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[list[str]], None]:
    """Compares a conversation with its file beside the test; REWRITE=1 writes the file instead."""
    path = Path(request.path).parent / "conversations" / f"{request.node.name.removeprefix('test_')}.txt"

    def check(lines: list[str]) -> None:
        text = "\n".join(lines) + "\n"
        if os.environ.get("REWRITE"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.read_text() == text

    return check
