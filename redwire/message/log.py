"""Bodies of the log's own records: TERM_START, CONFIG, ADMIT and CLOSE. Those of ACCOUNT stand in `admin`.

They are written once and read by every later version, so a field is added with a default or not at all.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from redwire.body import U63, Bytes24, Bytes32, ClosedStruct, Hex32, Name

MEMBERS_MAX = 64
"""With the longest names and addresses a record of them takes 30 KB of a body's 64 KiB. Nobody has as many
copies of one log: what grows with the square of it, hellos and round trips, stays small.
"""
ADMINS_MAX = 64
"""Another 4 KB. They are people with certificates; applications are users of the log."""
TEXT_CHARS_MAX = 8_192
"""A change in words: two policies before and after, and the name of every member."""

PolicyText = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class TermStart(ClosedStruct, frozen=True, omit_defaults=True):
    """TERM_START: the reign of the batch around it begins. `version` is the primary's program version.

    `without` are the nodes that an operator gave up for it: what only they know committed is over (R5).
    """

    version: Annotated[str, msgspec.Meta(max_length=64)]
    without: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MEMBERS_MAX)] = ()


class MemberRecord(ClosedStruct, frozen=True, kw_only=True):
    """One configured member. `incarnation` is the data directory that counts; None until admitted."""

    id: Name
    region: Name
    addr: Annotated[str, msgspec.Meta(max_length=255)]
    kind: Literal["voter", "reader"]
    incarnation: Hex32 | None = None


class ClusterRecord(ClosedStruct, frozen=True, kw_only=True):
    """CONFIG: what all nodes agree on. `floor` is None when the policy is its own floor.

    `secret` is random and the cluster's own: SCRAM challenges for unknown users derive from it. Of a change
    `by` says who wanted it, `text` what it is, and `lost` which nodes were given up for it.
    """

    cluster: Hex32
    name: Name
    members: Annotated[tuple[MemberRecord, ...], msgspec.Meta(min_length=1, max_length=MEMBERS_MAX)]
    admins: Annotated[tuple[Name, ...], msgspec.Meta(max_length=ADMINS_MAX)]
    policy: PolicyText
    floor: PolicyText | None
    policy_timeout_ms: U63
    replica_timeout_ms: U63
    secret: Bytes32
    by: Name = ""
    text: Annotated[str, msgspec.Meta(max_length=TEXT_CHARS_MAX)] = ""
    lost: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MEMBERS_MAX)] = ()

    def __post_init__(self) -> None:
        if len({member.id for member in self.members}) != len(self.members):
            raise ValueError("two members of a cluster have the same id")

    @property
    def commit_rule(self) -> str:
        """The text of the commit rule: the floor, or the policy where none is set (R6)."""
        return self.policy if self.floor is None else self.floor


class CloseKey(ClosedStruct, frozen=True):
    """CLOSE: a request with this key that was not executed before this record is never executed (R9)."""

    client: Bytes24
    sequence: U63


class Admit(ClosedStruct, frozen=True):
    """ADMIT: from here on the member `node` counts with this incarnation of its data directory only (R11)."""

    node: Name
    incarnation: Hex32
