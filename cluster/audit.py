"""The audit log: events become lines of a file in a thread of its own, so that nobody waits for the disk.

`record` is the one door. Each part of the log has files of its own, so that neither who comes in nor what is
refused pushes out what administrators did. A line that cannot be written is lost, is counted, and is said in
the node's own words; nothing else breaks by it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from logging import LogRecord, makeLogRecord
from logging.handlers import QueueListener, RotatingFileHandler
from queue import SimpleQueue

import anyio
import msgspec

from cluster.audit_events import Accepted, Event, Lost, Part, Rejected, Tally, line, part_of
from cluster.config import AuditConfig, Off
from cluster.effects import Now
from cluster.files import FILE_MODE
from cluster.log_config import Level, Note
from redwire.position import NodeId

LINES_WAITING_MAX = 10_000
"""Lines that the disk owes; some 3 MB."""
LOOK_S = 1.0
"""The second by which `Tally` counts its lines."""
STOP_S = 2.0
"""What the end of the process waits for the disk to take what it owes."""
_PART = "part"
"""What a record knows beside its text."""


class AuditStatus(msgspec.Struct, frozen=True):
    """The audit log at a glance. `trouble` is why the last line was not written, "" when it was.

    `lost` counts the lines of this process that are in no file, `waiting` those that the disk owes. Whether
    they are written or not, `accepted` and `rejected` count who authenticated and who did not.
    """

    trouble: str
    lost: int
    waiting: int
    accepted: int
    rejected: int


class Audit:
    """The audit log of one node. For the event loop's thread only, but for `close`."""

    def __init__(self, config: AuditConfig, node: NodeId, clock: Callable[[], Now], note: Note) -> None:
        """`config.file` is a path by now, or off. `note` hears of trouble with the file."""
        self._node = node
        self._clock = clock
        self._note = note
        self._tally = Tally()
        self._dropped = 0
        self._told = 0
        self._said = ""
        self._waiting = SimpleQueue[LogRecord]()
        self._seen = Counter[type[Event]]()
        self._files = [_File(path, config, part) for path, part in paths(config).items()]
        if self._files:
            self._listener = _Listener(self._waiting, *self._files)
            self._listener.start()

    def record(self, event: Event) -> None:
        """Have `event` written, with the time and this node's name. Never waits, never raises."""
        self._seen[type(event)] += 1
        if self._files and self._tally.lists(event):
            self._write(event)

    async def run(self) -> None:
        """Look every second."""
        while True:
            self.look()
            await anyio.sleep(LOOK_S)

    def look(self) -> None:
        """Write down how many had no line; say when lines begin to be lost, and when they no longer are."""
        unlisted = self._tally.next_second()
        if unlisted is not None:
            self._write(unlisted)
        status = self.status()
        if status.trouble:
            if status.trouble != self._said:
                text = f"the audit log cannot be written, and its lines are lost: {status.trouble}"
                self._note(text, Level.ERROR)
        elif status.lost > self._told:
            lost, self._told = status.lost - self._told, status.lost
            self._note(f"the audit log is written again; {lost} lines are lost", Level.ERROR)
            self._write(Lost(lines=lost))
        self._said = status.trouble

    def status(self) -> AuditStatus:
        """The audit log at a glance."""
        files, waiting = self._files, self._waiting.qsize()
        accepted, rejected = self._seen[Accepted], self._seen[Rejected]
        if not files:
            return AuditStatus("", 0, 0, accepted, rejected)
        where = files[0].baseFilename
        trouble = next((f"{file.baseFilename}: {file.trouble}" for file in files if file.trouble), "")
        if self._listener.died:
            trouble = f"{where}: the thread that writes it has ended; start the node again"
        elif not trouble and waiting >= LINES_WAITING_MAX:
            trouble = f"{where}: {waiting} lines wait for the disk"
        lost = sum(file.lost for file in files) + self._dropped
        return AuditStatus(trouble, lost, waiting, accepted, rejected)

    def close(self) -> None:
        """Write what waits, as far as the disk takes it within `STOP_S`. Blocks for it."""
        if not self._files:
            return
        self.look()
        ended = self._listener.ends()
        for file in self._files:
            if ended:
                file.close()
            else:
                file.abandon()
        if ended:
            return
        text = f"the audit log: some {self._waiting.qsize()} lines are lost, the disk stands still"
        self._note(text, Level.ERROR)

    def _write(self, event: Event) -> None:
        if self._listener.died or self._waiting.qsize() >= LINES_WAITING_MAX:
            self._dropped += 1
            return
        text = line(event, _iso(self._clock().wall_ms), self._node)
        self._waiting.put(makeLogRecord({"msg": text, _PART: part_of(event)}))


