"""What an administrator asks of a cluster through an open client: settings and changes to them, accounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redwire.body import decode, encode
from redwire.errors import Conflict
from redwire.frame import Kind
from redwire.handshake import Role
from redwire.link import payload
from redwire.message.admin import AccountChange, AccountDone, TokensAsked, TokensPage, UsersAsked, UsersPage
from redwire.message.settings import ChangeSettings, SettingsChange, SettingsChanged, SettingsView
from redwire.session import Session


class Admin:
    """`Client.admin`. Changes take the role admin; `timeout_s` is the deadline of the whole call."""

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    @property
    def role(self) -> Role | None:
        """As what the nodes that are linked now let us in; None while none is."""
        return next((link.role for link in self._session().pool.usable_links()), None)

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
        session, hint = self._session(), "look at the settings"
        limit_s = session.limit_s(timeout_s)
        told = await session.commands.tell(Kind.CHANGE_SETTINGS, encode(asked), limit_s, hint=hint)
        return decode(payload(told.answer, Kind.SETTINGS_CHANGED), SettingsChanged)

    async def change_account(self, change: AccountChange, *, timeout_s: float | None = None) -> AccountDone:
        """Make one change to users or tokens; done when it is committed. Repeating it changes nothing.

        Raises `Conflict` (NOT_FOUND) when there was nobody, or no token, to change, which says who may be
        meant; `Refused`, `DeadlineExceeded` when nothing was sent, `NotConfirmed`, and `UnknownOutcome` when
        something was and no answer came: then it may or may not be done.
        """
        session, hint = self._session(), "look whether it was done, or repeat it"
        told = await session.commands.tell(
            Kind.ACCOUNT, encode(change), session.limit_s(timeout_s), hint=hint, repeatable=True
        )
        done = decode(payload(told.answer, Kind.ACCOUNT_DONE), AccountDone)
        if done.missing:
            again = "; an earlier attempt of this call may have removed it" if told.repeated else ""
            nothing = Conflict(done.missing + again, status="NOT_FOUND", version=0)
            nothing.facts |= {"lsn": done.lsn, "term": done.term}
            raise nothing
        return done

    async def users(
        self, addr: str | None = None, *, after: str = "", timeout_s: float | None = None
    ) -> UsersPage:
        """Users in order of their names, from the first one behind `after`, as the node at `addr` knows them;
        else the primary, or any node if none leads. Takes the role admin; see `UsersPage.more`.
        """
        body = encode(UsersAsked(after))
        return decode(await self._list(body, addr, timeout_s), UsersPage)

    async def tokens(
        self, user: str = "", addr: str | None = None, *, after: str = "", timeout_s: float | None = None
    ) -> TokensPage:
        """Bearer tokens of `user`, or of everybody, in order of their ids. As `users` otherwise.

        Raises `Refused` (NOT_FOUND) when there is no such user.
        """
        body = encode(TokensAsked(user, after))
        return decode(await self._list(body, addr, timeout_s), TokensPage)

    async def _list(self, body: bytes, addr: str | None, timeout_s: float | None) -> bytes:
        session = self._session()
        return await session.ask_node(Kind.ACCOUNTS_REQUEST, Kind.ACCOUNTS, addr, timeout_s, body)
