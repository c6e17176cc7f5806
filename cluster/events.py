"""What happened here and at the other members of late: typed, bounded, for whoever looks at the cluster."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec.structs import replace

from cluster.log_config import Level
from redwire.message.vitals import EVENT_CHARS_MAX, EVENTS_CARRIED, EventNote
from redwire.position import NodeId
from redwire.status import EVENTS_MAX, Event

NAME_CHARS_MAX = 64
"""As long as a member's name may be."""
YOUNG_MS = 5_000
"""How long the other members are told of an event: one lost hello or two change nothing."""


class EventKind(StrEnum):
    """The kinds of events; docs/OPERATIONS.md says what each means."""

    REIGN_BEGUN = "reign_begun"
    REIGN_ENDED = "reign_ended"
    PRIMARY_FOUND = "primary_found"
    PRIMARY_LOST = "primary_lost"
    FOLLOWS = "follows"
    FOLLOWS_NO_MORE = "follows_no_more"
    CAUGHT_UP = "caught_up"
    MEMBER_JOINED = "member_joined"
    MEMBER_CAUGHT_UP = "member_caught_up"
    MEMBER_LEFT = "member_left"
    MEMBER_PROVED_LESS = "member_proved_less"
    MEMBER_UNHEALTHY = "member_unhealthy"
    MEMBER_HEALTHY = "member_healthy"
    QUORUM_LOST = "quorum_lost"
    QUORUM_REGAINED = "quorum_regained"
    SLOT_AT_RISK = "slot_at_risk"
    SLOT_EVICTED = "slot_evicted"
    SLOT_SAFE = "slot_safe"
    SNAPSHOT_BEGUN = "snapshot_begun"
    SNAPSHOT_DONE = "snapshot_done"
    SNAPSHOT_GIVEN_UP = "snapshot_given_up"
    TAIL_SAVED = "tail_saved"
    DISK_FULL = "disk_full"
    DISK_WORKING = "disk_working"
    SETTINGS_CHANGED = "settings_changed"
    CERTIFICATE_ENDING = "certificate_ending"
    STATE_DAMAGED = "state_damaged"
    ID_TAKEN = "id_taken"


_ERRORS = frozenset(
    (
        *(EventKind.PRIMARY_LOST, EventKind.QUORUM_LOST, EventKind.SNAPSHOT_GIVEN_UP, EventKind.DISK_FULL),
        EventKind.STATE_DAMAGED,
    )
)
_WARNINGS = frozenset(
    (
        *(EventKind.REIGN_ENDED, EventKind.MEMBER_LEFT, EventKind.MEMBER_UNHEALTHY),
        EventKind.MEMBER_PROVED_LESS,
        *(EventKind.SLOT_AT_RISK, EventKind.SLOT_EVICTED, EventKind.TAIL_SAVED),
        *(EventKind.CERTIFICATE_ENDING, EventKind.FOLLOWS_NO_MORE, EventKind.ID_TAKEN),
    )
)


OF_ONE_NODE = frozenset(
    (
        *(EventKind.REIGN_BEGUN, EventKind.SNAPSHOT_DONE, EventKind.SNAPSHOT_GIVEN_UP, EventKind.TAIL_SAVED),
        *(EventKind.DISK_FULL, EventKind.DISK_WORKING, EventKind.CERTIFICATE_ENDING),
        EventKind.STATE_DAMAGED,
    )
)
"""The kinds whose words name nobody but the node where it happened."""


def level(kind: EventKind) -> Level:
    """How loud an event of this kind is: info, warning or error."""
    if kind in _ERRORS:
        return Level.ERROR
    return Level.WARNING if kind in _WARNINGS else Level.INFO


@dataclass(slots=True, eq=False)
class Events:
    """The youngest events that `me` had or heard of, `EVENTS_MAX` of them in all.

    They go by when they happened, never by when they were heard of: the primary tells the same hundred every
    second, a follower that comes back tells what nobody heard.
    """

    me: NodeId
    _recent: list[Event] = field(default_factory=list)
    _own: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_CARRIED))
    _sequence: int = 0
    _counts: Counter[EventKind] = field(default_factory=Counter)

    def add(self, kind: EventKind, text: str, at_ms: int) -> None:
        """Something happened here, now (ms since 1970)."""
        self._sequence += 1
        self._counts[kind] += 1
        event = Event(
            node=self.me,
            sequence=self._sequence,
            at_ms=at_ms,
            level=level(kind).value,
            kind=kind.value,
            text=text[:EVENT_CHARS_MAX],
        )
        self._own.append(event)
        self._merge((event,))

    def heard(self, events: Iterable[Event]) -> None:
        """Somebody told of these, maybe not for the first time; what it says of ourselves we know better."""
        known = set(self._recent)
        fresh = {_short(event) for event in events if event.node != self.me} - known
        if fresh:
            self._merge(fresh)

    def young(self, now_ms: int) -> tuple[EventNote, ...]:
        """Our own that the others are to be told of."""
        return tuple(
            EventNote(
                sequence=event.sequence,
                at_ms=event.at_ms,
                level=event.level,  # type: ignore[arg-type]
                kind=event.kind,
                text=event.text,
            )
            for event in self._own
            if 0 <= now_ms - event.at_ms < YOUNG_MS  # a clock that was put back makes none young again
        )

    def counts(self) -> dict[EventKind, int]:
        """How many of each kind there were here since the process began."""
        return {kind: self._counts[kind] for kind in EventKind}

    def recent(self) -> tuple[Event, ...]:
        """All of them, the eldest first."""
        return tuple(self._recent)

    def _merge(self, fresh: Iterable[Event]) -> None:
        self._recent += fresh
        self._recent.sort(key=lambda event: (event.at_ms, event.node, event.sequence))
        del self._recent[:-EVENTS_MAX]


def _short(event: Event) -> Event:
    """`event` with texts as long as a node's own may be."""
    words = {name: getattr(event, name)[:NAME_CHARS_MAX] for name in ("node", "level", "kind")}
    return replace(event, text=event.text[:EVENT_CHARS_MAX], **words)


def told_by(node: str, notes: Iterable[EventNote]) -> list[Event]:
    """The events that `node` told of."""
    return [
        Event(
            node=node,
            sequence=note.sequence,
            at_ms=note.at_ms,
            level=note.level,
            kind=note.kind,
            text=note.text,
        )
        for note in notes
    ]
