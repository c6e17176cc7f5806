"""What a write returns: its results, and the receipt that says which copies were proven.

The server sends one ack block for many writes. A `Committed` keeps those bytes and opens them only when
asked, so a thousand writes in flight cost no thousand receipts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from redwire.errors import BodyInvalid
from redwire.message.client import CopyAck, Outcome, RecordStatus, WrittenEntry, decode_ack_block
from redwire.position import ClusterId, Lsn, Term, Token

_open_block = lru_cache(maxsize=64)(decode_ack_block)
"""Writes that were answered together share one block; it is opened once for all of them."""


class Receipt(msgspec.Struct, frozen=True):
    """What is proven about one request.

    `lsn` is its last record's; `term` is as in `AckBlock`. `requested` is the policy in effect for the
    request (for `Client.resolve`, which does not know that, the commit rule), `achieved` the one that was
    met: `requested` when committed, applied yet or not, the commit rule when only that was met in time, None
    when not even that was. `acks` are the durable copies proven by then, in order of arrival, none if they
    are not remembered; `completed_by` is the one that completed the commit rule, None if unknown. `token`
    makes later reads see this write. `duplicate`: an earlier attempt had written it.
    """

    lsn: Lsn
    term: Term
    requested: str
    achieved: str | None
    acks: tuple[CopyAck, ...]
    completed_by: CopyAck | None
    token: Token
    duplicate: bool

    def __str__(self) -> str:
        copies = ", ".join(f"{ack.node} ({ack.region}) {ack.after_us / 1_000:.1f} ms" for ack in self.acks)
        parts = [f"LSN {self.lsn} in term {self.term}", f"requested {self.requested}"]
        parts.append("not confirmed" if self.achieved is None else f"achieved {self.achieved}")
        parts.append(f"copies: {copies or 'not remembered'}")
        if self.completed_by is not None:
            parts.append(f"commit rule met by {self.completed_by.node}")
        if self.duplicate:
            parts.append("written by an earlier attempt")
        return "; ".join(parts)

    def to_json(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "lsn": self.lsn,
            "term": self.term,
            "requested": self.requested,
            "achieved": self.achieved,
            "acks": [{"node": ack.node, "region": ack.region, "after_us": ack.after_us} for ack in self.acks],
            "completed_by": None if self.completed_by is None else self.completed_by.node,
            "token": str(self.token),
            "duplicate": self.duplicate,
        }


def open_receipt(block: bytes, entry: WrittenEntry, cluster: ClusterId, records: int) -> Receipt:
    """The receipt of one entry of a Written, for a request of so many `records`: an entry that is not
    confirmed does not say. Raises `BodyInvalid` if block and entry do not fit.
    """
    acks = _open_block(block)
    if entry.policy_index >= len(acks.policies):
        raise BodyInvalid(f"Written: an entry names policy {entry.policy_index} of {len(acks.policies)}")
    requested = acks.policies[entry.policy_index]
    lsn = entry.first_lsn + records - 1
    achieved = acks.rule if entry.first_lsn <= acks.watermark else None
    if entry.outcome is Outcome.COMMITTED:
        achieved = requested
    # Among the answers of a newer batch a duplicate's LSN may be of an older term; the watermark never is.
    seen = acks.watermark if entry.duplicate and acks.acks else lsn
    return Receipt(
        lsn=Lsn(lsn),
        term=Term(acks.term),
        requested=requested,
        achieved=achieved,
        acks=acks.acks,
        completed_by=None if acks.completing is None else acks.acks[acks.completing],
        token=Token(cluster, Term(acks.term), Lsn(seen)),
        duplicate=entry.duplicate,
    )


def unconfirmed(receipt: Receipt) -> str:
    """What is known of a write that was not confirmed."""
    if receipt.achieved is None:
        return "logged but not confirmed"
    if receipt.achieved == receipt.requested:
        return "committed but not confirmed: the primary has not applied it, so what came of it is not known"
    return "committed but not confirmed by all copies that were asked for"


class RecordResult(msgspec.Struct, frozen=True):
    """What became of one record: `version` as docs/PROTOCOL.md explains it for `status`."""

    id: str
    status: RecordStatus
    version: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed request: what a write returns.

    `ids` are those of the request, "" where the cluster was to make one. `id`, `status` and `version` speak
    of the first record, which for `put`, `insert` and `delete` is the only one.
    """

    ids: Sequence[str]
    entry: WrittenEntry
    block: bytes
    cluster: ClusterId

    def __post_init__(self) -> None:
        if self.entry.outcome is not Outcome.COMMITTED or self.entry.count != len(self.ids):
            raise BodyInvalid(f"Written: {self.entry.count} results for a request of {len(self.ids)} records")

    def __repr__(self) -> str:
        return f"<redwire.Committed {self._counts} from LSN {self.entry.first_lsn} on>"

    def __str__(self) -> str:
        return f"{self._counts}; {self.receipt}"

    @property
    def _counts(self) -> str:
        counts = Counter(status.name for status, _ in self.entry.results)
        return ", ".join(f"{count} {name}" for name, count in counts.items())

    @property
    def records(self) -> list[RecordResult]:
        """One result for each record of the request, in its order."""
        results = enumerate(zip(self.ids, self.entry.results, strict=True), self.entry.first_lsn)
        return [RecordResult(ident or str(lsn), *result) for lsn, (ident, result) in results]

    @property
    def id(self) -> str:
        """The document's id: the one given, or the one made, which is the record's LSN."""
        return self.ids[0] or str(self.entry.first_lsn)

    @property
    def status(self) -> RecordStatus:
        """What became of the record."""
        return self.entry.results[0][0]

    @property
    def version(self) -> int:
        """The version that goes with `status`."""
        return self.entry.results[0][1]

    @property
    def receipt(self) -> Receipt:
        """The receipt, opened now. Raises `BodyInvalid` for a block that no server sends."""
        return open_receipt(self.block, self.entry, self.cluster, len(self.ids))


class Deleted(msgspec.Struct, frozen=True):
    """A committed delete. `deleted` is False when there was nothing to delete."""

    committed: Committed

    @property
    def deleted(self) -> bool:
        """Whether a document was there."""
        return self.committed.status is RecordStatus.DELETED

    @property
    def version(self) -> int:
        """The version that was deleted; 0 when there was none."""
        return self.committed.version if self.deleted else 0

    @property
    def receipt(self) -> Receipt:
        """The proof of the commit, also where there was nothing to delete."""
        return self.committed.receipt


class Inserted(msgspec.Struct, frozen=True):
    """Committed rows, in their order. A row's status says whether it was applied."""

    pieces: tuple[Committed, ...]

    @property
    def records(self) -> list[RecordResult]:
        """What became of each row."""
        return [record for piece in self.pieces for record in piece.records]

    @property
    def receipt(self) -> Receipt:
        """The receipt of the last piece: its token sees all rows."""
        return self.pieces[-1].receipt
