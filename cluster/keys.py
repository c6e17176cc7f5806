"""The memory of idempotency keys: which requests were executed, with what result, and who was forgotten (R9).

A key is (client id, sequence). The server issues client ids (`cluster.client_ids`), with the LSN at issue in
each. What a client executed is a *set* of sequences, so order is free. `oldest` is the client's
low-water mark: it promised never to ask for lower sequences again, so their results are dropped, and a
request below it is expired.

A client is forgotten 24 h of batch time after its last write, or when there are more than 100,000: then it
is one of the owner who has most of them, the one whose last write is the oldest. The same goes for the bytes
that all of them take: beyond 128 MiB the owner whose clients take most makes room. So no user's clients push
out those of others who have less. Forgetting raises `forgotten_through` to the client's issue LSN; an unknown
client that was issued at or below it may be one of the forgotten, so its requests are expired: never
executed, since they may have been before. So are those of an id that names an LSN which the log has not
reached: nobody issued it, and forgetting it would expire every client for good.

Everything here depends on the log alone: all nodes remember and forget the same. What `record` returns goes
into the state; `replay` of those bytes in order, then one `advance`, builds the same memory again, order of
forgetting included.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator

import msgspec

from cluster.client_ids import issue_lsn
from cluster.kept_results import given_back, kept, size_of
from cluster.owners import Owners
from redwire.position import Lsn
from redwire.record import CLIENT_BYTES, OPEN_MAX, Key

CLIENTS_MAX = 100_000
"""About 70 MB with one open sequence each."""
BYTES_MAX = 128 << 20
"""What all of them may take in memory with the results that they may still ask for, as it is reckoned here:
each node comes to the same sum.
"""
CLIENT_BYTES_HELD = 540
RESULT_BYTES_HELD = 160
"""What Python needs for a client without results, and for a result beside its bytes. Owners, of whom there
are 65,536 at most, are not counted: 800 bytes each with their ranks.
"""
CLIENT_AGE_MS = 24 * 3600 * 1000
"""A client that was cut off for a night still learns what became of its writes (R9)."""


_NOTHING = Lsn(0)
_HEAD = struct.Struct(f"<{CLIENT_BYTES}sQQQ")
_TAIL = struct.Struct("<QHB")
"""First LSN, records, and the form of the results that follow (see `kept_results`)."""
_ENTRY = struct.Struct(_HEAD.format + _TAIL.format[1:])


class Remembered(msgspec.Struct, frozen=True):
    """The request was executed: its first LSN, and a packed `RESULT` per record.

    No items: it was not, and never will be, since its key was closed at `first`.
    """

    first: Lsn
    items: bytes


class Absent(msgspec.Struct, frozen=True):
    """The request was not executed."""


class Expired(msgspec.Struct, frozen=True):
    """Whether the request was executed is not known any more: it never will be from now on."""


Verdict = Remembered | Absent | Expired
_ABSENT, _EXPIRED = Absent(), Expired()


class _Client(msgspec.Struct):
    """`results` maps the executed sequences from `oldest` on to the tail of their entry."""

    oldest: int
    time_ms: int
    results: dict[int, bytes]

    @property
    def held(self) -> int:
        """What it takes in memory, with them."""
        return CLIENT_BYTES_HELD + sum([RESULT_BYTES_HELD + len(tail) for tail in self.results.values()])

    def pass_by(self, oldest: int) -> tuple[int, int]:
        """Drop the results below `oldest`, from which on it may ask from now on: the bytes that they took,
        and how many there were.
        """
        results, freed, count = self.results, 0, 0
        if oldest - self.oldest <= len(results):  # mostly by one: to look through all that is held costs more
            passed: Iterable[int] = range(self.oldest, oldest)
        else:
            passed = [known for known in results if known < oldest]
        for known in passed:
            tail = results.pop(known, None)
            if tail is not None:
                freed += RESULT_BYTES_HELD + len(tail)
                count += 1
        self.oldest = oldest
        return freed, count


class Keys(msgspec.Struct):
    """All clients in the order of their last write.

    `lookup` may be called from another thread than the one that writes: it sees each request either as
    executed or as not executed yet.
    """

    clients_max: int = CLIENTS_MAX
    bytes_max: int = BYTES_MAX
    age_ms: int = CLIENT_AGE_MS
    forgotten_through: int = -1
    """The highest issue LSN of a client that was forgotten; -1 while nobody was."""
    through: Lsn = _NOTHING
    """The log is applied up to here, as far as keys go: the bound for a client's issue LSN."""
    open: int = 0
    """Results held."""
    held: int = 0
    """What they and their clients take in memory."""
    _clients: OrderedDict[bytes, _Client] = msgspec.field(default_factory=OrderedDict)
    _owners: Owners = msgspec.field(default_factory=Owners)
    """The same clients, in the same order, by their owners."""

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def entry_bytes(self) -> int:
        """How long `entries` are in all."""
        beside = RESULT_BYTES_HELD - _HEAD.size
        return self.held - len(self._clients) * CLIENT_BYTES_HELD - self.open * beside

    def lookup(self, key: Key) -> Verdict:
        """What is known of `key`."""
        client = self._clients.get(key.client)
        if client is None:
            known_id = self.forgotten_through < issue_lsn(key.client) <= self.through
            return _ABSENT if known_id and within_window(key) else _EXPIRED
        tail = client.results.get(key.sequence)
        if tail is not None:
            return _remembered(tail)
        return _ABSENT if key.sequence >= client.oldest and within_window(key) else _EXPIRED

    def advance(self, through: Lsn, time_ms: int) -> None:
        """The log is applied up to `through`, and its clock says `time_ms`: forget who has been silent too
        long.

        Called before a batch with its time and the LSN before it, and after the last one with its last LSN.
        """
        self._age(time_ms)
        self.through = through

    def record(self, key: Key, first: Lsn, count: int, items: bytes, time_ms: int) -> bytes:
        """Remember an executed request that `lookup` called absent; the entry that the state must store."""
        form, data = kept(count, items)
        entry = _ENTRY.pack(key.client, key.sequence, key.oldest, time_ms, first, count, form) + data
        self._remember(key.client, key.sequence, key.oldest, time_ms, entry[_HEAD.size :])
        return entry

    def close(self, key: Key, at: Lsn, time_ms: int) -> list[bytes]:
        """See to it that a request with `key` is never executed, unless it was; the entry to store, if any.

        Nothing is promised of the client's other sequences.
        """
        if not isinstance(self.lookup(key), Absent):
            return []
        return [self.record(Key(key.client, key.sequence, 0), at, 0, b"", time_ms)]

    def replay(self, entries: bytes) -> None:
        """Remember the requests of stored `entries` again, in the order in which they were recorded."""
        for entry in _split(entries):
            client, sequence, oldest, time_ms = _HEAD.unpack_from(entry)
            self._age(time_ms)  # who was forgotten by then crowded nobody out
            self._remember(client, sequence, oldest, time_ms, entry[_HEAD.size :])

    def entries(self) -> Iterator[tuple[Lsn, bytes]]:
        """Entries that replay to this memory without what was dropped: (LSN of the client's last write,
        entries).

        One item per client, in the order of their last writes, so the LSNs rise.
        """
        for ident, client in self._clients.items():
            parts = [
                _HEAD.pack(ident, sequence, client.oldest, client.time_ms) + tail
                for sequence, tail in client.results.items()
            ]
            yield Lsn(max(_TAIL.unpack_from(tail)[0] for tail in client.results.values())), b"".join(parts)

    def _remember(self, ident: bytes, sequence: int, oldest: int, time_ms: int, tail: bytes) -> None:
        client, grown = self._clients.get(ident), RESULT_BYTES_HELD + len(tail)
        self.open += 1
        if client is None:
            self._clients[ident] = _Client(oldest, time_ms, {sequence: tail})
            grown += CLIENT_BYTES_HELD
        else:
            client.results[sequence] = tail
            client.time_ms = time_ms
            self._clients.move_to_end(ident)
            if oldest > client.oldest:
                freed, count = client.pass_by(oldest)
                grown -= freed
                self.open -= count
        self._owners.wrote(ident, grown)
        self.held += grown
        if len(self._clients) > self.clients_max:
            self._forget(self._owners.crowding())
        while self.held > self.bytes_max:
            self._forget(self._owners.heaviest())

    def _age(self, time_ms: int) -> None:
        clients, limit = self._clients, time_ms - self.age_ms
        while clients and next(iter(clients.values())).time_ms <= limit:
            self._forget(next(iter(clients)))

    def _forget(self, ident: bytes) -> None:
        self.forgotten_through = max(self.forgotten_through, issue_lsn(ident))
        gone = self._clients.pop(ident)
        held = gone.held
        self.open -= len(gone.results)
        self.held -= held
        self._owners.forget(ident, held)


def clients(entries: bytes) -> set[bytes]:
    """The ids in stored `entries`."""
    return {entry[:CLIENT_BYTES] for entry in _split(entries)}


def _split(entries: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(entries):
        _, count, form = _TAIL.unpack_from(entries, offset + _HEAD.size)
        end = offset + _ENTRY.size
        end += size_of(form, count, entries, end)
        yield entries[offset:end]
        offset = end


def within_window(key: Key) -> bool:
    """Whether a request with `key` may be logged: its sequence is one of the first `OPEN_MAX` from its own
    oldest one on.

    Requests that keep to it can never leave more than `OPEN_MAX` results open: all lie from the highest
    `oldest` on.
    """
    return 0 <= key.sequence - key.oldest < OPEN_MAX


def _remembered(tail: bytes) -> Remembered:
    first, count, form = _TAIL.unpack_from(tail)
    return Remembered(Lsn(first), given_back(form, first, count, tail[_TAIL.size :]))
