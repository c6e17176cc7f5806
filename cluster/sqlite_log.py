"""SQLite's own log beside the state's file: how long it is, and when it is folded into the file.

Nobody syncs it until then, so what the node's own log holds since has to be kept for its sake.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from cluster.right_of_way import RightOfWay
from cluster.tables import WRITER_BUSY_MS, Lives, MetaRow, read_meta, translated
from redwire.position import Lsn, Position

FOLD_BYTES = 256 << 20
"""SQLite's own log before it is folded into the file. Less of it means the same pages written more often, and
commits that wait behind that more often: with a quarter of it the p99 of 64 busy clients is twice as long.
"""
FOLD_BYTES_URGENT = 2 * FOLD_BYTES
"""512 MiB: readers that come one after the other could let SQLite's log grow for ever, so from here on those
that take long are held back, and those that do not are waited for.
"""
FOLD_CAUSE_BYTES = 64 << 20
"""And so much of the node's own log, a segment: all of it is kept until the state survives a power cut
without it.
"""
FOLD_CAUSE_BYTES_URGENT = 8 * FOLD_CAUSE_BYTES
"""512 MiB of it, likewise: requests that change nothing fill it, and leave SQLite's own log short."""
FOLD_WAIT_MS = 25
"""What apply may stand still for readers once SQLite's log is that long; a page or a get takes far less."""
FOLD_LEFT_PAGES = 4_096
"""16 MiB: what is written during a fold beside the writer, and is folded while that waits."""
STATEMENTS_END_S = 10.0
"""What the last statements before an urgent fold have to end: longer than their alarm leaves them."""

_META = f"UPDATE meta SET {' = ?, '.join(MetaRow._fields)} = ?, sum = ?"


class SqliteLog:
    """Belongs to whoever writes through `connection` into the state file at `path`. `folded` is the LSN up to
    which the file survives a power cut by itself; statements have `way` while no fold is urgent.

    `size_bytes`, `way` and `fold_beside` are for any thread.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Raises `StateCorrupt`, and what SQLite does."""
        meta = read_meta(path, connection)
        self.folded = Lsn(0)
        self.way = RightOfWay()
        self._path = path
        self._connection = connection
        self._lives = Lives(meta.life, meta.before, meta.before_last)
        self._patience_ms = WRITER_BUSY_MS
        self._due_at = FOLD_BYTES
        self._cause_bytes = 0  # since the last fold that did not stay behind
        self._due_at_cause = FOLD_CAUSE_BYTES

    def size_bytes(self) -> int:
        """How long it is now."""
        with translated(self._path):
            try:
                return os.stat(f"{self._path}-wal").st_size
            except FileNotFoundError:
                return 0

    def growth_bytes(self) -> int:
        """By how much the file grows once all of it is folded, and what is written in this transaction."""
        with translated(self._path):
            execute = self._connection.execute
            pages, size = (execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
            return max(0, int(pages * size) - os.stat(self._path).st_size)

    def note(self, at: Position, time_ms: int, forgotten_through: int) -> None:
        """Write, in a transaction, where the state stands with it. Raises `sqlite3.Error`."""
        meta = MetaRow(at.lsn, at.term, at.chain, time_ms, forgotten_through, *self._lives)
        self._connection.execute(_META, (*meta, meta.checksum()))

    def cause(self, size_bytes: int) -> None:
        """So much of the node's log was applied to it."""
        self._cause_bytes += size_bytes

    @property
    def due(self) -> bool:
        """Whether it, or what the node's log keeps for it, is long enough to be folded."""
        return self._cause_bytes >= self._due_at_cause or self.size_bytes() >= self._due_at

    @property
    def urgent(self) -> bool:
        """Whether folds have stayed behind for so long that readers are to wait for one."""
        return self._cause_bytes >= FOLD_CAUSE_BYTES_URGENT or self.size_bytes() >= FOLD_BYTES_URGENT

    def be_patient(self, patience_ms: int) -> None:
        """Wait so long, from now on, for whoever else keeps us from the file. Raises `sqlite3.Error`."""
        if patience_ms != self._patience_ms:
            self._connection.execute(f"PRAGMA busy_timeout = {patience_ms}")
            self._patience_ms = patience_ms

    def fold(self, applied: Lsn, *, urgent: bool = False) -> Lsn | None:
        """Fold it into the file, which stands at `applied`, and begin it anew; `folded`, or None when it
        stayed behind. Readers are waited for where it is `urgent`, or long.

        A reader with an older view can keep it behind; then it is due again when it has grown further. In the
        end statements have their way again. Raises `DiskFull`, `DiskFailed` or `StateCorrupt`.
        """
        try:
            size = self.size_bytes()
            with translated(self._path):
                self.be_patient(FOLD_WAIT_MS if urgent or self.urgent else 0)
                busy, frames, folded = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                meta = read_meta(self._path, self._connection)
            self._due_at = size + FOLD_BYTES // 4 if busy else FOLD_BYTES
            if busy and not 0 < frames == folded:
                self._due_at_cause = self._cause_bytes + FOLD_CAUSE_BYTES
                return None
            self._cause_bytes, self._due_at_cause = 0, FOLD_CAUSE_BYTES
            self.folded, self._lives = applied, Lives.after(meta)
            return applied
        finally:
            self.way.give_back()

    def claim(self) -> None:
        """Where a fold is urgent let no statement begin before it is over. To be called before the thread of
        `fold_beside` is there: whoever gives the way back, to end its wait, may be earlier than that.
        """
        if self.urgent:
            self.way.take()

    def fold_beside(self) -> None:
        """Do all but a little of a `fold` that follows, beside the writer and readers: after a view that was
        held for minutes what is written meanwhile is much by itself.

        Statements that run are waited for if their way is taken: their views would keep both behind. Raises
        `DiskFull` or `DiskFailed`.
        """
        self.way.wait(STATEMENTS_END_S)
        _fold_beside(self._path)


def _fold_beside(path: Path) -> None:
    with translated(path):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            before, last = 0, sys.maxsize
            while last > FOLD_LEFT_PAGES:
                _, _, folded = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                more = folded - before if folded >= before else folded  # else the log was begun anew
                if more >= last:  # the writer is as fast: it has to wait
                    break
                before, last = folded, more
        finally:
            connection.close()
