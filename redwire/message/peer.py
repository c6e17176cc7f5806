"""Bodies between nodes, kinds 60 to 69 (docs/PROTOCOL.md, section 5).

Reports, answers to Follow and snapshot talk are CBOR; what is sent once or more for each batch, Ack and
Heartbeat, is fixed binary. A Batch (64) is its bytes as logged, see `redwire.batch`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

import msgspec

from redwire.body import U32, U63, Bytes16, Bytes32, ClosedStruct, Hex32, Name, TermNumber
from redwire.errors import BodyInvalid
from redwire.message.vitals import Vitals
from redwire.position import Lsn, NodeId, Position, Reign, Term, TermEntry, TermList

REPORT_TERMS_MAX = 1_000
"""Older reigns are left out: whoever's log parts from ours before them takes a snapshot."""
GIVEN_UP_MAX = 256
"""Those of the newest terms are told."""
CHUNK_BYTES_MAX = 256 << 10
"""A heartbeat waits behind one of them at most: 20 ms at 100 Mbit/s."""

ClusterOrNone = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{32})?\Z")]
AddressOrNone = Annotated[str, msgspec.Meta(pattern=r"\A([A-Za-z0-9._:\[\]-]{1,253}:[0-9]{1,5})?\Z")]
"""`host:port` as clients get to see it, or nothing."""


class Report(ClosedStruct, frozen=True, kw_only=True):
    """PeerHello (60), PeerWelcome (61) and Follow (62): who I am and where my log stands.

    `cluster` is "" while the node has never joined one; `process` is random, new at each start; `term` and
    `primary` are the reign that it accepted last (0 and "" for none), `follows` is whoever leads and is
    followed at this moment, "" for nobody. `stands` is the term for which it asks for votes, 0 for none, and
    `vote` and `voted_for` are the last vote that it gave, on its disk: since then it accepts no older term,
    and of that one no other primary (R11); `other_vote` is the newest term of a vote that it gave to anyone
    else than `voted_for`. `applied` is its state's LSN, `base` the LSN its log begins after. `role` is a word
    of `NodeRole`, or one that only newer nodes know. `terms` are the last `REPORT_TERMS_MAX` entries of its
    log's list. `reached_at` is where members reach the node by its own file, which may be newer than the
    settings that they know; `advertise` is where clients do, "" for the address that the cluster knows it by.
    `without` are nodes that were given up, each with the newest term that began so and is known committed
    here. `vitals` stand in hello and welcome; Follow goes without.
    """

    format: Literal[3] = 3
    cluster: ClusterOrNone
    name: Name
    node: Name
    region: Name
    incarnation: Hex32
    process: Hex32
    role: Name
    term: TermNumber
    primary: Name
    follows: Name = ""
    stands: TermNumber = 0
    vote: TermNumber = 0
    voted_for: Name = ""
    other_vote: TermNumber = 0
    last_term: TermNumber
    last_lsn: U63
    last_chain: Bytes16
    watermark: U63
    applied: U63
    base: U63
    reached_at: Annotated[str, msgspec.Meta(max_length=255)] = ""
    advertise: AddressOrNone = ""
    terms: Annotated[tuple[tuple[TermNumber, U63, U32], ...], msgspec.Meta(max_length=REPORT_TERMS_MAX)]
    without: Annotated[tuple[tuple[Name, TermNumber], ...], msgspec.Meta(max_length=GIVEN_UP_MAX)] = ()
    vitals: Vitals | None = None

    def __post_init__(self) -> None:
        if any(late[0] <= early[0] or late[1] <= early[1] for early, late in pairwise(self.terms)):
            raise ValueError("the terms of a report rise, and so do their first LSNs")

    @property
    def end(self) -> Position:
        """Where the node's log ends."""
        return Position(Term(self.last_term), Lsn(self.last_lsn), self.last_chain)

    @property
    def reign(self) -> Reign | None:
        """The reign that the node has accepted last; None for a node that never followed or led."""
        return Reign(Term(self.term), NodeId(self.primary)) if self.primary else None

    def given_up(self, by: Report) -> bool:
        """Whether an operator gave this node up for a reign that is known committed to `by`, and its log has
        nothing of that: what only it knows committed is over (R5). Of two that were given up for each other
        neither was, nor who is empty, nor for a reign too old to be told.
        """
        return self._left_behind(by) and not by._left_behind(self)

    def _left_behind(self, by: Report) -> bool:
        term = max((term for node, term in by.without if node == self.node), default=0)
        begun = next((entry for entry in by.terms if entry[0] == term), None)
        if begun is None or begun in self.terms or not self.last_lsn:
            return False
        return len(self.terms) < REPORT_TERMS_MAX or self.terms[0][0] < term

    @property
    def term_list(self) -> TermList:
        """`terms` as a list to compare logs by."""
        return TermList(tuple(TermEntry(Term(term), Lsn(first), mark) for term, first, mark in self.terms))


def report_terms(terms: TermList) -> tuple[tuple[int, int, int], ...]:
    """The `terms` of a report: the last `REPORT_TERMS_MAX` entries."""
    return terms.entries[-REPORT_TERMS_MAX:]


def report_without(given_up: Mapping[NodeId, Term]) -> tuple[tuple[NodeId, Term], ...]:
    """The `without` of a report: the `GIVEN_UP_MAX` nodes that were given up last."""
    return tuple(sorted(given_up.items(), key=lambda item: item[1])[-GIVEN_UP_MAX:])


