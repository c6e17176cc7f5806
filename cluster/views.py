"""What the metrics port shows of one node; made on the event loop, at the moment of each question."""

from __future__ import annotations

import ssl

from cluster.auth import Authenticator
from cluster.health import Demand, Liveness, Readiness, readiness
from cluster.intake import NEW_REIGN
from cluster.log_config import Log
from cluster.metrics import CONTENT_TYPE, Snapshot, exposition
from cluster.primary import Primary
from cluster.probes import Page
from cluster.pulse import Pulse
from cluster.service import Service
from redwire.tls import certificate_identities


class NodeViews:
    """Implements `cluster.probes.Views`. `authenticator` is None where everybody may see the metrics."""

    def __init__(self, service: Service, pulse: Pulse, log: Log, authenticator: Authenticator | None) -> None:
        self._service = service
        self._pulse = pulse
        self._log = log
        self._authenticator = authenticator

    def metrics(self) -> Page:
        """All metrics."""
        service, bulletin = self._service, self._service.node.bulletin
        snapshot = Snapshot(
            status=service.desk.document(),
            counts=bulletin.counts.status(),
            events=bulletin.events.counts(),
            disk=service.node.storage.disk_status(),
            state=service.node.storage.state.status(),
            audit=service.audit.status(),
            log_lines_lost=self._log.lost,
        )
        return Page(200, CONTENT_TYPE, exposition(snapshot))

    def live(self) -> Liveness:
        """Whether the process does its work."""
        pulse = self._pulse.status()
        return Liveness(
            alive=pulse.alive, why=pulse.why, node=self._service.me, disk_answered_ms=pulse.answered_ms
        )

    def ready(self, demand: Demand) -> Readiness:
        """Whether a client would get here what is demanded."""
        role, trouble = self._service.node.role, self._pulse.status().why
        if isinstance(role, Primary) and not role.ready:
            trouble = trouble or NEW_REIGN
        return readiness(self._service.desk.document(), demand, trouble)

    def admits(self, tls: ssl.SSLObject | None) -> bool:
        """Whether the other side shows a certificate that may see the cluster's shape."""
        if self._authenticator is None:
            return True
        principal = self._authenticator.identify(certificate_identities(tls), tls)
        return principal is not None and principal.topology_read
