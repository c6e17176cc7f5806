"""Client ids: 24 bytes that say when, and to whom, a client's keys were issued (R9).

    0   8   LSN at issue: how far the state of the issuing node went
    8   2   owner: a hash of the principal; who has the same one shares room in the memory of keys
    10  6   chance
    16  8   seal: a hash of the 16 bytes before and of the principal, keyed with the cluster's secret

Every node of the cluster tells by the seal alone whether a client id is of the principal that uses it, so
nobody writes under another's keys, or closes them, whatever they have read in logs and messages. The seal is
looked at where a request comes in, on the primary; what is in the log has passed it.

Drivers never see the ids of theirs (`cluster.driver_keys`): in place of chance and seal these have a hash of
principal and text, which is no one's seal.

The owner binds nobody to anything, so it may be short and is no secret: of 300 users two have the same one in
every second cluster, and then forget each other's clients a little sooner.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from redwire.handshake import Principal
from redwire.position import Lsn
from redwire.record import CLIENT_BYTES

OWNER_BYTES = 2
CHANCE_BYTES = 6
"""As many clients as are remembered, 100,000, may be issued their ids at one LSN: two of them have the same
one in 1 of 50,000 such cases.
"""
SEAL_BYTES = 8
"""Who guesses needs a request for each of 2^64."""
MARK_BYTES = OWNER_BYTES + CHANCE_BYTES + SEAL_BYTES
"""What stands behind the LSN."""
_LSN_BYTES = CLIENT_BYTES - MARK_BYTES
_PERSON = b"redwire client"
"""What else the secret is for makes other hashes."""


class ClientIds:
    """The ids that are one principal's. For one session, whose requests mostly carry one id."""

    def __init__(self, principal: Principal, secret: Callable[[], bytes]) -> None:
        """`secret` is the cluster's, 16 to 64 bytes. While it raises, so do `issue` and `include`."""
        self._name = _name(principal)
        self._owner = owner(principal)
        self._secret = secret
        self._proven = b""
        self.issued = b""
        """The last one that was issued here; b"" for none."""

    def issue(self, at: Lsn, chance: bytes) -> bytes:
        """A new client's id. `at` is the applied LSN of the issuing node, `chance` `CHANCE_BYTES` of it."""
        assert len(chance) == CHANCE_BYTES
        said = at.to_bytes(_LSN_BYTES, "little") + self._owner + chance
        self.issued = said + self._seal(said)
        return self.issued

    def include(self, client: bytes) -> bool:
        """Whether `client` was issued to this principal, by a node of this cluster."""
        if client != self._proven:
            if not hmac.compare_digest(client[-SEAL_BYTES:], self._seal(client[:-SEAL_BYTES])):
                return False
            self._proven = client
        return True

    def _seal(self, said: bytes) -> bytes:
        keyed = hashlib.blake2b(said, digest_size=SEAL_BYTES, key=self._secret(), person=_PERSON)
        keyed.update(self._name)
        return keyed.digest()


def owner(principal: Principal) -> bytes:
    """What the ids of `principal` have for their owner, `OWNER_BYTES` of it."""
    return hashlib.blake2b(_name(principal), digest_size=OWNER_BYTES, person=b"redwire owner").digest()


def owner_of(client: bytes) -> bytes:
    """The owner in a client id."""
    return client[_LSN_BYTES : _LSN_BYTES + OWNER_BYTES]


def marked(at: Lsn, mark: bytes) -> bytes:
    """The id that has `mark`, `MARK_BYTES` of it, behind the LSN `at`."""
    assert len(mark) == MARK_BYTES
    return at.to_bytes(_LSN_BYTES, "little") + mark


def mark(client: bytes) -> bytes:
    """What stands behind the LSN of a client id."""
    return client[-MARK_BYTES:]


def issue_lsn(client: bytes) -> Lsn:
    """The LSN in a client id."""
    return Lsn(int.from_bytes(client[:_LSN_BYTES], "little"))


def _name(principal: Principal) -> bytes:
    return f"{principal.kind}\0{principal.name}".encode("utf-8", "surrogatepass")
