"""A reload, from both sides: what the node does and tells, and what whoever asked for it makes of that."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.config import TlsConfig
from cluster.credentials import NodeCredentials, day
from cluster.data_lock import DataLock, Reloaded, looked_into
from cluster.errors import ReloadFailed
from cluster.log_config import Level
from cluster.reload import Reloader, ask
from redwire.position import NodeId
from tools.authority import Authority

SHA256 = "ab" * 32


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[DataLock]:
    held = DataLock.take(tmp_path / "data")
    yield held
    held.close()


class Log:
    """What a node says."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Level]] = []

    def __call__(self, text: str, level: Level = Level.INFO) -> None:
        self.lines.append((text, level))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def files(tmp_path: Path) -> TlsConfig:
    authority = Authority.create("shop")
    authority.save(tmp_path)
    authority.issue_node("eu-1").save(tmp_path, "eu-1")
    return TlsConfig(**{key: str(tmp_path / name) for key, name in NAMES.items()})


NAMES = {"ca": "ca.pem", "cert": "eu-1.pem", "key": "eu-1.key"}


def outcome(tmp_path: Path) -> Reloaded:
    with looked_into(tmp_path / "data") as holder:
        assert holder is not None and holder.reloaded is not None
        return holder.reloaded


async def test_a_reload_is_told_to_the_log_and_to_whoever_asked(
    tmp_path: Path, lock: DataLock, log: Log, files: TlsConfig
) -> None:
    credentials = NodeCredentials(files, "shop", NodeId("eu-1"))
    before = credentials.current
    reloader = Reloader(credentials, lock, log)
    await reloader.reload()
    assert credentials.current is not before
    told = outcome(tmp_path)
    assert (told.number, told.done, told.sha256) == (1, True, before.sha256)
    assert told.message.startswith(f"reloaded: new connections go by {tmp_path}/eu-1.pem, valid until 2")
    (trusted,) = before.authorities
    until = day(trusted.not_after_ms)
    assert told.message.endswith(f"trusted in {tmp_path}/ca.pem: the authority of shop until {until}")
    assert log.lines == [(told.message, Level.INFO)]


async def test_a_new_certificate_that_lacks_what_clients_dial_is_warned_of(
    lock: DataLock, log: Log, files: TlsConfig
) -> None:
    await Reloader(NodeCredentials(files, "shop", NodeId("eu-1"), "db.example.net"), lock, log).reload()
    (_, level), (warning, severity) = log.lines
    assert (level, severity) == (Level.INFO, Level.WARNING)
    assert warning.endswith("they will refuse it; issue it anew with --host db.example.net")


async def test_a_bad_set_is_refused_told_and_leaves_the_old_one(
    tmp_path: Path, lock: DataLock, log: Log, files: TlsConfig
) -> None:
    credentials = NodeCredentials(files, "shop", NodeId("eu-1"))
    before = credentials.current
    (tmp_path / "eu-1.pem").write_bytes(b"")
    reloader = Reloader(credentials, lock, log)
    for number in (1, 2):
        await reloader.reload()
        told = outcome(tmp_path)
        assert (told.number, told.done, told.sha256) == (number, False, before.sha256)
    assert told.message.startswith("reload refused, what was in use stays in use: ")
    assert "eu-1.pem: holds no certificate" in told.message
    assert log.lines == [(told.message, Level.ERROR)] * 2
    assert credentials.current is before


async def test_files_that_cannot_be_looked_at_leave_the_old_set(
    tmp_path: Path, lock: DataLock, log: Log, files: TlsConfig
) -> None:
    credentials = NodeCredentials(files, "shop", NodeId("eu-1"))
    before = credentials.current
    (tmp_path / "eu-1.key").unlink()
    (tmp_path / "eu-1.key").symlink_to("n" * 300)
    await Reloader(credentials, lock, log).reload()
    assert not outcome(tmp_path).done and "eu-1.key: cannot be looked at" in outcome(tmp_path).message
    assert credentials.current is before


async def test_without_tls_there_is_nothing_to_reload(tmp_path: Path, lock: DataLock, log: Log) -> None:
    reloader = Reloader(None, lock, log)
    await reloader.reload()
    assert outcome(tmp_path).message == "reload: tls is off, there is nothing to reload"
    assert not outcome(tmp_path).done


@contextmanager
def answered(lock: DataLock, *answers: Reloaded) -> Iterator[None]:
    """This process is the node: each SIGHUP is answered by the next of `answers`."""
    left = list(answers)

    def answer(number: int, frame: object) -> None:
        lock.tell(left.pop(0))

    before = signal.signal(signal.SIGHUP, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def reloaded(number: int, *, done: bool = True, sha256: str = SHA256) -> Reloaded:
    return Reloaded(number=number, done=done, message="so it is", sha256=sha256)


def test_whoever_asks_gets_the_answer_to_his_own_question(tmp_path: Path, lock: DataLock) -> None:
    assert threading.current_thread() is threading.main_thread()
    with answered(lock, reloaded(1), reloaded(2)):
        assert ask(tmp_path / "data", SHA256) == reloaded(1)
        assert ask(tmp_path / "data", SHA256) == reloaded(2)


def test_a_refusal_is_an_error_of_whoever_asked(tmp_path: Path, lock: DataLock) -> None:
    with answered(lock, reloaded(1, done=False)), pytest.raises(ReloadFailed, match="so it is"):
        ask(tmp_path / "data", SHA256)


def test_a_node_that_took_other_files_is_not_called_reloaded(tmp_path: Path, lock: DataLock) -> None:
    words = "another certificate than the one that was checked; it reads"
    other = reloaded(1, sha256="cd" * 32)
    with answered(lock, other), pytest.raises(ReloadFailed, match=words):
        ask(tmp_path / "data", SHA256)


def test_where_no_node_runs_nobody_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReloadFailed, match="no node runs in .*; the files are read when one starts"):
        ask(tmp_path / "data", SHA256)
    lock = DataLock.take(tmp_path / "data")
    lock.close()
    with pytest.raises(ReloadFailed, match="no node runs in"):
        ask(tmp_path / "data", SHA256)


def test_a_process_that_has_gone_is_told_of(tmp_path: Path, lock: DataLock) -> None:
    gone = os.posix_spawn("/bin/true", ["true"], os.environ)
    os.waitpid(gone, 0)
    (tmp_path / "data" / "lock").write_bytes(b"%d\n" % gone)
    with pytest.raises(ReloadFailed, match=f"process {gone} cannot be told: No such process"):
        ask(tmp_path / "data", SHA256)


def test_a_process_that_nothing_names_is_not_told_and_not_called_gone(tmp_path: Path, lock: DataLock) -> None:
    (tmp_path / "data" / "lock").unlink()
    with pytest.raises(ReloadFailed, match="a node runs in .*lock does not say which process it is"):
        ask(tmp_path / "data", SHA256)