class _Listener(QueueListener):
    """Hands each line to its file, in a thread."""

    _ending = False

    def handle(self, record: LogRecord) -> None:
        """Write one line. A file in trouble that has no part in it may not see another for long: it is tried
        as well.
        """
        super().handle(record)
        for file in self.handlers:
            if isinstance(file, _File) and file.trouble and not file.filter(record):
                file.mend()

    @property
    def died(self) -> bool:
        """Whether the thread has ended, and nobody asked it to: an error of our own."""
        return not (self._ending or self._own.is_alive())

    def ends(self) -> bool:
        """End the thread once all is written; False when it does not within `STOP_S`, and is left behind."""
        self._ending = True
        self.enqueue_sentinel()
        self._own.join(STOP_S)
        return not self._own.is_alive()

    @property
    def _own(self) -> threading.Thread:
        thread: threading.Thread | None = self._thread
        assert thread is not None
        return thread


class _File(RotatingFileHandler):
    """Lines in a file of mode 0600, and in the older ones beside it. It belongs to the listener's thread.

    `trouble` is why the last line could not be written, "" when it was; `lost` counts such lines.
    """

    def __init__(self, path: str, config: AuditConfig, part: Part | None) -> None:
        """It takes the lines of `part`, or every one."""
        backups = config.files - 1
        super().__init__(path, maxBytes=config.bytes_max, backupCount=backups, encoding="utf-8", delay=True)
        if part is not None:
            self.addFilter(lambda record: getattr(record, _PART) is part)
        self.trouble = ""
        self.lost = 0
        self.mend()

    def mend(self) -> None:
        """Open it anew. `trouble` is what comes of that."""
        self._let_go()
        self.trouble = ""
        try:
            self.stream = self._open()
        except OSError as error:
            self.trouble = error.strerror or str(error)

    def emit(self, record: LogRecord) -> None:
        """Write one line."""
        before = self.lost
        self._find()
        super().emit(record)
        if self.lost == before:
            self.trouble = ""

    def shouldRollover(self, record: LogRecord) -> bool:
        """Never for what is no regular file: it has no length. Not every version of Python asks first."""
        if os.path.exists(self.baseFilename) and not os.path.isfile(self.baseFilename):
            return False
        return bool(super().shouldRollover(record))

    def _find(self) -> None:
        """Let go of a file that was moved or removed: the line goes into a new one at the path."""
        if self.stream is None:
            return
        with suppress(OSError):
            here, open_ = os.stat(self.baseFilename), os.fstat(self.stream.fileno())
            if (here.st_dev, here.st_ino) == (open_.st_dev, open_.st_ino):
                return
        self._let_go()

    def handleError(self, record: LogRecord) -> None:
        """The line is lost; the next one is tried with the file opened anew."""
        error = sys.exception()
        self._let_go()
        self.trouble = getattr(error, "strerror", None) or str(error)
        self.lost += 1

    def _let_go(self) -> None:
        """Have no file open. What closing it fails with was told of by the line that met it first."""
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.close()

    def abandon(self) -> None:
        """Leave the file to a thread that stands still in it: at the exit `logging` closes what it knows."""
        self.stream = None
        self.createLock()

    def _open(self) -> TextIOWrapper:
        stream = open(self.baseFilename, "a", encoding=self.encoding, opener=_private)  # noqa: SIM115
        size = os.fstat(stream.fileno()).st_size
        if size and os.pread(stream.fileno(), 1, size - 1) != b"\n":
            stream.write("\n")  # behind a line that was interrupted
        return stream


def paths(config: AuditConfig) -> dict[str, Part | None]:
    """The files that lines go to, and the part that each takes, None for all of them; no file where the audit
    log is off.
    """
    if isinstance(config.file, Off):
        return {}
    assert config.file is not None
    if os.path.exists(config.file) and not os.path.isfile(config.file):
        return {config.file: None}  # a pipe, or a terminal: it keeps nothing, and stands alone
    return {_path(config.file, part): part for part in Part}


def _path(file: str, part: Part) -> str:
    """What administrators did stands in `file`, other parts beside it."""
    stem, suffix = os.path.splitext(file)
    return file if part is Part.ACTS else f"{stem}-{part.value}{suffix}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_WRONLY | os.O_RDWR, FILE_MODE)


def _iso(wall_ms: int) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall_ms // 1000))
    return f"{whole}.{wall_ms % 1000:03}Z"
