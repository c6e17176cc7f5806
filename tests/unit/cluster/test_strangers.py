"""Who has to go when one more comes: by where they come from, by time, and by chance."""

from __future__ import annotations

import random

import pytest

from cluster.strangers import (
    BY_CHANCE_A_SECOND,
    BY_CHANCE_AT_ONCE,
    KNOWN_MAX,
    PATIENCE_S,
    Strangers,
    origin,
)

HERE, THERE, MEMBER = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class Stay:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Crowd:
    """The rule, and who comes; chance takes the first unless told otherwise."""

    def __init__(self, most: int, *named: str) -> None:
        self.number = 0
        self.asked: list[int] = []
        self.named = frozenset(named)
        self.rule = Strangers(most, self._chance, lambda: self.named)

    def _chance(self, count: int) -> int:
        self.asked.append(count)
        return self.number % count

    def come(self, where: str, now_s: float = 0.0) -> Stay | None:
        """One more from `where`; None if it is turned away."""
        if not self.rule.place(where, now_s):
            return None
        stay = Stay()
        self.rule.add(stay, where, now_s)
        return stay

    def fill(self, where: str, count: int, now_s: float = 0.0) -> list[Stay]:
        """So many more, for whom there is room."""
        before = len(self.rule)
        stays = [stay for _ in range(count) if (stay := self.come(where, now_s))]
        assert len(self.rule) == before + count
        return stays


def gone(stays: list[Stay]) -> list[int]:
    return [at for at, stay in enumerate(stays) if stay.cancelled]


def test_the_eldest_of_the_fullest_address_goes_for_whoever_has_fewer() -> None:
    crowd = Crowd(7)
    few, many = crowd.fill(THERE, 2), crowd.fill(HERE, 5)
    assert crowd.come(THERE) is not None
    assert gone(many) == [0] and not gone(few) and crowd.asked == []
    assert crowd.come("10.9.9.9") is not None
    assert gone(many) == [0, 1] and not gone(few)


def test_of_its_own_the_fullest_address_loses_one_by_chance() -> None:
    crowd = Crowd(7)
    few, many = crowd.fill(THERE, 2), crowd.fill(HERE, 5)
    crowd.number = 3
    assert crowd.come(HERE) is not None
    assert crowd.asked == [5] and gone(many) == [3] and not gone(few)


def test_where_nobody_has_more_than_another_chance_takes_anyone() -> None:
    crowd = Crowd(4)
    all_of_them = [crowd.come(f"10.0.1.{number}") for number in range(4)]
    crowd.number = 2
    assert crowd.come(HERE) is not None
    assert crowd.asked == [4] and gone([stay for stay in all_of_them if stay]) == [2]


def test_chance_takes_so_many_a_second_and_whoever_comes_then_is_turned_away() -> None:
    crowd = Crowd(4)
    crowd.fill(HERE, 4)
    came = [crowd.come(HERE) for _ in range(2 * BY_CHANCE_AT_ONCE)]
    assert [stay is not None for stay in came] == [True] * BY_CHANCE_AT_ONCE + [False] * BY_CHANCE_AT_ONCE
    assert crowd.come(THERE) is not None, "who has fewer needs no chance"
    assert crowd.come(HERE) is None
    assert crowd.come(HERE, 2 / BY_CHANCE_A_SECOND) is not None
    assert crowd.come(HERE, 2.5 / BY_CHANCE_A_SECOND) is not None
    assert crowd.come(HERE, 2.5 / BY_CHANCE_A_SECOND) is None


def test_whoever_has_had_its_time_is_the_first_to_go() -> None:
    crowd = Crowd(4)
    stays = crowd.fill(HERE, 1) + crowd.fill(HERE, 3, now_s=1.0)
    crowd.number = 2
    assert crowd.come(HERE, PATIENCE_S) is not None
    assert gone(stays) == [0] and crowd.asked == []
    assert crowd.come(HERE, PATIENCE_S) is not None
    assert gone(stays) == [0, 3] and crowd.asked == [4], "the next eldest came a second later"


def test_the_eldest_of_several_addresses_that_are_as_full_goes_first() -> None:
    crowd = Crowd(4)
    first, second = crowd.fill(HERE, 2, now_s=1.0), crowd.fill(THERE, 2, now_s=0.5)
    assert crowd.come(MEMBER, 1.5) is not None
    assert gone(first) == [] and gone(second) == [0]