class Following(ClosedStruct, frozen=True, kw_only=True):
    """Following (63): the source's answer to Follow.

    `common` is the last point at which both logs agree, `head` and `watermark` are the source's. `leads` is
    False for a source that only lends its log to a node that is about to lead. `settled`: the first record of
    the reign is committed, so no other reign of its term ever commits anything by a rule that intersects.
    """

    term: TermNumber
    primary: Name
    leads: bool
    common_term: TermNumber
    common_lsn: U63
    common_chain: Bytes16
    head: U63
    watermark: U63
    settled: bool = False

    @property
    def common(self) -> Position:
        """The last point at which both logs agree."""
        return Position(Term(self.common_term), Lsn(self.common_lsn), self.common_chain)

    @property
    def reign(self) -> Reign:
        """The reign that the source speaks for."""
        return Reign(Term(self.term), NodeId(self.primary))


_ACK = struct.Struct("<QQQQI")
_BEAT = struct.Struct("<QQQQ")
SYNCED_US_MAX = (1 << 32) - 1
"""Its field has 32 bits: 71 minutes."""


class Ack(msgspec.Struct, frozen=True):
    """Ack (65): what the follower holds, in the reign (term, primary); `durable` is on its disk.

    `synced_us` is how long the newest batch that `durable` covers took from its receipt to the disk; 0 where
    this ack brings no batch.
    """

    term: int
    durable: int
    applied: int
    received: int
    primary: str
    synced_us: int = 0

    def encode(self) -> bytes:
        """This ack's bytes."""
        synced_us = min(self.synced_us, SYNCED_US_MAX)
        numbers = _ACK.pack(self.term, self.durable, self.applied, self.received, synced_us)
        return _with_name(numbers, self.primary)

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Self:
        """The ack in `payload`. Raises `BodyInvalid`."""
        (term, durable, applied, received, synced_us), primary = _decode(_ACK, payload, "Ack")
        return cls(term, durable, applied, received, primary, synced_us)


class Heartbeat(msgspec.Struct, frozen=True):
    """Heartbeat (66): the source's log end, watermark and clock (ms since 1970), in (term, primary)."""

    term: int
    head: int
    watermark: int
    clock_ms: int
    primary: str

    def encode(self) -> bytes:
        """This heartbeat's bytes."""
        numbers = _BEAT.pack(self.term, self.head, self.watermark, self.clock_ms)
        return _with_name(numbers, self.primary)

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Self:
        """The heartbeat in `payload`. Raises `BodyInvalid`."""
        (term, head, watermark, clock_ms), primary = _decode(_BEAT, payload, "Heartbeat")
        return cls(term, head, watermark, clock_ms, primary)


def _with_name(numbers: bytes, primary: str) -> bytes:
    name = primary.encode()
    return numbers + bytes((len(name),)) + name


def _decode(layout: struct.Struct, payload: bytes | memoryview, what: str) -> tuple[tuple[int, ...], str]:
    """The numbers of `layout`, and the primary's name behind them."""
    name_at = layout.size + 1
    if len(payload) < name_at:
        raise BodyInvalid(f"{what}: {len(payload)} bytes, its numbers alone take {name_at}")
    length = payload[layout.size]
    if len(payload) != name_at + length:
        raise BodyInvalid(f"{what}: a primary of {length} bytes at byte {name_at} of {len(payload)}")
    try:
        return layout.unpack_from(payload), str(payload[name_at:], "utf-8")
    except UnicodeDecodeError as error:
        raise BodyInvalid(f"{what}: the primary is not UTF-8 at byte {name_at + error.start}") from error


SnapshotName = Annotated[str, msgspec.Meta(pattern=r"\A(?!\.)[A-Za-z0-9._-]{0,128}\Z")]


class SnapshotFetch(ClosedStruct, frozen=True):
    """SnapshotFetch (67): send me that snapshot from byte `offset`; "" asks for a new one."""

    snapshot: SnapshotName
    offset: U63


class SnapshotManifest(ClosedStruct, frozen=True, kw_only=True):
    """SnapshotManifest (68): the snapshot that the chunks belong to; `sha256` is of the whole file."""

    snapshot: SnapshotName
    lsn: U63
    term: U63
    chain: Bytes16
    size: U63
    sha256: Bytes32

    @property
    def position(self) -> Position:
        """Where the log ends that the snapshot replaces."""
        return Position(Term(self.term), Lsn(self.lsn), self.chain)


_CHUNK = struct.Struct("<Q32s")


class SnapshotChunk(msgspec.Struct, frozen=True):
    """SnapshotChunk (69): `data` stands at byte `offset` of the file; an empty one ends it."""

    offset: int
    data: bytes | memoryview

    def encode(self) -> bytes:
        """This chunk's bytes, with its hash."""
        assert len(self.data) <= CHUNK_BYTES_MAX
        return b"".join((_CHUNK.pack(self.offset, hashlib.sha256(self.data).digest()), self.data))

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Self:
        """The chunk in `payload`, its data a view of it, its hash checked. Raises `BodyInvalid`."""
        view = memoryview(payload)
        if not _CHUNK.size <= len(view) <= _CHUNK.size + CHUNK_BYTES_MAX:
            limit = _CHUNK.size + CHUNK_BYTES_MAX
            raise BodyInvalid(f"SnapshotChunk: {len(view)} bytes, not {_CHUNK.size} to {limit}")
        offset, digest = _CHUNK.unpack_from(view)
        data = view[_CHUNK.size :]
        if hashlib.sha256(data).digest() != digest:
            raise BodyInvalid(f"SnapshotChunk: the data for file offset {offset} fails its hash")
        return cls(offset, data)
