"""The lock on a data directory: who holds it, who is refused, and what can be read of it by others."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cluster.data_lock import TRY_S, DataLock, Holder, Reloaded, looked_into
from cluster.errors import DataDirInUse, DataDirNoFolder, DiskFailed

REFUSED = Reloaded(number=1, done=False, message="no: Zürich\n", sha256="ab" * 32)
DONE = Reloaded(number=2, done=True, message="yes", sha256="cd" * 32)


def holder(data_dir: Path) -> Holder | None:
    with looked_into(data_dir) as found:
        return found


def test_the_lock_names_its_holder_and_is_free_after_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "var" / "node"
    lock = DataLock.take(data_dir)
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert (data_dir / "lock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(DataDirInUse) as caught:
        DataLock.take(data_dir)
    assert caught.value.pid == os.getpid()
    assert holder(data_dir) == Holder(pid=os.getpid())
    lock.close()
    assert holder(data_dir) is None
    DataLock.take(data_dir).close()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    lock = DataLock.take(tmp_path)
    code = (
        "import sys, pathlib\nfrom cluster.data_lock import DataLock\n"
        "from cluster.errors import DataDirInUse, DataDirNoFolder, DiskFailed\n"
        "try: DataLock.take(pathlib.Path(sys.argv[1]))\nexcept DataDirInUse as error: print(error.pid)"
    )
    root = Path(__file__).parents[3]
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=30
    )
    assert found.stdout.strip() == str(os.getpid()), found.stderr
    lock.close()


def test_a_holder_that_wrote_no_pid_is_unknown(tmp_path: Path) -> None:
    lock = DataLock.take(tmp_path)
    (tmp_path / "lock").write_bytes(b"")
    with pytest.raises(DataDirInUse, match="process unknown"):
        DataLock.take(tmp_path)
    lock.close()


def test_without_the_file_that_names_its_holder_the_directory_is_locked_all_the_same(tmp_path: Path) -> None:
    lock = DataLock.take(tmp_path)
    (tmp_path / "lock").unlink()
    with pytest.raises(DataDirInUse, match="process unknown"):
        DataLock.take(tmp_path)
    assert holder(tmp_path) == Holder(pid=0)
    lock.close()


def test_a_file_system_that_locks_no_directories_is_named_as_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, mode: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(DiskFailed, match="Bad file descriptor: its file system locks no directories"):
        DataLock.take(tmp_path)


def test_a_node_that_starts_waits_for_somebody_who_only_looks(tmp_path: Path) -> None:
    DataLock.take(tmp_path).close()
    inside, leave = threading.Event(), threading.Event()

    def look() -> None:
        with looked_into(tmp_path) as found:
            assert found is None
            inside.set()
            leave.wait(TRY_S / 4)

    looker = threading.Thread(target=look)
    looker.start()
    assert inside.wait(30)
    began = time.monotonic()
    DataLock.take(tmp_path).close()
    assert time.monotonic() - began >= TRY_S / 8
    looker.join()


def test_whoever_looks_makes_nothing(tmp_path: Path) -> None:
    assert holder(tmp_path) is None and holder(tmp_path / "none") is None
    assert list(tmp_path.iterdir()) == []


def test_the_outcome_of_the_last_reload_stands_beside_the_pid(tmp_path: Path) -> None:
    lock = DataLock.take(tmp_path)
    for outcome in (REFUSED, DONE):
        lock.tell(outcome)
        assert holder(tmp_path) == Holder(pid=os.getpid(), reloaded=outcome)
    lock.close()
    again = DataLock.take(tmp_path)
    assert holder(tmp_path) == Holder(pid=os.getpid()), "an outcome is of the process that told it"
    again.close()


@pytest.mark.parametrize("rest", [b"", b"{", b"[1]\n", b'{"number": 1}\n'])
def test_half_an_outcome_is_none(tmp_path: Path, rest: bytes) -> None:
    lock = DataLock.take(tmp_path)
    (tmp_path / "lock").write_bytes(b"42\n" + rest)
    assert holder(tmp_path) == Holder(pid=42)
    lock.close()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("file", "file: it is a file; "),
        ("file/of/eu-1", "/file is a file; "),
        ("link", "link: it is a link to nothing; "),
        ("pipe", "pipe: it is no directory; "),
    ],
)
def test_what_is_no_directory_is_told_as_what_it_is(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "away")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataDirNoFolder) as caught:
        DataLock.take(tmp_path / path)
    assert said in str(caught.value) and "check the disk" not in str(caught.value)


def test_a_pipe_in_the_place_of_the_words_is_named_and_holds_nobody_up(tmp_path: Path) -> None:
    words = tmp_path / "lock"
    lock = DataLock.take(tmp_path)
    words.unlink()
    os.mkfifo(words)
    assert holder(tmp_path) == Holder(pid=0)
    lock.close()
    with pytest.raises(DiskFailed, match=f"{words}: it is a pipe, and no file"):
        DataLock.take(tmp_path)
