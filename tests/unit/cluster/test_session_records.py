"""The records of the cluster's own that a session has under way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from cluster.answers import Caller
from cluster.lone_caller import CameTo
from cluster.service import Service
from cluster.session_records import SessionRecords
from redwire.errors import Code, Refused
from redwire.record import RequestKind, encode_system


def test_a_record_is_under_way_until_its_answer_is_told() -> None:
    asked: list[tuple[Caller, int, RequestKind, bytes]] = []
    left: list[int] = []

    def propose(*proposed: Any, remaining_ms: int) -> None:
        asked.append(proposed)
        left.append(remaining_ms)

    service = SimpleNamespace(proposal=propose)
    records, told = SessionRecords(cast(Service, service), RequestKind.ACCOUNT), list[tuple[int, CameTo]]()
    for correlation, remaining_ms in ((7, 5_000), (8, 9_000)):
        records.proposal(
            b"body", correlation, lambda came: told.append((records.under_way, came)), remaining_ms
        )
    (caller, *proposed), _ = asked
    assert proposed == [7, RequestKind.ACCOUNT, encode_system(RequestKind.ACCOUNT, b"body")]
    assert (records.under_way, left) == (2, [5_000, 9_000])
    refusal = Refused(Code.NOT_PRIMARY, "the reign is over")
    caller.rejected(None, refusal)  # type: ignore[arg-type]
    assert told == [(1, refusal)]
