"""SQL of drivers: statements off the event loop, and their answers in the three shapes that drivers read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import anyio.to_thread

from cluster.awaited import Awaited
from cluster.primary import Primary
from cluster.service import Service
from cluster.sql import SqlQuery, SqlResult
from redwire.errors import Code, RedwireError, Refused
from redwire.frame import Kind
from redwire.message.driver import SqlValue, decode_sql, encode_param_result, encode_query_result
from redwire.message.params import decode_param_query, encode_binary_result
from regions.commit_policy import CommitPolicy

ANSWER_S = 25.0
"""Drivers give up after 30 s, and then take the late answer for the next one's."""
LOOP_ROWS_MAX = 50
"""More rows are encoded in a thread."""

Answer = tuple[Kind, bytes]
Encode = Callable[[SqlResult], bytes]


class DriverQueries:
    """The SQL of driver sessions, over this node's applied state, whatever its role.

    Each method answers one request's body, or raises `RequestInvalid`, `PolicyInvalid`, `QueryFailed` or
    `Refused`.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def query(self, payload: bytes) -> Answer:
        """Query (01): a summary, and the rows as objects."""
        return await self._answer(SqlQuery(decode_sql(payload)), _summary)

    async def query_binary(self, payload: bytes) -> Answer:
        """QueryBinary (07): the binary form."""
        return await self._answer(SqlQuery(decode_sql(payload)), _binary)

    async def query_with_params(self, payload: bytes) -> Answer:
        """QueryWithParams (28): a summary, and an envelope around the records.

        A commit policy in it must be one, and then changes nothing: what can be answered only reads.
        """
        query = decode_param_query(payload)
        if query.policy is not None:
            CommitPolicy.parse(query.policy)
        return await self._answer(SqlQuery(query.sql, query.params), _envelope)

    async def _answer(self, query: SqlQuery, encode: Encode) -> Answer:
        node = self._service.node
        if isinstance(node.role, Primary) and not node.role.ready:  # as `Reads` has it for documents (R3)
            text = "the new reign has not committed its first record yet"
            raise Refused(Code.NOT_READY, text, hint="retry")
        answer = Awaited[SqlResult | RedwireError]()
        node.storage.reads.sql.submit(query, answer.settle)
        result = await answer.wait(ANSWER_S)
        if result is None:
            raise Refused(Code.TIMEOUT, f"the statement was not answered within {ANSWER_S:g} s")
        if isinstance(result, RedwireError):
            raise result
        if len(result.rows) <= LOOP_ROWS_MAX:
            return Kind.RESULT, encode(result)
        return Kind.RESULT, await anyio.to_thread.run_sync(encode, result)


def _summary(result: SqlResult) -> bytes:
    return encode_query_result(result.statement, 0, result.columns, _rows(result))


def _envelope(result: SqlResult) -> bytes:
    return encode_param_result(result.statement, 0, result.columns, _rows(result))


def _binary(result: SqlResult) -> bytes:
    return encode_binary_result(result.columns, result.rows)


def _rows(result: SqlResult) -> Sequence[Sequence[SqlValue]]:
    return cast(Sequence[Sequence[SqlValue]], result.rows_as_json())  # JSON in JSON passes through as it is
