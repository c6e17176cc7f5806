"""The clients that are in: who they are, and the end of those who may not stay, or take too much memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from cluster.strangers import Stay
from cluster.unread import ALL_BYTES_MAX, SCARCE_BYTES_MAX
from redwire.errors import AuthenticationFailed, Code, RedwireError, Refused
from redwire.handshake import Principal

SENT_BYTES_MAX = 256 << 20
"""Parts of requests, and requests that are being worked off: sixteen of the largest."""
ENOUGH_SHARE = 0.75
"""So much of what all may hold is left once somebody had to go: else the next one would, a moment later."""
STARVED_LOOKS = 4
"""So often somebody may have waited for room in vain before those go, too, who take their answers slowly."""

Judge = Callable[[Principal], AuthenticationFailed | None]
"""Why a session of this principal must end by now; None while it may stay."""


class Holding(Protocol):
    """What this node holds of one client's connection."""

    @property
    def held_bytes(self) -> int:
        """Of what it sent: the part of a frame that is not whole, and the request that is worked off."""

    @property
    def buffered_bytes(self) -> int:
        """Of what it was sent: all that it has not taken."""


@dataclass(slots=True, eq=False)
class Guest:
    """One client's session. `verdict` is why it must end; `stay` was cancelled then."""

    principal: Principal
    stay: Stay
    holding: Holding
    verdict: RedwireError | None = None
    left_bytes: int = 0  # of its answers, when last looked at

    @property
    def user(self) -> str:
        """Whose it is, for turns and shares among users."""
        return user_of(self.principal)

    def end(self, verdict: RedwireError) -> None:
        """It must end, for this reason, unless there is one already."""
        if self.verdict is None:
            self.verdict = verdict
            self.stay.cancel()


def user_of(principal: Principal) -> str:
    """A user and a node may have one name."""
    return f"{principal.kind} {principal.name}"


class Guests:
    """The client sessions of one listener. For the event loop's thread only."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._guests: set[Guest] = set()
        self._accounts: object = None
        self._starved_looks = 0

    def enter(self, principal: Principal, stay: Stay, holding: Holding) -> Guest:
        """A session begins. What it rests on may be gone since its handshake began: then it ends at once."""
        guest = Guest(principal, stay, holding)
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

    def relieve(self, *, starving: bool) -> None:
        """Where all together hold too much, end sessions of the user who holds most, the largest first.

        `starving`: somebody waits for room for an answer, and nobody got any since the last look. Of the user
        who holds most those go then that have taken nothing since, and after a while any.
        """
        staying = [guest for guest in self._guests if guest.verdict is None]
        sent = {guest: guest.holding.held_bytes for guest in staying}
        if (total := sum(sent.values())) > SENT_BYTES_MAX:
            what = "requests that are not whole, or are being worked off"
            _end_largest(sent, sent.keys(), total - int(SENT_BYTES_MAX * ENOUGH_SHARE), what)
        unread = {guest: guest.holding.buffered_bytes for guest in staying}
        total, enough = sum(unread.values()), int(ALL_BYTES_MAX * ENOUGH_SHARE)
        stalled = {
            guest for guest, size in unread.items() if size >= SCARCE_BYTES_MAX and size == guest.left_bytes
        }
        self._starved_looks = self._starved_looks + 1 if starving and total > enough else 0
        if total > ALL_BYTES_MAX or self._starved_looks > STARVED_LOOKS:
            _end_largest(unread, unread.keys(), total - enough, "answers that it does not take")
        elif self._starved_looks:
            _end_largest(unread, stalled, total - enough, "answers that it does not take")
        for guest, size in unread.items():
            guest.left_bytes = size

    def _look_at(self, guest: Guest) -> None:
        if guest.principal.grounds is not None and (verdict := self._judge(guest.principal)) is not None:
            guest.end(verdict)


def _end_largest(
    sizes: Mapping[Guest, int], candidates: Collection[Guest], excess_bytes: int, what: str
) -> None:
    """End candidates of the user who holds most of `what`, the largest first, until the excess is gone, or
    whoever holds most then has none of them.
    """
    by_user = Counter[str]()
    for guest, size in sizes.items():
        by_user[guest.user] += size
    largest = sorted(candidates, key=lambda guest: sizes[guest])
    while excess_bytes > 0:
        user = max(by_user, key=lambda each: by_user[each])
        theirs = [each for each in largest if each.user == user]
        if not theirs:
            return
        guest = theirs[-1]
        largest.remove(guest)
        text = f"this session holds {sizes[guest]} bytes of {what}, and all together more than this node has"
        guest.end(Refused(Code.BUSY, text, hint="take answers as they come; try again, or another node"))
        by_user[user] -= sizes[guest]
        excess_bytes -= sizes[guest]
