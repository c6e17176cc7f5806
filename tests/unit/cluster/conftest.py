"""What the tests of a node's modules share: a log in memory, proposals and their flights, a bare primary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from cluster.address import Address
from cluster.changes import Changes
from cluster.cluster_config import ClusterConfig, MemberConfig
from cluster.config import parse_node_config
from cluster.effects import (
    Append,
    Applied,
    Commit,
    Durable,
    Effect,
    Fate,
    Flight,
    FollowerAcked,
    FollowerJoined,
    FollowerLeft,
    Now,
    PrimaryEvent,
    Proposal,
    Proposed,
    Result,
    Tick,
)
from cluster.log_room import LogRoom
from cluster.policies import Effective
from cluster.primary import Primary
from cluster.settings import Settings
from cluster.storage import Storage
from redwire.batch import Batch, make_batch
from redwire.message.log import ClusterRecord, MemberRecord, TermStart
from redwire.message.peer import Ack, Report
from redwire.message.vitals import EventNote, Vitals
from redwire.position import EMPTY, Incarnation, Lsn, NodeId, Position, Region, Reign, Term
from redwire.record import REQUEST_HEADER, Key, Record, RequestKind, encode_record, encode_write
from regions.binding import Member, MemberKind, Membership
from regions.commit_policy import CommitPolicy
from regions.coordinator import QuorumCoordinator


@dataclass
class WrittenLog:
    """A log as one primary after the other would write it. Times rise by a millisecond unless told."""

    end: Position = EMPTY
    time_ms: int = 1_700_000_000_000
    term: Term = Term(1)
    batches: list[Batch] = field(default_factory=list)

    def batch(self, *requests: bytes, after_ms: int = 1) -> Batch:
        count = sum(REQUEST_HEADER.unpack_from(request)[3] for request in requests)
        self.time_ms += after_ms
        reign = Reign(self.term, NodeId("eu-1"))
        batch = make_batch(reign, self.end, list(requests), count, self.time_ms, Lsn(0))
        self.end = batch.position
        self.batches.append(batch)
        return batch

    def write(self, *records: Record, key: Key | None = None, atomic: bool = False) -> Batch:
        return self.batch(encode_write([encode_record(record) for record in records], key, atomic=atomic))


@pytest.fixture
def written_log() -> WrittenLog:
    return WrittenLog()


class Proposals:
    """Makes proposals, numbered from 1 by their correlation. Their requests are so many bytes of no meaning:
    the cores do not look into them. `is_rule` holds for the policy text in `rule`.
    """

    def __init__(self, rule: str = "majority") -> None:
        self.rule = rule
        self.made: list[Proposal] = []

    def __call__(
        self,
        policy: str | None = None,
        *,
        count: int = 1,
        size: int = 100,
        deadline_ms: int = 10_000,
        key: Key | None = None,
        attempt: int = 1,
        session: object = "client",
    ) -> Proposal:
        parsed = CommitPolicy.parse(policy or self.rule)
        effective = Effective(parsed, str(parsed), parsed, str(parsed) == self.rule)
        number = len(self.made) + 1
        request, deadline_us = bytes(size), deadline_ms * 1000
        proposal = Proposal(
            session, number, RequestKind.WRITE, request, count, effective, deadline_us, key, attempt
        )
        self.made.append(proposal)
        return proposal


@pytest.fixture
def propose() -> Proposals:
    return Proposals()


def applied_results(batch: Batch, proposals: Sequence[Proposal | None]) -> tuple[Lsn, list[Result]]:
    """What apply reports of a batch whose every record was applied."""
    results, first = [], int(batch.first)
    for proposal in proposals:
        count = 1 if proposal is None else proposal.count
        results.append(Result(Fate.EXECUTED, first, bytes(9 * count)))
        first += count
    return batch.last, results


class Flights:
    """Makes the flights of one reign, one LSN after the other."""

    def __init__(self, term: int = 1) -> None:
        self.reign = Reign(Term(term), NodeId("eu-1"))
        self.end = EMPTY
        self.made: list[Flight] = []

    def __call__(self, *proposals: Proposal | None, made_us: int = 0) -> Flight:
        requests = [b"own" if proposal is None else proposal.request for proposal in proposals]
        count = sum(1 if proposal is None else proposal.count for proposal in proposals)
        batch = make_batch(self.reign, self.end, requests, count, len(self.made) + 1, Lsn(0))
        self.end = batch.position
        self.made.append(Flight(batch, made_us, list(proposals), []))
        return self.made[-1]

    def results(self, *flights: Flight) -> list[tuple[Lsn, list[Result]]]:
        """What apply reports of these flights."""
        return [applied_results(flight.batch, flight.proposals) for flight in flights]


@pytest.fixture
def fly() -> Flights:
    return Flights()


@pytest.fixture(scope="session")
def makers() -> Callable[[], tuple[Flights, Proposals]]:
    """New ones for each example of a random test."""
    return lambda: (Flights(), Proposals())


def settings(membership: Membership, policy: CommitPolicy) -> Settings:
    """What a file says of these members, before there is a record."""
    members = tuple(
        MemberConfig(id=member.id, region=member.region, addr=Address("h", at), kind=member.kind)
        for at, member in enumerate(membership.members, 5050)
    )
    return Settings(Lsn(0), ClusterConfig(name="shop", members=members, policy=policy))


class Lead:
    """A primary `eu-1` without a node around it: its disk, apply, followers and clock are moved by hand.

    `log` is what it appended, `effects` everything that it ever said.
    """

    def __init__(
        self,
        *nodes: str,
        rule: str = "majority",
        readers: Sequence[str] = (),
        lives: Mapping[str, str | None] = MappingProxyType({}),
        end: Position = EMPTY,
        term: int = 1,
        record: ClusterRecord | None = None,
        coming: Sequence[Settings] = (),
        without: Sequence[str] = (),
    ) -> None:
        voters = nodes or ("eu-1", "us-1", "ap-1")
        members = [(node, MemberKind.VOTER) for node in voters] + [
            (node, MemberKind.READER) for node in readers
        ]
        membership = Membership(
            tuple(
                Member(NodeId(node), Region(node[:2]), kind, incarnation=lives.get(node, self.life(node)))
                for node, kind in members
            )
        )
        self.propose = Proposals(rule)
        self.known: dict[tuple[bytes, int], Result] = {}
        self.ms = 1_000
        self.commit = Lsn(0)
        self.log: list[Batch] = []
        self.effects: list[Effect] = []
        me, policy = NodeId("eu-1"), CommitPolicy.parse(rule)
        coordinator = QuorumCoordinator(membership, me, policy)
        changes = Changes(me, coordinator, settings(membership, policy), list(coming))
        self.core = Primary(
            Reign(Term(term), me),
            end,
            0,
            end.lsn,
            changes,
            lambda key: self.known.get((key.client, key.sequence)),
            TermStart("test", tuple(without)),
            record,
        )

    @staticmethod
    def life(node: str, number: int = 0) -> Incarnation:
        """The incarnation of a node's first data directory, or of a later one."""
        return Incarnation((node.encode().hex() + f"{number:02x}").ljust(32, "0"))

    @property
    def now(self) -> Now:
        return Now(self.ms * 1000, 1_700_000_000_000 + self.ms)

    def begin(self, known: int = 0) -> list[Effect]:
        """The reign begins; nothing of it is durable yet."""
        return self._note(self.core.begin(Lsn(known), self.now))

    def serve(self) -> Lead:
        """The reign begins, all voters follow, and its first record is committed and applied everywhere."""
        start = self.core.end.lsn
        self.begin(start)
        for node in self.core.coordinator.membership.members[1:]:
            self.join(node.id, matched=start)
        self.durable()
        for node in self.core.coordinator.membership.members[1:]:
            self.ack(node.id)
        self.apply()
        self.effects.clear()
        return self

    def step(self, event: PrimaryEvent) -> list[Effect]:
        return self._note(self.core.step(event, self.now))

    def take(self, *proposals: Proposal, room: int = 1 << 30, later: int = 0) -> list[Effect]:
        """A turn with these proposals, and with those that wait."""
        return self.step(Proposed(proposals, LogRoom(room, later)))

    def durable(self, lsn: int | None = None) -> list[Effect]:
        """Our own disk is done, by default with all."""
        return self.step(Durable(Lsn(self.core.end.lsn if lsn is None else lsn)))

    def apply(self) -> list[Effect]:
        """Everything that was committed and not applied yet is applied."""
        flights = [f for f in self.core.waiter.flights if f.batch.last <= self.commit]
        results = [applied_results(flight.batch, flight.proposals) for flight in flights]
        return self.step(Applied(results[-1][0] if results else self.core.applied, results))

    def join(
        self,
        node: str,
        session: int = 1,
        *,
        matched: int = 0,
        applied: int = 0,
        life: Incarnation | None = None,
        reign: Reign | None = None,
    ) -> list[Effect]:
        incarnation = life or self.life(node)
        joined = FollowerJoined(
            NodeId(node), session, incarnation, Lsn(matched), Lsn(applied), reign or self.core.reign
        )
        return self.step(joined)

    def ack(
        self, node: str, lsn: int | None = None, session: int = 1, reign: Reign | None = None
    ) -> list[Effect]:
        """The node's disk holds everything up to `lsn`, by default all."""
        reign, lsn = reign or self.core.reign, self.core.end.lsn if lsn is None else lsn
        return self.step(FollowerAcked(NodeId(node), session, Ack(reign.term, lsn, 0, lsn, reign.primary)))

    def leave(self, node: str, session: int = 1) -> list[Effect]:
        return self.step(FollowerLeft(NodeId(node), session))

    def wait(self, ms: int) -> list[Effect]:
        """Time passes, and is noticed once."""
        self.ms += ms
        return self.step(Tick())

    def _note(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Append):
                self.log.append(effect.batch)
            if isinstance(effect, Commit):
                self.commit = effect.watermark
        self.effects += effects
        return effects


