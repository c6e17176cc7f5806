"""Packages of other distributions that are called like ours: the names are common."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from redwire.errors import RedwireError

DISTRIBUTION = "redwire-cluster"
OURS = Path(__file__).resolve().parent.parent
"""The folder that our packages are imported from."""
_NAMES = re.compile(r"^(redwire|cluster|regions|tools)(?:/|$)", re.MULTILINE)
_LISTS = ("[!~]*.dist-info/RECORD", "[!~]*.dist-info/top_level.txt", "[!~]*.egg-info/top_level.txt")
"""Where installers write down what a distribution consists of: every file, or its packages. `~` begins the
name of what pip moved out of its way, and left there when it was killed.
"""


def namesakes(folders: Iterable[str], ours: Path = OURS) -> Iterator[RedwireError]:
    """One error for each package of ours, and each other distribution in `folders` (as in `sys.path`) that
    has it too, beside ours or before: a process then gets modules of both. What comes behind `ours` is never
    imported.

    The lists are read as they are: `importlib.metadata` would cost a node 45 ms and 3 MB.
    """
    owners: dict[tuple[str, str], None] = {}  # each once, in their order
    for folder in folders:
        for path in _lists(folder):
            with suppress(OSError):  # what cannot be read is not imported from either
                found = _NAMES.findall(path.read_text(errors="replace"))
                owners.update(dict.fromkeys((package, _distribution(path.parent)) for package in found))
        if os.path.realpath(folder) == str(ours):
            break
    for package, owner in owners:
        if owner != DISTRIBUTION:
            yield RedwireError(
                f"the package {package} comes from {owner}, not from {DISTRIBUTION}",
                hint=f"install {DISTRIBUTION} in an environment of its own",
            )


def _lists(folder: str) -> Iterator[Path]:
    for pattern in _LISTS:
        with suppress(OSError):
            yield from sorted(Path(folder).glob(pattern))


def _distribution(folder: Path) -> str:
    """Whose folder of metadata this is: `name-version.dist-info`, and `.egg-info` without a version."""
    return folder.stem.partition("-")[0].replace("_", "-")
