"""A power cut that a node's state does not survive whole: SQLite's log is not synced, the node's own is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

StateFiles = dict[Path, bytes]


def state_files(shop: Any, node: str) -> StateFiles:
    """The files of the state of a node that does not run."""
    (path,) = shop.data_dir(node).glob("state*.db")
    return {file: file.read_bytes() for file in path.parent.glob(f"{path.name}*")}


def lose_since(shop: Any, node: str, then: StateFiles) -> Path:
    """Have the state of a node that does not run end where it was `then`; its database file."""
    for file in state_files(shop, node):
        file.unlink()
    for file, data in then.items():
        file.write_bytes(data)
    return min(then, key=lambda file: len(file.name))
