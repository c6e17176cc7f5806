"""What the tests of a primary share: how they read what it said, and a log that an earlier reign wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from cluster.effects import Deposed, Effect, Reject, Release, Unconfirmed
from redwire import body
from redwire.batch import Batch
from redwire.errors import Code, Refused
from redwire.message.log import Admit, ClusterRecord, TermStart
from redwire.position import Lsn, Position, Term
from redwire.record import REQUEST_HEADER, RequestKind, request_heads

OWN_KINDS = {RequestKind.TERM_START: TermStart, RequestKind.CONFIG: ClusterRecord, RequestKind.ADMIT: Admit}


@pytest.fixture(scope="session")
def of() -> Callable[[type, Iterable[Effect]], list[Any]]:
    """`of(Commit, effects)`: those of one kind."""

    def chosen(kind: type, effects: Iterable[Effect]) -> list[Any]:
        return [effect for effect in effects if isinstance(effect, kind)]

    return chosen


@pytest.fixture(scope="session")
def answers() -> Callable[[Iterable[Effect]], list[tuple[type, int]]]:
    """`answers(effects)`: who is answered how, by number and in order."""

    def told(effects: Iterable[Effect]) -> list[tuple[type, int]]:
        found: list[tuple[type, int]] = []
        for effect in effects:
            if isinstance(effect, Release):
                found += [(Release, proposal.correlation) for proposal, _ in effect.answers]
            elif isinstance(effect, Reject | Unconfirmed):
                found.append((type(effect), effect.proposal.correlation))
        return found

    return told


@pytest.fixture(scope="session")
def own_records() -> Callable[[Batch], list[object]]:
    """`own_records(batch)`: the node's own records in it, decoded."""

    def decoded(batch: Batch) -> list[object]:
        heads = request_heads(batch.body)
        return [body.decode(head.data[REQUEST_HEADER.size :], OWN_KINDS[head.kind]) for head in heads]

    return decoded


@pytest.fixture(scope="session")
def old_end() -> Position:
    """The end of a log that an earlier reign wrote."""
    return Position(Term(1), Lsn(5), b"o" * 16)


@pytest.fixture(scope="session")
def deposed() -> Deposed:
    """Another one leads by now."""
    return Deposed(Refused(Code.STALE_TERM, "term 9 has begun"))
