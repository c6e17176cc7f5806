"""Records of the log's own in a state: the cluster, who was let in, accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.state import State
from redwire import body
from redwire.message.admin import PutToken, PutUser, RemoveToken, RemoveUser, SetRole
from redwire.message.client import RecordStatus
from redwire.message.log import Admit, TermStart
from redwire.position import NodeId
from redwire.record import RequestKind, encode_system
from tests.state_writes import APPLIED, VERIFIER, results


def test_the_logs_own_records_take_one_lsn_each_and_the_last_one_holds(
    state: State, path: Path, written_log: Any, cluster_record: Any
) -> None:
    batch = written_log.batch(
        encode_system(RequestKind.TERM_START, body.encode(TermStart("0.1"))),
        encode_system(RequestKind.CONFIG, body.encode(cluster_record(name="shop"))),
        encode_system(RequestKind.ADMIT, body.encode(Admit(NodeId("us-1"), "a" * 32))),
        encode_system(RequestKind.CONFIG, body.encode(cluster_record(name="mall"))),
        encode_system(RequestKind.ADMIT, body.encode(Admit(NodeId("us-1"), "b" * 32))),
        encode_system(RequestKind.ADMIT, body.encode(Admit(NodeId("eu-1"), "c" * 32))),
    )
    assert results(state, batch) == [[(APPLIED, lsn)] for lsn in range(1, 7)]
    state.close()
    again = State.open(path)
    for seen in (state, again):
        assert [record.name for _, record in seen.cluster_records()] == ["shop", "mall"]
        assert seen.cluster_records()[-1][1] == cluster_record(name="mall")
        assert dict(seen.admits()) == {"us-1": "b" * 32, "eu-1": "c" * 32}
    again.close()


def test_who_was_given_up_is_known_by_the_newest_term_that_began_so(
    state: State, path: Path, written_log: Any
) -> None:
    for without in (("us-1", "us-2"), (), ("us-2",)):
        start = encode_system(RequestKind.TERM_START, body.encode(TermStart("0.1", without)))
        written_log.term += 1
        state.apply([written_log.batch(start)])
    newest = max(entry.term for entry in state.terms.entries)
    state.close()
    again = State.open(path)
    for seen in (state, again):
        assert dict(seen.given_up()) == {"us-1": newest - 2, "us-2": newest}
    again.close()


def test_removing_a_user_removes_its_tokens_and_a_token_of_nobody_is_none(
    state: State, path: Path, written_log: Any
) -> None:
    def account(change: Any) -> bytes:
        return encode_system(RequestKind.ACCOUNT, body.encode(change))

    def user(name: str, role: Any = "read") -> PutUser:
        return PutUser(name=name, role=role, verifier=VERIFIER, topology_read=False)

    def token(ident: str, name: str) -> PutToken:
        return PutToken(id=ident, user=name, role="read", sha256=bytes(32))

    changes = [
        user("ann"),
        user("bob"),
        user("bob", "write"),
        token("t1", "ann"),
        token("t2", "bob"),
        token("t3", "bob"),
        token("t4", "nobody"),
        RemoveUser("ann"),
        RemoveUser("nobody"),
        RemoveToken("t3"),
        RemoveToken("t9"),
        SetRole(name="bob", role="admin", topology_read=True),
        SetRole(name="ann", role="admin", topology_read=None),
    ]
    (applied,) = state.apply([written_log.batch(*map(account, changes))])
    came_to = [RecordStatus(result.items[0]) for result in applied.results]
    nothing = {
        changes.index(change) for change in (changes[6], RemoveUser("nobody"), RemoveToken("t9"), changes[12])
    }
    assert {at for at, status in enumerate(came_to) if status is RecordStatus.NOT_FOUND} == nothing
    assert (came_to[0], came_to[7], came_to[9]) == (
        RecordStatus.APPLIED,
        RecordStatus.DELETED,
        RecordStatus.DELETED,
    )
    state.close()
    again = State.open(path)
    for seen in (state, again):
        bob = PutUser(name="bob", role="admin", verifier=VERIFIER, topology_read=True)
        assert dict(seen.accounts().users) == {"bob": bob}
        assert dict(seen.accounts().tokens) == {"t2": token("t2", "bob")}
    again.close()