@pytest.fixture(scope="session")
def cluster_record() -> Callable[..., ClusterRecord]:
    """Describes a cluster: `cluster_record("eu-1", "us-1", policy="majority")`, by default eu-1 alone. The
    region of a node is the beginning of its name.
    """

    def made(*voters: str, policy: str = "local", name: str = "shop") -> ClusterRecord:
        return ClusterRecord(
            cluster="c" * 32,
            name=name,
            members=tuple(
                MemberRecord(id=voter, region=voter[:2], addr=f"{voter}:5050", kind="voter")
                for voter in voters or ("eu-1",)
            ),
            admins=(),
            policy=policy,
            floor=None,
            policy_timeout_ms=10_000,
            replica_timeout_ms=5_000,
            secret=bytes(32),
        )

    return made


@pytest.fixture(scope="session")
def lead() -> type[Lead]:
    """Makes a primary: `lead().serve()`."""
    return Lead


@pytest.fixture(scope="session")
def vital_report() -> Callable[..., Report]:
    """`vital_report("us-1", lsn=7)`: what a node says of itself, all of it durable and applied."""

    def made(
        node: str,
        *,
        lsn: int = 7,
        role: str = "replica",
        vitals: bool = True,
        events: int = 0,
        disk: str = "working",
    ) -> Report:
        notes = tuple(
            EventNote(sequence=n, at_ms=n, level="info", kind="member_joined", text="") for n in range(events)
        )
        return Report(
            cluster="0a" * 16,
            name="shop",
            node=node,
            region=node[:2],
            incarnation=Lead.life(node),
            process="0c" * 16,
            role=role,
            term=1,
            primary="eu-1",
            last_term=1,
            last_lsn=lsn,
            last_chain=bytes(16),
            watermark=lsn,
            applied=lsn,
            base=2,
            terms=((1, 1, 0),),
            vitals=Vitals(
                version="0.1",
                durable=lsn,
                disk=disk,
                fsync_p50_us=10,
                fsync_p99_us=20,
                free_bytes=1_000,
                floor_bytes=500,
                floor_ms=None,
                log_bytes=64,
                certificate_ends_at_ms=9_000_000,
                rtts_us={"ap-1": 30},
                events=notes,
            )
            if vitals
            else None,
        )

    return made


@pytest.fixture
def open_storage(tmp_path: Path) -> Callable[..., Storage]:
    """Opens the data directory of eu-1, the one member of its cluster; empty at first. Its threads say what
    they did by `post`, which may be given.
    """
    members = [{"id": "eu-1", "region": "eu", "addr": "127.0.0.1:5050"}]
    document: dict[str, Any] = {
        "node": {"id": "eu-1", "region": "eu", "role": "primary", "listen": "127.0.0.1:5050"},
        "tls": "off",
        "cluster": {"name": "shop", "members": members},
    }
    document["node"]["data_dir"] = "data"
    config = parse_node_config(document, f"{tmp_path}/node.yaml")
    return lambda post=lambda *_: None: Storage(config, post, lambda error: None)


@pytest.fixture
def storage(open_storage: Callable[[], Storage]) -> Iterator[Storage]:
    """That directory, open until the test ends."""
    storage = open_storage()
    yield storage
    storage.close()
