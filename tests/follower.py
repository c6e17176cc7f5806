"""A replica without a node around it, and batches for its log, made for tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.effects import (
    Append,
    BatchesReceived,
    Cut,
    Effect,
    HeartbeatReceived,
    MetaSaved,
    Now,
    SaveMeta,
    SendAck,
    SourceFound,
    TailCut,
    Tick,
)
from cluster.replica import Replica
from redwire.batch import Batch, make_batch
from redwire.message.peer import Ack, Following, Heartbeat
from redwire.position import EMPTY, Lsn, NodeId, Position, Reign, Term

SOURCE = NodeId("eu-1")
FIRST, SECOND, RIVAL = Reign(Term(1), SOURCE), Reign(Term(2), SOURCE), Reign(Term(2), NodeId("ap-1"))


def batches(count: int, reign: Reign = FIRST, after: Position = EMPTY, watermark: int = 0) -> list[Batch]:
    """`count` batches of one record each."""
    made: list[Batch] = []
    for number in range(count):
        end = made[-1].position if made else after
        request = f"{reign} {number}".encode()
        made.append(make_batch(reign, end, [request], 1, end.lsn + 1, Lsn(watermark)))
    return made


@dataclass
class Follower:
    """A replica `us-1` without a node around it. Its log is `log`; what it orders is done by hand."""

    log: list[Batch] = field(default_factory=list)
    reign: Reign | None = None
    watermark: int = 0
    applied: int = 0
    durable: int | None = None
    ms: int = 1_000
    effects: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        durable = len(self.log) if self.durable is None else self.durable
        self.core = Replica(self.reign, self.end, Lsn(durable), Lsn(self.watermark), Lsn(self.applied))

    @property
    def end(self) -> Position:
        return self.log[-1].position if self.log else EMPTY

    def at(self, lsn: int) -> Position | None:
        return EMPTY if lsn == 0 else next((each.position for each in self.log if each.last == lsn), None)

    def step(self, event) -> list[Effect]:
        effects = self.core.step(event, Now(self.ms * 1000, 0))
        for effect in effects:
            if isinstance(effect, Append):
                self.log.append(effect.batch)
            if isinstance(effect, Cut):
                self.log = [batch for batch in self.log if batch.last <= effect.to.lsn]
        self.effects += effects
        return effects

    def found(
        self,
        common: Position = EMPTY,
        *,
        session: int = 1,
        reign: Reign = FIRST,
        leads: bool = True,
        head: int = 0,
        watermark: int = 0,
        asked: Position | None = None,
        settled: bool = False,
        given_up: bool = False,
    ) -> list[Effect]:
        """`eu-1` answers that both logs agree up to `common`."""
        reply = Following(
            term=reign.term,
            primary=reign.primary,
            leads=leads,
            common_term=common.term,
            common_lsn=common.lsn,
            common_chain=common.chain,
            head=head,
            watermark=watermark,
            settled=settled,
        )
        local, asked = self.at(common.lsn), asked or self.core.end
        return self.step(SourceFound(SOURCE, session, reply, local, asked, given_up))

    def follow(self, common: Position | None = None, **more) -> Follower:
        """It follows `eu-1`, everything that this takes is on disk, and nothing of it is news any more."""
        self.found(self.end if common is None else common, **more)
        self.settle()
        self.effects.clear()
        return self

    def settle(self) -> list[Effect]:
        """Its disk does what was ordered since the last time."""
        effects: list[Effect] = []
        for order in self.effects.copy():
            if isinstance(order, SaveMeta | Cut):
                effects += self.step(MetaSaved() if isinstance(order, SaveMeta) else TailCut())
        return effects

    def receive(self, *made: Batch, session: int = 1) -> list[Effect]:
        return self.step(BatchesReceived(session, made))

    def beat(
        self, *, reign: Reign = FIRST, head: int = 0, watermark: int = 0, session: int = 1
    ) -> list[Effect]:
        heartbeat = Heartbeat(reign.term, head, watermark, 0, reign.primary)
        return self.step(HeartbeatReceived(session, heartbeat))

    def wait(self, ms: int) -> list[Effect]:
        self.ms += ms
        return self.step(Tick())


def of(kind: type, effects) -> list:
    return [effect for effect in effects if isinstance(effect, kind)]


def ack(
    durable: int,
    *,
    applied: int = 0,
    received: int | None = None,
    reign: Reign = FIRST,
    session: int = 1,
    synced_us: int = 0,
):
    received = durable if received is None else received
    return SendAck(session, Ack(reign.term, durable, applied, received, reign.primary, synced_us))
