"""Bodies of writes and sessions between our own clients and a node, kinds 40, 41 and 46 to 4B.

docs/PROTOCOL.md, section 4, has the layouts. Everything is checked to the last byte on the way in and raises
`BodyInvalid`.

A release of a thousand writes leaves as one Written: one ack block for all, one small entry for each. Reading
is lazy in the same way: a client that never looks at a receipt never opens the block.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Annotated, Self

import msgspec

from redwire.body import U63, Bytes24, ClosedStruct, Hex32, Name
from redwire.errors import BodyInvalid
from redwire.message.cursor import Cursor, str8
from redwire.record import CLIENT_BYTES

POLICY_BYTES_MAX = 255
"""Its length is one byte. Twenty regions by their usual names fit."""
CLIENT_NAME_CHARS_MAX = 256
"""More is no name for people."""
Policy = Annotated[str, msgspec.Meta(max_length=POLICY_BYTES_MAX)]


class WriteEnvelope(msgspec.Struct, frozen=True):
    """A Write (40). `request` is one WRITE request, not yet checked; `policy` "" is the cluster's default."""

    remaining_ms: int
    attempt: int
    policy: str
    request: memoryview


_TIMES = struct.Struct("<IH")
_WRITE = struct.Struct("<IHB")


def encode_write_frame_body(remaining_ms: int, attempt: int, policy: str, request: bytes) -> bytes:
    """A Write body. `remaining_ms` is what is left of the caller's deadline, `attempt` counts from 1.

    Raises `RequestInvalid` for a policy text that cannot be sent.
    """
    assert attempt >= 1 and remaining_ms >= 0
    times = _TIMES.pack(min(remaining_ms, 0xFFFF_FFFF), min(attempt, 0xFFFF))
    return b"".join((times, str8(policy) if policy else b"\0", request))


def decode_write(payload: bytes | memoryview) -> WriteEnvelope:
    """The envelope of a Write, the request left for `record.check_write`. Raises `BodyInvalid`."""
    view = memoryview(payload)
    if len(view) < _WRITE.size:
        raise BodyInvalid(f"Write: {len(view)} bytes, its envelope alone takes {_WRITE.size}")
    remaining_ms, attempt, length = _WRITE.unpack_from(view)
    request_at = _WRITE.size + length
    if not attempt or request_at > len(view):
        raise BodyInvalid(
            f"Write: attempt {attempt}, policy of {length} bytes, {len(view) - _WRITE.size} bytes left"
        )
    try:
        policy = str(view[_WRITE.size : request_at], "utf-8") if length else ""
    except UnicodeDecodeError as error:
        raise BodyInvalid(f"Write: the policy is not UTF-8 at byte {_WRITE.size + error.start}") from error
    return WriteEnvelope(remaining_ms, attempt, policy, view[request_at:])


POLICIES_MAX = 255
"""One byte counts them; a release of more takes two blocks."""
COPIES_MAX = 255
"""One byte counts them; there are 64 members at most."""
_NO_COPY = 255
"""No index of one: members are fewer."""


class Outcome(IntEnum):
    """What became of a request."""

    COMMITTED = 0
    NOT_CONFIRMED = 1


class RecordStatus(IntEnum):
    """What became of one record; the version beside it is explained in docs/PROTOCOL.md."""

    APPLIED = 0
    DELETED = 1
    NOT_FOUND = 2
    EXISTS = 3
    VERSION_MISMATCH = 4
    ABORTED = 5


RESULT = struct.Struct("<BQ")
"""One record's status and version, as apply packs it and as it travels."""


class CopyAck(msgspec.Struct, frozen=True):
    """A durable copy: `node` proved it `after_us` microseconds after the batch was made."""

    node: str
    region: str
    after_us: int


class AckBlock(msgspec.Struct, frozen=True):
    """What the entries of one Written share.

    `term` is that of the batch. A block without acks speaks of something committed before, whose copies are
    not remembered; `term` is then the one that wrote the entry's first LSN. `rule` is the commit rule;
    `policies` are the effective policies that entries name by index; `acks` stand in order of arrival;
    `completing` is the index of the ack that completed the rule, None if unknown.
    """

    term: int
    watermark: int
    rule: str
    policies: tuple[str, ...]
    completing: int | None
    acks: tuple[CopyAck, ...]


