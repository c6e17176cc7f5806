from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import reader as reader_module
from cluster.errors import StateCorrupt
from cluster.reader import UNTOLD_MAX, Reader, ReadThreads
from cluster.state import State
from redwire.errors import Code, RedwireError, Refused
from redwire.message.read import SCAN_BYTES_MAX, Fetch, Fetched, Scan, Scanned, ScannedRow
from redwire.record import Op, Record


def put(ident: str, doc: bytes = b"{}", collection: str = "orders") -> Record:
    return Record(Op.PUT, collection, ident, doc)


class Asker:
    """Asks a reader and waits for its answers, which are posted from its threads."""

    def __init__(self) -> None:
        self.answers: queue.Queue[Any] = queue.Queue()

    def post(self, callback: Any, *args: Any) -> None:
        callback(*args)

    def ask(self, reader: Any, query: Any) -> Any:
        reader.submit(query, self.answers.put)
        return self.answers.get(timeout=10)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path / "state.db")
    yield opened
    opened.close()


@pytest.fixture
def asker() -> Asker:
    return Asker()


@pytest.fixture
def reader(state: State, asker: Asker) -> Iterator[Reader]:
    threads = Reader(state.path, asker.post)
    yield threads
    threads.stop()


def test_a_fetch_finds_the_document_and_says_at_which_lsn(
    state: State, reader: Reader, asker: Asker, written_log: Any
) -> None:
    written_log.term = 3
    state.apply([written_log.write(put("a", b'{"n":1}'), put("b"))])
    assert asker.ask(reader, Fetch("orders", "a")) == Fetched(True, 1, 3, 2, b'{"n":1}')
    assert asker.ask(reader, Fetch("orders", "nobody")) == Fetched(False, 0, 3, 2)
    assert asker.ask(reader, Fetch("nothing", "a")) == Fetched(False, 0, 3, 2)
    assert asker.ask(reader, Fetch("Orders", "a")) == Fetched(False, 0, 3, 2)
    state.apply([written_log.write(put("a", b'{"n":3}'))])
    assert asker.ask(reader, Fetch("orders", "a")) == Fetched(True, 3, 3, 3, b'{"n":3}')


def test_an_empty_state_finds_nothing(reader: Reader, asker: Asker) -> None:
    assert asker.ask(reader, Fetch("orders", "a")) == Fetched(False, 0, 0, 0)
    assert asker.ask(reader, Scan("orders")) == Scanned(0, 0, False, ())


def test_a_scan_goes_in_byte_order_of_utf8_page_by_page(
    state: State, reader: Reader, asker: Asker, written_log: Any
) -> None:
    idents = ["10", "9", "Z", "a", "ab", "é", "\ue000", "\U0001f600"]
    assert idents == sorted(idents, key=str.encode)
    batch = written_log.write(*(put(ident) for ident in reversed(idents)), put("a", collection="other"))
    state.apply([batch])
    seen: list[str] = []
    after, more = "", True
    while more:
        page = asker.ask(reader, Scan("orders", after, 3))
        assert len(page.rows) == min(3, len(idents) - len(seen))
        seen += [row.id for row in page.rows]
        after, more = seen[-1], page.more
    assert seen == idents
    assert asker.ask(reader, Scan("orders", "\U0001f600")) == Scanned(1, 9, False, ())
    assert asker.ask(reader, Scan("orders", "", 8)).more is False


