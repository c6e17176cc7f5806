from __future__ import annotations

import threading
import time

from cluster.right_of_way import RightOfWay

LONG_S = 10.0


def passed_by(way: RightOfWay) -> threading.Event:
    """Set once a thread of its own has passed."""
    done = threading.Event()

    def statement() -> None:
        with way.passing():
            done.set()

    threading.Thread(target=statement, daemon=True).start()
    return done


def test_whoever_takes_it_waits_for_those_who_pass_and_nobody_new_does() -> None:
    way, taken = RightOfWay(), threading.Event()

    def take() -> None:
        way.take()
        way.wait(LONG_S)
        taken.set()

    with way.passing():
        threading.Thread(target=take, daemon=True).start()
        while not way._taken:
            time.sleep(0.001)
        new = passed_by(way)
        assert not taken.wait(0.1) and not new.is_set()
    assert taken.wait(LONG_S)
    assert not new.wait(0.1)
    way.give_back()
    assert new.wait(LONG_S)


def test_the_wait_for_those_who_pass_has_an_end_and_the_way_stays_taken() -> None:
    way = RightOfWay()
    with way.passing():
        way.take()
        way.wait(0.01)
    new = passed_by(way)
    assert not new.wait(0.1)
    way.give_back()
    assert new.wait(LONG_S)


def test_giving_it_back_ends_the_wait_for_those_who_pass() -> None:
    way = RightOfWay()
    with way.passing():
        way.take()
        threading.Timer(0.05, way.give_back).start()
        began = time.monotonic()
        way.wait(LONG_S)
        assert time.monotonic() - began < LONG_S / 2
    with way.passing():
        pass
