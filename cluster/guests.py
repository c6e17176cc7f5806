"""The clients that are in: who they are, and the end of those who may not stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster.door import Stay
from redwire.errors import AuthenticationFailed
from redwire.handshake import Principal

Judge = Callable[[Principal], AuthenticationFailed | None]
"""Why a session of this principal must end by now; None while it may stay."""


@dataclass(slots=True, eq=False)
class Guest:
    """One client's session. `verdict` is why it must end; `stay` was cancelled then."""

    principal: Principal
    stay: Stay
    verdict: AuthenticationFailed | None = None


class Guests:
    """The client sessions of one listener. For the event loop's thread only."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._guests: set[Guest] = set()
        self._accounts: object = None

    def enter(self, principal: Principal, stay: Stay) -> Guest:
        """A session begins. What it rests on may be gone since its handshake began: then it ends at once."""
        guest = Guest(principal, stay)
        if principal.grounds is not None:
            self._guests.add(guest)
            self._look_at(guest)
        return guest

    def leave(self, guest: Guest) -> None:
        """A session has ended."""
        self._guests.discard(guest)

    def review(self, accounts: object) -> None:
        """These are the accounts now; the same object as last time is not looked at again."""
        if accounts is not self._accounts:
            self._accounts = accounts
            for guest in [*self._guests]:
                self._look_at(guest)

    def _look_at(self, guest: Guest) -> None:
        if guest.verdict is None:
            guest.verdict = self._judge(guest.principal)
            if guest.verdict is not None:
                guest.stay.cancel()
