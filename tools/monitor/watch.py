"""What the monitor knows: news in, a frozen view of everything out. Decides what lasts since when."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from redwire.errors import RedwireError
from redwire.handshake import Role
from redwire.status import SCHEMA, Event, Status
from tools.condition import problems, trouble
from tools.condition.problems import Key, Kind, Problem
from tools.condition.tone import Tone
from tools.condition.trouble import Trouble
from tools.monitor.history import EventBook, History

GROWING_S = 15
"""A follower that is behind and no nearer after so long will not catch up as things are."""
FAR_MS = 5_000
"""What is less far behind is on its way: under load a follower always is."""
NOTICE_MS = 15_000
"""How long it is said that another node was taken."""
STEPS_S = (1, 5, 15)
"""Seconds a column of a chart stands for."""


class Arrived(msgspec.Struct, frozen=True):
    """A document of the node at `addr`, which lets us in as `role` ("" for not known), at `at_ms`."""

    status: Status
    addr: str
    role: str
    at_ms: int


class Lost(msgspec.Struct, frozen=True):
    """The node at `addr` ("" for any) did not answer at `at_ms`: `reason`."""

    addr: str
    reason: str
    at_ms: int


class Ended(msgspec.Struct, frozen=True):
    """No node can be asked as things are: only another URI helps."""

    error: RedwireError


News = Arrived | Lost | Ended
"""`at_ms` is the monitor's own clock, which never goes back."""


class View(msgspec.Struct, frozen=True):
    """Everything that panels are written from.

    `now_ms` is now by the clock of the node that answered, None where it told no time; `own_ms` the
    monitor's. `silent_ms` is how long no node has answered. `before` are keys of problems that may have begun
    before we looked, `growing` nodes that are behind and come no nearer.
    """

    own_ms: int
    history: History
    status: Status = msgspec.field(default_factory=Status)
    addr: str = ""
    role: str = ""
    now_ms: int | None = None
    silent_ms: int | None = None
    notice: str = ""
    problems: tuple[Problem, ...] = ()
    before: frozenset[Key] = frozenset()
    growing: frozenset[str] = frozenset()
    troubles: tuple[Trouble, ...] = ()
    events: tuple[Event, ...] = ()
    step_s: int = STEPS_S[0]
    selected: str = ""

    @property
    def waiting(self) -> bool:
        """Whether no document has come at all yet."""
        return not self.addr

    @property
    def may_change(self) -> bool:
        """Whether the principal may change settings."""
        return self.role == Role.ADMIN

    @property
    def newer(self) -> bool:
        """Whether the document has a newer schema than the one that is known here."""
        return self.status.schema > SCHEMA


class Watch:
    """Takes news and answers with views. `at_ms` is the monitor's clock everywhere."""

    def __init__(self) -> None:
        self.history = History()
        self._events = EventBook()
        self._last: Arrived | None = None
        self._losses: dict[str, Lost] = {}
        self._notice = ("", 0)
        self._seen: dict[Key, int] = {}
        self._found: tuple[Problem, ...] = ()
        self._growing: frozenset[str] = frozenset()
        self._before: frozenset[Key] = frozenset()

    def take(self, news: Arrived | Lost) -> None:
        """Learn what happened."""
        match news:
            case Lost():
                self._losses.setdefault(news.addr, news)
            case Arrived():
                self._arrived(news)

    def _arrived(self, news: Arrived) -> None:
        first = self._last is None
        if self._last is not None and news.addr != self._last.addr:
            lost = self._losses.get(self._last.addr)
            why = "has lost the primary" if lost is None else f"was lost ({lost.reason})"
            self._notice = (f"now at {self._name(news)}: {self._name(self._last)} {why}", news.at_ms)
        self._last = news
        self._losses.clear()
        self.history.add(news.status, news.at_ms)
        self._events.add(news.status.events)
        self._growing = frozenset(
            node.id
            for node in news.status.nodes
            if (node.lag.ms is None or node.lag.ms >= FAR_MS) and self.history.grows(node.id, GROWING_S)
        )
        found = problems.find(news.status, self._growing)
        at_ms = news.status.vantage.at_ms
        self._seen = {problem.key: self._seen.get(problem.key, at_ms) for problem in found}
        self._found = tuple(map(self._dated, found))
        if first:
            self._before = frozenset(problem.key for problem in found if problem.since_at_ms is None)
        self._before &= self._seen.keys()

    @staticmethod
    def _name(news: Arrived) -> str:
        return news.status.vantage.node or news.addr

    def view(self, at_ms: int, step_s: int = STEPS_S[0], selected: str = "") -> View:
        """Everything as it is at `at_ms`. `selected` names a node; a strange one selects the first."""
        view = View(own_ms=at_ms, history=self.history, step_s=step_s)
        losses = list(self._losses.values())
        if self._last is None:
            reason = losses[-1].reason if losses else ""
            return replace(view, notice=reason, silent_ms=at_ms - losses[0].at_ms if losses else None)
        last = self._last
        told = last.status.vantage.at_ms
        now_ms = told + at_ms - last.at_ms if told else None
        notice, said_ms = self._notice
        names = [node.id for node in last.status.nodes]
        found = self._found
        if losses:
            who = f"{self._name(last)} does not answer" if len(losses) == 1 else "no node answers"
            text = f"{who}, what stands here is old: {losses[0].reason}"
            found = (Problem(Kind.SILENCE, "", Tone.BAD, text, told or None), *found)
        return replace(
            view,
            status=last.status,
            addr=last.addr,
            role=last.role,
            now_ms=now_ms,
            silent_ms=at_ms - last.at_ms if losses else None,
            notice=notice if notice and at_ms - said_ms < NOTICE_MS else "",
            problems=found,
            before=self._before,
            growing=self._growing,
            troubles=tuple(trouble.ahead(last.status, now_ms, self._growing)),
            events=self._events.events,
            selected=selected if selected in names else next(iter(names), ""),
        )

    def _dated(self, problem: Problem) -> Problem:
        """`problem` with the time at which it was first seen, where the document names none."""
        if problem.since_at_ms is not None:
            return problem
        return replace(problem, since_at_ms=self._seen.get(problem.key) or None)
