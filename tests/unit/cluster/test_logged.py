"""What a log says above what was applied of it."""

from __future__ import annotations

from cluster.logged import Logged
from redwire import body
from redwire.batch import Batch, make_batch
from redwire.message.log import Admit
from redwire.position import EMPTY, Lsn, NodeId, Position, Reign, Term
from redwire.record import Op, Record, RequestKind, encode_record, encode_system, encode_write


def admit(node: str, incarnation: str) -> bytes:
    return encode_system(RequestKind.ADMIT, body.encode(Admit(node, incarnation)))


def batch(after: Position, count: int, *requests: bytes) -> Batch:
    return make_batch(Reign(Term(1), NodeId("eu-1")), after, [*requests], count, 0, Lsn(0))


def test_settings_come_with_their_lsn_and_the_last_life_of_a_member_counts(cluster_record):
    local, majority = (
        encode_system(RequestKind.CONFIG, body.encode(cluster_record(policy=policy)))
        for policy in ("local", "majority")
    )
    writes = encode_write([encode_record(Record(Op.PUT, "c", name, b"{}")) for name in ("a", "b")])
    first = batch(EMPTY, 4, admit("us-1", "1" * 32), writes, local)
    after = Position(first.reign.term, first.last, first.chain)
    second = batch(after, 3, majority, admit("us-1", "2" * 32), admit("ap-1", "3" * 32))
    logged = Logged([], {})
    for each in (first, second):
        logged.take(each)
    assert [(s.lsn, str(s.cluster.default_policy)) for s in logged.settings] == [
        (4, "local"),
        (5, "majority"),
    ]
    assert logged.admits == {"us-1": "2" * 32, "ap-1": "3" * 32}