class WrittenEntry(msgspec.Struct, frozen=True):
    """One answer. `items` holds `count` packed `RESULT`s; none when the outcome is not confirmed."""

    correlation: int
    outcome: Outcome
    policy_index: int
    duplicate: bool
    first_lsn: int
    items: bytes
    count: int

    @property
    def results(self) -> list[tuple[RecordStatus, int]]:
        """Status and version of each record, in the request's order."""
        return results_of(self.items)

    @property
    def all_applied(self) -> bool:
        """Whether every record has the status APPLIED; looks at no version, so it is quick."""
        return not any(self.items[:: RESULT.size])


def results_of(items: bytes) -> list[tuple[RecordStatus, int]]:
    """Packed `RESULT`s as status and version, one pair for each record."""
    return [(_STATUSES[status], version) for status, version in RESULT.iter_unpack(items)]


_BLOCK = struct.Struct("<QQ")
_LENGTH = struct.Struct("<I")
_ENTRY = struct.Struct("<QBBBBQH")
_ENTRY_BYTES = _ENTRY.size
_OUTCOMES = tuple(Outcome)
_STATUSES = tuple(RecordStatus)
_DUPLICATE = 0x01


def encode_ack_block(block: AckBlock) -> bytes:
    """The shared block of a Written, without its length. Policies and copies are at most 255 each."""
    assert len(block.policies) <= POLICIES_MAX and len(block.acks) <= COPIES_MAX
    parts = [_BLOCK.pack(block.term, block.watermark), str8(block.rule), bytes((len(block.policies),))]
    parts += map(str8, block.policies)
    parts.append(bytes((_NO_COPY if block.completing is None else block.completing, len(block.acks))))
    for ack in block.acks:
        parts += (str8(ack.node), str8(ack.region), _LENGTH.pack(min(ack.after_us, 0xFFFF_FFFF)))
    return b"".join(parts)


def decode_ack_block(data: bytes | memoryview) -> AckBlock:
    """The block of a Written. Raises `BodyInvalid`."""
    cursor = Cursor(data, "ack block")
    term, watermark = cursor.unpack(_BLOCK, "term and watermark")
    rule = cursor.str8("commit rule")
    policies = tuple(cursor.str8("policy") for _ in range(cursor.u8("policy count")))
    completing, count = cursor.u8("completing"), cursor.u8("ack count")
    acks = tuple(
        CopyAck(cursor.str8("node"), cursor.str8("region"), cursor.u32("after_us")) for _ in range(count)
    )
    cursor.end()
    if completing >= count and completing != _NO_COPY:
        raise cursor.invalid("completing", f"is {completing} of {count} acks")
    return AckBlock(term, watermark, rule, policies, None if completing == _NO_COPY else completing, acks)


def encode_entry(
    correlation: int,
    outcome: Outcome,
    policy_index: int,
    duplicate: bool,
    first_lsn: int,
    items: bytes,
    count: int,
) -> bytes:
    """One answer of a Written. `items` are `count` packed `RESULT`s: none when it is not confirmed."""
    assert len(items) == count * RESULT.size
    return _ENTRY.pack(correlation, outcome, policy_index, duplicate, 0, first_lsn, count) + items


def join_written(block: bytes, entries: list[bytes]) -> bytes:
    """A Written body from an encoded block and encoded entries."""
    return b"".join((_LENGTH.pack(len(block)), block, _LENGTH.pack(len(entries)), *entries))


