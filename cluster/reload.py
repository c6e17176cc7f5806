"""New credentials for a running node: the node's side of a reload, and the side of whoever asks for it.

A reload is asked for with SIGHUP, to the process that the lock on the data directory names. The node answers
in that same file, so that whoever asked can tell what became of it.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import anyio.to_thread

from cluster.credentials import NodeCredentials, day
from cluster.data_lock import DataLock, Holder, Reloaded, looked_into
from cluster.errors import ReloadFailed
from cluster.log_config import Level, Note
from redwire.errors import TlsInvalid

ANSWER_S = 10.0
"""A node whose loop turns answers within milliseconds."""
_ASK_S = 0.02
"""Reading a small file that is in memory."""


class Reloader:
    """The node's side. `credentials` is None where TLS is off: then there is nothing to reload."""

    def __init__(self, credentials: NodeCredentials | None, lock: DataLock, note: Note) -> None:
        self._credentials = credentials
        self._lock = lock
        self._note = note
        self._number = 0

    async def reload(self) -> None:
        """Take new files as a set, or keep the old ones; the log and the lock say which and why."""
        self._number += 1
        await anyio.to_thread.run_sync(self._reload)

    def _reload(self) -> None:
        done, message = self._swapped()
        self._note(message, Level.INFO if done else Level.ERROR)
        for warning in self._credentials.unnamed if done and self._credentials is not None else []:
            self._note(str(warning), Level.WARNING)
        sha256 = self._credentials.current.sha256 if self._credentials is not None else ""
        outcome = Reloaded(number=self._number, done=done, message=message, sha256=sha256)
        try:
            self._lock.tell(outcome)
        except OSError as error:
            self._note(f"nobody can be told what became of the reload: {error}", Level.WARNING)

    def _swapped(self) -> tuple[bool, str]:
        credentials = self._credentials
        if credentials is None:
            return False, "reload: tls is off, there is nothing to reload"
        try:
            credentials.reload()
        except TlsInvalid as error:
            return False, f"reload refused, what was in use stays in use: {error}"
        new = credentials.current
        until = f"{new.files.cert}, valid until {day(new.not_after_ms)}"
        trusted = ", ".join(f"{each.name} until {day(each.not_after_ms)}" for each in new.authorities)
        return True, f"reloaded: new connections go by {until}; trusted in {new.files.ca}: {trusted}"


def ask(data_dir: Path, sha256: str) -> Reloaded:
    """Tell the process in `data_dir` to reload, and wait for its answer.

    `sha256` is of the certificate that it should use afterwards. Raises `ReloadFailed`: nobody is there, no
    answer came, or the process refused or took another certificate.
    """
    before = _holder(data_dir)
    number = before.reloaded.number if before.reloaded is not None else 0
    try:
        os.kill(before.pid, signal.SIGHUP)
    except OSError as error:
        text = f"process {before.pid} cannot be told: {error.strerror}"
        raise ReloadFailed(text, hint="run this as the user that runs the node") from error
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        answer = _holder(data_dir).reloaded
        if answer is not None and answer.number > number:
            return _checked(before.pid, answer, sha256)
        time.sleep(_ASK_S)
    raise ReloadFailed(
        f"process {before.pid} was told, and did not answer within {ANSWER_S:g} s", hint="see the node's log"
    )


def _holder(data_dir: Path) -> Holder:
    with looked_into(data_dir) as holder:
        if holder is None:
            text = f"no node runs in {data_dir}"
            raise ReloadFailed(text, hint="the files are read when one starts")
        if holder.pid == 0:
            text = f"a node runs in {data_dir}, and {data_dir}/lock does not say which process it is"
            raise ReloadFailed(text, hint="send SIGHUP to it yourself, or restart it")
        return holder


def _checked(pid: int, answer: Reloaded, sha256: str) -> Reloaded:
    if not answer.done:
        raise ReloadFailed(f"process {pid}: {answer.message}")
    if answer.sha256 != sha256:
        text = f"process {pid} reloaded another certificate than the one that was checked"
        raise ReloadFailed(text, hint="it reads the files that tls named when it started: restart it")
    return answer
