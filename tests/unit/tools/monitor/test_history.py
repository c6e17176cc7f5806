from __future__ import annotations

from msgspec.structs import replace

from redwire.status import Commits, Event, Lag, NodeStatus, Status
from tools.monitor.history import EVENTS_KEPT, EventBook, History


def status(rate: float | None = None, records: int | None = None) -> Status:
    lag = Lag() if records is None else Lag(state="behind", records=records)
    return Status(commits=Commits(rate=rate), nodes=(NodeStatus(id="us-1", lag=lag),))


def rates(history: History, columns: int, step_s: int, now_ms: int) -> list[float | None]:
    return history.series(lambda sample: sample.rate, columns, step_s, now_ms)


def test_nothing_is_known_before_the_first_document() -> None:
    history = History()
    assert rates(history, 3, 1, 9_000) == [None, None, None]
    assert history.seconds == 0 and not history.grows("us-1", 1)


def test_of_documents_in_one_second_the_last_counts() -> None:
    history = History()
    for rate, at_ms in ((1, 1_000), (2, 1_900), (3, 2_100)):
        history.add(status(rate), at_ms)
    assert rates(history, 2, 1, 2_500) == [2, 3]


def test_a_second_without_a_document_is_bridged_and_a_longer_silence_is_a_gap() -> None:
    history = History()
    for at_ms in (1_000, 3_000, 7_000):
        history.add(status(at_ms / 1_000), at_ms)
    assert rates(history, 7, 1, 7_000) == [1, 1, 3, None, None, None, 7]


def test_a_document_that_is_on_its_way_leaves_no_gap_at_the_end() -> None:
    history = History()
    history.add(status(5), 4_000)
    assert rates(history, 2, 1, 5_100) == [5, 5]
    assert rates(history, 3, 1, 6_100) == [5, None, None]


def test_a_rate_that_is_not_known_is_a_gap_and_no_zero() -> None:
    history = History()
    for second, rate in enumerate((3, None, 0)):
        history.add(status(rate), second * 1_000)
    assert rates(history, 3, 1, 2_000) == [3, None, 0]


def test_a_wider_step_shows_the_highest_value_in_it() -> None:
    history = History()
    for second in range(10):
        history.add(status(second), second * 1_000)
    assert rates(history, 2, 5, 9_000) == [4, 9]


def test_a_lag_grows_only_after_the_whole_time_behind() -> None:
    history = History()
    for second, records in enumerate((5, 6, 7)):
        history.add(status(records=records), second * 1_000)
    assert history.grows("us-1", 2)
    assert not history.grows("us-1", 3), "it is not known for so long"
    assert not history.grows("us-2", 2)


def test_a_lag_that_shrinks_or_was_unknown_does_not_grow() -> None:
    for course in ((9, 7, 5), (5, None, 9)):
        history = History()
        for second, records in enumerate(course):
            history.add(status(records=records), second * 1_000)
        assert not history.grows("us-1", 2), course


def test_an_event_stands_once_and_the_newest_first() -> None:
    book = EventBook()
    one, two = (Event(node="eu-1", sequence=n, at_ms=n) for n in (1, 2))
    book.add((one,))
    book.add((one, two))
    assert book.events == (two, one)
    book.add((replace(one, at_ms=9),))
    assert len(book.events) == 3, "the node was started again"


def test_events_are_bounded_and_the_newest_are_kept() -> None:
    book = EventBook()
    book.add(tuple(Event(node="eu-1", sequence=n, at_ms=n) for n in range(EVENTS_KEPT + 5)))
    assert len(book.events) == EVENTS_KEPT and book.events[-1].sequence == 5
