"""Positions in the log: LSNs, terms, chains, the term list and the freshness token.

An LSN numbers a record: 1, 2, 3 and so on; 0 is the end of an empty log. A *term* numbers a reign and never
goes back. The *chain* of a batch is a hash over everything before it, so two logs whose chains agree at one
LSN agree on every byte up to it. Positions of different nodes are compared by (term, LSN, chain), never by
LSN alone (R4).
"""

from __future__ import annotations

import base64
import binascii
import struct
from bisect import bisect_right
from typing import NamedTuple, NewType, Self

import msgspec

from redwire.body import U63_MAX
from redwire.errors import TokenInvalid

Lsn = NewType("Lsn", int)
LSN_MAX = Lsn(U63_MAX)
"""No log comes so far."""
Term = NewType("Term", int)
NodeId = NewType("NodeId", str)
Region = NewType("Region", str)
ClusterId = NewType("ClusterId", str)
"""32 lower-case hex digits, random, made once when the cluster is bootstrapped."""
Incarnation = NewType("Incarnation", str)
"""32 lower-case hex digits, random, made with a node's data directory."""

CHAIN_BYTES = 16
"""Logs that part by accident differ in it: 128 bits leave nothing to luck."""
EMPTY_CHAIN = bytes(CHAIN_BYTES)
_MARK_BYTES = 4
"""Enough to look no further in vain: what two logs share is proven by the whole chain at its end."""


class Position(msgspec.Struct, frozen=True):
    """The end of a batch: the term it was written in, its last LSN, and its chain."""

    term: Term
    lsn: Lsn
    chain: bytes

    def __str__(self) -> str:
        return f"{self.term}/{self.lsn}:{self.chain[:4].hex()}"


EMPTY = Position(Term(0), Lsn(0), EMPTY_CHAIN)
"""Where a log without any record ends."""


class Reign(msgspec.Struct, frozen=True):
    """One primary's time. Two of one term can begin out of each other's reach; who has accepted one accepts
    the other only once that has committed its first record (R3).
    """

    term: Term
    primary: NodeId

    def __str__(self) -> str:
        return f"{self.term}:{self.primary}"


NO_REIGN = Reign(Term(0), NodeId(""))
"""Of a node that never led and never followed."""


class TermEntry(NamedTuple):
    """A term's place in a log: its first LSN, and a `mark` of the chain behind the batch that begins there.

    Two nodes can have opened reigns of one term at the same LSN, out of each other's reach: the marks differ.
    """

    term: Term
    first: Lsn
    mark: int

    @classmethod
    def of(cls, term: Term, first: Lsn, chain: bytes) -> Self:
        """The entry of a term whose first batch begins at `first` and has `chain`."""
        return cls(term, first, int.from_bytes(chain[:_MARK_BYTES], "little"))


class TermList(msgspec.Struct, frozen=True):
    """Which term wrote which LSN, terms and first LSNs strictly rising; empty for an empty log."""

    entries: tuple[TermEntry, ...] = ()

    def term_at(self, lsn: Lsn) -> Term:
        """The term that wrote `lsn`; 0 for LSN 0 and for an LSN before the first entry. The caller knows the
        end.
        """
        index = bisect_right(self.entries, lsn, key=lambda entry: entry.first)
        return self.entries[index - 1].term if index else Term(0)

    def extended(self, term: Term, first: Lsn, chain: bytes) -> TermList:
        """The list after a batch of `term` with `chain`, which begins at `first`, was appended."""
        if self.entries and self.entries[-1].term == term:
            return self
        assert not self.entries or (self.entries[-1].term < term and self.entries[-1].first < first)
        return TermList((*self.entries, TermEntry.of(term, first, chain)))

    def cut(self, end: Lsn) -> TermList:
        """The list of a log that ends at `end`."""
        return TermList(tuple(entry for entry in self.entries if entry.first <= end))

    def common_end(self, end: Lsn, other: TermList, other_end: Lsn) -> Lsn:
        """The highest LSN at which a log with this list and one with `other` can agree.

        Within one reign only one primary writes, so of two logs the shorter is a prefix of the longer as far
        as the highest entry that both lists share. 0 when they share none. The caller proves the point by its
        chain.
        """
        shared = max(set(self.entries) & set(other.entries), default=None)
        if shared is None:
            return Lsn(0)
        return min(self._end_of(shared, end), other._end_of(shared, other_end))

    def _end_of(self, entry: TermEntry, end: Lsn) -> Lsn:
        """The last LSN of `entry`'s term, in a log that ends at `end`."""
        index = bisect_right(self.entries, entry)
        return Lsn(self.entries[index].first - 1) if index < len(self.entries) else end


_TOKEN = struct.Struct("<16sQQ")
_TOKEN_PREFIX = "rw1."
TOKEN_BYTES = _TOKEN.size


class Token(msgspec.Struct, frozen=True):
    """A freshness token: "I have seen this LSN, written in this term, of this cluster" (R12)."""

    cluster: ClusterId
    term: Term
    lsn: Lsn

    def __str__(self) -> str:
        return _TOKEN_PREFIX + base64.urlsafe_b64encode(self.to_bytes()).decode().rstrip("=")

    def to_bytes(self) -> bytes:
        """The fixed 32 bytes that travel in frames."""
        return _TOKEN.pack(bytes.fromhex(self.cluster), self.term, self.lsn)

    @classmethod
    def from_bytes(cls, data: bytes) -> Token:
        """The reverse of `to_bytes`; `data` is exactly `TOKEN_BYTES` long."""
        cluster, term, lsn = _TOKEN.unpack(data)
        return cls(ClusterId(cluster.hex()), Term(term), Lsn(lsn))

    @classmethod
    def parse(cls, text: str) -> Token:
        """A token from its text form. Raises `TokenInvalid`."""
        body = text.removeprefix(_TOKEN_PREFIX)
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if body == text or len(data) != TOKEN_BYTES:
            raise TokenInvalid(text)
        return cls.from_bytes(data)
