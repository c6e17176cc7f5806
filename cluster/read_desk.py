"""What reads the state, documents and SQL, over one state file at a time."""

from __future__ import annotations

from pathlib import Path

from cluster.disk import Post
from cluster.reader import Reader
from cluster.sql_process import SqlReader


class ReadDesk:
    """`documents` and `sql` answer from the state file in use."""

    def __init__(self, path: Path, post: Post) -> None:
        self._post = post
        self.use(path)

    def use(self, path: Path) -> None:
        """Read from `path` from now on."""
        self.documents = Reader(path, self._post)
        self.sql = SqlReader(path, self._post)

    def stop(self) -> None:
        """Let go of the state file. Blocks until what is being read is read."""
        self.documents.stop()
        self.sql.stop()
