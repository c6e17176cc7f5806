"""The one ack table and what follows from it: how far the log is committed, who waits, who is missing.

The primary tells it what happened (its own disk, a peer's session, an ack, the time) and asks how far a
policy is met. It knows no socket, disk or clock: times are milliseconds of one monotonic clock that the
caller reads.

What holds at all times:
* a member's row is what the member proved in this reign: set when a session joins, only rising within it
  (R4);
* only configured voters count, of the configured incarnation, streaming, and not short of what they once
  acked (R7);
* the watermark never falls, never passes the primary's own disk, and first moves to a record of the own term
  (R3, R6);
* who is in reach decides early refusals alone; commit arithmetic never looks at it (R8).
"""

from __future__ import annotations

from collections.abc import Set

import msgspec

from redwire.position import Incarnation, Lsn, NodeId, Region
from regions.ack_table import ZERO, AckTable, check_claims
from regions.binding import UNBOUND, Membership, default_policy
from regions.commit_policy import CommitPolicy
from regions.errors import QuorumError
from regions.lag import LagConfig
from regions.quorum import QuorumConfig, QuorumMode, shortfall
from regions.standing import Standing
from regions.status import CoordinatorStatus, member_statuses
from regions.trail import Trail
from regions.transition import Step, obstacle
from regions.waits import QuorumNotRequired, QuorumReached, QuorumWait, QuorumWaits
from regions.watermarks import Watermarks


class ProvedLess(msgspec.Struct, frozen=True):
    """`member` joined with a log that ends at `proved`, after it had acked `acked`: its disk has lost
    something.

    Until it is durable at `acked` again it does not count.
    """

    member: NodeId
    acked: Lsn
    proved: Lsn

    def __str__(self) -> str:
        return f"{self.member} acked {self.acked}, proves only {self.proved}, counts again from {self.acked}"


