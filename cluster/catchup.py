"""Where a follower's log and ours part, and whether it can go on from there (R4)."""

from __future__ import annotations

import msgspec

from redwire.errors import Code, Refused
from redwire.message.peer import Report
from redwire.position import Lsn, Position, TermList

PARTED_HINT = (
    "two histories have parted, and each knows committed what the other one lacks: choose one, stop the nodes"
    " of the other, and give them empty data directories"
)
"""Neither can be led beside the other: with any other start of nodes an operator goes round in circles."""


class Common(msgspec.Struct, frozen=True):
    """Both logs agree up to `lsn`, to be proven by the chain there."""

    lsn: Lsn


class SnapshotNeeded(msgspec.Struct, frozen=True):
    """The follower cannot continue from what is kept here: it is empty, or ends before our log begins."""

    reason: str


CatchUp = Common | SnapshotNeeded | Refused


def plan(follower: Report, cluster: str, terms: TermList, end: Position, base: Position) -> CatchUp:
    """How `follower` may go on from a log of `terms` that ends at `end` and is kept from `base` on.

    A new or wiped follower gets a snapshot first, unless the whole history is in the log and short enough to
    send.
    """
    if follower.cluster and follower.cluster != cluster:
        text = f"{follower.node} belongs to cluster {follower.cluster[:8]}, this is {cluster[:8]}"
        return Refused(Code.OTHER_CLUSTER, text, hint="check the addresses in its members list")
    common = terms.common_end(end.lsn, follower.term_list, Lsn(follower.last_lsn))
    if common < base.lsn:
        return SnapshotNeeded(
            f"the log is kept from LSN {base.lsn + 1}, the follower needs it from {common + 1}"
        )
    if follower.last_lsn == 0 and end.lsn > REPLAY_RECORDS_MAX:
        return SnapshotNeeded(f"the follower is empty and the log holds {end.lsn} records")
    return Common(common)


REPLAY_RECORDS_MAX = 10_000
"""An empty follower replays at most this much history, which takes it about a second; a snapshot holds each
document once.
"""

STREAMING_RECORDS = 20_000
"""A follower this close to the head counts as streaming: about two seconds of a busy primary."""


def is_streaming(head: Lsn, durable: Lsn) -> bool:
    """Whether a follower at `durable` keeps up: until it does it is not in reach (R8), nor is it counted (see
    `regions.ack_table.Row.uncounted`).
    """
    return head - durable <= STREAMING_RECORDS
