"""The `redwire-node` command: run a node, or check its configuration."""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import anyio

from cluster.config import NodeConfig, parse_node_config
from cluster.door import raise_file_limit
from cluster.process import run
from cluster.yaml_file import load_yaml
from redwire.errors import RedwireError, TlsInvalid
from redwire.tls import certificate_expiry_ms, client_context, server_context

DISTRIBUTION = "redwire-cluster"
SWITCH_INTERVAL_S = 1e-4
"""With Python's default of 5 ms a busy event loop keeps the disk and apply threads from the interpreter for
seconds.
"""
GC_THRESHOLDS = (10_000, 20, 50)
"""What a write leaves behind is freed by its last reference: looking for cycles every 700 objects, Python's
default, takes a twentieth of the CPU under load and finds next to nothing.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code: 0 done, 1 error, 2 usage."""
    parser = argparse.ArgumentParser(prog="redwire-node", description="One node of a redwire cluster.")
    parser.add_argument(
        "action", nargs="?", choices=("run", "check"), default="run", help="run (default) or check"
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the node's YAML file")
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="lead although this data directory last followed another node",
    )
    asked = parser.parse_args(arguments)
    try:
        _check_distribution()
        config = parse_node_config(load_yaml(asked.config), asked.config)
        _check_files(config)
        if asked.action == "check":
            print(f"{asked.config}: {config.node.id} of {config.cluster.name} is in order")
            return 0
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.set_threshold(*GC_THRESHOLDS)
        gc.freeze()  # modules stay for good: no need to look at them again
        raise_file_limit()
        fast = find_spec("uvloop") is not None  # the extra `fast`
        return anyio.run(run, config, asked.take_over, backend_options={"use_uvloop": fast})
    except RedwireError as error:
        print(f"redwire-node: {error}", file=sys.stderr)
        return 1


def _check_files(config: NodeConfig) -> None:
    """Load what TLS needs, so that a bad file is named before anything starts. Raises `TlsInvalid`."""
    if config.tls is not None:
        ca, cert, key = Path(config.tls.ca), Path(config.tls.cert), Path(config.tls.key)
        if certificate_expiry_ms(cert) <= time.time() * 1000:
            raise TlsInvalid(cert, "the certificate has expired", hint="issue a new one: redwire certs issue")
        server_context(ca, cert, key)
        client_context(ca, cert, key, peer=True)


def _check_distribution() -> None:
    """Refuse to run with somebody else's `cluster`, `regions` or `tools` package: the names are common."""
    owners = importlib.metadata.packages_distributions()
    for package in ("redwire", "cluster", "regions", "tools"):
        others = sorted(set(owners.get(package, [DISTRIBUTION])) - {DISTRIBUTION})
        if others:
            raise RedwireError(
                f"the package {package} comes from {', '.join(others)}, not from {DISTRIBUTION}",
                hint=f"install {DISTRIBUTION} in an environment of its own",
            )


if __name__ == "__main__":
    sys.exit(main())
