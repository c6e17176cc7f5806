"""What the audit log holds: who came in or was refused, whose session was ended, and what administrators did.

One event is one line of JSON in ASCII, so that no name can break out of its line or confuse a terminal. Lines
never hold a password, a token, a verifier or a hash. What others than administrators can cause any number of
is listed up to `LINES_A_SECOND`, sessions that are ended up to `ENDED_A_SECOND`, and counted beyond that.
"""

from __future__ import annotations

import json
from collections import Counter
from enum import Enum

import msgspec

from redwire.handshake import PrincipalKind

TEXT_CHARS_MAX = 256
"""Of one text; what is cut ends in an ellipsis."""
LINES_A_SECOND = 10
"""Of one sort. A flood then takes hours to push what was there before out of the files of its part."""
ENDED_A_SECOND = 1_000
"""One act may end as many sessions as its user has, and the disk owes 10,000 lines at most: those of acts
among them are not to be lost for it.
"""


class Event(msgspec.Struct, frozen=True, tag_field="event"):
    """What every line derives from; its tag stands in `event`."""


class Accepted(Event, frozen=True, kw_only=True, tag="accepted"):
    """Somebody authenticated. `kind` is user, node or anonymous; `token` the id of a bearer token or ""."""

    address: str
    method: str
    kind: str
    name: str
    role: str
    token: str = ""


class Rejected(Event, frozen=True, kw_only=True, tag="refused"):
    """Somebody did not. `name` is the user that it claimed to be, `certificate` the identity that TLS proved;
    both may be "", and so may `method` where none was agreed on.
    """

    address: str
    method: str
    name: str
    certificate: str
    why: str


class Actor(msgspec.Struct, frozen=True):
    """Who does something: its address, its user's name, and the id of its bearer token or ""."""

    address: str
    name: str
    token: str


class Ended(Event, frozen=True, kw_only=True, tag="ended"):
    """A session was ended because what it rested on was changed or removed."""

    session: Actor
    why: str


class ActOutcome(Enum):
    """What an administrator's act came to. `NOTHING`: there was nothing to change; `NOT_CONFIRMED`: it is
    logged, and may or may not survive.
    """

    DONE = "done"
    NOTHING = "nothing"
    NOT_CONFIRMED = "not_confirmed"
    REFUSED = "refused"


class Act(Event, frozen=True, kw_only=True, tag="act"):
    """An administrator changed something, or tried to, which is refused until it came to something else.

    `act` is the kind of change, `target` what it is about, `detail` what it says. `lsn` and `term` are where
    it is logged, None where it is not, or where that is not known.
    """

    by: Actor
    act: str
    target: str
    outcome: ActOutcome = ActOutcome.REFUSED
    detail: dict[str, str | int | bool] = {}
    lsn: int | None = None
    term: int | None = None
    why: str = ""

    def came_to(
        self, outcome: ActOutcome, *, lsn: int | None = None, term: int | None = None, why: str = ""
    ) -> Act:
        """The same act with its outcome."""
        return msgspec.structs.replace(self, outcome=outcome, lsn=lsn, term=term, why=why)


class Unlisted(Event, frozen=True, kw_only=True, tag="unlisted"):
    """How many more of each sort there were within one second, or so, than lines for them."""

    accepted: int = 0
    ended: int = 0
    refused: int = 0
    acts_refused: int = 0


class Lost(Event, frozen=True, kw_only=True, tag="lost"):
    """So many lines could not be written before this one."""

    lines: int


class Part(Enum):
    """What has files of its own, by who can cause any number of it: administrators, who is known by name, and
    anybody. So no part pushes another one out.
    """

    ACTS = "acts"
    SESSIONS = "sessions"
    REFUSED = "refused"


def part_of(event: Event) -> Part:
    """Where `event` belongs: with what administrators did and which lines are lost; with who came in by name
    and whose session was ended; or with what is refused, who came in without a name, and what is not listed.
    """
    if isinstance(event, Accepted):
        return Part.REFUSED if event.kind == PrincipalKind.ANONYMOUS else Part.SESSIONS
    if isinstance(event, Ended):
        return Part.SESSIONS
    refused = isinstance(event, Act) and event.outcome is ActOutcome.REFUSED
    return Part.REFUSED if refused or isinstance(event, Rejected | Unlisted) else Part.ACTS


def line(event: Event, time: str, node: str) -> str:
    """`event` as it is written, without the line's end. Long texts are cut."""
    return json.dumps(_cut({"time": time, "node": node, **msgspec.to_builtins(event)}))


class Tally:
    """What is listed and what is only counted."""

    def __init__(self) -> None:
        self._listed = Counter[tuple[str, str]]()
        self._unlisted = Counter[str]()

    def lists(self, event: Event) -> bool:
        """Whether `event` gets a line of its own."""
        if isinstance(event, Accepted):
            return self._room("accepted", event.kind)
        if isinstance(event, Ended):
            return self._room("ended", most=ENDED_A_SECOND)
        if isinstance(event, Rejected):
            return self._room("refused")
        if isinstance(event, Act) and event.outcome is ActOutcome.REFUSED:
            return self._room("acts_refused")
        return True

    def next_second(self) -> Unlisted | None:
        """Begin to count anew; what had no line, if there was any."""
        self._listed.clear()
        if not self._unlisted:
            return None
        rest = Unlisted(**self._unlisted)
        self._unlisted.clear()
        return rest

    def _room(self, sort: str, kind: str = "", most: int = LINES_A_SECOND) -> bool:
        self._listed[sort, kind] += 1
        if self._listed[sort, kind] <= most:
            return True
        self._unlisted[sort] += 1
        return False


def _cut(value: object) -> object:
    if isinstance(value, dict):
        return {name: _cut(item) for name, item in value.items()}
    if isinstance(value, str) and len(value) > TEXT_CHARS_MAX:
        return value[: TEXT_CHARS_MAX - 1] + "…"
    return value
