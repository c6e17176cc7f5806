"""Who else may get at a data directory. The node makes it, and all in it, for its own user alone; whoever
made it before, or copied it back, may not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cluster.advice import Advice
from cluster.files import translated

FOLDERS = ("diverged", "snapshots", "wal")
"""The folders in a data directory."""
WRITTEN = ("lock", "state*", *FOLDERS, "wal/*", "wal/*/*")
"""What a node writes to in its data directory, besides `meta.cbor`, which it replaces. Other things there,
such as a volume's lost+found, may be anybody's; the audit log holds nobody up.
"""
_OTHERS = 0o077
_OTHERS_WRITE = 0o022


def exposed(data_dir: Path) -> Iterator[Advice]:
    """What other users may do in `data_dir`, and what to type against it. Nothing where they may not enter
    it, or where it is not there yet. Raises `DiskFailed`.
    """
    with translated(data_dir):
        if not data_dir.is_dir() or not (mode := _mode(data_dir)) & _OTHERS:
            return
        parts = (path for part in ("meta.cbor", *WRITTEN) for path in sorted(data_dir.glob(part)))
        open_files = [path for path in parts if path.is_file() and _mode(path) & _OTHERS]
    if mode & _OTHERS_WRITE:
        what = f"{data_dir} may be changed by other users (mode {mode:04o})"
        yield Advice(what, f"chmod go-rwx {data_dir}")
    if open_files:
        which = f"{open_files[0]} (mode {_mode(open_files[0]):04o})"
        more = f", and at {len(open_files) - 1} more files there" if len(open_files) > 1 else ""
        what = f"other users may get at {which}{more}: they hold documents, and what proves passwords"
        yield Advice(what, f"chmod -R go-rwx {data_dir}")


def _mode(path: Path) -> int:
    """0 for a file that a running node has removed meanwhile."""
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        return 0
