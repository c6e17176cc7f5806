"""From released batches to the callers who wait: one call each, and one ack block that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from cluster.effects import Flight, Proposal, Release, Result
from redwire.errors import RedwireError
from redwire.message.client import POLICIES_MAX, AckBlock, CopyAck, encode_ack_block
from redwire.position import Lsn
from regions.standing import Standing

Answers = list[tuple[Proposal, Result]]


class Shared(NamedTuple):
    """The ack block of a batch, and at which index it names each effective policy."""

    block: bytes
    policies: dict[str, int]


class Caller(Protocol):
    """Who waits for a proposal. It gets exactly one of these calls for each, from the event loop's thread."""

    def released(self, shared: Shared, answers: Answers) -> None:
        """Committed: answers from one batch, all of this caller's that one ack block can speak of."""

    def known(self, proposal: Proposal, result: Result) -> None:
        """Committed by an earlier attempt."""

    def unconfirmed(self, proposal: Proposal, shared: Shared | None, first: Lsn, message: str) -> None:
        """Logged; nobody knows yet. `shared` shows the copies so far, if the batch is of this reign."""

    def rejected(self, proposal: Proposal, error: RedwireError) -> None:
        """Certainly not written."""


def caller_of(proposal: Proposal) -> Caller:
    """Whom to answer: the core carries the caller without knowing what it is."""
    return proposal.caller  # type: ignore[return-value]


def share(flight: Flight, watermark: Lsn, proposals: Iterable[Proposal], standing: Standing) -> Shared:
    """The copies of one batch that are proven by now, and the policies that its answers name."""
    policies: dict[str, int] = {}
    for proposal in proposals:
        policies.setdefault(proposal.policy.text, len(policies))
    acks = tuple([CopyAck(node, standing.region_of(node), after_us) for node, after_us in flight.acks])
    term, rule = flight.batch.reign.term, str(standing.rule)
    block = AckBlock(term, watermark, rule, tuple(policies), flight.completing, acks)
    return Shared(encode_ack_block(block), policies)


def parts(release: Release) -> Iterator[Release]:
    """The same answers, in releases of at most `POLICIES_MAX` policies: more do not fit into an ack block."""
    if len({proposal.policy.text for proposal, _ in release.answers}) <= POLICIES_MAX:
        yield release
        return
    texts, answers = set[str](), Answers()
    for answer in release.answers:
        text = answer[0].policy.text
        if text not in texts and len(texts) == POLICIES_MAX:
            yield Release(release.flight, release.watermark, answers)
            texts, answers = set[str](), Answers()
        texts.add(text)
        answers.append(answer)
    yield Release(release.flight, release.watermark, answers)


def by_caller(release: Release) -> Iterator[tuple[Caller, Answers]]:
    """The answers of a release, grouped by who waits for them."""
    groups: dict[int, Answers] = {}
    for answer in release.answers:
        groups.setdefault(id(answer[0].caller), []).append(answer)
    for answers in groups.values():
        yield caller_of(answers[0][0]), answers