class QuorumCoordinator(Standing):
    """The ack table of the primary `me` over the configured `membership`.

    `rule` is the commit rule, by default `default_policy(membership)`; `quorum` is what the policy name
    `quorum` stands for, and what `wait_for_quorum` waits for. `term_start` is the first LSN of the reign, 0
    before there is one; `reigns` is how many have begun. Until `grace_until_ms` (monotonic) the caller should
    wait for who is out of reach, and not go by `refusal` yet (R8).

    Raises `MemberUnknown` when `me` is no voter, and `PolicyInvalid` for a rule that names an async quorum.
    """

    def __init__(
        self,
        membership: Membership,
        me: NodeId,
        rule: CommitPolicy | None = None,
        quorum: QuorumConfig | None = None,
        lag: LagConfig | None = None,
    ) -> None:
        membership.voter_index(me)
        self.quorum = quorum or QuorumConfig.async_commit()
        self.lag = lag or LagConfig()
        table = AckTable(membership, me)
        super().__init__(table, Watermarks(table, rule or default_policy(membership), self.quorum))
        self._waits = QuorumWaits(lambda: self._marks.value(self.quorum.policy), self.regions_holding)
        self.term_start = Lsn(0)
        self.reigns = 0
        self.grace_until_ms = 0
        self._now_ms = 0
        self._head = Trail(Lsn(0), 0)
        self._committed = Trail(Lsn(0), 0)

    def begin_reign(self, term_start: Lsn, now_ms: int | None = None, *, known: Lsn = ZERO) -> None:
        """A reign begins whose first record takes `term_start`; `known` is the watermark known on disk.

        All sessions are over, and followers join again: what they acked under another term proves nothing
        now. Waits for a quorum end by `Timeout`: their LSNs may be of other records now. The watermark stays
        where it is, or at `known`, until a record of this term meets the commit rule.
        """
        self._now_ms = now_ms = self._now_ms if now_ms is None else now_ms
        self.term_start = term_start
        self.reigns += 1
        self.grace_until_ms = now_ms + self.lag.replica_timeout_ms
        self._waits.give_up(now_ms)
        watermark = self._marks.begin_reign(term_start, known)
        self._table.begin_reign(term_start, watermark)
        self._head = Trail(Lsn(term_start - 1), now_ms)
        self._committed = Trail(watermark, now_ms)

    def extended(self, head: Lsn, now_ms: int, size: int = 0) -> None:
        """This node's log ends at `head` now, by a batch of `size` bytes; from here on peers may ack it."""
        self._now_ms = now_ms
        self._head.rise(head, now_ms, size)

    def own_durable(self, lsn: Lsn, now_ms: int) -> bool:
        """This node's disk holds everything up to `lsn`: one more ack. False if that is no news."""
        self._now_ms = now_ms
        self._head.rise(lsn, now_ms)
        rose = self._table.own(now_ms, durable=lsn)
        self._waits.settle(now_ms)
        return rose

    def own_applied(self, lsn: Lsn, now_ms: int) -> None:
        """This node's state covers everything up to `lsn`."""
        self._now_ms = now_ms
        self._table.own(now_ms, applied=lsn)

    def joined(
        self,
        member: NodeId,
        session: int,
        position: Lsn,
        applied: Lsn,
        now_ms: int,
        *,
        streaming: bool = True,
        incarnation: Incarnation | None = None,
    ) -> ProvedLess | None:
        """A session of `member` begins, whose log was proven equal to ours, and durable, up to `position`
        (R4).

        Sets the row, also to less than before; an older session of the member is over. Returns what it lost
        if it proves less than it once acked. Raises `MemberUnknown`, and `AckInvalid` for a position beyond
        the head.
        """
        check_claims(member, self._head.value, position, applied)
        self._now_ms = now_ms
        before = self._table.join(
            member, session, position, applied, now_ms, streaming=streaming, incarnation=incarnation
        )
        self._waits.settle(now_ms)
        return ProvedLess(member, before, position) if position < before else None

    def acked(
        self,
        member: NodeId,
        session: int,
        durable: Lsn,
        applied: Lsn,
        received: Lsn,
        now_ms: int,
        *,
        streaming: bool | None = None,
    ) -> bool:
        """The session says where `member` stands. True if any number rose.

        `streaming` says that it follows the log's end again (True), or takes a snapshot or fell far behind
        (False); None leaves that as it is. Lower numbers change nothing; so does an ack of a stranger or of a
        session that is over. Raises `AckInvalid`, and changes nothing, for an LSN beyond the head.
        """
        head = self._head.value
        if (durable > head or received > head or applied > head) and self._table.is_open(member, session):
            check_claims(member, head, durable, received, applied)
        self._now_ms = now_ms
        rose = self._table.ack(member, session, durable, applied, received, now_ms, streaming)
        self._waits.settle(now_ms)
        return rose

    def left(self, member: NodeId, session: int, now_ms: int) -> bool:
        """The session is over. What it proved keeps counting. False if it was over before."""
        self._now_ms = now_ms
        ended = self._table.leave(member, session)
        if ended:
            self.grace_until_ms = now_ms + self.lag.replica_timeout_ms
        return ended

    def admit(self, member: NodeId, incarnation: Incarnation, counts_from: Lsn) -> None:
        """Count `member` as `incarnation` only, and from `counts_from` on. Raises `MemberUnknown`."""
        self._table.admit(member, incarnation, counts_from)
        self._waits.settle(self._now_ms)

    def bind_replica_region(self, member: NodeId, region: Region) -> None:
        """Count `member` for `region`. Raises `MemberUnknown`. What is committed stays committed."""
        self._table.bind(member, region)
        self._marks.rebound()
        self._waits.settle(self._now_ms)

    def unbind_replica(self, member: NodeId) -> None:
        """Count `member` for no region, but still as a voter. Raises `MemberUnknown`."""
        self.bind_replica_region(member, UNBOUND)

    def propose(self, step: Step) -> None:
        """A change of the members or the commit rule was logged at `step.at`, above all records so far.

        Nothing from there on is committed until that record is (see `regions.transition`); then it is in
        force by itself.
        """
        self._marks.propose(step)

    def obstacle(self, step: Step, now_ms: int) -> QuorumError | None:
        """Why the members in reach cannot commit `step` now; None when they can.

        A change that cannot be committed would hold up every write behind it.
        """
        reached = self._table.in_reach(self.lag.replica_timeout_ms, now_ms)
        in_force = Step(ZERO, self.membership, self.quorum.resolve(self.rule))
        return obstacle((in_force, *self.pending, step), self._table.me, reached)

    def commit_watermark(self, policy: CommitPolicy | None = None) -> Lsn:
        """The highest LSN that meets `policy`; None is the commit rule, whose watermark falls in no reign.

        For another policy it is 0 until a record of this term meets it, and may begin anew. Raises
        `PolicyInvalid` for a policy that names an async quorum.
        """
        value = self._marks.value(policy)
        if policy is None and value > self._committed.value:
            self._committed.rise(value, self._now_ms)
        return value

    def has_quorum(self, lsn: Lsn) -> bool:
        """Whether the cluster's quorum holds `lsn`; always, when that quorum is async."""
        return self.quorum.mode is QuorumMode.ASYNC or self._marks.value(self.quorum.policy) >= lsn

    def wait_for_quorum(self, lsn: Lsn, now_ms: int, timeout_ms: int | None = None) -> QuorumWait:
        """Wait until the cluster's quorum holds `lsn`, for `timeout_ms` or as long as the `QuorumConfig`
        says.

        Done at once when the quorum is async or holds it already. Otherwise raises `InsufficientReplicas` or
        `MissingRegions` if the voters in reach cannot meet it; that is asked once, here. Without any time the
        wait is then timed out; else later events and `tick` finish it.
        """
        self._now_ms = now_ms
        limit_ms = self.quorum.timeout_ms if timeout_ms is None else timeout_ms
        wait = QuorumWait(lsn, now_ms, None if limit_ms is None else now_ms + limit_ms)
        if self.quorum.mode is QuorumMode.ASYNC:
            wait.outcome = QuorumNotRequired()
        elif self.has_quorum(lsn):
            wait.outcome = QuorumReached(self._marks.value(self.quorum.policy), 0)
        else:
            refusal = self.refusal(self.quorum.policy, now_ms)
            if refusal is not None:
                raise refusal
            self._waits.add(wait)
            self._waits.expire(now_ms)
        return wait

    def tick(self, now_ms: int) -> None:
        """Time has passed: waits whose deadline has come are finished."""
        self._now_ms = now_ms
        self._waits.expire(now_ms)

    def refusal(self, policy: CommitPolicy | None, now_ms: int) -> QuorumError | None:
        """Why a write under `policy` (None: the commit rule) is to be refused; None if it is not (R8).

        Asks who is in reach: neither what they hold nor for how long they have been gone. The answer
        holds for a whole turn, so ask once a turn and policy. Its hint names the commit rule where that
        can be met: what is less would be refused. Raises `PolicyInvalid` for what no voter can provide.
        """
        reached = self._table.in_reach(self.lag.replica_timeout_ms, now_ms)
        error = self._shortfall(self.rule if policy is None else policy, reached)
        if error is not None and self._shortfall(self.rule, reached) is None:
            error.or_ask_for(self.quorum.resolve(self.rule).quoted)
        return error

    def _shortfall(self, policy: CommitPolicy, reached: Set[NodeId]) -> QuorumError | None:
        return shortfall(self.quorum.resolve(policy), self.membership, self._table.me, reached)

    def status(self, now_ms: int | None = None) -> CoordinatorStatus:
        """The table as it stands at `now_ms`, by default at the latest time that an event or tick told."""
        at = self._now_ms if now_ms is None else now_ms
        watermark = self.commit_watermark()
        members = member_statuses(self._table, self._head, self._committed, self.lag, at)
        head = self._head.value
        return CoordinatorStatus(self._table.me, head, watermark, str(self.rule), members)
