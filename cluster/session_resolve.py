"""What became of a key, as one client's session asks for it (Resolve, docs/PROTOCOL.md, kind 48).

That a key was *not* executed is an answer for good, and only the log can give it: the request may still be in
a socket that nobody has read, or in the log of another primary that this one has not heard of. So a CLOSE
record is committed first. Whichever of the two comes first in the log counts: the request, and its result is
the answer, or the CLOSE, and the request is never executed (R9).
"""

from __future__ import annotations

from functools import partial

from cluster.client_ids import ClientIds, issue_lsn
from cluster.effects import Fate, Result
from cluster.lone_caller import CameTo, NotKnown
from cluster.replies import Replies
from cluster.service import Service
from cluster.session_records import SessionRecords
from cluster.session_writes import written_entry
from redwire.body import U63_MAX, encode
from redwire.errors import Code, NotConfirmed, RedwireError, Refused, RequestInvalid
from redwire.frame import Frame, Kind
from redwire.handshake import Principal, Role
from redwire.message.client import Resolve, join_written
from redwire.message.log import CloseKey
from redwire.position import Lsn
from redwire.record import Key, RequestKind

UNDER_WAY_MAX = 256
"""After a lost connection a client asks for its 4,096 open keys at most, so many at a time; each may cost a
record.
"""


class SessionResolve:
    """The keys that this session asks for, and its CLOSE records."""

    def __init__(self, service: Service, principal: Principal, replies: Replies, clients: ClientIds) -> None:
        """`clients` are the ids whose keys `principal` may ask for; an administrator may ask for any."""
        self._service = service
        self._any = principal.may(Role.ADMIN)
        self._clients = clients
        self._replies = replies
        self._closes = SessionRecords(service, RequestKind.CLOSE)

    def resolve(self, frame: Frame) -> None:
        """Take a Resolve (48). Raises what refuses it."""
        service = self._service
        service.require_primary()
        asked = Resolve.decode(frame.payload)
        if asked.sequence > U63_MAX:
            raise RequestInvalid(f"sequence {asked.sequence} is more than a key can have")
        if not self._any and not self._clients.include(asked.client):
            hint = "ask as the user who wrote under it, or as an administrator"
            raise Refused(Code.FORBIDDEN, "this key was not issued to this user by this cluster", hint=hint)
        known = service.node.storage.state.lookup(Key(asked.client, asked.sequence, asked.sequence))
        if known is not None and (
            known.fate is not Fate.EXPIRED or issue_lsn(asked.client) <= service.applied
        ):
            # a key that expired stays so, but for one of an id that apply has not come to
            self._tell(frame.correlation, known)
            return
        if self._closes.under_way >= UNDER_WAY_MAX:
            raise NotConfirmed(f"{UNDER_WAY_MAX} keys are being asked for already", hint="ask again")
        body = encode(CloseKey(asked.client, asked.sequence))
        told = partial(self._closed, frame.correlation)
        proposal = self._closes.proposal(body, frame.correlation, told, asked.remaining_ms)
        service.node.inbox.propose(proposal)

    def _closed(self, correlation: int, outcome: CameTo) -> None:
        match outcome:
            case Result():
                self._tell(correlation, outcome)
            case NotKnown(message=message):
                self._replies.fail(correlation, NotConfirmed(message, hint="ask again"))
            case RedwireError(code=Code.NOT_PRIMARY):
                self._replies.fail(correlation, outcome)
            case RedwireError():  # the CLOSE was not logged, which says nothing of the key
                text = f"the key cannot be settled now: {outcome.message}"
                self._replies.fail(correlation, NotConfirmed(text, hint="ask again"))

    def _tell(self, correlation: int, result: Result) -> None:
        if result.fate is Fate.CLOSED:
            text = "no request with this key was executed, and none will be"
            self._replies.fail(correlation, Refused(Code.NOT_FOUND, text))
        elif (refusal := result.refusal) is not None:
            self._replies.fail(correlation, refusal)
        else:
            block = self._service.bare_block(Lsn(result.first_lsn), self._service.policies.rule.text)
            self._replies.send(Kind.WRITTEN, join_written(block, [written_entry(correlation, result, 0)]), 0)
