"""The cluster's settings: what the log's CONFIG records say, and what a change to them would lead to.

The file of a node bootstraps an empty cluster. From then on the log decides: settings are in force on every
node from the LSN of their record on, and change one thing at a time. Nothing here commits a change; what that
takes stands in `regions.transition`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

import msgspec

from cluster import schema
from cluster.cluster_config import ClusterConfig
from redwire.body import decode, encode
from redwire.errors import BodyInvalid, Code, ConfigInvalid, PolicyInvalid, Refused, RequestInvalid
from redwire.message.log import ClusterRecord, MemberRecord
from redwire.message.settings import (
    AddMember,
    BindRegion,
    ChangeSettings,
    MemberView,
    MoveMember,
    PromoteMember,
    RemoveMember,
    SetPolicy,
    SettingsChange,
    SettingsView,
)
from redwire.position import Lsn, NodeId
from redwire.spelling import guess
from regions.binding import MemberKind
from regions.commit_policy import CommitPolicy


class Settings(msgspec.Struct, frozen=True):
    """In force from the record at `lsn` on. Without a record (`lsn` 0) they are what the node's file says."""

    lsn: Lsn
    cluster: ClusterConfig
    record: ClusterRecord | None = None

    @classmethod
    def of(cls, record: ClusterRecord, lsn: Lsn) -> Settings:
        """What `record` says, from `lsn` on. Raises `ConfigInvalid` for what no primary logs."""
        return cls(lsn, ClusterConfig.from_record(record), record)

    @classmethod
    def shown(cls, view: SettingsView, name: str) -> Settings:
        """What somebody outside was shown of the cluster `name`, without its record. Raises `ConfigInvalid`
        for what this version cannot read.
        """
        plain = msgspec.to_builtins(view)
        del plain["lsn"], plain["pending"]
        plain |= {"name": name, "floor": view.floor or None}
        return cls(Lsn(view.lsn), schema.read(ClusterConfig, plain, "the cluster's settings"))

    def view(self, pending: str = "") -> SettingsView:
        """These settings for somebody outside; `pending` describes a change that is on its way."""
        cluster = self.cluster
        return SettingsView(
            lsn=self.lsn,
            policy=str(cluster.default_policy),
            floor="" if cluster.floor is None else str(cluster.floor),
            policy_timeout_ms=cluster.policy_timeout_ms,
            replica_timeout_ms=cluster.replica_timeout_ms,
            members=tuple(
                MemberView(id=m.id, region=m.region, addr=str(m.addr), kind=m.kind.value)
                for m in cluster.members
            ),
            admins=cluster.admins,
            pending=pending,
        )


class Planned(msgspec.Struct, frozen=True):
    """A change that may be logged: from `before` to `record`, `text` in words. `lost` are nodes given up.

    `changes` is False when everything is so already.
    """

    before: Settings
    record: ClusterRecord
    lost: frozenset[NodeId]
    text: str
    changes: bool

    @property
    def promoted(self) -> frozenset[NodeId]:
        """The members that are readers in `before`, and voters after it."""
        voters = {member.id for member in self.record.members if member.kind == "voter"}
        readers = {m.id for m in self.before.cluster.members if m.kind is MemberKind.READER}
        return frozenset(readers & voters)

    def after(self, lsn: Lsn) -> Settings:
        """The settings that follow, their record being at `lsn`."""
        return Settings.of(self.record, lsn)


def plan(
    before: Settings, asked: ChangeSettings, primary: NodeId, by: str, *, pending: bool = False
) -> Planned:
    """What `asked`, wanted by the user `by`, comes to while `primary` leads. `pending`: the record of
    `before` is logged and not committed.

    Raises `RequestInvalid` for what is not possible in this cluster, `PolicyInvalid` for a text that is no
    policy, and `Refused` (SETTINGS_CHANGED) when it is based on other settings than `before`, or is on its
    way already.
    """
    record = before.record
    if record is None:
        raise Refused(Code.NOT_READY, "the cluster's first settings are not committed yet", hint="retry")
    bare = msgspec.structs.replace(record, by="", text="", lost=())
    changed, text = _changed(bare, asked.change, primary)
    lost = frozenset(_named(asked.lost, before.cluster))
    if primary in lost:
        hint = "name what is gone for good"
        raise RequestInvalid(f"{primary} leads, so it is not lost", hint=hint, facts={"node": primary})
    if changed == bare and pending and not lost:
        hint = "wait for it, or name what it waits for as lost"
        message = f"{text}: that is on its way and not committed"
        raise Refused(Code.SETTINGS_CHANGED, message, hint=hint, facts={"pending": record.text})
    if changed == bare and not pending:
        return Planned(before, record, lost, f"{text}: it is so already", False)
    if asked.based_on not in (0, before.lsn):
        message = f"the settings were changed at LSN {before.lsn}, after those of LSN {asked.based_on}"
        hint = "look at them again, then decide"
        facts: dict[str, object] = {"lsn": before.lsn, "based_on": asked.based_on}
        raise Refused(Code.SETTINGS_CHANGED, message, hint=hint, facts=facts)
    if lost:
        text += f"; given up: {', '.join(sorted(lost))}"
    changed = msgspec.structs.replace(changed, by=by, text=text, lost=tuple(sorted(lost)))
    try:
        ClusterConfig.from_record(decode(encode(changed), ClusterRecord))
    except ConfigInvalid as error:
        where = f"{error.path}: " if error.path else ""
        if not isinstance(asked.change, SetPolicy):  # which names itself what it cannot have
            where = f"{text}: {where}"
        of_policy = isinstance(asked.change, SetPolicy) and error.path in ("policy", "floor")
        raise (PolicyInvalid if of_policy else RequestInvalid)(
            where + error.detail, hint=error.hint
        ) from error
    except BodyInvalid as error:
        raise RequestInvalid(f"no record can hold this change: {error.message}") from error
    return Planned(before, changed, lost, text, True)


