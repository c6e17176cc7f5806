"""Where a node serves metrics and probes, and to whom: the section `metrics` of node.yaml."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from cluster.address import Address
from redwire.errors import ConfigInvalid


class MetricsTls(StrEnum):
    """How the port is guarded: `off` is plain text on loopback, `insecure` plain text anywhere."""

    OFF = "off"
    ON = "on"
    INSECURE = "insecure"


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The port; there is none without `listen`."""

    listen: Address | None = None
    tls: MetricsTls = MetricsTls.OFF

    def check(self, file: str, node: Address, *, certificate: bool) -> None:
        """Hold it against the node's address, and whether it has a certificate. Raises `ConfigInvalid`."""
        listen, tls = self.listen, self.tls
        if listen is None:
            if tls is not MetricsTls.OFF:
                raise ConfigInvalid(file, "metrics.listen", "is missing", hint="name an address")
            return
        if listen == node:
            raise ConfigInvalid(
                file, "metrics.listen", f"{listen} is node.listen already", hint="take another port"
            )
        if tls is MetricsTls.ON and not certificate:
            raise ConfigInvalid(file, "metrics.tls", "on takes the node's certificate, and tls is off")
        if tls is MetricsTls.OFF and not listen.is_loopback:
            message = f"off is for loopback only, and metrics.listen is {listen}"
            hint = "write on, or insecure where all who reach it may know how the cluster is"
            raise ConfigInvalid(file, "metrics.tls", message, hint=hint)
