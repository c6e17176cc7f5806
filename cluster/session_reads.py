"""The reads of one client's session: from a frame to a question, and from what is read to an answer."""

from __future__ import annotations

from collections.abc import Callable

from cluster.service import Service
from cluster.session_writes import Fail, Send
from redwire.errors import RedwireError
from redwire.frame import Frame, Kind
from redwire.message.read import Fetch, Fetched, Scan, Scanned

READS_MAX = 32
"""Reads of one session that are under way at once: what one client asks for does not make others wait."""
READ_AHEAD_BYTES = 8 << 20
"""What the answers to those reads may come to, judged by the last ones."""
ANSWER_BYTES_GUESS = 2 << 20
"""Before the first answer; documents may be four times as large, and most are a thousand times smaller."""


class SessionReads:
    """What this session wants to know. Several are under way at once; each gets one answer."""

    def __init__(self, service: Service, send: Send, fail: Fail, answered: Callable[[], None]) -> None:
        """`answered` is called whenever something was."""
        self._service = service
        self._send = send
        self._fail = fail
        self._answered = answered
        self._under_way = 0
        self._answer_bytes = ANSWER_BYTES_GUESS

    @property
    def crowded(self) -> bool:
        """Whether so much is under way that no more should be taken."""
        return self._under_way >= READS_MAX or self._under_way * self._answer_bytes >= READ_AHEAD_BYTES

    def fetch(self, frame: Frame) -> None:
        """Take a Fetch (42). Raises what refuses it."""
        self._begin(Fetch.decode(frame.payload), Kind.FETCHED, frame.correlation)

    def scan(self, frame: Frame) -> None:
        """Take a Scan (44). Raises what refuses it."""
        self._begin(Scan.decode(frame.payload), Kind.SCANNED, frame.correlation)

    def _begin(self, asked: Fetch | Scan, kind: Kind, correlation: int) -> None:
        def done(answer: Fetched | Scanned | RedwireError) -> None:
            self._under_way -= 1
            self._answered()
            if isinstance(answer, RedwireError):
                self._fail(correlation, answer)
                return
            body = answer.encode()
            self._answer_bytes = max(len(body), self._answer_bytes // 2)
            self._send(kind, body, correlation)

        self._service.reads.read(asked, done)
        self._under_way += 1  # an answer that is there at once has made it -1 for a moment
