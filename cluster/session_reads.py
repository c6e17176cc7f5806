"""The reads of one client's session: from a frame to a question, and from what is read to an answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from cluster.reader import size_of
from cluster.replies import Replies
from cluster.service import Service
from redwire.errors import Code, RedwireError, Refused, RequestInvalid
from redwire.frame import Frame, Kind
from redwire.message.read import Fetch, Fetched, Scan, Scanned
from redwire.record import ID_BYTES_MAX

READS_MAX = 32
"""Reads of one session that are under way at once: what one client asks for does not make others wait."""
READ_AHEAD_BYTES = 8 << 20
"""What the answers to those reads may come to, judged by the last ones, with what the client has not taken
yet; one at a time while memory is scarce.
"""
ANSWER_BYTES_GUESS = 2 << 20
"""Before the first answer; documents may be four times as large, and most are a thousand times smaller."""
WAITING_MAX = 256
"""Reads of one session that wait for their token, of 64 KiB at most. Nobody knows when that ends, so beyond
it a read is refused: held back, it would hold back what the client asks behind it.
"""


class SessionReads:
    """What this session wants to know; each question gets one answer.

    A read first waits for its token, which costs next to nothing, then for room among those under way. An
    answer for which there is no room, as the client has left too many others, is let go of and read again
    when it has taken those.
    """

    def __init__(self, service: Service, replies: Replies, answered: Callable[[], None]) -> None:
        """`answered` is called whenever something was."""
        self._service = service
        self._replies = replies
        self._answered = answered
        self._waiting = 0
        self._fresh: list[_Read] = []  # an empty deque would hold half a kilobyte in each idle session
        self._under_way = 0
        self._answer_bytes = ANSWER_BYTES_GUESS
        self._held = False  # until the client has taken what it has

    @property
    def crowded(self) -> bool:
        """Whether so much is under way that no more should be taken; it ends by itself."""
        if self._held or not self._under_way:
            return self._held
        ahead_bytes = self._under_way * self._answer_bytes + self._replies.wire.buffered_bytes
        full = self._under_way >= READS_MAX or ahead_bytes >= READ_AHEAD_BYTES
        return full or self._service.unread.short

    def fetch(self, frame: Frame) -> None:
        """Take a Fetch (42). Raises what refuses it."""
        self._take(_Read(Fetch.decode(frame.payload), Kind.FETCHED, frame.correlation))

    def scan(self, frame: Frame) -> None:
        """Take a Scan (44). Raises what refuses it."""
        self._take(_Read(Scan.decode(frame.payload), Kind.SCANNED, frame.correlation))

    def _take(self, read: _Read) -> None:
        if read.asked.token is not None and self._waiting >= WAITING_MAX:
            text = f"{WAITING_MAX} reads of this session wait for what this node has not applied yet"
            raise Refused(Code.STALE, text, hint="ask the primary")

        if read.asked.token is not None and len(read.place.encode()) > ID_BYTES_MAX:
            raise RequestInvalid(f"an id has at most {ID_BYTES_MAX} bytes of UTF-8")

        def fresh(error: RedwireError | None) -> None:
            self._waiting -= 1
            if error is not None:
                self._replies.fail(read.correlation, error)
                return
            self._fresh.append(read)
            self._begin()

        self._service.reads.when_fresh(read.asked, fresh, self._replies.user)
        self._waiting += 1  # one that is fresh at once has made it one too few for a moment

    def _begin(self) -> None:
        """Begin what is fresh and has room."""
        wire, unread = self._replies.wire, self._service.unread
        if wire.gone:
            self._fresh.clear()
        while self._fresh and not self.crowded:
            if limit_bytes := unread.limit_bytes(wire):
                self._hold(limit_bytes)
                return
            if not unread.has_room(self._answer_bytes):
                self._held = True
                unread.when_room(self._replies.user, self._taken)
                return
            self._under_way += 1
            read, promised_bytes = self._fresh.pop(0), self._answer_bytes
            unread.promise(promised_bytes)
            self._service.reads.read(read.asked, partial(self._done, read, promised_bytes))

    def _done(self, read: _Read, promised_bytes: int, answer: Fetched | Scanned | RedwireError) -> None:
        self._under_way -= 1
        try:
            if self._replies.wire.gone:
                pass  # and `_begin` forgets the others
            elif isinstance(answer, RedwireError):
                self._replies.fail(read.correlation, answer)
            elif not self._told(read, answer, promised_bytes):
                return
        finally:
            self._service.unread.promise(-promised_bytes)
        self._begin()
        self._answered()

    def _told(self, read: _Read, answer: Fetched | Scanned, promised_bytes: int) -> bool:
        """Whether there was room for the answer, and it was sent; else the read begins again in time."""
        unread, size_bytes = self._service.unread, size_of(answer)
        limit_bytes = unread.limit_bytes(self._replies.wire)
        if limit_bytes or size_bytes > promised_bytes and not unread.has_room(size_bytes - promised_bytes):
            self._fresh.insert(0, read)
            self._answer_bytes = max(size_bytes, self._answer_bytes)
            if limit_bytes:
                self._hold(limit_bytes)
            else:
                self._begin()
            return False
        body = answer.encode()
        self._answer_bytes = max(len(body), self._answer_bytes // 2)
        self._replies.send(read.kind, body, read.correlation)
        unread.wrote(len(body))
        return True

    def _hold(self, limit_bytes: int) -> None:
        """Begin nothing until fewer bytes than these wait for the client."""
        if not self._held:
            self._held = True
            self._replies.wire.when_below(limit_bytes, self._taken)

    def _taken(self) -> None:
        """The client has taken of what it had, or has gone."""
        self._held = False
        self._begin()
        self._answered()


class _Read(msgspec.Struct, frozen=True):
    """One question, and which kind answers it."""

    asked: Fetch | Scan
    kind: Kind
    correlation: int

    @property
    def place(self) -> str:
        """The id that it is about, or from behind which it scans."""
        return self.asked.id if isinstance(self.asked, Fetch) else self.asked.after
