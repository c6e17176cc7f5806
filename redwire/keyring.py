"""All keys of one client: those of its client id, and of further ids while one write waits for long.

A node remembers what became of `OPEN_MAX` sequences of an id, from the oldest one on that somebody waits for
(R9). So a write that waits for a slow region would hold up whatever its client writes `OPEN_MAX` keys later.
Another id has a window of its own.
"""

from __future__ import annotations

from redwire.record import NO_CLIENT, Key
from redwire.session_keys import SessionKeys

IDS_MAX = 8
"""Some 30,000 writes go on beside one that waits: those of the ten seconds that a policy usually takes at
most, from a program that writes 3,000 a second. All windows full cost each node 6 MB.
"""


class Keyring:
    """No more than `IDS_MAX` ids; none at first, where no server could issue one yet."""

    def __init__(self, client: bytes) -> None:
        """`client` is an id that a server issued to us alone, or `NO_CLIENT`; all that come later are ids."""
        self._ids = [] if client == NO_CLIENT else [SessionKeys(client)]

    def __contains__(self, keys: SessionKeys) -> bool:
        return keys in self._ids

    @property
    def empty(self) -> bool:
        """Whether there is no id yet."""
        return not self._ids

    @property
    def full(self) -> bool:
        """Whether there is no place for another write."""
        return all(keys.full for keys in self._ids)

    @property
    def narrow(self) -> bool:
        """Whether one id more would help, and may be had."""
        return len(self._ids) < IDS_MAX and all(keys.stuck for keys in self._ids)

    def roomiest(self) -> SessionKeys:
        """The keys of which the next write takes one; without a place only when all are `full`. There must be
        an id.

        All ids go on being used: so each tells the nodes what need not be remembered any more.
        """
        if len(self._ids) == 1:
            return self._ids[0]
        return max(self._ids, key=lambda keys: (not keys.full, keys.room))

    def add(self, client: bytes) -> None:
        """One more id."""
        self._ids.append(SessionKeys(client))

    def renew(self, client: bytes) -> None:
        """An id of ours was forgotten by the cluster: no more keys of any that we had, but of this new one.

        Ids are forgotten by their age, so where one is, the others are or soon will be.
        """
        self._ids = [SessionKeys(client)]

    def resolved(self, key: Key) -> None:
        """Somebody asked what became of `key`, and was told."""
        for keys in self._ids:
            if keys.client == key.client:
                keys.resolved(key.sequence)
