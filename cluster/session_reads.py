"""The reads of one client's session: from a frame to a question, and from what is read to an answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from cluster.replies import Replies
from cluster.service import Service
from redwire.errors import Code, RedwireError, Refused
from redwire.frame import Frame, Kind
from redwire.message.read import Fetch, Fetched, Scan, Scanned

READS_MAX = 32
"""Reads of one session that are under way at once: what one client asks for does not make others wait."""
READ_AHEAD_BYTES = 8 << 20
"""What the answers to those reads may come to, judged by the last ones; one at a time while memory is scarce.
"""
ANSWER_BYTES_GUESS = 2 << 20
"""Before the first answer; documents may be four times as large, and most are a thousand times smaller."""
WAITING_MAX = 256
"""Reads of one session that wait for their token, of 64 KiB at most. Nobody knows when that ends, so beyond
it a read is refused: held back, it would hold back what the client asks behind it.
"""


class SessionReads:
    """What this session wants to know; each question gets one answer.

    A read first waits for its token, which costs next to nothing, then for room among those under way.
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

    @property
    def crowded(self) -> bool:
        """Whether so much is under way that no more should be taken; it ends by itself."""
        if not self._under_way:
            return False
        full = self._under_way >= READS_MAX or self._under_way * self._answer_bytes >= READ_AHEAD_BYTES
        return full or self._service.unread.scarce

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

        def fresh(error: RedwireError | None) -> None:
            self._waiting -= 1
            if error is not None:
                self._replies.fail(read.correlation, error)
                return
            self._fresh.append(read)
            self._begin()

        self._service.reads.when_fresh(read.asked, fresh)
        self._waiting += 1  # one that is fresh at once has made it one too few for a moment

    def _begin(self) -> None:
        """Begin what is fresh and has room."""
        while self._fresh and not self.crowded:
            self._under_way += 1
            read = self._fresh.pop(0)
            self._service.reads.read(read.asked, partial(self._done, read))

    def _done(self, read: _Read, answer: Fetched | Scanned | RedwireError) -> None:
        self._under_way -= 1
        if isinstance(answer, RedwireError):
            self._replies.fail(read.correlation, answer)
        else:
            body = answer.encode()
            self._answer_bytes = max(len(body), self._answer_bytes // 2)
            self._replies.send(read.kind, body, read.correlation)
        self._begin()
        self._answered()


class _Read(msgspec.Struct, frozen=True):
    """One question, and which kind answers it."""

    asked: Fetch | Scan
    kind: Kind
    correlation: int
