"""The reads of one session: what waits for its token, what is under way, and what is held back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.replies import Replies
from cluster.service import Service
from cluster.session_reads import ANSWER_BYTES_GUESS, READ_AHEAD_BYTES, READS_MAX, WAITING_MAX, SessionReads
from cluster.unread import ALL_BYTES_MAX, EACH_BYTES_MAX, Unread
from redwire.errors import Code, RedwireError, Refused, TokenLost
from redwire.frame import Frame, Kind
from redwire.message.read import Fetch, Fetched, Scan
from redwire.position import ClusterId, Lsn, Term, Token

TOKEN = Token(ClusterId("c" * 32), Term(1), Lsn(9))
GUESSED = READ_AHEAD_BYTES // ANSWER_BYTES_GUESS
"""How many may be under way before the size of an answer is known."""


class Desk:
    """A session's reads over a node that applies and reads when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[RedwireError | None], None]] = []
        self.reading: list[Callable[[Any], None]] = []
        self.sent: list[tuple[int, int]] = []
        self.failed: list[tuple[int, RedwireError]] = []
        self.wire, self.buffered_bytes, self.below = self, 0, list[tuple[int, Callable[[], None]]]()
        seconds = count()
        self.unread = Unread(lambda: float(next(seconds)))  # looked at whenever somebody asks
        self.unread.enter(self)
        self.user = "user app"
        self.gone, self.read_in_all = False, 0
        service = SimpleNamespace(reads=self, unread=self.unread)
        self.rings = 0
        self.reads = SessionReads(
            cast(Service, service),
            cast(Replies, self),
            self._ring,
        )

    def send(self, kind: int, payload: bytes, correlation: int) -> None:
        self.sent.append((kind, correlation))

    def when_below(self, limit_bytes: int, call: Callable[[], None]) -> None:
        self.below.append((limit_bytes, call))

    def fail(self, correlation: int, error: RedwireError) -> None:
        self.failed.append((correlation, error))

    def _ring(self) -> None:
        self.rings += 1

    def when_fresh(self, asked: Fetch | Scan, go: Callable[[RedwireError | None], None], user: str) -> None:
        if asked.token is None:
            go(None)
        else:
            self.waiting.append(go)

    def read(self, asked: Fetch | Scan, answer: Callable[[Any], None]) -> None:
        self.reading.append(answer)
        self.read_in_all += 1

    def fetch(self, correlation: int, token: Token | None = None) -> None:
        body = Fetch("c", "x", token, 1_000).encode()
        self.reads.fetch(Frame(Kind.FETCH, 0, 0, correlation, body))

    def applied(self) -> None:
        waiting, self.waiting = self.waiting, []
        for go in waiting:
            go(None)

    def answer(self, document: bytes = b"{}") -> None:
        self.reading.pop(0)(Fetched(True, 1, 1, 1, document))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_reads_that_wait_for_their_token_hold_nothing_back(desk: Desk) -> None:
    for n in range(WAITING_MAX):
        desk.fetch(n, TOKEN)
    assert not desk.reads.crowded
    desk.fetch(1_000)
    assert len(desk.reading) == 1


def test_one_more_that_would_wait_for_its_token_is_refused_and_one_without_is_read(desk: Desk) -> None:
    for n in range(WAITING_MAX):
        desk.fetch(n, TOKEN)
    with pytest.raises(Refused) as caught:
        desk.fetch(1_000, TOKEN)
    assert caught.value.code is Code.STALE and str(WAITING_MAX) in caught.value.message
    desk.fetch(1_001)
    assert len(desk.reading) == 1
    desk.applied()
    desk.fetch(1_002, TOKEN)
    assert len(desk.waiting) == 1


def test_what_becomes_fresh_at_once_is_read_no_faster_than_there_is_room(desk: Desk) -> None:
    for n in range(20):
        desk.fetch(n, TOKEN)
    desk.applied()
    assert len(desk.reading) == GUESSED and desk.reads.crowded
    most = 0
    while desk.reading:
        most = max(most, len(desk.reading))
        desk.answer(bytes(ANSWER_BYTES_GUESS))
    assert most == GUESSED and desk.sent == [(Kind.FETCHED, n) for n in range(20)]
    assert not desk.reads.crowded


def test_small_answers_make_room_for_more_up_to_the_bound(desk: Desk) -> None:
    for n in range(20):
        desk.fetch(n)
        desk.answer()
    for n in range(READS_MAX - 1):
        desk.fetch(n)
    assert not desk.reads.crowded
    desk.fetch(READS_MAX)
    assert desk.reads.crowded and len(desk.reading) == READS_MAX


def test_a_token_that_is_lost_is_told_and_leaves_its_place(desk: Desk) -> None:
    for n in range(WAITING_MAX):
        desk.fetch(n, TOKEN)
    lost = TokenLost("another history")
    desk.waiting.pop(0)(lost)
    assert desk.failed == [(0, lost)]
    desk.fetch(1_000, TOKEN)


def test_whoever_waits_for_room_hears_of_each_answer_once_there_is_some(desk: Desk) -> None:
    for n in range(GUESSED):
        desk.fetch(n)
    assert desk.reads.crowded and desk.rings == 0
    desk.reading.pop(0)(Refused(Code.BUSY, "too many"))
    assert desk.rings == 1 and not desk.reads.crowded
    assert [correlation for correlation, _ in desk.failed] == [0]


