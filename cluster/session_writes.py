"""The writes of one client's session: from a frame to a proposal, and from what became of it to an answer."""

from __future__ import annotations

from cluster.answers import Answers, Shared
from cluster.client_ids import ClientIds
from cluster.effects import Fate, Proposal, Result
from cluster.keys import within_window
from cluster.replies import Replies
from cluster.service import Service
from redwire.errors import Code, NotConfirmed, RedwireError, Refused, RequestInvalid
from redwire.frame import Frame, Kind
from redwire.message.client import RESULT, Outcome, decode_write, encode_entry, join_written
from redwire.position import Lsn
from redwire.record import OPEN_MAX, RequestKind, check_write


class SessionWrites:
    """Who waits for this session's proposals. Several are under way at once; each gets one answer."""

    def __init__(self, service: Service, replies: Replies, clients: ClientIds) -> None:
        """`clients` are the ids under which this session may write."""
        self._service = service
        self._replies = replies
        self._clients = clients
        self._under_way = 0

    def write(self, frame: Frame) -> None:
        """Take a Write (40). Raises what refuses it before it is proposed: also when as many wait for an
        answer as one client's keys have room for (R9), which the slowest of them may take long to change.
        """
        self._service.require_primary()
        if self._under_way >= OPEN_MAX:
            raise Refused(Code.BUSY, f"{OPEN_MAX} writes of this session are under way", hint="retry")
        envelope = decode_write(frame.payload)
        head = check_write(envelope.request)
        if head.key is not None and not self._clients.include(head.key.client):
            text = "this client id was not issued to this user by this cluster: nothing is written under it"
            raise Refused(Code.KEY_EXPIRED, text, hint="write under the client id that Opened (47) names")
        if head.key is not None and not within_window(head.key):
            distance = f"{head.key.sequence} is too far from the oldest unresolved one, {head.key.oldest}"
            hint = f"resolve older requests first: at most {OPEN_MAX} are remembered"
            raise RequestInvalid(f"sequence {distance}", hint=hint)
        proposal = self._service.proposal(
            self,
            frame.correlation,
            RequestKind.WRITE,
            bytes(envelope.request),
            count=head.count,
            policy=envelope.policy,
            remaining_ms=envelope.remaining_ms,
            key=head.key,
            attempt=envelope.attempt,
        )
        self._under_way += 1
        self._service.node.inbox.propose(proposal)

    # --- as the caller of proposals

    def released(self, shared: Shared, answers: Answers) -> None:
        """Committed: one Written frame for all of them."""
        self._under_way -= len(answers)
        entries: list[bytes] = []
        for proposal, result in answers:
            if (refusal := result.refusal) is not None:
                self._replies.fail(proposal.correlation, refusal)
            else:
                index = shared.policies[proposal.policy.text]
                entries.append(written_entry(proposal.correlation, result, index))
        if entries:
            self._replies.send(Kind.WRITTEN, join_written(shared.block, entries), 0)

    def known(self, proposal: Proposal, result: Result) -> None:
        """Committed by an earlier attempt, whose copies are not remembered."""
        self._under_way -= 1
        block = self._service.bare_block(Lsn(result.first_lsn), proposal.policy.text)
        self._replies.send(
            Kind.WRITTEN, join_written(block, [written_entry(proposal.correlation, result, 0)]), 0
        )

    def unconfirmed(self, proposal: Proposal, shared: Shared | None, first: Lsn, message: str) -> None:
        """Nobody knows yet."""
        self._under_way -= 1
        if shared is None:
            self._replies.fail(proposal.correlation, NotConfirmed(message))
            return
        self._service.node.bulletin.counts.answered(Code.NOT_CONFIRMED)
        entry = encode_entry(proposal.correlation, Outcome.NOT_CONFIRMED, 0, False, first, b"", 0)
        self._replies.send(Kind.WRITTEN, join_written(shared.block, [entry]), 0)

    def rejected(self, proposal: Proposal, error: RedwireError) -> None:
        """Certainly not written."""
        self._under_way -= 1
        self._replies.fail(proposal.correlation, error)


def written_entry(correlation: int, result: Result, policy: int) -> bytes:
    """The entry of a Written frame that tells a committed result; `policy` is its index in the ack block."""
    items, count = result.items, len(result.items) // RESULT.size
    duplicate = result.fate is Fate.DUPLICATE
    return encode_entry(correlation, Outcome.COMMITTED, policy, duplicate, result.first_lsn, items, count)
