"""Drivers' idempotency keys: a text of theirs becomes a key of the log, the same one for every attempt (R9).

A key of the log belongs to a client id, which begins with the LSN at issue, so it cannot be computed from
the text alone. It is made at the first attempt, of the applied LSN and a hash of principal and text, and
found again by that hash: among the requests under way here, or in the key memory that the log carries. One
text is one client with one request, so it is remembered as long as any client of its user is: 24 h, or until
that user has had 100,000 since.

The key memory is read once a reign, when its first text comes, and what this reign issues is added: so a text
costs no look through up to 100,000 clients.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from cluster.client_ids import MARK_BYTES, mark, marked, owner
from cluster.effects import Result
from cluster.keys import CLIENTS_MAX, clients
from cluster.tables import key_rows, open_reader, translated
from redwire.errors import Code, Refused
from redwire.handshake import Principal
from redwire.position import Lsn, Term
from redwire.record import Key

UNRESOLVED_MAX = 1_000
"""Requests under way or not confirmed at once; beyond it a new key is told to come back, after a look at all
of them on the event loop: half a millisecond.
"""

ISSUED_MAX = 2 * CLIENTS_MAX
"""Clients remembered here before they are read anew: half of them at least are forgotten by then."""


@dataclass(slots=True, eq=False)
class Claim:
    """One text in use. `users` are the requests that hold it, `logged` those of its attempts that may be in
    the log without being applied. It is `fresh` while its key was made for it and no attempt was applied.
    """

    digest: bytes
    key: Key
    fresh: bool
    users: int = 0
    logged: int = 0

    @property
    def attempt(self) -> int:
        """What the next proposal says: 1 only while no other one can be in the log."""
        return 2 if self.logged else 1


class KeyState(Protocol):
    """What is asked of the node's state."""

    @property
    def path(self) -> Path:
        """Its file."""

    def lookup(self, key: Key) -> Result | None:
        """The result of a request that was executed, an expired one, or None."""


class DriverKeys:
    """The keys of one node. For the event loop's thread only.

    While the node leads and has applied its term-start record, everything that earlier reigns logged is in
    the state, and what this reign logged and has not applied is held here: so no text can get two keys.
    """

    def __init__(self) -> None:
        self._claims: dict[bytes, Claim] = {}
        self._issued: dict[bytes, list[bytes]] = {}  # clients by their marks
        self._term = Term(0)
        self._lock = anyio.Lock()

    async def claim(
        self, principal: Principal, text: str, state: KeyState, applied: Lsn, term: Term
    ) -> Claim:
        """The claim for `text`, whose `users` now counts the caller; `release` it. `term` is our own reign's,
        whose term-start record is applied. Raises `Refused` (BUSY).
        """
        digest = _digest(principal, text)
        async with self._lock:
            if term != self._term or len(self._issued) > ISSUED_MAX:
                self._issued = await anyio.to_thread.run_sync(_read, state.path)
            if term != self._term:
                self._claims, self._term = {}, term
            claim = self._claims.get(digest)
            if claim is None:
                self._make_room(state)
                key = self._key(digest, owner(principal), state, applied)
                claim = Claim(digest, key, fresh=state.lookup(key) is None)
                self._claims[digest] = claim
            claim.users += 1
            return claim

    def release(self, claim: Claim) -> None:
        """The caller is done. A claim that may still be in the log is kept. Of one that never was no key is
        left here: once it is old it would pass for one that was executed and forgotten.
        """
        claim.users -= 1
        if claim.users or claim.logged:
            return
        client = claim.key.client
        ours = self._claims.get(claim.digest) is claim and self._issued.get(mark(client)) == [client]
        if claim.fresh and ours:
            del self._issued[mark(client)]
        self._forget(claim)

    def _key(self, digest: bytes, whose: bytes, state: KeyState, applied: Lsn) -> Key:
        """The key whose client was made for `digest` and executed its request, or a new one."""
        own = whose + digest[: MARK_BYTES - len(whose)]
        sequence = int.from_bytes(digest[MARK_BYTES : MARK_BYTES + 8], "little") >> 1 | 1
        for client in self._issued.get(own, ()):
            key = Key(client, sequence, sequence)
            if state.lookup(key) is not None:
                return key
        client = marked(applied, own)
        self._issued[own] = [client]  # no other one of this mark has executed anything
        return Key(client, sequence, sequence)

    def _make_room(self, state: KeyState) -> None:
        if len(self._claims) < UNRESOLVED_MAX:
            return
        for claim in [*self._claims.values()]:
            if not claim.users and state.lookup(claim.key) is not None:
                self._forget(claim)
        if len(self._claims) >= UNRESOLVED_MAX:
            text = f"{UNRESOLVED_MAX} requests with an idempotency key are not resolved yet"
            raise Refused(Code.BUSY, text, hint="retry")

    def _forget(self, claim: Claim) -> None:
        if self._claims.get(claim.digest) is claim:  # else it is of an earlier reign
            del self._claims[claim.digest]


def _read(path: Path) -> dict[bytes, list[bytes]]:
    """The clients in the state's key memory; for any thread."""
    issued: dict[bytes, list[bytes]] = {}
    with translated(path), closing(open_reader(path)) as connection:
        for entries in key_rows(path, connection):
            for client in clients(entries):
                issued.setdefault(mark(client), []).append(client)
    return issued


def _digest(principal: Principal, text: str) -> bytes:
    parts = (principal.kind, principal.name, text)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
