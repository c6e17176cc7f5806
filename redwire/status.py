"""The status document: what one node knows of its whole cluster at one moment, for everyone who looks at it.

Whoever looks how a cluster is, on the command line, in the monitor or by metrics, reads this. A node answers
with the primary's view where it has one, and beside it with what it knows itself; what it cannot know is
None, or "unknown" where a word stands, and never zero.

`SCHEMA` grows when a field changes its meaning or goes away; a new field alone does not change it. A reader
takes what it knows from a newer document: unknown fields are passed over, words that it does not know are
shown as they are, and what is missing is unknown. So choices are words here, not enums.

Times are wall clock milliseconds since 1970 (`_at_ms`), durations in the unit that their name ends with,
sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from redwire.errors import BodyInvalid

SCHEMA = 3
UNKNOWN = "unknown"
"""The state of what nobody knows."""
STATUS_BYTES_MAX = 1 << 20
"""64 members and all their events take a quarter of it."""
EVENTS_MAX = 100
"""Recent events that a document carries: more than a screen or two of them are read in the node's log."""
CERTIFICATE_SOON_DAYS = 30
"""A certificate that ends within so many days wants a successor: whoever looks at it says so."""
STAGES = ("queue", "local_fsync", "wire", "remote_fsync", "apply", "total")
"""The parts of a commit's time in their order, as `Commits` and everybody who counts them call them."""


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Which cluster: `id` is "" for a node that has not joined one."""

    id: str = ""
    name: str = ""


class Vantage(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers, and whose view of the others this is.

    `source` is the node that made the cluster's part of the document: the primary, or `node` itself when it
    has none. `age_ms` is how old that part is, 0 for one's own. `hides_others`: the asker lacks the right to
    see the other nodes, so that the document leaves them out; it does not say that there are none.
    """

    node: str = ""
    region: str = ""
    source: str = ""
    age_ms: int = 0
    at_ms: int = 0
    hides_others: bool = False


class Primary(msgspec.Struct, frozen=True, kw_only=True):
    """Who leads. `state` is `leading`, `lost` (`node` is the last one that was followed), or `none`.

    `since_at_ms` is when that began: the reign, as far as it was heard of, or the silence of the one that is
    lost. None when this node has never seen it otherwise.
    """

    node: str = ""
    state: str = UNKNOWN
    since_at_ms: int | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster's settings in force, and the LSN of the record that says so. `pending` describes a change
    that is logged and not committed yet, "" for none.
    """

    lsn: int = 0
    policy: str = ""
    floor: str = ""
    policy_timeout_ms: int = 0
    replica_timeout_ms: int = 0
    pending: str = ""


class Quorum(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a write under the default policy would be accepted now.

    `met` is None when nobody leads in sight; `why` says what is missing when it is False. `completed_by` is
    the node whose copy completed the commit rule most often of late.
    """

    met: bool | None = None
    why: str = ""
    completed_by: str = ""


class RegionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One region. `nodes` are bound to it; `durable` is the highest LSN that one of its counted voters holds
    on disk; `holds_watermark`: that is at least the watermark. `completes` is its share (0 to 1) of the
    recent commits whose commit rule was completed by one of its nodes.
    """

    name: str = ""
    nodes: tuple[str, ...] = ()
    voters: int = 0
    durable: int | None = None
    holds_watermark: bool | None = None
    completes: float | None = None


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How far behind: `caught_up`, `behind` with records, bytes and milliseconds (each None where it is not
    known), or `unknown`, then `since_at_ms` is the last word of the node, None for "never heard"; of its own
    lag a node knows nothing since it lost the primary.
    """

    state: str = UNKNOWN
    records: int | None = None
    bytes: int | None = None
    ms: int | None = None
    since_at_ms: int | None = None
    catch_up_ms: int | None = None
    """When it will have caught up at its present pace; None for never or unknown."""


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """The promise to keep log for a node: `ok`, `at_risk` (of `bound`, evicted in `eviction_ms` if nothing
    changes), `evicted` (because of `bound`), `unknown`. `held_bytes` is the log that is kept for it.
    """

    state: str = UNKNOWN
    bound: str = ""
    eviction_ms: int | None = None
    held_bytes: int | None = None


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A node's disk: `working`, `full`, `damaged` (it takes the log, and no read is answered from the state
    on it), `failed`, `stopped`; how long a group's write and sync takes; what is free, in bytes and in files
    that may be made (`free_inodes`, None also where they are not counted), of which it needs both; what
    retention wants free (`floor_bytes`); how long until that is reached (`floor_ms`) by the growth of the
    last `floor_over_ms`, None while it is too early to tell. Who names the same `volume` shares it.
    """

    state: str = UNKNOWN
    fsync_p50_us: int | None = None
    fsync_p99_us: int | None = None
    free_bytes: int | None = None
    free_inodes: int | None = None
    floor_bytes: int | None = None
    floor_ms: int | None = None
    floor_over_ms: int | None = None
    volume: str = ""
    log_bytes: int | None = None


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One configured node.

    `region` is the one that the settings bind it to, "" for none; `declared` the one that its own
    configuration names ("" when it was not heard): they may differ, and the binding counts. `role` is
    a word of `NodeRole`, or `unknown`. `health` is `healthy`, `unhealthy` or `unknown`, and `why` says why
    not. `sent`, `received`, `durable`, `applied` are LSNs. `watermark` is the
    highest that the node knows committed, `base` the one that its log begins after. `uncounted` says why its
    copies do not count, "" when they do. `acked_at_ms` is its last word to the primary. `rtt_us` is the round
    trip between it and the primary, `rtts_us` are those that it measured itself, by node.
    """

    id: str = ""
    addr: str = ""
    region: str = ""
    declared: str = ""
    kind: str = "voter"
    role: str = UNKNOWN
    health: str = UNKNOWN
    why: str = ""
    uncounted: str = ""
    connected: bool | None = None
    sent: int | None = None
    received: int | None = None
    durable: int | None = None
    applied: int | None = None
    watermark: int | None = None
    base: int | None = None
    acked_at_ms: int | None = None
    lag: Lag = Lag()
    slot: Slot = Slot()
    rtt_us: int | None = None
    rtts_us: Mapping[str, int] = {}
    disk: Disk = Disk()
    certificate_ends_at_ms: int | None = None
    version: str = ""
    incarnation: str = ""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the time that commits took, over the window of `Commits`."""

    p50_us: int | None = None
    p99_us: int | None = None


class Commits(msgspec.Struct, frozen=True, kw_only=True):
    """Commits over the last `window_ms` on the primary; all None where nobody leads in sight.

    A write waits in the `queue`, its batch is synced here (`local_fsync`) while it travels (`wire`, there and
    back) and is synced by the node that completed the commit rule (`remote_fsync`), and then it is applied
    (`apply`). `total` is from its arrival to its answer under the commit rule. Each is counted once a batch,
    by the request that waited longest; `wire` and `remote_fsync` only where another node than the primary
    completed the rule, and for the newest batch of its ack. `completed_by` counts, by node, the batches whose
    commit rule it completed. `count` is requests, `rate` requests a second, `waiting` those not logged yet.
    """

    window_ms: int = 0
    count: int | None = None
    rate: float | None = None
    queue: Stage = Stage()
    local_fsync: Stage = Stage()
    wire: Stage = Stage()
    remote_fsync: Stage = Stage()
    apply: Stage = Stage()
    total: Stage = Stage()
    completed_by: Mapping[str, int] = {}
    waiting: int | None = None
    waiting_bytes: int | None = None

    @property
    def stages(self) -> Mapping[str, Stage]:
        """Those of `STAGES`, in that order."""
        return {name: getattr(self, name) for name in STAGES}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened on `node`. `kind` is one of the words of docs/OPERATIONS.md, `level` `info`,
    `warning` or `error`. `sequence` rises on each node from its start on.
    """

    node: str = ""
    sequence: int = 0
    at_ms: int = 0
    level: str = "info"
    kind: str = ""
    text: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole document. `head` is where the primary's log ends, `watermark` how far it is committed."""

    schema: int = SCHEMA
    vantage: Vantage = Vantage()
    cluster: Cluster = Cluster()
    term: int | None = None
    epoch: int = 0
    primary: Primary = Primary()
    head: int | None = None
    watermark: int | None = None
    settings: Settings = Settings()
    quorum: Quorum = Quorum()
    regions: tuple[RegionStatus, ...] = ()
    nodes: tuple[NodeStatus, ...] = ()
    commits: Commits = Commits()
    events: tuple[Event, ...] = ()

    @property
    def own(self) -> NodeStatus:
        """The node that answers; a row that knows nothing where it is no member."""
        return self.node(self.vantage.node) or NodeStatus(id=self.vantage.node)

    def node(self, name: str) -> NodeStatus | None:
        """The node called `name`."""
        return next((node for node in self.nodes if node.id == name), None)

    def region(self, name: str) -> RegionStatus | None:
        """The region called `name`."""
        return next((region for region in self.regions if region.name == name), None)

    def encode(self) -> bytes:
        """This document as JSON."""
        return msgspec.json.encode(self)

    def plain(self) -> dict[str, Any]:
        """This document as plain objects, for `--json`."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def decode(data: bytes) -> Status:
    """The document in `data`; of one with a newer schema what is known here. Its texts can be printed.

    Raises `BodyInvalid`.
    """
    if len(data) > STATUS_BYTES_MAX:
        raise BodyInvalid(f"a status document of {len(data)} bytes, at most {STATUS_BYTES_MAX}")
    try:
        return msgspec.convert(_clean(msgspec.json.decode(data)), Status)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BodyInvalid(f"not a status document: {error}") from error


def _clean(value: Any) -> Any:
    """`value` with every text on one line and without what commands a terminal: each node writes its own."""
    match value:
        case str():
            return value if value.isprintable() else "".join(c if c.isprintable() else " " for c in value)
        case list():
            return [_clean(item) for item in value]
        case dict():
            return {_clean(key): _clean(item) for key, item in value.items()}
        case _:
            return value
