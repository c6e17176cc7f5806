"""Where the clusters of `redwire dev` lie, and what to type to name one of them again."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from tools.dev.plan import DEFAULT_NAME


def clusters() -> Path:
    """The folder of all clusters that are told apart by name, in the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state).resolve() / "redwire" / "dev"


def folder_of(name: str | None) -> Path:
    """The folder of the cluster of this name; None for the default one."""
    return clusters() / (name or DEFAULT_NAME)


def typed(folder: Path, *words: str) -> str:
    """The command `redwire dev` with `words`, for the cluster in `folder` and no other."""
    folder = folder.resolve()
    place: tuple[str, ...] = ("--dir", str(folder))
    if folder.parent == clusters():
        place = () if folder.name == DEFAULT_NAME else ("--name", folder.name)
    return shlex.join(["redwire", "dev", *words, *place])
