"""How long a payload may be, by its kind and by who sends it."""

from __future__ import annotations

from cluster.payloads import SMALL_BYTES_MAX, STATEMENT_BYTES_MAX, payload_limits
from redwire.frame import PAYLOAD_BYTES_MAX, Kind


def test_only_documents_may_be_as_long_as_a_frame_and_what_nobody_looks_at_has_no_place() -> None:
    reader = {Kind.FETCH, Kind.QUERY}
    limits = payload_limits([reader.__contains__, {Kind.WRITE}.__contains__])
    assert limits == {
        Kind.FETCH: SMALL_BYTES_MAX,
        Kind.QUERY: STATEMENT_BYTES_MAX,
        Kind.WRITE: PAYLOAD_BYTES_MAX,
    }
    assert payload_limits([]) == {}
