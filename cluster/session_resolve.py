"""What became of a key, as one client's session asks for it (Resolve, docs/PROTOCOL.md, kind 48).

That a key was *not* executed is an answer for good, and only the log can give it: the request may still be in
a socket that nobody has read, or in the log of another primary that this one has not heard of. So a CLOSE
record is committed first. Whichever of the two comes first in the log counts: the request, and its result is
the answer, or the CLOSE, and the request is never executed (R9).
"""

from __future__ import annotations

from cluster.answers import Answers, Shared
from cluster.effects import Fate, Proposal, Result
from cluster.service import Service
from cluster.session_writes import Fail, Send, written_entry
from redwire.body import encode
from redwire.errors import Code, NotConfirmed, RedwireError, Refused, RequestInvalid
from redwire.frame import Frame, Kind
from redwire.message.client import Resolve, join_written
from redwire.message.log import CloseKey
from redwire.position import Lsn
from redwire.record import Key, RequestKind, encode_system

UNDER_WAY_MAX = 256
"""After a lost connection a client asks for its 4,096 open keys at most, so many at a time; each may cost a
record.
"""
SEQUENCE_MAX = (1 << 63) - 1
"""What an integer of SQLite holds."""


class SessionResolve:
    """Who waits for this session's CLOSE records (see `answers.Caller`)."""

    def __init__(self, service: Service, send: Send, fail: Fail) -> None:
        self._service = service
        self._send = send
        self._fail = fail
        self._under_way = 0

    def resolve(self, frame: Frame) -> None:
        """Take a Resolve (48). Raises what refuses it."""
        service = self._service
        service.require_primary()
        asked = Resolve.decode(frame.payload)
        if asked.sequence > SEQUENCE_MAX:
            raise RequestInvalid(f"sequence {asked.sequence} is more than a key can have")
        known = service.node.storage.state.lookup(Key(asked.client, asked.sequence, asked.sequence))
        if known is not None and known.fate is not Fate.EXPIRED:
            self._tell(frame.correlation, known)
            return
        if self._under_way >= UNDER_WAY_MAX:
            raise NotConfirmed(f"{UNDER_WAY_MAX} keys are being asked for already", hint="ask again")
        request = encode_system(RequestKind.CLOSE, encode(CloseKey(asked.client, asked.sequence)))
        self._under_way += 1
        service.node.inbox.propose(service.proposal(self, frame.correlation, RequestKind.CLOSE, request))

    # --- as the caller of proposals

    def released(self, shared: Shared, answers: Answers) -> None:
        """Settled for good."""
        for proposal, result in answers:
            self._under_way -= 1
            self._tell(proposal.correlation, result)

    def known(self, proposal: Proposal, result: Result) -> None:
        """Never called: a CLOSE has no key of its own."""
        raise AssertionError("a CLOSE has no key of its own")

    def unconfirmed(self, proposal: Proposal, shared: Shared | None, first: Lsn, message: str) -> None:
        """Nobody knows yet."""
        self._under_way -= 1
        self._fail(proposal.correlation, NotConfirmed(message, hint="ask again"))

    def rejected(self, proposal: Proposal, error: RedwireError) -> None:
        """The CLOSE was not logged, which says nothing of the key."""
        self._under_way -= 1
        if error.code is not Code.NOT_PRIMARY:
            error = NotConfirmed(f"the key cannot be settled now: {error.message}", hint="ask again")
        self._fail(proposal.correlation, error)

    def _tell(self, correlation: int, result: Result) -> None:
        if result.fate is Fate.CLOSED:
            text = "no request with this key was executed, and none will be"
            self._fail(correlation, Refused(Code.NOT_FOUND, text))
        elif (refusal := result.refusal) is not None:
            self._fail(correlation, refusal)
        else:
            block = self._service.bare_block(Lsn(result.first_lsn), self._service.policies.rule.text)
            self._send(Kind.WRITTEN, join_written(block, [written_entry(correlation, result, 0)]), 0)
