"""Everything the regions package raises beside `redwire.errors.PolicyInvalid`.

RedwireError
├── QuorumError               the copies that a policy asks for
│   ├── InsufficientReplicas  too few voters are in reach to try
│   ├── MissingRegions        a region that must hold a copy has no voter in reach
│   └── Timeout               the copies were not proven in time; the record may or may not survive
├── MembershipInvalid         a list of members that cannot be a cluster
├── MemberUnknown             a node that the configuration does not name
├── RegionUnknown             a region to which no member is bound
└── ProtocolError
    └── AckInvalid            a peer that claims what cannot be
"""

from __future__ import annotations

from collections.abc import Iterable

from redwire.errors import RETRYABLE, Code, ProtocolError, RedwireError
from redwire.position import Lsn, NodeId, Region


class QuorumError(RedwireError):
    """The copies that a policy asks for cannot be had now, or were not proven in time."""

    def or_ask_for(self, policy: str) -> None:
        """Add to the hint a `policy`, quoted for a shell, that would be accepted, and can be met, now."""
        self.hint += f", or ask for fewer copies, as by --policy {policy}"


class InsufficientReplicas(QuorumError):
    """`required` voters beside the primary are needed and only `connected` are in reach."""

    code = Code.INSUFFICIENT_REPLICAS
    retry = Code.INSUFFICIENT_REPLICAS in RETRYABLE

    def __init__(self, required: int, connected: int) -> None:
        super().__init__(
            f"{required} other voters must hold the write and {connected} are in reach",
            hint="bring voters back",
            facts={"required": required, "connected": connected},
        )
        self.required = required
        self.connected = connected


class MissingRegions(QuorumError):
    """No voter in reach stands in the `missing` regions, of which `lacking` are needed (all of them by
    default).
    """

    code = Code.MISSING_REGIONS
    retry = Code.MISSING_REGIONS in RETRYABLE

    def __init__(self, missing: Iterable[Region], lacking: int | None = None) -> None:
        self.missing = frozenset(missing)
        self.lacking = len(self.missing) if lacking is None else lacking
        missing = sorted(self.missing)
        need = "" if self.lacking == len(self.missing) else f"{self.lacking} of "
        super().__init__(
            f"no voter in reach in {need}{','.join(missing)}",
            hint="bring a voter of the region back",
            facts={"missing": missing, "lacking": self.lacking},
        )


class Timeout(QuorumError):
    """The record at `target_lsn` was not proven on enough disks within `elapsed_ms`: it may or may not
    survive.

    `acked_regions` are the regions that did prove a copy.
    """

    code = Code.NOT_CONFIRMED
    retry = True

    def __init__(self, target_lsn: Lsn, elapsed_ms: int, acked_regions: Iterable[Region]) -> None:
        self.target_lsn = target_lsn
        self.elapsed_ms = elapsed_ms
        self.acked_regions = frozenset(acked_regions)
        acked = sorted(self.acked_regions)
        where = f"only in {','.join(acked)}" if acked else "in no region"
        super().__init__(
            f"LSN {target_lsn} not proven on enough disks in {elapsed_ms} ms, {where}",
            hint="it may or may not survive: ask again for its key",
            facts={"lsn": target_lsn, "elapsed_ms": elapsed_ms, "acked_regions": acked},
        )


class MembershipInvalid(RedwireError):
    """A list of members that cannot be a cluster: an id twice, or no voter."""


class MemberUnknown(RedwireError):
    """A node that the configuration does not name, or not as a voter where one is needed."""

    def __init__(self, node: NodeId, wanted: str = "a configured member") -> None:
        super().__init__(f"{node} is not {wanted}", facts={"node": node})
        self.node = node


class RegionUnknown(RedwireError):
    """A region to which no member is bound; `known` are those to which some are."""

    def __init__(self, region: Region, known: Iterable[Region]) -> None:
        names = ", ".join(sorted(set(filter(None, known))))
        super().__init__(
            f"no member is in region {region!r}",
            hint=f"members are in {names or 'no region'}",
            facts={"region": region},
        )
        self.region = region


class AckInvalid(ProtocolError):
    """A peer claims a position that cannot be: one beyond the end of the primary's log."""

    def __init__(self, node: NodeId, claimed: Lsn, head: Lsn) -> None:
        super().__init__(
            f"{node} claims LSN {claimed}, this log ends at {head}",
            hint="nothing it says about its log can be trusted; end the session",
            facts={"node": node, "claimed": claimed, "head": head},
        )
