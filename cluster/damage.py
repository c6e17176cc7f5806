"""What reads find wrong with this node's files: its operator hears of it, its callers are sent elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from cluster.errors import NodeError
from cluster.events import EventKind
from redwire.errors import Code, RedwireError, Refused
from redwire.position import NodeId

FINDINGS_MAX = 100
"""Different ones that become events. Where so much is damaged, more of them say nothing new."""


class Damage:
    """The findings of one node, `me`; `happened` takes each as an event, once.

    `whole` is set once the state as a whole is not to be trusted: what it should hold may be missing.
    """

    def __init__(self, me: NodeId, happened: Callable[[EventKind, str], None]) -> None:
        self._me = me
        self._happened = happened
        self._found: set[str] = set()
        self.whole: NodeError | None = None

    def told(self, error: NodeError) -> RedwireError:
        """What a caller is told, who has no use for the names of our files, and may ask another node.

        A full disk is no finding: it passes.
        """
        if error.code is Code.DISK_FULL:
            return error
        if error.message not in self._found and len(self._found) < FINDINGS_MAX:
            self._found.add(error.message)
            self._happened(EventKind.STATE_DAMAGED, str(error))
        return self._refused()

    def condemn(self, error: NodeError) -> None:
        """Nothing is read from this state any more."""
        self.whole = error
        self.told(error)

    def replaced(self) -> None:
        """Another state is in its place, of which nothing is known."""
        self.whole = None
        self._found.clear()

    def check(self) -> None:
        """Raises `Refused` (DAMAGED) once the state is condemned."""
        if self.whole is not None:
            raise self._refused()

    def _refused(self) -> Refused:
        text = f"{self._me} cannot read its copy: its log says what is wrong"
        return Refused(Code.DAMAGED, text, hint="ask another node, and replace this one's disk")
