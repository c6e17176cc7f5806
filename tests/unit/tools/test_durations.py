"""Lengths of time as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.cluster_config import Millis, ReplicaMillis
from tools.durations import parse_ms, setting_ms
from tools.errors import DurationInvalid


@pytest.mark.parametrize(("text", "ms"), [("500", 500), ("500ms", 500), (" 10 s ", 10_000), ("0.5ms", 0.5)])
def test_durations_are_typed_as_people_do(text: str, ms: float) -> None:
    assert parse_ms(text) == ms


@pytest.mark.parametrize("text", ["", "soon", "-1ms", "1e3", "80min", "9" * 400])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(DurationInvalid):
        parse_ms(text)


@pytest.mark.parametrize(
    ("text", "kind", "ms"),
    [
        ("1ms", Millis, 1),
        ("3600s", Millis, 3_600_000),
        ("1s", ReplicaMillis, 1_000),
        ("600 s", ReplicaMillis, 600_000),
    ],
)
def test_a_setting_takes_all_that_its_bounds_allow(text: str, kind: Any, ms: int) -> None:
    assert setting_ms(text, kind) == ms


@pytest.mark.parametrize(
    ("text", "kind", "bounds"),
    [
        ("0s", Millis, "1 to 3600000"),
        ("3600.001s", Millis, "1 to 3600000"),
        ("1.5ms", Millis, "whole milliseconds"),
        ("999ms", ReplicaMillis, "1000 to 600000"),
        ("601s", ReplicaMillis, "1000 to 600000"),
    ],
)
def test_what_a_setting_cannot_be_is_refused_with_what_it_can(text: str, kind: Any, bounds: str) -> None:
    with pytest.raises(DurationInvalid, match=f"{text} cannot be set; what can be: .*{bounds}"):
        setting_ms(text, kind)


def test_a_setting_needs_its_unit() -> None:
    with pytest.raises(DurationInvalid, match="5 has no unit; write 5s, or 5ms"):
        setting_ms(" 5 ", Millis)
