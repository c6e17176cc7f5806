"""What a node says of itself once a second, to every other one: PeerHello and PeerWelcome carry it.

So each node knows how all others are at first hand, also while nobody leads.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from redwire.body import U63, ClosedStruct, Name
from redwire.message.log import MEMBERS_MAX

EVENT_CHARS_MAX = 240
"""With eight of them the vitals take 8 KB, at four bytes a character, of a body's 64 KiB."""
EVENTS_CARRIED = 8
"""More than this many in a few seconds are told to the log alone."""


class EventNote(ClosedStruct, frozen=True, kw_only=True):
    """One event, as `redwire.status.Event` says it, without the node: the report names that."""

    sequence: U63
    at_ms: U63
    level: Literal["info", "warning", "error"]
    kind: Name
    text: Annotated[str, msgspec.Meta(max_length=EVENT_CHARS_MAX)]


class Vitals(ClosedStruct, frozen=True, kw_only=True):
    """How a node is. What its report says already stands there alone; None is what it cannot know.

    `disk` and all that follows up to `log_bytes` read as in `redwire.status.Disk`. `rtts_us` are the round
    trips that it measured, by node. `events` are its youngest, told for a few seconds each.
    """

    version: Name
    durable: U63
    disk: Name
    fsync_p50_us: U63 | None
    fsync_p99_us: U63 | None
    free_bytes: U63 | None
    free_inodes: U63 | None = None
    floor_bytes: U63
    floor_ms: U63 | None
    floor_over_ms: U63 | None = None
    volume: Name = ""
    log_bytes: U63
    certificate_ends_at_ms: U63 | None
    rtts_us: Annotated[dict[Name, U63], msgspec.Meta(max_length=MEMBERS_MAX)]
    events: Annotated[tuple[EventNote, ...], msgspec.Meta(max_length=EVENTS_CARRIED)] = ()
