"""More collections than there may be, as those who write are told of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from cluster import documents
from cluster.answers import Caller
from redwire.errors import Code, RequestInvalid
from redwire.frame import Kind
from redwire.record import Op, Record, RequestKind, encode_record, encode_write
from tests.driver_bench import Bench, Driver, served

WHY = "collection new would be one more than the 1 there may be"


@pytest.fixture
async def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(documents, "COLLECTIONS_MAX", 1)
    async with served(tmp_path) as (node, service):
        bench = Bench(node, service, Driver(service))
        await bench.driver.insert(payload={"id": "a"})
        yield bench


async def test_a_drivers_rows_begin_none_and_are_not_logged(full: Bench) -> None:
    before = full.node.requests
    text = await full.driver.error(Kind.BULK_INSERT, {"collection": "new", "payload": {"id": "a"}})
    assert text.startswith(f"INVALID: record 0: {WHY}; write into one that is there")
    rows = {"collection": "new", "batch": True, "payloads": [{"fields": {"id": "a"}}]}
    told = json.loads(await full.driver.error(Kind.BULK_INSERT, rows))
    assert told["row_index"] == 0 and WHY in told["error"]
    assert full.node.requests == before
    await full.driver.insert(payload={"id": "b"})


async def test_what_may_have_been_executed_before_is_not_refused_but_decided_by_the_log(full: Bench) -> None:
    request = encode_write([encode_record(Record(Op.PUT, "new", "a", b"{}"))])
    with pytest.raises(RequestInvalid, match=WHY) as refused:
        full.service.proposal(cast(Caller, None), 1, RequestKind.WRITE, request, policy="")
    assert (refused.value.code, refused.value.record) == (Code.INVALID, 0)
    again = full.service.proposal(cast(Caller, None), 1, RequestKind.WRITE, request, policy="", attempt=2)
    assert again.request == request
