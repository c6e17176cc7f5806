"""The certificates of a cluster on this machine: made once, kept, and renewed when old."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from redwire.errors import TlsInvalid
from redwire.tls import certificate_expiry_ms

HOST = "127.0.0.1"
FRESH_MS = 24 * 3_600_000
"""A certificate that has less time left is made anew."""


def write_certificates(folder: Path, cluster: str, users: Sequence[str], nodes: Sequence[str]) -> None:
    """Make what is missing in `folder`: the authority of `cluster`, a certificate for each of `users` and
    `nodes`. Nodes are reached on this machine only. Raises as `Authority.issue_node`.
    """
    missing = [name for name in ("ca", *users, *nodes) if not _is_fresh(folder, name)]
    if not missing:
        return
    from tools.authority import Authority  # loading cryptography takes longer than all else here

    if "ca" in missing:
        missing = ["ca", *users, *nodes]
        remove_certificates(folder, *missing)
        Authority.create(cluster).save(folder)
    authority = Authority.load(folder)
    for name in missing[missing[0] == "ca" :]:
        remove_certificates(folder, name)
        hosts = (HOST, "localhost")
        issued = authority.issue_user(name) if name in users else authority.issue_node(name, hosts)
        issued.save(folder, name)


def remove_certificates(folder: Path, *names: str) -> None:
    """Remove these certificates and their keys, as far as they are there."""
    for name in names:
        for suffix in ("pem", "key"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)


def _is_fresh(folder: Path, name: str) -> bool:
    """Whether a certificate and its key are there, and good for a while."""
    try:
        expiry_ms = certificate_expiry_ms(folder / f"{name}.pem")
    except TlsInvalid:
        return False
    return expiry_ms > time.time() * 1000 + FRESH_MS and (folder / f"{name}.key").exists()