def decode_written(payload: bytes | memoryview) -> tuple[bytes, list[WrittenEntry]]:
    """The block of a Written, unopened, and its entries. Raises `BodyInvalid`.

    Everything but the block's inside is checked; `decode_ack_block` checks that when a receipt is read.
    """
    data = bytes(payload)  # by hand: a client reads one for every commit, for which a Cursor makes 16 calls
    block_end = _LENGTH.size + (_LENGTH.unpack_from(data)[0] if len(data) >= _LENGTH.size else 0)
    if block_end + _LENGTH.size > len(data):
        raise BodyInvalid(f"Written: its block would end at byte {block_end} of {len(data)}, before a count")
    (count,) = _LENGTH.unpack_from(data, block_end)
    block, data, offset = data[_LENGTH.size : block_end], data[block_end + _LENGTH.size :], 0
    if count * _ENTRY_BYTES > len(data):
        raise BodyInvalid(f"Written: entry count is {count} with {len(data)} bytes left")
    entries = []
    for _ in range(count):
        entry = _decode_entry(data, offset)
        offset += _ENTRY_BYTES + len(entry.items)
        entries.append(entry)
    if offset != len(data):
        raise BodyInvalid(f"Written: {len(data) - offset} bytes follow the last entry")
    return block, entries


def _decode_entry(data: bytes, offset: int) -> WrittenEntry:
    items_at = offset + _ENTRY_BYTES
    if items_at > len(data):
        raise BodyInvalid(f"Written: the entries end inside the one at byte {offset} of them")
    correlation, outcome, policy, flags, zero, first, count = _ENTRY.unpack_from(data, offset)
    end = items_at + count * RESULT.size
    if outcome >= len(_OUTCOMES) or flags & ~_DUPLICATE or zero or end > len(data) or (outcome and count):
        where = f"in the entry at byte {offset} of the entries"
        raise BodyInvalid(f"Written: outcome {outcome}, flags {flags}, {count} results {where}")
    items = data[items_at:end]
    if count and max(items[:: RESULT.size]) >= len(_STATUSES):
        raise BodyInvalid(f"Written: unknown record status in the entry at byte {offset} of the entries")
    return WrittenEntry(correlation, _OUTCOMES[outcome], policy, flags == _DUPLICATE, first, items, count)


class Open(ClosedStruct, frozen=True):
    """Open (46): our own client says so first, and again to learn who leads. `client` names it for people;
    `subscribe` asks for pushes.
    """

    client: Annotated[str, msgspec.Meta(max_length=CLIENT_NAME_CHARS_MAX)]
    subscribe: bool


class Opened(ClosedStruct, frozen=True, kw_only=True):
    """Opened (47): whom the session reached. `role` as in a `Report`; `topology` names the primary.

    `client_id` is `NO_CLIENT` of a node that cannot issue any yet: another one does, or this one later.
    """

    node: Name
    region: Name
    role: Name
    cluster: Hex32
    name: Name
    term: U63
    client_id: Bytes24
    policy: Policy
    floor: Policy
    policy_timeout_ms: U63
    topology: bytes


_RESOLVE = struct.Struct(f"<I{CLIENT_BYTES}sQ")


class Resolve(msgspec.Struct, frozen=True):
    """Resolve (48): what became of the request with this key. `client` has 24 bytes; `remaining_ms` is what
    is left of the caller's deadline, by default more than any policy waits.
    """

    client: bytes
    sequence: int
    remaining_ms: int = 0xFFFF_FFFF

    def encode(self) -> bytes:
        """This request's bytes."""
        assert len(self.client) == CLIENT_BYTES and self.remaining_ms >= 0
        return _RESOLVE.pack(min(self.remaining_ms, 0xFFFF_FFFF), self.client, self.sequence)

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Self:
        """The request in `payload`. Raises `BodyInvalid`."""
        cursor = Cursor(payload, "Resolve")
        remaining_ms, client, sequence = cursor.unpack(_RESOLVE, "key")
        cursor.end()
        return cls(client, sequence, remaining_ms)


class TopologyNotice(msgspec.Struct, frozen=True):
    """Topology (4B): the blob as `topology` decodes it, and whether the sender has lost the primary (R12)."""

    primary_lost: bool
    blob: bytes

    def encode(self) -> bytes:
        """This message's bytes."""
        return bytes((self.primary_lost,)) + self.blob

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Self:
        """The message in `payload`; its blob is not looked at. Raises `BodyInvalid`."""
        cursor = Cursor(payload, "Topology")
        return cls(cursor.flag("flags"), bytes(cursor.rest()))
