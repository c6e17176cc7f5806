"""Round trips as people write them."""

from __future__ import annotations

import pytest

from redwire.position import Region
from tools.errors import RttInvalid
from tools.rtt import parse_distances, parse_ms, parse_pair

REGIONS = tuple(map(Region, ("ap", "eu", "us", "eu-west", "west-us")))


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("80ms", 80.0),
        ("0.5ms", 0.5),
        ("1.2s", 1200.0),
        ("80", 80.0),
        (" 3 ms ", 3.0),
        ("0", 0.0),
        ("60s", 6e4),
    ],
)
def test_a_time_has_a_unit_or_is_in_milliseconds(text: str, time_ms: float) -> None:
    assert parse_ms(text) == time_ms


@pytest.mark.parametrize(
    "text", ["", "ms", "-1ms", "1e3ms", "80min", "nan", "inf", ".5ms", "60001ms", "9" * 400]
)
def test_what_is_no_time_or_too_long_is_refused(text: str) -> None:
    with pytest.raises(RttInvalid):
        parse_ms(text)


def test_a_pair_has_no_order_and_may_be_one_region() -> None:
    assert parse_pair("eu-us", REGIONS) == parse_pair("us-eu", REGIONS) == {"eu", "us"}
    assert parse_pair("eu-eu", REGIONS) == {"eu"}


def test_names_with_hyphens_are_told_apart_by_who_is_known() -> None:
    assert parse_pair("eu-west-ap", REGIONS) == {"eu-west", "ap"}
    assert parse_pair("eu-west-eu-west", REGIONS) == {"eu-west"}
    with pytest.raises(RttInvalid, match="read in 2 ways"):
        parse_pair("eu-west-us", REGIONS)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("eu-su", "did you mean eu-us"),
        ("mars-venus", "regions ap, eu, eu-west"),
        ("eu", "as in eu-us"),
        ("", "as in eu-us"),
    ],
)
def test_an_unknown_region_gets_the_nearest_pair(text: str, hint: str) -> None:
    with pytest.raises(RttInvalid, match=hint):
        parse_pair(text, REGIONS)


def test_distances_are_symmetric_and_each_is_given_once() -> None:
    distances = parse_distances([("eu-us", "80ms"), ("ap-ap", "1ms")], REGIONS)
    assert distances.rtt_ms(Region("us"), Region("eu")) == 80.0
    assert distances.rtt_ms(Region("ap"), Region("ap")) == 1.0
    assert distances.rtt_ms(Region("eu"), Region("ap")) is None
    with pytest.raises(RttInvalid, match="us-eu is given twice"):
        parse_distances([("eu-us", "80ms"), ("us-eu", "80ms")], REGIONS)
