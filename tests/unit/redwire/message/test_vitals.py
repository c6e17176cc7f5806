"""How nodes say to each other how they are."""

from __future__ import annotations

import cbor2
import msgspec
import pytest

from redwire.errors import BodyInvalid
from redwire.message.vitals import EVENT_CHARS_MAX, EVENTS_CARRIED, EventNote, Vitals

NOTE = EventNote(sequence=1, at_ms=2, level="error", kind="disk_full", text="x" * EVENT_CHARS_MAX)
VITALS = Vitals(
    version="0.1.0",
    durable=40,
    disk="working",
    fsync_p50_us=900,
    fsync_p99_us=4_000,
    free_bytes=1 << 40,
    free_inodes=1 << 32,
    floor_bytes=1 << 28,
    floor_ms=None,
    log_bytes=1 << 26,
    certificate_ends_at_ms=None,
    rtts_us={"eu-1": 80_000},
    events=(NOTE,) * EVENTS_CARRIED,
)


def test_vitals_come_back_as_they_were() -> None:
    assert Vitals.decode(VITALS.encode()) == VITALS
    silent = msgspec.structs.replace(VITALS, rtts_us={}, events=())
    assert Vitals.decode(silent.encode()) == silent


def test_what_a_node_does_not_say_is_not_known() -> None:
    told = msgspec.to_builtins(VITALS)
    del told["free_inodes"]
    assert Vitals.decode(cbor2.dumps(told)) == msgspec.structs.replace(VITALS, free_inodes=None)


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("durable", -1, r"\$.durable"),
        ("free_bytes", 1 << 63, r"\$.free_bytes"),
        ("rtts_us", {f"n{number}": 1 for number in range(65)}, r"\$.rtts_us"),
        ("events", (NOTE,) * (EVENTS_CARRIED + 1), r"\$.events"),
        ("events", (msgspec.structs.replace(NOTE, text="x" * 241),), r"\$.events\[0\].text"),
        ("events", (msgspec.structs.replace(NOTE, level="loud"),), r"\$.events\[0\].level"),
    ],
)
def test_vitals_out_of_bounds_are_refused_by_their_path(field: str, value: object, what: str) -> None:
    with pytest.raises(BodyInvalid, match=what):
        Vitals.decode(msgspec.structs.replace(VITALS, **{field: value}).encode())
