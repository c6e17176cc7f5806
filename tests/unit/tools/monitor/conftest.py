"""The monitor against a feed that a test plays by hand, and what it then shows."""

from __future__ import annotations

import html
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import pytest

from redwire.clock import clock_ms
from redwire.errors import RedwireError
from redwire.frame import Kind
from redwire.message.settings import SettingsChanged, SettingsView
from redwire.status import Cluster, NodeStatus, Primary, Status, Vantage
from tools.monitor.rehearsal import IN_FORCE, answer, planned
from tools.monitor.steering import Request
from tools.monitor.watch import Arrived, News

ADDR = "eu-1.example.net:5050"
PATIENCE_S = 10


@dataclass(eq=False)
class PlayedFeed:
    """Posts what the test plays; answers changes as a cluster would, or with the next of `errors`.

    Who asks for the settings gets `deaf` instead, where that is an error.
    """

    role: str = "admin"
    asked: list[tuple[Request, int, bool]] = field(default_factory=list)
    errors: deque[RedwireError | None] = field(default_factory=deque)
    deaf: RedwireError | None = None
    followed: anyio.Event = field(default_factory=anyio.Event)
    post: Callable[[News], None] | None = None

    async def follow(self, post: Callable[[News], None]) -> None:
        self.post = post
        self.followed.set()
        await anyio.sleep_forever()

    def play(self, status: Status, addr: str = ADDR) -> None:
        self.post(Arrived(status, addr, self.role, clock_ms()))

    async def settings(self) -> SettingsView:
        if self.deaf is not None:
            raise self.deaf
        return IN_FORCE.view()

    async def change(self, request: Request, *, based_on: int, dry_run: bool) -> SettingsChanged:
        self.asked.append((request, based_on, dry_run))
        if self.errors and (error := self.errors.popleft()) is not None:
            raise error
        return answer(planned(request), 0 if dry_run else IN_FORCE.lsn + 1)


@pytest.fixture
def feed() -> PlayedFeed:
    return PlayedFeed()


@pytest.fixture
def shown() -> Callable[[object], str]:
    """What stands on the screen of an application, as one text."""

    def read(app) -> str:
        text = html.unescape(re.sub(r"<[^>]+>", "", app.export_screenshot()))
        return text.replace("\xa0", " ")

    return read


@pytest.fixture
def until(shown) -> Callable[..., Awaitable[str]]:
    """Wait until the screen has all of these texts and none of `without`; what it shows then."""

    async def wait(pilot, *texts: str, without: tuple[str, ...] = ()) -> str:
        text = ""
        with anyio.move_on_after(PATIENCE_S):
            while True:
                await pilot.pause(0)
                text = shown(pilot.app)
                if all(each in text for each in texts) and not any(each in text for each in without):
                    return text
                await anyio.sleep(0.05)
        raise AssertionError(f"{texts} without {without} never stood on the screen, but: {text}")

    return wait


@pytest.fixture
def press() -> Callable[..., Awaitable[None]]:
    """Press keys, each after the one before was handled. (The pilot's own way waits for an idle process.)"""

    async def go(pilot, *keys: str) -> None:
        for key in keys:
            pilot.app.simulate_key(key)
            await pilot.pause(0)

    return go


@pytest.fixture
def told(cluster):
    """Let the nodes answer with status documents; `told.blind` are those that see no primary."""

    class Told:
        def __init__(self) -> None:
            self.blind: set[str] = set()

        def answer(self, node, wire, frame) -> None:
            state = "lost" if node.name in self.blind else "leading"
            status = Status(
                vantage=Vantage(node=node.name, source=node.name),
                cluster=Cluster(name="shop"),
                primary=Primary(node="eu-1", state=state),
                nodes=tuple(NodeStatus(id=each.name, addr=each.addr) for each in cluster.nodes),
            )
            wire.send(Kind.STATUS, status.encode(), frame.correlation)

    told = Told()
    for node in cluster.nodes:
        node.HANDLERS = node.HANDLERS | {Kind.STATUS_REQUEST: told.answer}
    return told
