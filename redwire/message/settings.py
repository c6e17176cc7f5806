"""Bodies about the cluster's settings, kinds 58 to 5B: ask for them, change one thing about them.

A change names what it is based on, so of two operators who change at once one is told. What it leads to is
worked out by the primary, for a dry run exactly as for a real one.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from redwire.body import U63, ClosedStruct, Name
from redwire.message.log import ADMINS_MAX, MEMBERS_MAX, PolicyText

Address = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Millis = Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]


class BindRegion(ClosedStruct, frozen=True, tag_field="change", tag="bind_region"):
    """Count `node` for `region`; "" for no region, but still as what it is."""

    node: Name
    region: Name


class SetPolicy(ClosedStruct, frozen=True, kw_only=True, tag_field="change", tag="set_policy"):
    """Change what is given, and leave the rest: None stands for "as it is", a `floor` of "" for "the
    default policy is its own floor".
    """

    policy: PolicyText | None = None
    floor: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    policy_timeout_ms: Millis | None = None
    replica_timeout_ms: Millis | None = None


class AddMember(ClosedStruct, frozen=True, kw_only=True, tag_field="change", tag="add_member"):
    """Let `node` in as a reader, whose copies do not count; `promote_member` makes it a voter later."""

    node: Name
    region: Name
    addr: Address


class PromoteMember(ClosedStruct, frozen=True, tag_field="change", tag="promote_member"):
    """Make the reader `node` a voter."""

    node: Name


class MoveMember(ClosedStruct, frozen=True, tag_field="change", tag="move_member"):
    """`node` is reached at `addr` from now on, by the other members and, unless it advertises another, by
    clients.
    """

    node: Name
    addr: Address


class RemoveMember(ClosedStruct, frozen=True, tag_field="change", tag="remove_member"):
    """Let `node` out of the cluster."""

    node: Name


SettingsChange = BindRegion | SetPolicy | AddMember | PromoteMember | MoveMember | RemoveMember


class MemberView(ClosedStruct, frozen=True, kw_only=True):
    """One member as the settings have it. `region` is "" for a node that is bound to none."""

    id: Name
    region: Name
    addr: Annotated[str, msgspec.Meta(max_length=255)]
    kind: Literal["voter", "reader"]


class SettingsView(ClosedStruct, frozen=True, kw_only=True):
    """Settings (59): what all nodes agree on, by the record at `lsn` (0 while there is none).

    `floor` is "" where the default policy is its own floor. `pending` describes a change that is logged and
    not committed, "" for none.
    """

    lsn: U63
    policy: PolicyText
    floor: Annotated[str, msgspec.Meta(max_length=255)]
    policy_timeout_ms: U63
    replica_timeout_ms: U63
    members: Annotated[tuple[MemberView, ...], msgspec.Meta(max_length=MEMBERS_MAX)]
    admins: Annotated[tuple[Name, ...], msgspec.Meta(max_length=ADMINS_MAX)]
    pending: str = ""

    @property
    def commit_rule(self) -> str:
        """The text of the commit rule (R6)."""
        return self.floor or self.policy


class ChangeSettings(ClosedStruct, frozen=True, kw_only=True):
    """ChangeSettings (5A): change one thing.

    `based_on` is the LSN of the settings that the operator looked at: others in force meanwhile refuse the
    change; 0 takes whatever is in force. `lost` names nodes and regions that are gone for good: what the
    commit rule asks of them is waived for this change alone, a majority of the voters never is. A `dry_run`
    changes nothing.
    """

    change: SettingsChange
    based_on: U63 = 0
    lost: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MEMBERS_MAX)] = ()
    dry_run: bool = False


UNMET_CHARS_MAX = 512
"""A sentence that names as many regions as there is room for."""


class SettingsChanged(ClosedStruct, frozen=True, kw_only=True):
    """SettingsChanged (5B): the change in words, the settings `before` it, and what is so after it.

    `lsn` and `term` are those of its record, 0 after a dry run. Settings of 64 members take half of a body,
    so they stand in it once: `members` are those that the change lets in or makes others, as they are then,
    `left` those that it lets out. No change makes other `admins`. `unmet` says why the members in reach
    cannot meet the policy that follows, where that is another one and the members are the same; else it is
    "".
    """

    lsn: U63
    term: U63
    text: str
    before: SettingsView
    policy: PolicyText
    floor: Annotated[str, msgspec.Meta(max_length=255)]
    policy_timeout_ms: U63
    replica_timeout_ms: U63
    members: Annotated[tuple[MemberView, ...], msgspec.Meta(max_length=MEMBERS_MAX)] = ()
    left: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MEMBERS_MAX)] = ()
    unmet: Annotated[str, msgspec.Meta(max_length=UNMET_CHARS_MAX)] = ""

    @classmethod
    def between(
        cls,
        before: SettingsView,
        after: SettingsView,
        *,
        text: str,
        unmet: str = "",
        lsn: int = 0,
        term: int = 0,
    ) -> SettingsChanged:
        """The change from `before` to `after`, whose `lsn` is that of `before` where `lsn` is 0."""
        old, new = set(before.members), {member.id for member in after.members}
        return cls(
            lsn=lsn,
            term=term,
            text=text,
            before=before,
            policy=after.policy,
            floor=after.floor,
            policy_timeout_ms=after.policy_timeout_ms,
            replica_timeout_ms=after.replica_timeout_ms,
            members=tuple(member for member in after.members if member not in old),
            left=tuple(member.id for member in before.members if member.id not in new),
            unmet=unmet[:UNMET_CHARS_MAX],
        )

    @property
    def after(self) -> SettingsView:
        """The settings after the change: members stay in their order, new ones stand at the end."""
        members = {member.id: member for member in (*self.before.members, *self.members)}
        return msgspec.structs.replace(
            self.before,
            lsn=self.lsn or self.before.lsn,
            policy=self.policy,
            floor=self.floor,
            policy_timeout_ms=self.policy_timeout_ms,
            replica_timeout_ms=self.replica_timeout_ms,
            members=tuple(member for name, member in members.items() if name not in self.left),
        )
