"""The settings of one reign: those in force, and the changes that are logged and not applied yet.

One change at a time. While one is on its way no write is logged behind it: which policy a write is held to
is known only once it is in force, and that takes one commit. A change names as lost what an earlier one
waits for in vain; then both are on their way and are committed together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.policies import Policies
from cluster.settings import Planned, Settings, plan
from redwire.errors import Code, RedwireError, Refused
from redwire.message.settings import ChangeSettings
from redwire.position import Incarnation, Lsn, NodeId
from regions.binding import MemberKind
from regions.coordinator import QuorumCoordinator
from regions.lag import LagConfig
from regions.transition import Step

FIRST = "the first settings of the cluster"
"""What is on its way while a new cluster waits for those whom its commit rule names."""


@dataclass(slots=True, eq=False)
class Changes:
    """`settings` are in force, `policies` theirs; `coming` are logged above what is applied, oldest first."""

    me: NodeId
    coordinator: QuorumCoordinator
    settings: Settings
    coming: list[Settings] = field(default_factory=list)
    policies: Policies = field(init=False)

    def __post_init__(self) -> None:
        self.policies = Policies.of(self.settings, self.me)

    @classmethod
    def at_opening(
        cls,
        me: NodeId,
        settings: Sequence[Settings],
        watermark: Lsn,
        admitted: Mapping[NodeId, Incarnation],
    ) -> Changes:
        """How a reign of `me` begins. `settings` are those of its log, oldest first, from the ones that were
        applied on; what is known committed up to `watermark` is in force, whether it was applied or not.

        Raises `Refused` when this node has no vote in one of those that count.
        """
        known = [each for each in settings[1:] if each.lsn <= watermark]
        in_force, coming = (settings[0], *known)[-1], [each for each in settings[1:] if each.lsn > watermark]
        for each in (in_force, *coming):
            _check_voter(each, me)
        cluster, membership = in_force.cluster, in_force.cluster.membership
        for member, incarnation in admitted.items():
            if member in membership:
                membership = membership.admitted(member, incarnation)
        lag = LagConfig(replica_timeout_ms=cluster.replica_timeout_ms)
        coordinator = QuorumCoordinator(membership, me, cluster.commit_rule, lag=lag)
        return cls(me, coordinator, in_force, coming)

    def begin(self) -> None:
        """The reign begins: what an earlier one left in the log is committed like a change of its own."""
        for settings in self.coming:
            self.coordinator.propose(_step(settings))

    @property
    def pending(self) -> str:
        """What is on its way, in words; "" for nothing."""
        return "; ".join(each.record.text or FIRST for each in self.coming if each.record is not None)

    @property
    def hold(self) -> RedwireError | None:
        """Why no write is to be logged now."""
        if not self.coming:
            return None
        return Refused(Code.NOT_READY, "the settings are being changed", hint="retry")

    def obstacle(self, now_ms: int) -> RedwireError | None:
        """Why what is on its way cannot be committed by the members in reach: no write passes it until then.

        None when they can, and when nothing is on its way.
        """
        if not self.coming:
            return None
        return self.coordinator.obstacle(_step(self.coming[-1]), now_ms)

    def plan(self, asked: ChangeSettings, by: str, now_ms: int) -> Planned:
        """What `asked`, wanted by the user `by`, would lead to. Raises as `plan`, and why it cannot be logged
        now.
        """
        planned = plan(self._newest, asked, self.me, by, pending=bool(self.coming))
        refusal = self.refusal(planned, now_ms) if planned.changes else None
        if refusal is not None:
            raise refusal
        return planned

    def refusal(self, planned: Planned, now_ms: int) -> RedwireError | None:
        """Why `planned` must not be logged now; None when it may."""
        if planned.before is not self._newest:
            text = f"the settings were changed at LSN {self._newest.lsn} meanwhile"
            facts: dict[str, object] = {"lsn": self._newest.lsn, "based_on": planned.before.lsn}
            return Refused(Code.SETTINGS_CHANGED, text, hint="look at them again, then decide", facts=facts)
        if self.coming and not planned.lost:
            hint = "wait for it, or name what it waits for as lost"
            text = f"another change is on its way: {self.pending}"
            return Refused(Code.SETTINGS_CHANGED, text, hint=hint, facts={"pending": self.pending})
        above = Lsn(self._newest.lsn + 1)
        obstacle = self.coordinator.obstacle(_step(planned.after(above)), now_ms)
        return obstacle or self._unready(planned, now_ms)

    def _unready(self, planned: Planned, now_ms: int) -> RedwireError | None:
        """Why a reader that `planned` makes a voter is to be none yet: commits could have to wait until it
        follows.
        """
        rows = {row.id: row for row in self.coordinator.status(now_ms).members}
        for node in sorted(planned.promoted):
            row = rows.get(node)
            if row is None or not row.health.healthy:
                why = "it is not let in yet" if row is None else row.health.reason
                text = f"{node} cannot be a voter yet: {why}"
                return Refused(Code.NOT_READY, text, hint="promote it once it follows", facts={"node": node})
        return None

    def log(self, settings: Settings) -> None:
        """A change was logged, at `settings.lsn`."""
        self.coming.append(settings)
        self.coordinator.propose(_step(settings))

    def applied(self, last: Lsn) -> bool:
        """Everything up to `last` is committed and applied. True when other settings are in force now."""
        passed = [settings for settings in self.coming if settings.lsn <= last]
        if not passed:
            return False
        del self.coming[: len(passed)]
        self.settings = passed[-1]
        self.policies = Policies.of(self.settings, self.me)
        self.coordinator.lag = LagConfig(replica_timeout_ms=self.settings.cluster.replica_timeout_ms)
        return True

    @property
    def _newest(self) -> Settings:
        return self.coming[-1] if self.coming else self.settings


def _check_voter(settings: Settings, me: NodeId) -> None:
    member = settings.cluster.member(me)
    if member is None or member.kind is not MemberKind.VOTER:
        text = f"by the settings of LSN {settings.lsn} {me} is {'a reader' if member else 'no member'}"
        raise Refused(Code.NOT_PRIMARY, text, hint="start a voter as primary")


def _step(settings: Settings) -> Step:
    lost = settings.record.lost if settings.record is not None else ()
    cluster = settings.cluster
    return Step(settings.lsn, cluster.membership, cluster.commit_rule, frozenset(map(NodeId, lost)))
