"""Writes of drivers: their rows become requests like everyone's, and its outcome becomes words of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from cluster.awaited import Awaited
from cluster.driver_keys import Claim
from cluster.driver_queries import Answer
from cluster.driver_rows import (
    Insert,
    Results,
    conflict_of_batch,
    conflict_of_many,
    conflict_of_one,
    encode_insert,
    final_ids,
)
from cluster.effects import Result
from cluster.errors import NodeError
from cluster.lone_caller import CameTo, LoneCaller, NotKnown
from cluster.service import Service
from redwire.errors import Code, NotConfirmed, RedwireError, Refused, RequestInvalid
from redwire.frame import Kind
from redwire.handshake import Principal
from redwire.message.client import RecordStatus, results_of
from redwire.message.driver import (
    BatchError,
    BulkInsert,
    decode_bulk_insert,
    decode_target,
    encode_batch_error,
    encode_batch_ok,
    encode_count,
    encode_deleted,
    encode_inserted,
)
from redwire.message.params import decode_binary_rows
from redwire.record import Key, Op, Record, RequestKind, check_collection, encode_record, encode_write

REMAINING_MS = 25_000
"""What a driver's request has of its 30 s; the service keeps a share of it for the way back (R8)."""
CROWDED_S = 3.0
"""What a request waits for room in the node's queue. With `ANSWER_S` these are 27 of a driver's 30 s: the
rest is for both ways, and for taking the body apart.
"""
ANSWER_S = 24.0
"""The node answers by its own deadline, before this: it is for a node that does not turn any more."""
LOOP_BYTES_MAX = 8 << 10
"""Larger bodies are taken apart in a thread, which is 0.1 ms away. That many bytes take 0.2 ms in rows of 180
bytes and 1 ms in the smallest ones; 64 KiB of those would hold up everybody else for 9.
"""

T = TypeVar("T")


