"""The three kinds in which drivers ask SQL: from a request's body to a query, from its result to a body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from cluster.sql import TWICE_BYTES_MAX, SqlQuery, SqlResult
from redwire.frame import Kind
from redwire.message.driver import SqlValue, decode_sql, encode_param_result, encode_query_result
from redwire.message.params import decode_param_query, encode_binary_result
from regions.commit_policy import CommitPolicy


def decode_query(kind: int, payload: bytes) -> SqlQuery:
    """What a Query (01), QueryBinary (07) or QueryWithParams (28) asks.

    A commit policy in the last must be one, and then changes nothing: what can be answered only reads. Raises
    `RequestInvalid` or `PolicyInvalid`.
    """
    if kind != Kind.QUERY_WITH_PARAMS:
        return SqlQuery(decode_sql(payload))
    query = decode_param_query(payload)
    if query.policy is not None:
        CommitPolicy.parse(query.policy)
    return SqlQuery(query.sql, query.params, TWICE_BYTES_MAX)


def encode_result(kind: int, result: SqlResult) -> bytes:
    """The body of the Result (02) that answers a request of `kind`."""
    if kind == Kind.QUERY_BINARY:
        return encode_binary_result(result.columns, result.rows)
    encode = encode_param_result if kind == Kind.QUERY_WITH_PARAMS else encode_query_result
    # JSON in JSON passes through as it is
    rows = cast(Sequence[Sequence[SqlValue]], result.rows_as_json())
    return encode(result.statement, 0, result.columns, rows)