@pytest.mark.parametrize("how", ["named", "let in"])
def test_places_are_kept_for_where_members_come_from(how: str) -> None:
    crowd = Crowd(16, *([MEMBER] if how == "named" else []))
    if how == "let in":
        crowd.rule.let_in(MEMBER)
    strangers = crowd.fill(HERE, 14)
    assert crowd.come(HERE) is not None and len(crowd.rule) == 14
    members = crowd.fill(MEMBER, 2)
    assert len(gone(strangers)) == 1 and not gone(members)
    for number in range(BY_CHANCE_AT_ONCE - 1):
        assert crowd.come(f"10.0.1.{number}") is not None
    assert not gone(members)


@pytest.mark.parametrize("host", ["10.9.0.1", "::ffff:10.9.0.1", "[::FFFF:a09:1]"])
def test_a_members_place_is_kept_however_its_address_is_written(host: str) -> None:
    crowd = Crowd(16, host)
    crowd.fill(HERE, 14)
    assert crowd.come(origin("10.9.0.1")) is not None and len(crowd.rule) == 15


class Host(str):
    """Counts how often it is read as an address."""

    read = 0

    def strip(self, chars: str | None = None, /) -> str:
        self.read += 1
        return super().strip(chars)


def test_addresses_of_members_are_parsed_once_and_anew_when_others_are_named() -> None:
    first, second = Host("10.9.0.1"), Host("10.9.0.2")
    crowd = Crowd(16, first)
    crowd.fill(HERE, 14)
    assert crowd.come(first) is not None
    for _ in range(BY_CHANCE_AT_ONCE):
        crowd.named = frozenset([first])
        crowd.come(HERE)
    assert first.read == 1
    crowd.named = frozenset([second])
    assert crowd.come(first) is not None and len(crowd.rule) == 15, "nothing is kept for it any more"
    assert crowd.come(second) is not None and len(crowd.rule) == 16
    assert (first.read, second.read) == (1, 1)


def test_whoever_floods_from_a_members_address_keeps_no_other_address_out() -> None:
    crowd = Crowd(16, MEMBER)
    flood = crowd.fill(MEMBER, 16)
    honest = crowd.come(HERE)
    assert honest is not None and gone(flood) == [0]
    assert crowd.come(MEMBER) is not None
    assert not honest.cancelled


def test_addresses_that_let_members_in_are_forgotten_from_the_eldest_on() -> None:
    crowd = Crowd(16)
    crowd.rule.let_in(MEMBER)
    crowd.rule.let_in(HERE)
    crowd.rule.let_in(MEMBER)
    for number in range(KNOWN_MAX - 1):
        crowd.rule.let_in(f"10.{number}.1.1")
    crowd.fill(THERE, 14)
    assert crowd.come(HERE) is not None and len(crowd.rule) == 14
    assert crowd.come(MEMBER) is not None and len(crowd.rule) == 15


def test_whoever_leaves_or_is_known_leaves_its_place_and_is_removed_once() -> None:
    crowd = Crowd(2)
    first, _ = crowd.fill(HERE, 2)
    assert crowd.rule.remove(first) == HERE and crowd.rule.remove(first) is None
    assert crowd.come(HERE) is not None and crowd.asked == []


def test_where_nobody_may_be_nobody_has_to_go() -> None:
    assert Crowd(0).come(HERE) is None


def test_an_honest_handshake_mostly_outlives_a_flood_from_its_own_address() -> None:
    """10 ms, at 16,000 newcomers a second: whoever was let in is still there nine times in ten."""
    rule = Strangers(256, random.Random(7).randrange, frozenset)
    honest, survived, let_in = Stay(), 0, 0
    for number in range(160_000):
        stay, now_s = Stay(), number / 16_000
        if number % 160 == 159:
            survived += let_in > 0 and not honest.cancelled
            rule.remove(honest)
            honest = stay
            while not rule.place(HERE, now_s):
                now_s += 0.000_1
            let_in += 1
            rule.add(honest, HERE, now_s)
        elif rule.place(HERE, now_s):
            rule.add(stay, HERE, now_s)
    assert let_in == 1_000 and 0.85 * let_in < survived < 0.97 * let_in


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2"),
        ("2001:db8:1:2::1", "2001:db8:1:2"),
        ("2001:db8::1", "2001:db8:0:0"),
        ("::1", "0:0:0:0"),
        ("fe80::1%eth0", "fe80:0:0:0"),
        ("", ""),
    ],
)
def test_an_ipv6_network_of_64_bits_counts_as_one(address: str, expected: str) -> None:
    assert origin(address) == expected