def _changed(record: ClusterRecord, change: SettingsChange, primary: NodeId) -> tuple[ClusterRecord, str]:
    """`record` with the change made; the change in words."""
    match change:
        case BindRegion(node, region):
            member = _member(record, node)
            text = f"{node} is bound to {region}" if region else f"{node} is bound to no region"
            return _with(record, member, msgspec.structs.replace(member, region=region)), text
        case SetPolicy():
            return _with_policy(record, change)
        case AddMember(node=node, region=region, addr=addr):
            if any(member.id == node for member in record.members):
                hint = "give every node an id of its own"
                raise RequestInvalid(f"{node} is a member already", hint=hint, facts={"node": node})
            added = MemberRecord(id=node, region=region, addr=addr, kind="reader")
            text = f"{node} in {region or 'no region'} joins as a reader"
            return msgspec.structs.replace(record, members=(*record.members, added)), text
        case PromoteMember(node):
            member = _member(record, node)
            text = f"{node} is a voter"
            return _with(record, member, msgspec.structs.replace(member, kind="voter")), text
        case MoveMember(node, addr):
            member = _member(record, node)
            if node == primary and len(record.members) > 1:  # whom all others reach at the old one now
                hint = "let another node lead first"
                raise RequestInvalid(f"{node} leads and cannot be moved", hint=hint, facts={"node": node})
            text = f"{node} is reached at {addr}"
            return _with(record, member, msgspec.structs.replace(member, addr=addr)), text
        case RemoveMember(node):
            member = _member(record, node)
            if node == primary:
                hint = "let another node lead first"
                raise RequestInvalid(f"{node} leads and cannot be removed", hint=hint, facts={"node": node})
            kept = tuple(other for other in record.members if other is not member)
            return msgspec.structs.replace(record, members=kept), f"{node} leaves the cluster"


def _with_policy(record: ClusterRecord, change: SetPolicy) -> tuple[ClusterRecord, str]:
    wanted: dict[str, object] = {}
    if change.policy is not None:
        wanted["policy"] = str(CommitPolicy.parse(change.policy))
    if change.floor is not None:
        wanted["floor"] = str(CommitPolicy.parse(change.floor)) if change.floor else None
    for name in ("policy_timeout_ms", "replica_timeout_ms"):
        if getattr(change, name) is not None:
            wanted[name] = getattr(change, name)
    if not wanted:
        raise RequestInvalid("nothing is to be changed", hint="name a policy, a floor or a timeout")
    text = ", ".join(_step(name, getattr(record, name), value) for name, value in wanted.items())
    return msgspec.structs.replace(record, **wanted), text


def _step(name: str, before: object, value: object) -> str:
    """That `name` becomes `value`; what it was only where that was something else."""
    was = "" if value == before else f" (was {_in_words(name, before)})"
    return f"{name} {_in_words(name, value)}{was}"


def _in_words(name: str, value: object) -> str:
    """Without a floor of its own a cluster has one all the same (R6)."""
    if value is None:
        return "the same as the policy" if name == "floor" else "by default"
    return str(value)


def _with(record: ClusterRecord, old: MemberRecord, new: MemberRecord) -> ClusterRecord:
    members = tuple(new if member is old else member for member in record.members)
    return msgspec.structs.replace(record, members=members)


def _member(record: ClusterRecord, node: str) -> MemberRecord:
    for member in record.members:
        if member.id == node:
            return member
    _unknown("member", node, [member.id for member in record.members], {"node": node})


def _named(names: Iterable[str], cluster: ClusterConfig) -> Iterator[NodeId]:
    """The nodes that `names` stand for, each a node or a region."""
    for name in names:
        found = [member.id for member in cluster.members if name in (member.id, member.region) and name]
        if not found:
            known = {word for member in cluster.members for word in (member.id, member.region) if word}
            _unknown("node or region", name, sorted(known), {})
        yield from found


def _unknown(what: str, name: str, known: Sequence[str], facts: dict[str, object]) -> NoReturn:
    hint = guess(name, known, f"there are {', '.join(known)}")
    raise RequestInvalid(f"{name!r} is no {what} of this cluster", hint=hint, facts=facts)