class DriverWrites:
    """The writes of one driver's session. Each method answers one body, and raises what the session tells."""

    def __init__(self, service: Service, principal: Principal) -> None:
        self._service = service
        self._principal = principal

    async def bulk_insert(self, payload: bytes) -> Answer:
        """BulkInsert (04): one row, rows one by one, or all rows or none."""
        self._service.require_primary()
        insert = await self._off_loop(len(payload), decode_bulk_insert, payload)
        check_collection(insert.collection)
        if insert.atomic:
            return await self._insert_atomic(insert, len(payload))
        if not insert.rows:
            return Kind.BULK_OK, encode_inserted([], single=False)
        encoded = await self._off_loop(len(payload), _encoded, insert, None)
        results = await self._commit_rows(encoded)
        if all(status is RecordStatus.APPLIED for status, _ in results):
            return Kind.BULK_OK, encode_inserted(final_ids(encoded.ids, results), single=insert.single)
        if insert.single:
            text = conflict_of_one(insert.collection, encoded.ids[0], results[0][1])
        else:
            text = conflict_of_many(insert.collection, encoded.ids, results)
        return Kind.ERROR, text.encode()

    async def bulk_insert_binary(self, payload: bytes) -> Answer:
        """BulkInsertBinary (06) and its twin that asks for no checks (08), which gets them all the same."""
        self._service.require_primary()
        size = LOOP_BYTES_MAX + 1  # a small body can announce many
        rows = await self._off_loop(size, decode_binary_rows, payload)
        check_collection(rows.collection)
        if not rows.documents:
            return Kind.BULK_OK, encode_count(0)
        size = sum(map(len, rows.documents))  # each repeats the names of the columns
        encoded = await self._off_loop(size, encode_insert, rows.collection, rows.documents)
        results = await self._commit_rows(encoded)
        if all(status is RecordStatus.APPLIED for status, _ in results):
            return Kind.BULK_OK, encode_count(len(results))
        return Kind.ERROR, conflict_of_many(rows.collection, encoded.ids, results).encode()

    async def delete(self, payload: bytes) -> Answer:
        """Delete (1A): the number of documents that are gone by it."""
        self._service.require_primary()
        target = decode_target(payload)
        record = encode_record(Record(Op.DELETE, target.collection, target.id))
        result = await self._commit(encode_write([record]), 1)
        ((status, _),) = results_of(result.items)
        return Kind.DELETE_OK, encode_deleted(int(status is RecordStatus.DELETED))

    async def _insert_atomic(self, insert: BulkInsert, size: int) -> Answer:
        """All rows or none; under an idempotency key once, whatever the rows of a later attempt are."""
        if not insert.rows:
            return Kind.BULK_OK, encode_batch_ok(0)
        try:
            if insert.idempotency_key is None:
                encoded = await self._off_loop(size, _encoded, insert, None)
                result = await self._commit(encoded.request, len(encoded.ids))
            else:
                result = await self._commit_once(insert, insert.idempotency_key, size)
        except RequestInvalid as error:
            self._service.node.bulletin.counts.answered(error.code)
            return Kind.ERROR, _batch_error(error)
        results = results_of(result.items)
        failed = conflict_of_batch(results)
        if failed is not None:
            return Kind.ERROR, encode_batch_error(failed, code=BatchError.ROW_SCHEMA_REJECTED)
        return Kind.BULK_OK, encode_batch_ok(len(results))

    async def _commit_once(self, insert: BulkInsert, text: str, size: int) -> Result:
        """What `insert` came to under the idempotency key `text`, now or at an earlier attempt."""
        service = self._service
        role = service.require_primary()
        role.check_ready()
        state, term = service.node.storage.state, role.reign.term
        try:
            claim = await service.driver_keys.claim(self._principal, text, state, service.applied, term)
        except NodeError as error:
            raise service.node.damage.told(error) from error
        try:
            if service.require_primary().reign.term != term:
                raise Refused(Code.NOT_READY, "another reign began meanwhile", hint="retry")
            known = state.lookup(claim.key)
            if known is not None:
                return _executed(known)
            encoded = await self._off_loop(size, _encoded, insert, claim.key)
            return await self._commit(encoded.request, len(encoded.ids), claim)
        finally:
            service.driver_keys.release(claim)

    async def _off_loop(self, size: int, function: Callable[..., T], *args: object) -> T:
        """Call at once what is small, in a thread what would hold up the event loop."""
        if size <= LOOP_BYTES_MAX:
            return function(*args)
        return await anyio.to_thread.run_sync(function, *args, limiter=self._service.heavy)

    async def _commit_rows(self, insert: Insert) -> Results:
        return results_of((await self._commit(insert.request, len(insert.ids))).items)

    async def _commit(self, request: bytes, count: int, claim: Claim | None = None) -> Result:
        """Have `request` committed by the cluster's default policy. Raises `Refused` or `NotConfirmed`."""
        service = self._service
        with anyio.move_on_after(CROWDED_S):
            await service.node.inbox.uncrowded()
        if service.node.inbox.crowded():
            raise Refused(Code.BUSY, "too many writes wait on this node", hint="retry")
        service.require_primary()
        answer = Awaited[CameTo]()
        proposal = service.proposal(
            LoneCaller(answer.settle),
            0,
            RequestKind.WRITE,
            request,
            count=count,
            policy="",
            remaining_ms=REMAINING_MS,
            key=claim.key if claim else None,
            attempt=claim.attempt if claim else 1,
        )
        if claim is not None:
            claim.logged += 1
        service.node.inbox.propose(proposal)
        outcome = await answer.wait(ANSWER_S)
        match outcome:
            case None:
                raise NotConfirmed(f"no answer within {ANSWER_S:g} s: it may or may not be written")
            case Result():
                if claim is not None:
                    claim.logged, claim.fresh = 0, False
                return _executed(outcome)
            case NotKnown(message=message):
                raise NotConfirmed(message, hint="it may or may not be written: read it back later")
            case RedwireError():
                if claim is not None and not isinstance(outcome, NotConfirmed):
                    claim.logged = max(0, claim.logged - 1)
                raise outcome


def _encoded(insert: BulkInsert, key: Key | None) -> Insert:
    return encode_insert(insert.collection, insert.documents(), key, atomic=insert.atomic)


def _executed(result: Result) -> Result:
    if (refusal := result.refusal) is not None:
        raise refusal
    return result


def _batch_error(error: RequestInvalid) -> bytes:
    """A batch that is too large as a whole is that, by rows or by bytes; else a row is at fault."""
    whole = error.code is Code.TOO_LARGE and error.record is None
    return encode_batch_error(error, code=BatchError.BATCH_TOO_LARGE if whole else None)
