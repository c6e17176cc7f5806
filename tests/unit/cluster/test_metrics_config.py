"""The metrics port in a node's file: off, on loopback, guarded, or open by a word that says so."""

from __future__ import annotations

import pytest

from cluster.address import Address
from cluster.metrics_config import MetricsConfig, MetricsTls
from redwire.errors import ConfigInvalid

NODE = Address("10.0.0.1", 5050)
HERE, THERE = Address("127.0.0.1", 9464), Address("10.0.0.1", 9464)


@pytest.mark.parametrize(
    "config",
    [
        MetricsConfig(),
        MetricsConfig(listen=HERE),
        MetricsConfig(listen=HERE, tls=MetricsTls.ON),
        MetricsConfig(listen=THERE, tls=MetricsTls.ON),
        MetricsConfig(listen=THERE, tls=MetricsTls.INSECURE),
    ],
)
def test_what_is_off_on_loopback_or_says_how_it_is_guarded_is_taken(config: MetricsConfig) -> None:
    config.check("node.yaml", NODE, certificate=True)


@pytest.mark.parametrize(
    ("config", "certificate", "said"),
    [
        (MetricsConfig(listen=THERE), True, "off is for loopback only"),
        (MetricsConfig(listen=THERE, tls=MetricsTls.ON), False, "takes the node's certificate"),
        (MetricsConfig(tls=MetricsTls.ON), True, "metrics.listen: is missing"),
        (MetricsConfig(listen=NODE, tls=MetricsTls.ON), True, "is node.listen already"),
    ],
)
def test_everything_else_says_what_is_wrong(config: MetricsConfig, certificate: bool, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        config.check("node.yaml", NODE, certificate=certificate)
