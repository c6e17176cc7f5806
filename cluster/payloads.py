"""How long the payload of a client's frame may be, by its kind: what nobody looks at is not even kept.

Most requests name a document or a page. Only what carries documents may be as long as a frame, and only from
who may write: else whoever may read could have a node hold, and expand, 16 MiB for each connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from redwire.frame import PAYLOAD_BYTES_MAX, Kind

SMALL_BYTES_MAX = 64 << 10
"""A CBOR body, a fetch, a page."""
STATEMENT_BYTES_MAX = 2 << 20
"""The longest statement, and as much of parameters."""

_STATEMENTS = (Kind.QUERY, Kind.QUERY_BINARY, Kind.QUERY_WITH_PARAMS)
_DOCUMENTS = (Kind.WRITE, Kind.BULK_INSERT, Kind.BULK_INSERT_BINARY, Kind.BULK_INSERT_PREVALIDATED)
_LONGER = {
    **dict.fromkeys(_STATEMENTS, STATEMENT_BYTES_MAX),
    **dict.fromkeys(_DOCUMENTS, PAYLOAD_BYTES_MAX),
}


def payload_limits(looked_at: Iterable[Callable[[int], bool]]) -> dict[int, int]:
    """The longest payload of each kind that any of `looked_at` says it looks at, plain or expanded."""
    asked = [*looked_at]
    wanted = (kind for kind in Kind if any(wants(kind) for wants in asked))
    return {int(kind): _LONGER.get(kind, SMALL_BYTES_MAX) for kind in wanted}
