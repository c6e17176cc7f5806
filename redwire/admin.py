"""What an administrator asks of a cluster through an open client: its settings, and changes to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from redwire.body import decode, encode
from redwire.errors import UnknownOutcome
from redwire.frame import Kind
from redwire.link import payload
from redwire.message.settings import ChangeSettings, SettingsChange, SettingsChanged, SettingsView

if TYPE_CHECKING:
    from redwire.session import Session


class Admin:
    """`Client.admin`. Changes take the role admin; `timeout_s` is the deadline of the whole call."""

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    async def settings(self, addr: str | None = None, *, timeout_s: float | None = None) -> SettingsView:
        """The settings in force at the node at `addr`; else the primary's, or any node's if none leads."""
        session = self._session()
        return decode(
            await session.ask_node(Kind.SETTINGS_REQUEST, Kind.SETTINGS, addr, timeout_s), SettingsView
        )

    async def change_settings(
        self,
        change: SettingsChange,
        *,
        based_on: int = 0,
        lost: Sequence[str] = (),
        dry_run: bool = False,
        timeout_s: float | None = None,
    ) -> SettingsChanged:
        """Change one thing, or with `dry_run` only say what that would lead to.

        `based_on` is the LSN of the settings that were looked at, 0 for whatever is in force; `lost` names
        nodes and regions that are gone for good. What is so already is changed by no record. Raises
        `Refused` for what the members could never satisfy, what cannot be committed now, or settings that
        somebody else has changed meanwhile, `NotConfirmed`, and `UnknownOutcome`: then look at `settings`.
        """
        asked = ChangeSettings(change=change, based_on=based_on, lost=tuple(lost), dry_run=dry_run)
        try:
            answer = await self._session().tell(Kind.CHANGE_SETTINGS, encode(asked), timeout_s)
        except UnknownOutcome as error:
            hint = "look at the settings"
            raise UnknownOutcome(error.message, phase=error.phase, hint=hint) from error
        return decode(payload(answer, Kind.SETTINGS_CHANGED), SettingsChanged)
