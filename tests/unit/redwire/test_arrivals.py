from __future__ import annotations

from random import Random

import pytest

from redwire.arrivals import BARREN_MAX, FORGOTTEN_AFTER, RECORDS_MAX, Arrivals

RECORD = bytes((23, 3, 3, 0, 22)) + b"x" * 22
LONG = bytes((23, 3, 3, 0x40, 0)) + b"y" * 0x4000


def drained(arrivals: Arrivals) -> bytes:
    taken = b""
    while arrivals.ready():
        taken += arrivals.bio.read()
    return taken


@pytest.mark.parametrize("step", [1, 3, 27, 100, 1 << 20])
def test_what_came_is_passed_on_whole_and_in_order(step: int) -> None:
    chance = Random(step)
    data = b"".join(chance.choice((RECORD, LONG[:5] + chance.randbytes(0x4000))) for _ in range(99))
    arrivals, taken = Arrivals(tls=True), b""
    for at in range(0, len(data), step):
        arrivals.write(data[at : at + step])
        if step > 1 or chance.random() < 0.01:
            taken += drained(arrivals)
    assert taken + drained(arrivals) == data
    assert arrivals.pending == 0


def test_tls_gets_a_few_records_at_a_time() -> None:
    arrivals = Arrivals(tls=True)
    arrivals.write(RECORD * 100)
    assert arrivals.ready()
    assert arrivals.bio.pending == RECORDS_MAX * len(RECORD)
    assert arrivals.pending == 100 * len(RECORD)


@pytest.mark.parametrize("came", [b"", RECORD[:3], RECORD[:20], RECORD * 50 + RECORD[:4]])
def test_the_end_comes_behind_all_that_came(came: bytes) -> None:
    arrivals = Arrivals(tls=True)
    arrivals.write(came)
    arrivals.write_eof()
    assert drained(arrivals) == came
    assert arrivals.bio.eof


def test_records_without_data_are_counted_until_much_data_came() -> None:
    arrivals = Arrivals(tls=True)
    for _ in range(BARREN_MAX):
        arrivals.write(RECORD)
        drained(arrivals)
    assert not arrivals.barren
    for _ in range(FORGOTTEN_AFTER):
        arrivals.write(LONG[:1000])
        drained(arrivals)
        arrivals.write(LONG[1000:])
        drained(arrivals)
        assert arrivals.barren, "by the record that is not read yet"
        arrivals.found(1)
        assert not arrivals.barren
    for _ in range(BARREN_MAX + 1):
        assert not arrivals.barren
        arrivals.write(RECORD)
        drained(arrivals)
    assert arrivals.barren
