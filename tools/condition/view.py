"""How far what a node says of the others can be taken for what is."""

from __future__ import annotations

from redwire.status import Status
from regions.lag import DEFAULT_REPLICA_TIMEOUT_MS


def fresh(status: Status) -> bool:
    """Whether the view of the others is of now: no older than a silent node may be and still count."""
    return status.vantage.age_ms <= (status.settings.replica_timeout_ms or DEFAULT_REPLICA_TIMEOUT_MS)
