"""What reads the state: documents, SQL, and the look for damage, over one state file at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster.errors import NodeError
from cluster.reader import Reader
from cluster.right_of_way import RightOfWay
from cluster.scrub import Scrub
from cluster.sql_process import SqlReader
from cluster.threads import Post


class ReadDesk:
    """`documents` and `sql` answer from the state file in use; `on_damage` hears when it is not sound."""

    def __init__(self, path: Path, post: Post, way: RightOfWay | None = None) -> None:
        self.on_damage: Callable[[NodeError], None] = lambda error: None
        self._post = post
        self.use(path, way)

    def use(self, path: Path, way: RightOfWay | None = None) -> None:
        """Read from `path` from now on; statements go by `way`, which its writer can take."""
        self.documents = Reader(path, self._post)
        self.sql = SqlReader(path, self._post, way=way)
        self._scrub = Scrub(path, self._post, lambda error: self.on_damage(error))

    def stop(self) -> None:
        """Let go of the state file. Blocks until what is being read is read."""
        self.documents.stop()
        self.sql.stop()
        self._scrub.stop()
