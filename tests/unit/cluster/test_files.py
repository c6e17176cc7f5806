"""What the operating system says of files, in words of ours."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cluster.errors import DiskFailed, DiskFull
from cluster.files import translated


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.EIO, DiskFailed, "check the disk"),
        (errno.EACCES, DiskFailed, "check the disk"),
        (errno.EMFILE, DiskFailed, "raise LimitNOFILE of its service"),
        (errno.ENOSPC, DiskFull, "free some disk space"),
    ],
)
def test_an_error_of_the_system_says_what_to_do_about_it(
    number: int, kind: type[DiskFailed] | type[DiskFull], hint: str
) -> None:
    with pytest.raises(kind) as failed, translated(Path("wal")):
        raise OSError(number, "so it says")
    assert failed.value.message.startswith("wal: ")
    assert failed.value.hint.startswith(hint)
