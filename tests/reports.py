"""What a member says of itself, made for tests."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from redwire.message.peer import Report

LIFE = "ab" * 16
CLUSTER = "c" * 32
_EMPTY = Report(
    cluster="",
    name="shop",
    node="us-1",
    region="r",
    incarnation=LIFE,
    process="0c" * 16,
    role="replica",
    term=0,
    primary="",
    last_term=0,
    last_lsn=0,
    last_chain=bytes(16),
    watermark=0,
    applied=0,
    base=0,
    terms=(),
)


def report(node: str = "us-1", *, lsn: int = 0, term: int = 0, **fields: Any) -> Report:
    """`node` follows nobody, and its log ends at `lsn`, in the term that it has accepted last; without a log
    it is of no cluster. `fields` are those of `Report` that are otherwise.
    """
    log = {"cluster": CLUSTER if lsn else "", "last_term": term, "last_lsn": lsn}
    return replace(_EMPTY, node=node, term=term, **(log | fields))


def voted(known: Report, term: int, node: str = "a") -> Report:
    """The same member, once `node` has its vote for `term`."""
    return replace(known, vote=term, voted_for=node)
