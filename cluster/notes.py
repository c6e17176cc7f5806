"""The one door into a node's log: lines on standard error, as text or JSON, written by a thread of their own.

Words must never stop a node. Lines wait in a bounded queue; when whoever takes them stands still, new ones
are dropped, counted, and the count is said as soon as a line gets through again. What other libraries log
through `logging` goes the same way.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener

from cluster.log_config import Level, LogConfig, LogFormat
from redwire.position import NodeId

LINES_MAX = 10_000
"""Lines that wait; a node that is asked about every second says less in a day."""
LINE_CHARS_MAX = 2_000
"""A traceback's beginning and end; all lines that may wait then take 20 MB."""
STOP_S = 1.0
"""What the end of the process waits for its last words to be taken."""
_LEVELS = {
    Level.DEBUG: logging.DEBUG,
    Level.INFO: logging.INFO,
    Level.WARNING: logging.WARNING,
    Level.ERROR: logging.ERROR,
}
_STDERR = 2


class Notes:
    """The log of `node` from now until `close`. Implements `cluster.log_config.Note`."""

    def __init__(self, node: NodeId, config: LogConfig, *, fd: int = _STDERR) -> None:
        self._writer = _Writer(node, config.format, fd)
        self._logger = logging.getLogger("redwire")
        self._root = logging.getLogger()
        self._door = _Door(self._writer)
        self._root.addHandler(self._door)
        self._root.setLevel(_LEVELS[config.level])
        self._writer.start()

    def __call__(self, text: str, level: Level = Level.INFO) -> None:
        """Say `text`: one line, whatever a member may have put into it."""
        self._logger.log(_LEVELS[level], "%s", text)

    @property
    def lost(self) -> int:
        """Lines that were dropped since this log began."""
        return self._writer.lost

    def close(self) -> None:
        """Write what waits, as far as somebody takes it within `STOP_S`."""
        self._root.removeHandler(self._door)
        self._writer.stop()


class _Door(QueueHandler):
    """Puts records into the writer's queue; counts those for which there is no room."""

    def __init__(self, writer: _Writer) -> None:
        super().__init__(writer.lines)
        self._writer = writer

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self._writer.lines.put_nowait(record)
        except queue.Full:
            self._writer.drop()


class _Writer(QueueListener):
    """Takes records from the queue, in a thread, and writes each as one line."""

    def __init__(self, node: NodeId, form: LogFormat, fd: int) -> None:
        self.lines: queue.Queue[logging.LogRecord | None] = queue.Queue(LINES_MAX)
        super().__init__(self.lines)
        self.dropped = 0
        self.lost = 0
        self._counting = threading.Lock()
        self._formatter = (_Json if form is LogFormat.JSON else _Text)(node)
        self._fd = fd

    def drop(self) -> None:
        """A line did not find room."""
        with self._counting:
            self.dropped += 1
            self.lost += 1

    def handle(self, record: logging.LogRecord) -> None:
        """Write one line. A log that cannot be written, as on a full disk, is a line that was dropped."""
        if not self._write(record):
            self.drop()
        elif self.dropped:
            self._own_up()

    def stop(self) -> None:
        """End the thread, or leave it behind when nobody takes its lines: it cannot hold up the process."""
        with contextlib.suppress(queue.Full):
            self.lines.put(None, timeout=STOP_S)  # `None` ends a QueueListener
        thread: threading.Thread | None = self._thread
        if thread is not None:
            thread.join(STOP_S)

    def _own_up(self) -> None:
        with self._counting:
            count, self.dropped = self.dropped, 0
        text = f"{count} lines of this log were dropped: they were not taken fast enough, or the disk is full"
        record = logging.LogRecord("redwire", logging.WARNING, __file__, 0, text, None, None)
        if not self._write(record):
            with self._counting:
                self.dropped += count

    def _write(self, record: logging.LogRecord) -> bool:
        left = memoryview(self._formatter.format(record).encode(errors="replace") + b"\n")
        try:
            while left:
                left = left[os.write(self._fd, left) :]  # the interpreter's own stderr would lock its exit
        except OSError:
            return False
        return True


class _Line(logging.Formatter):
    """What both forms have in common: when, how loud, who, what."""

    def __init__(self, node: NodeId) -> None:
        super().__init__()
        self._node = node

    def parts(self, record: logging.LogRecord) -> tuple[str, str, str, str]:
        """Time (ISO 8601, UTC, to the millisecond), level, node and message of a record, each one line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = super().format(record)
        return moment.replace("+00:00", "Z"), record.levelname.lower(), self._node, _one_line(message)


class _Text(_Line):
    def format(self, record: logging.LogRecord) -> str:
        moment, level, node, message = self.parts(record)
        return f"{moment} {level:<7} {node} {message}"


class _Json(_Line):
    def format(self, record: logging.LogRecord) -> str:
        names = ("time", "level", "node", "message")
        return json.dumps(dict(zip(names, self.parts(record), strict=True)), ensure_ascii=False)


def _one_line(text: str) -> str:
    """`text` without what would begin another line or command a terminal; a traceback keeps its end."""
    if len(text) > LINE_CHARS_MAX:
        half = LINE_CHARS_MAX // 2
        text = f"{text[:half]} … {text[-half:]}"
    return "".join(sign if sign.isprintable() else " " for sign in text)
