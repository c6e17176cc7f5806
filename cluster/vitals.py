"""How this node is, looked at once a second: its disk, its certificate, its version."""

from __future__ import annotations

from cluster.config import NodeConfig
from cluster.credentials import NodeCredentials, Reminder
from cluster.disk import DiskState, DiskStatus
from cluster.events import EventKind
from cluster.node import Node
from cluster.trend import Forecast, Horizon, Trend
from redwire import __version__
from redwire.message.vitals import Vitals

GROWTH_MS = 60_000
"""A log grows by whole segments: over less than this its growth is nothing or far too much."""
FALL_MS = 600_000
FALL_LEAST_MS = 120_000
"""Free space falls by whole segments too, and by some at every start, which lay claim to it in advance."""
FALL_LONG_MS = 6 * 3_600_000
FALL_LONG_LEAST_MS = 3_600_000
"""Foresees three days, which is soon enough for whoever buys a disk; a nightly load is over in it."""


class VitalSigns:
    """Looks at one node. `credentials` are what it shows to others, None where TLS is off."""

    def __init__(self, node: Node, config: NodeConfig, credentials: NodeCredentials | None) -> None:
        self._node = node
        self._credentials = credentials
        self._reminder = Reminder()
        self._floor_bytes = config.retention.disk_free_min_bytes
        short = Trend(FALL_MS, least_ms=FALL_LEAST_MS)
        self._free = Horizon((short, Trend(FALL_LONG_MS, least_ms=FALL_LONG_LEAST_MS)))
        self._grown = Trend(GROWTH_MS, least_ms=GROWTH_MS // 2)
        self._grown_bytes = 0
        self._log_bytes: int | None = None

    def growth_bytes_s(self, log_bytes: int) -> int:
        """How fast the log grows, of late and on average; it is as long as `log_bytes` now."""
        before = log_bytes if self._log_bytes is None else self._log_bytes
        self._grown_bytes += max(0, log_bytes - before)  # what was removed has not unmade any growth
        self._log_bytes = log_bytes
        self._grown.note(self._grown_bytes, self._node.clock().ms)
        return self._grown.per_second

    def look(self, disk: DiskStatus, free_bytes: int | None, free_inodes: int | None, volume: str) -> None:
        """Take note of how this node is now, and say what it needs soon. What is free is None if unknown,
        `volume` names what it is of.
        """
        self._remind()
        damaged = self._node.damage.whole is not None
        now, bulletin = self._node.clock(), self._node.bulletin
        forecast = Forecast()
        if free_bytes is not None:
            self._free.note(free_bytes, now.ms)
            fell = free_bytes <= self._floor_bytes
            forecast = Forecast(in_ms=0) if fell else self._free.reaches(self._floor_bytes)
        bulletin.vitals = Vitals(
            version=__version__,
            durable=self._node.storage.log.durable,
            disk=(DiskState.DAMAGED if damaged else disk.state).value,
            fsync_p50_us=disk.group_p50_us,
            fsync_p99_us=disk.group_p99_us,
            free_bytes=free_bytes,
            free_inodes=free_inodes,
            floor_bytes=self._floor_bytes,
            floor_ms=forecast.in_ms,
            floor_over_ms=forecast.over_ms,
            volume=volume,
            log_bytes=disk.wal.bytes,
            certificate_ends_at_ms=None if self._credentials is None else self._credentials.not_after_ms,
            rtts_us={str(member): took_us for member, took_us in bulletin.rtts_us.items()},
            events=bulletin.events.young(now.wall_ms),
        )

    def _remind(self) -> None:
        if self._credentials is not None:
            for advice in self._reminder.due(self._credentials.current, self._node.clock().wall_ms):
                self._node.happened(EventKind.CERTIFICATE_ENDING, str(advice))
