"""Where documents come from: asked of a node once a second, of another one when that is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import anyio

from redwire import uri
from redwire.admin import Admin
from redwire.client import Client
from redwire.clock import clock_ms
from redwire.errors import (
    AuthenticationFailed,
    ChannelClosed,
    ConnectFailed,
    DeadlineExceeded,
    RedwireError,
)
from redwire.message.settings import SettingsChanged, SettingsView
from tools.monitor.steering import Request
from tools.monitor.watch import Arrived, Ended, Lost, News
from tools.monitor.whom import Whom, sees

EVERY_S = 1.0
"""Nodes tell each other as often: more would show the same again."""
ANSWER_S = 1.5
"""A node that has not answered by then is taken for lost: half of what a person waits without wondering."""
CONNECT_MS = 3_000
"""For TCP, TLS and authentication from anywhere on earth; then another node is asked."""
SETTINGS_S = 5.0
"""The primary may be an ocean away, with no link to it yet."""
CHANGE_S = 20.0
"""A change waits for the commit of its record, which may take the policy's timeout of 10 s."""


class Feed(Protocol):
    """A source of news, which also carries out changes."""

    async def follow(self, post: Callable[[News], None]) -> None:
        """Post news until cancelled, or until `Ended`. Raises nothing that a cluster can cause."""

    async def settings(self) -> SettingsView:
        """The settings in force. Raises as `Admin.settings`."""

    async def change(self, request: Request, *, based_on: int, dry_run: bool) -> SettingsChanged:
        """Change the settings, or only say what that leads to. Raises as `Admin.change_settings`."""


class ClusterFeed:
    """The feed of a real cluster, through a client of its own."""

    def __init__(self, uri_text: str, name: str) -> None:
        """Raises `UriInvalid` and `TlsInvalid`; nothing is dialled yet."""
        config = replace(uri.parse(uri_text), timeout_ms=CONNECT_MS)
        self._whom = Whom(config.seeds, config.discovery)
        self._client = Client(config, name=name, chance=random.Random())
        self._config, self._name = config, name
        self._open = False

    async def follow(self, post: Callable[[News], None]) -> None:
        """As `Feed.follow`."""
        while True:
            try:
                async with self._client:
                    self._open = True
                    await self._ask_on(post)
            except (AuthenticationFailed, ConnectFailed, DeadlineExceeded) as error:
                if _is_final(error):
                    post(Ended(error))
                    return
                post(Lost("", error.message, clock_ms()))
            finally:
                self._open = False
            await anyio.sleep(EVERY_S)
            self._client = Client(self._config, name=self._name, chance=random.Random())

    async def settings(self) -> SettingsView:
        """As `Feed.settings`."""
        return await self._admin().settings(timeout_s=SETTINGS_S)

    async def change(self, request: Request, *, based_on: int, dry_run: bool) -> SettingsChanged:
        """As `Feed.change`."""
        return await self._admin().change_settings(
            request.change, based_on=based_on, lost=request.lost, dry_run=dry_run, timeout_s=CHANGE_S
        )

    def _admin(self) -> Admin:
        if not self._open:
            raise ChannelClosed("no node is reached now", hint="wait for one and ask again")
        return self._client.admin

    async def _ask_on(self, post: Callable[[News], None]) -> None:
        """Ask in even steps, so that each second has its document."""
        due = anyio.current_time()
        while True:
            await self._ask_round(post)
            due = max(due + EVERY_S, anyio.current_time())
            await anyio.sleep_until(due)

    async def _ask_round(self, post: Callable[[News], None]) -> None:
        """One document of the current node; of the first other one that answers when it does not.

        A node that does not see who leads is left for one that does: one other is looked at each time.
        """
        whom = self._whom
        found = await self._ask(whom.current, post)
        if found is not None:
            post(found)
            if not sees(found.status):
                await self._look_elsewhere(post)
            return
        for addr in whom.others():
            other = await self._ask(addr, post)
            if other is not None:
                whom.current = addr
                post(other)
                return

    async def _look_elsewhere(self, post: Callable[[News], None]) -> None:
        for addr in self._whom.others()[:1]:
            self._whom.passed(addr)
            other = await self._ask(addr, _nobody)
            if other is not None and sees(other.status):
                self._whom.current = addr
                post(other)

    async def _ask(self, addr: str, post: Callable[[News], None]) -> Arrived | None:
        try:
            document = await self._client.status(addr, timeout_s=ANSWER_S)
        except RedwireError as error:
            self._whom.passed(addr)
            post(Lost(addr, error.message, clock_ms()))
            return None
        self._whom.answered(addr, document)
        role = self._client.admin.role
        return Arrived(document, addr, "" if role is None else str(role), clock_ms())


def _nobody(_: News) -> None:
    pass


def _is_final(error: RedwireError) -> bool:
    return isinstance(error, AuthenticationFailed) or (isinstance(error, ConnectFailed) and not error.retry)