def test_a_page_holds_at_most_a_mebibyte_beyond_its_first_document(
    state: State, reader: Reader, asker: Asker, written_log: Any
) -> None:
    half = b'{"n":"%s"}' % (b"x" * (SCAN_BYTES_MAX // 2))
    large = b'{"n":"%s"}' % (b"x" * (3 * SCAN_BYTES_MAX))
    state.apply([written_log.write(put("a", large), put("b", half), put("c", half), put("d"))])
    first = asker.ask(reader, Scan("orders"))
    assert first == Scanned(1, 4, True, (ScannedRow("a", 1, large), ScannedRow("b", 2, half)))
    second = asker.ask(reader, Scan("orders", "b"))
    assert [row.id for row in second.rows] == ["c", "d"]
    assert second.more is False


def test_many_reads_at_once_are_all_answered(
    state: State, reader: Reader, asker: Asker, written_log: Any
) -> None:
    state.apply([written_log.write(*(put(str(place), b'{"n":%d}' % place) for place in range(500)))])
    answers: queue.Queue[tuple[int, Any]] = queue.Queue()
    for place in range(500):
        reader.submit(Fetch("orders", str(place)), lambda answer, place=place: answers.put((place, answer)))
    seen = dict(answers.get(timeout=10) for _ in range(500))
    assert {place: answer.document for place, answer in seen.items()} == {
        place: b'{"n":%d}' % place for place in range(500)
    }
    assert (reader.status().waiting, reader.status().taken) == (0, 500)


def test_a_read_between_two_applies_holds_no_view_that_would_stop_a_checkpoint(
    state: State, reader: Reader, asker: Asker, written_log: Any
) -> None:
    state.apply([written_log.write(put("a"))])
    asker.ask(reader, Scan("orders"))
    state.apply([written_log.write(put("b"))])
    assert state.checkpoint() == 2


def test_a_file_that_cannot_be_read_is_an_answer_and_later_reads_try_again(
    tmp_path: Path, asker: Asker, written_log: Any
) -> None:
    path = tmp_path / "later.db"
    reader = Reader(path, asker.post, threads=1)
    assert isinstance(asker.ask(reader, Fetch("orders", "a")), RedwireError)
    state = State.open(path)
    state.apply([written_log.write(put("a"))])
    assert asker.ask(reader, Fetch("orders", "a")) == Fetched(True, 1, 1, 1, b"{}")
    reader.stop()
    state.close()


def test_a_damaged_document_is_an_error_and_others_are_read(
    state: State, asker: Asker, written_log: Any
) -> None:
    state.apply([written_log.write(put("a", b'{"n":"xyzzy"}'), put("b"), put("c", b"{}"))])
    state.checkpoint()
    data = state.path.read_bytes()
    state.path.write_bytes(data.replace(b"xyzzy", b"xyzzz"))
    reader = Reader(state.path, asker.post, threads=1)
    for damaged in (Fetch("orders", "a"), Scan("orders", "", 10)):
        answer = asker.ask(reader, damaged)
        assert isinstance(answer, StateCorrupt) and "'a'" in answer.message
    worker = reader_module._Documents(state.path)
    (together,) = worker.answers([Fetch("orders", "b"), Fetch("orders", "a"), Fetch("orders", "c")])
    worker.close()
    assert [type(answer) for answer in together] == [Fetched, StateCorrupt, Fetched]
    assert asker.ask(reader, Fetch("orders", "b")).found
    assert [row.id for row in asker.ask(reader, Scan("orders", "a", 10)).rows] == ["b", "c"]
    reader.stop()


class Halting:
    """A worker that answers odd numbers and stops at an even one."""

    made = 0

    def __init__(self) -> None:
        Halting.made += 1

    def answers(self, queries: Any) -> Iterator[Any]:
        for query in queries:
            if query % 2 == 0:
                raise RedwireError(f"{query} is even")
            yield [query]

    def close(self) -> None:
        pass


def test_when_a_worker_ends_the_unanswered_get_its_error_and_the_next_get_a_new_worker(asker: Asker) -> None:
    Halting.made = 0
    threads: ReadThreads[int, int] = ReadThreads(
        Halting, asker.post, name="halting", threads=1, together_max=1
    )
    assert [asker.ask(threads, number) for number in (1, 3)] == [1, 3]
    assert str(asker.ask(threads, 4)) == "4 is even"
    assert asker.ask(threads, 5) == 5
    assert Halting.made == 2
    threads.stop()


def test_answers_that_are_there_at_once_cross_over_at_once(state: State, written_log: Any) -> None:
    state.apply([written_log.write(*(put(str(place)) for place in range(10)))])
    held, crossings, got = threading.Event(), [], queue.Queue[Any]()

    def post(callback: Any, *args: Any) -> None:
        held.wait(10)
        crossings.append(callback)
        callback(*args)

    reader = Reader(state.path, post, threads=1)
    reader.submit(Fetch("orders", "0"), got.put)
    while reader.status().waiting:
        time.sleep(0.001)  # the thread takes it by itself, and then waits to hand over its answer
    for place in range(10):
        reader.submit(Fetch("orders", str(place)), got.put)
    held.set()
    reader.stop()
    assert (got.qsize(), len(crossings)) == (11, 2)


def test_threads_wait_while_the_event_loop_was_not_told_and_a_stop_waits_for_no_loop(
    state: State, written_log: Any
) -> None:
    """Each document fills a transaction of its own, so each answer crosses over by itself."""
    large, count = b'{"n":"%s"}' % (b"x" * reader_module.TOGETHER_BYTES_MAX), UNTOLD_MAX + 5
    for place in range(count):
        state.apply([written_log.write(put(str(place), large))])
    posted, got = queue.Queue[Any](), queue.Queue[Any]()
    reader = Reader(state.path, lambda callback, *args: posted.put((callback, args)), threads=1)
    for place in range(count):
        reader.submit(Fetch("orders", str(place)), got.put)
    crossed = [posted.get(timeout=10) for _ in range(UNTOLD_MAX)]
    time.sleep(0.1)
    assert posted.empty(), "it reads on while the loop does something else"
    callback, args = crossed.pop(0)
    callback(*args)
    crossed.append(posted.get(timeout=10))
    time.sleep(0.1)  # by now it waits again
    reader.stop()  # in the loop's own thread, which tells nobody meanwhile
    while not posted.empty():
        crossed.append(posted.get())
    for callback, args in crossed:
        callback(*args)
    assert got.qsize() == count


def test_too_many_waiting_reads_and_reads_after_the_stop_are_told_to_come_back(asker: Asker) -> None:
    threads: ReadThreads[int, int] = ReadThreads(Halting, asker.post, name="none", threads=0, together_max=1)
    refused: list[Any] = []
    for number in range(reader_module.WAITING_MAX + 1):
        threads.submit(number, refused.append)
    (answer,) = refused
    assert isinstance(answer, Refused)
    assert (answer.code, answer.retry) == (Code.BUSY, True)
    threads.stop()
    threads.submit(1, refused.append)
    assert len(refused) == 2
