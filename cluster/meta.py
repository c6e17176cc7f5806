"""meta.cbor: what a node must remember beside its log.

The file is a CBOR sequence of two items: a map with the fields of `Meta`, and the CRC-32 of that map's bytes
as a four-byte unsigned integer. It is replaced whole, so it holds either the old or the new state.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import cbor2
import msgspec

from cluster.errors import FormatNewer, FormatOlder, MetaCorrupt
from cluster.files import SYSCALLS, Syscalls, not_a_file, translated
from redwire.position import EMPTY, ClusterId, Incarnation, Lsn, NodeId, Position, Reign, Term, TermList

FORMAT = 3
"""Of the file; of another one it is refused."""
_NAME = "meta.cbor"
_CRC_BYTES = 5
"""CBOR's head of a 32-bit number, and the number."""
_CRC_HEAD = b"\x1a"


class Vote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The vote given in `term`; `node` None when none was given. `other` is the newest term of a vote that
    was given to any other node before, 0 for none.
    """

    term: Term = Term(0)
    node: NodeId | None = None
    other: Term = Term(0)

    @property
    def reign(self) -> Reign:
        """The reign that was voted for."""
        return Reign(self.term, self.node or NodeId(""))

    def followed_by(self, reign: Reign) -> Vote:
        """What is remembered once the next vote, in a newer term, is for `reign`."""
        other = self.other if self.node == reign.primary else self.term
        return Vote(reign.term, reign.primary, other)


class Meta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One state of meta.cbor.

    `cluster` is "" until the node has joined one. `incarnation` is made at random with the data directory and
    never changes. `term` and `primary` name the reign accepted last, `primary` "" for none, this node itself
    where it led (R3). `watermark` is the highest one known when it was saved; the log's marks may know a
    higher one. `generation` names the log's folder, which begins after `base`; `terms` is the term list up to
    there. `state_file` is the name of the state in use, `set_aside` that of the one before it where that goes
    to `diverged/`, at the next start if not before; "" for none.
    """

    node: NodeId
    incarnation: Incarnation
    format: int = FORMAT
    cluster: ClusterId = ClusterId("")
    term: Term = Term(0)
    primary: NodeId = NodeId("")
    vote: Vote = Vote()
    watermark: Lsn = Lsn(0)
    state_file: str = "state.db"
    set_aside: str = ""
    generation: int = 1
    base: Position = EMPTY
    terms: TermList = TermList()

    def in_reign(self, reign: Reign, cluster: ClusterId) -> Meta:
        """What is remembered in `reign`, which is one of `cluster` where that was unknown."""
        return msgspec.structs.replace(
            self, term=reign.term, primary=reign.primary, cluster=self.cluster or cluster
        )


def load(data_dir: Path) -> Meta | None:
    """The state saved last; None in a directory that never had one.

    Raises `MetaCorrupt` for a damaged file, `FormatNewer`, `FormatOlder`, or `DiskFailed` when it cannot be
    read.
    """
    path = data_dir / _NAME
    with translated(path):
        if what := not_a_file(path):
            raise MetaCorrupt(path, what)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
    return _decode(path, data)


def save(data_dir: Path, meta: Meta, calls: Syscalls = SYSCALLS) -> None:
    """Make `meta` the state in force; it is durable when this returns. Raises `DiskFull` or `DiskFailed`."""
    calls.replace_whole(data_dir / _NAME, _encode(meta))


def _encode(meta: Meta) -> bytes:
    body: bytes = cbor2.dumps(msgspec.to_builtins(meta, builtin_types=(bytes,)))
    return body + _CRC_HEAD + zlib.crc32(body).to_bytes(4, "big")


def _decode(path: Path, data: bytes) -> Meta:
    body, crc = data[:-_CRC_BYTES], data[-_CRC_BYTES:]
    if crc != _CRC_HEAD + zlib.crc32(body).to_bytes(4, "big"):
        raise MetaCorrupt(path, f"its {len(data)} bytes fail their CRC")
    try:
        fields = cbor2.loads(body)
        form = fields["format"]
        if form > FORMAT:
            raise FormatNewer(path, f"format {form}, this version knows {FORMAT}")
        if form < FORMAT:
            raise FormatOlder(path, f"format {form}, this version reads {FORMAT}")
        return msgspec.convert(fields, Meta)
    except (cbor2.CBORDecodeError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise MetaCorrupt(path, f"it does not hold what it should: {error}") from error
