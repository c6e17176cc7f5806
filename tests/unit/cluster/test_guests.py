"""The clients that are in: who must go is told when accounts change, or when he comes."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.guests import Guests
from redwire.errors import AuthenticationFailed
from redwire.handshake import Principal, PrincipalKind, Role


@dataclass
class Stay:
    cancelled: int = 0

    def cancel(self) -> None:
        self.cancelled += 1


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
    ann, bob = (guests.enter(user(name), stay) for name, stay in stays.items())
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
    guests.enter(user("ann"), Stay())
    guests.review(accounts)
    court.asked.clear()
    guests.review(accounts)
    assert court.asked == []


def test_who_was_removed_during_his_handshake_does_not_stay() -> None:
    stay = Stay()
    guest = Guests(Court({"ann"})).enter(user("ann"), stay)
    assert guest.verdict is not None and stay.cancelled == 1


def test_who_rests_on_no_account_is_never_asked_about_and_who_left_is_forgotten() -> None:
    court = Court({"ann", "ops"})
    guests = Guests(court)
    guests.enter(user("ops", None), stay := Stay())
    left = guests.enter(user("bob"), Stay())
    guests.leave(left)
    court.asked.clear()
    guests.review(object())
    assert court.asked == [] and not stay.cancelled