def test_an_answer_for_which_there_is_no_room_is_read_again_when_the_others_are_taken(desk: Desk) -> None:
    for n in range(GUESSED):
        desk.fetch(n)
    desk.answer(bytes(EACH_BYTES_MAX))
    desk.buffered_bytes = EACH_BYTES_MAX
    desk.answer(bytes(EACH_BYTES_MAX))
    desk.answer(bytes(EACH_BYTES_MAX))
    assert desk.sent == [(Kind.FETCHED, 0)] and desk.reads.crowded
    desk.fetch(9)
    assert len(desk.reading) == GUESSED - 3, "nothing more is read for it"
    ((limit_bytes, taken),) = desk.below
    assert limit_bytes == EACH_BYTES_MAX
    desk.buffered_bytes, rings = 0, desk.rings
    taken()
    assert desk.rings == rings + 1
    while desk.reading:
        assert len(desk.reading) == 1, "by now it is known how large they are"
        desk.answer(bytes(EACH_BYTES_MAX))
    assert sorted(correlation for _, correlation in desk.sent) == [*range(GUESSED), 9]


@pytest.mark.parametrize("size_bytes", [64 << 10, 256 << 10, 1 << 20])
def test_for_a_client_that_reads_slowly_hardly_anything_is_read_twice(desk: Desk, size_bytes: int) -> None:
    asked, document = 400, bytes(size_bytes)
    sent = taken_bytes = 0
    coming = iter(range(asked))
    for _ in range(1_000 * asked):
        while not desk.reads.crowded and (n := next(coming, None)) is not None:
            desk.fetch(n)
        if desk.reading:
            desk.answer(document)
        desk.buffered_bytes += (len(desk.sent) - sent) * size_bytes
        sent = len(desk.sent)
        taken_bytes = min(size_bytes // 10, desk.buffered_bytes)  # a tenth of an answer while one is read
        desk.buffered_bytes -= taken_bytes
        while desk.below and desk.buffered_bytes < desk.below[0][0]:
            desk.below.pop(0)[1]()
        if sent == asked:
            break
    assert sent == asked
    assert desk.read_in_all <= 1.1 * asked


def test_for_a_client_that_has_gone_nothing_more_is_read(desk: Desk) -> None:
    for n in range(20):
        desk.fetch(n, TOKEN)
    desk.applied()
    desk.buffered_bytes = EACH_BYTES_MAX
    for _ in range(GUESSED - 1):
        desk.answer(bytes(1 << 20))
    ((_, taken),) = desk.below
    desk.gone, desk.buffered_bytes, rings = True, 0, desk.rings
    taken()
    assert desk.rings == rings + 1, "who waits with the session looks, and finds the end"
    desk.answer(bytes(1 << 20))
    assert desk.reading == [] and desk.sent == [] and not desk.reads.crowded
    assert not desk.unread.scarce


def test_while_memory_is_short_nothing_is_read_and_what_waits_goes_on_by_itself(desk: Desk) -> None:
    desk.unread.promise(ALL_BYTES_MAX)
    for n in range(3):
        desk.fetch(n)
    assert desk.reading == [] and desk.reads.crowded
    rings = desk.rings
    desk.unread.promise(-ALL_BYTES_MAX)
    assert len(desk.reading) == 3 and desk.rings == rings + 1


def test_an_answer_that_is_larger_than_the_room_by_now_is_read_again_when_there_is_some(desk: Desk) -> None:
    desk.fetch(1)
    desk.unread.promise(ALL_BYTES_MAX - EACH_BYTES_MAX + 1)
    desk.answer(bytes(EACH_BYTES_MAX))
    assert desk.sent == [] and desk.reading == [] and desk.reads.crowded
    desk.unread.promise(-ALL_BYTES_MAX + EACH_BYTES_MAX - 1)
    desk.answer(bytes(EACH_BYTES_MAX))
    assert desk.sent == [(Kind.FETCHED, 1)]


def test_what_was_promised_is_given_back_when_it_is_answered(desk: Desk) -> None:
    desk.unread.promise(ALL_BYTES_MAX - ANSWER_BYTES_GUESS)
    assert not desk.unread.short
    desk.fetch(1)
    assert not desk.unread.short and not desk.unread.has_room(1)
    desk.answer(b"x" * 100)
    assert desk.unread.has_room(ANSWER_BYTES_GUESS)
    desk.fetch(2)
    assert not desk.unread.has_room(ANSWER_BYTES_GUESS)
    desk.reading.pop(0)(Refused(Code.BUSY, "too many"))
    assert desk.unread.has_room(ANSWER_BYTES_GUESS)


def test_an_answer_takes_the_room_that_it_was_promised_before_others_do(desk: Desk) -> None:
    """Else each would lose its place to the next one, and all of them be read for ever."""
    desk.unread.promise(ALL_BYTES_MAX - ANSWER_BYTES_GUESS)
    desk.fetch(1)
    for _ in range(3):
        desk.unread.when_room("another", lambda: desk.unread.promise(EACH_BYTES_MAX))
    desk.answer(bytes(ANSWER_BYTES_GUESS))
    assert desk.sent == [(Kind.FETCHED, 1)]


def test_who_asks_for_more_than_the_largest_document_is_called_once_there_is_room_for_that(
    desk: Desk,
) -> None:
    desk.fetch(1)
    desk.answer(bytes(EACH_BYTES_MAX + 100))
    desk.unread.promise(ALL_BYTES_MAX - EACH_BYTES_MAX + 1)
    desk.fetch(2)
    assert desk.reading == []
    desk.unread.promise(-1)
    assert len(desk.reading) == 1
