"""Plain data into Structs: every shape that a field can have, and the guess at what was meant."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec
import pytest

from cluster.schema import read, shown
from redwire.errors import ConfigInvalid


class Colour(Enum):
    RED = "red"
    OFF = "off"


class Inner(msgspec.Struct, frozen=True):
    size: int


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    text: str = ""
    flag: bool = False
    maybe: Inner | None = None
    inner_or_word: Inner | Colour = Colour.OFF
    inners: tuple[Inner, ...] = ()
    sizes: dict[str, int] = {}


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({}, Outer()),
        ({"text": "a", "flag": True}, Outer(text="a", flag=True)),
        ({"maybe": None}, Outer()),
        ({"maybe": {"size": 1}}, Outer(maybe=Inner(1))),
        ({"inner_or_word": {"size": 1}}, Outer(inner_or_word=Inner(1))),
        ({"inner_or_word": "red"}, Outer(inner_or_word=Colour.RED)),
        ({"inner_or_word": False}, Outer(inner_or_word=Colour.OFF)),
        ({"inners": [{"size": 1}, {"size": 2}]}, Outer(inners=(Inner(1), Inner(2)))),
        ({"sizes": {"a": 1}}, Outer(sizes={"a": 1})),
    ],
)
def test_data_that_fits_is_read(data: object, value: Outer) -> None:
    assert read(Outer, data, "f") == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text": 1}, "f: text: expected text, not 1"),
        ({"flag": "yes"}, "f: flag: expected true or false, not 'yes'"),
        ({"maybe": 1}, "f: maybe: expected a mapping with size, not 1"),
        ({"maybe": {}}, "f: maybe.size: is missing"),
        ({"maybe": {"size": "big"}}, "f: maybe.size: expected a whole number, not 'big'"),
        ({"inner_or_word": None}, "f: inner_or_word: is empty: expected a mapping or red or off"),
        ({"inner_or_word": 1}, "f: inner_or_word: expected red or off, not 1"),
        ({"inners": [{"size": 1}, {"sice": 2}]}, "f: inners[1].sice: unknown key; did you mean size?"),
        ({"sizes": {"a": "b"}}, "f: sizes.a: expected a whole number, not 'b'"),
        ({"sizes": {1: 1}}, "f: sizes.1: expected text, not 1"),
        ({7: 1}, "f: 7: unknown key; valid keys: text, flag, maybe, inner_or_word, inners, sizes"),
    ],
)
def test_data_that_does_not_fit_is_named(data: object, message: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read(Outer, data, "f")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("data", "places"),
    [
        (
            {"txet": 1, "flag": 2, "sizes": {"a": "b", "b": 1, "c": "d"}},
            ["txet", "flag", "sizes.a", "sizes.c"],
        ),
        ({"sizes": {1: "b"}}, ["sizes.1", "sizes.1"]),
        (
            {"inners": [{"size": "a"}, {"size": 1}, {"sice": 2}, 7]},
            ["inners[0].size", "inners[2].sice", "inners[3]"],
        ),
        ({"maybe": {"size": "big"}, "inner_or_word": {}}, ["maybe.size", "inner_or_word.size"]),
        ({"text": 1}, ["text"]),
    ],
)
def test_everything_that_is_wrong_is_told_at_once(data: object, places: list[str]) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read(Outer, data, "f")
    assert [caught.value.path, *(other.path for other in caught.value.others)] == places
    assert not any(other.others for other in caught.value.others)


def test_places_stand_below_the_path_that_was_given() -> None:
    with pytest.raises(ConfigInvalid, match=r"f: top\.maybe\.size: is missing"):
        read(Outer, {"maybe": {}}, "f", "top")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        (True, "true"),
        ([1], "a list"),
        ({}, "a mapping"),
        ("a", "'a'"),
        (1.5, "1.5"),
        ("x" * 100, "'" + "x" * 56 + "..."),
    ],
)
def test_a_value_is_shown_short(value: Any, text: str) -> None:
    assert shown(value) == text
