"""New lives of members: who came back with another data directory, and counts once it has caught up (R11).

A member counts by the incarnation that the log has admitted. Another one is another disk, which holds nothing
of what the first one acked; it counts again when a record says so, and that record is logged when the new
disk holds all that the log held when the member came.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from redwire.position import Incarnation, Lsn, NodeId


@dataclass(slots=True, eq=False)
class Admissions:
    """The members that are waited for, each with its new life and the LSN from which on it has caught up."""

    _awaited: dict[NodeId, tuple[Incarnation, Lsn]] = field(default_factory=dict)

    def expect(self, node: NodeId, incarnation: Incarnation, head: Lsn) -> None:
        """`node` has come as `incarnation` while the log ended at `head`; what it came as before is over."""
        self._awaited[node] = incarnation, head

    def forget(self, node: NodeId) -> None:
        """`node` begins another session: it is not waited for any more, if it was."""
        self._awaited.pop(node, None)

    def due(self, node: NodeId, durable: Lsn) -> Incarnation | None:
        """The life of `node` that has caught up now that it is durable at `durable`, given out once."""
        awaited = self._awaited.get(node)
        if awaited is None or durable < awaited[1]:
            return None
        del self._awaited[node]
        return awaited[0]
