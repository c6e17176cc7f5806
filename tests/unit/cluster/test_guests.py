"""The clients that are in: who must go is told when accounts change, when he comes, or memory is short."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from cluster.guests import ENOUGH_SHARE, SENT_BYTES_MAX, STARVED_LOOKS, Guests
from cluster.unread import ALL_BYTES_MAX as UNREAD_MAX
from cluster.unread import SCARCE_BYTES_MAX
from redwire.errors import AuthenticationFailed
from redwire.handshake import Principal, PrincipalKind, Role


@dataclass
class Stay:
    cancelled: int = 0

    def cancel(self) -> None:
        self.cancelled += 1


@dataclass
class Held:
    held_bytes: int = 0
    buffered_bytes: int = 0


@dataclass
class Court:
    """Judges by name."""

    removed: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def __call__(self, principal: Principal) -> AuthenticationFailed | None:
        self.asked.append(principal.name)
        return (
            AuthenticationFailed(f"{principal.name} was removed") if principal.name in self.removed else None
        )


def user(name: str, grounds: object = "password") -> Principal:
    return Principal(PrincipalKind.USER, name, Role.WRITE, True, grounds)


def test_a_review_ends_whom_the_judge_names_once_and_nobody_else() -> None:
    court = Court()
    guests, stays = Guests(court), {name: Stay() for name in ("ann", "bob")}
    ann, bob = (guests.enter(user(name), stay, Held()) for name, stay in stays.items())
    guests.review(object())
    assert not stays["ann"].cancelled
    court.removed.add("ann")
    guests.review(object())
    guests.review(object())
    assert (stays["ann"].cancelled, stays["bob"].cancelled) == (1, 0)
    assert ann.verdict is not None and ann.verdict.message == "ann was removed" and bob.verdict is None


def test_the_same_accounts_are_looked_at_once() -> None:
    court, accounts = Court(), object()
    guests = Guests(court)
    guests.enter(user("ann"), Stay(), Held())
    guests.review(accounts)
    court.asked.clear()
    guests.review(accounts)
    assert court.asked == []


def test_who_was_removed_during_his_handshake_does_not_stay() -> None:
    stay = Stay()
    guest = Guests(Court({"ann"})).enter(user("ann"), stay, Held())
    assert guest.verdict is not None and stay.cancelled == 1


def test_who_rests_on_no_account_is_never_asked_about_and_who_left_is_forgotten() -> None:
    court = Court({"ann", "ops"})
    guests = Guests(court)
    guests.enter(user("ops", None), stay := Stay(), Held())
    left = guests.enter(user("bob"), Stay(), Held())
    guests.leave(left)
    court.asked.clear()
    guests.review(object())
    assert court.asked == [] and not stay.cancelled


@pytest.mark.parametrize(("what", "most"), [("held_bytes", SENT_BYTES_MAX), ("buffered_bytes", UNREAD_MAX)])
def test_where_all_hold_too_much_the_largest_of_the_user_with_most_go(what: str, most: int) -> None:
    guests, share = Guests(Court()), most // 10
    modest = guests.enter(user("ann"), Stay(), Held(**{what: 3 * share}))
    crowd = [guests.enter(user("bob"), Stay(), Held(**{what: share + n})) for n in range(6)]
    guests.relieve(starving=False)
    assert modest.verdict is None and all(guest.verdict is None for guest in crowd), "there is room"
    idle = guests.enter(user("bob", None), Stay(), Held())
    crowd.append(guests.enter(user("bob"), Stay(), Held(**{what: 2 * share})))
    guests.relieve(starving=False)
    ended = [guest for guest in crowd if guest.verdict is not None]
    assert [*crowd[4:7]] == ended and all(guest.stay.cancelled == 1 for guest in ended)
    assert modest.verdict is None and idle.verdict is None
    left = sum(getattr(guest.holding, what) for guest in (modest, *crowd) if guest.verdict is None)
    assert most * (ENOUGH_SHARE - 0.1) < left < most
    assert ended[0].verdict.code == "BUSY" and ended[0].verdict.retry


def test_who_is_ended_already_is_not_counted_again() -> None:
    guests = Guests(Court())
    large = guests.enter(user("ann"), Stay(), Held(held_bytes=SENT_BYTES_MAX + 1))
    small = guests.enter(user("bob"), Stay(), Held(held_bytes=1))
    guests.relieve(starving=False)
    guests.relieve(starving=False)
    assert large.stay.cancelled == 1 and small.verdict is None


def test_for_those_who_wait_in_vain_go_who_take_nothing_and_after_a_while_the_slow() -> None:
    guests, share = Guests(Court()), UNREAD_MAX // 10
    stuck = guests.enter(user("ann"), Stay(), Held(buffered_bytes=5 * share))
    slow = [guests.enter(user("bob"), Stay(), Held(buffered_bytes=share)) for _ in range(4)]
    small = guests.enter(user("eve"), Stay(), Held(buffered_bytes=SCARCE_BYTES_MAX - 1))

    def look(*, starving: bool) -> None:
        for guest in slow:
            guest.holding.buffered_bytes -= 1
        guests.relieve(starving=starving)

    for _ in range(2 * STARVED_LOOKS):
        look(starving=False)
    assert stuck.verdict is None, "nobody waits"
    look(starving=True)
    assert stuck.verdict is not None and all(guest.verdict is None for guest in slow)
    slow.append(guests.enter(user("bob"), Stay(), Held(buffered_bytes=4 * share)))
    idle = guests.enter(user("ann"), Stay(), Held(buffered_bytes=2 * SCARCE_BYTES_MAX))
    look(starving=False)
    for _ in range(STARVED_LOOKS):
        look(starving=True)
    assert all(guest.verdict is None for guest in slow)
    look(starving=True)
    assert [guest.verdict is not None for guest in slow].count(True) == 1 and slow[-1].verdict is not None
    assert small.verdict is None and idle.verdict is None, "for what others hold nobody goes"
