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
from typing import NewType

import msgspec

from redwire.errors import TokenInvalid

Lsn = NewType("Lsn", int)
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
    """One primary's time: no two reigns share a term (R3)."""

    term: Term
    primary: NodeId

    def __str__(self) -> str:
        return f"{self.term}:{self.primary}"


NO_REIGN = Reign(Term(0), NodeId(""))
"""Of a node that never led and never followed."""


class TermList(msgspec.Struct, frozen=True):
    """Which term wrote which LSN: (term, first LSN) pairs, both strictly rising; empty for an empty log."""

    entries: tuple[tuple[Term, Lsn], ...] = ()

    def term_at(self, lsn: Lsn) -> Term:
        """The term that wrote `lsn`; 0 for LSN 0 and for an LSN before the first entry. The caller knows the
        end.
        """
        index = bisect_right(self.entries, lsn, key=lambda entry: entry[1])
        return self.entries[index - 1][0] if index else Term(0)

    def extended(self, term: Term, first: Lsn) -> TermList:
        """The list after a batch of `term` that begins at `first` was appended."""
        if self.entries and self.entries[-1][0] == term:
            return self
        assert not self.entries or (self.entries[-1][0] < term and self.entries[-1][1] < first)
        return TermList((*self.entries, (term, first)))

    def cut(self, end: Lsn) -> TermList:
        """The list of a log that ends at `end`."""
        return TermList(tuple(entry for entry in self.entries if entry[1] <= end))

    def since(self, lsn: Lsn) -> TermList:
        """The entries that still speak of LSNs above `lsn`: the one in force at `lsn + 1`, and later ones."""
        index = bisect_right(self.entries, lsn + 1, key=lambda entry: entry[1])
        return TermList(self.entries[max(0, index - 1) :])

    def common_end(self, end: Lsn, other: TermList, other_end: Lsn) -> Lsn:
        """The highest LSN at which a log with this list and one with `other` can agree.

        Within one term only one primary writes, so of two logs the shorter is a prefix of the longer as far
        as the highest entry that both lists share. 0 when they share none. The caller proves the point by its
        chain.
        """
        mine, theirs = dict(self.entries), dict(other.entries)
        for term, first in reversed(self.entries):
            if theirs.get(term) == first:
                return min(_term_end(mine, term, end), _term_end(theirs, term, other_end))
        return Lsn(0)


def _term_end(entries: dict[Term, Lsn], term: Term, end: Lsn) -> Lsn:
    later = [first for other, first in entries.items() if other > term]
    return Lsn(min(later) - 1) if later else end


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
