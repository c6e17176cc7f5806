"""The client against a fake cluster over real TLS: finding the primary, the four outcomes, and reads."""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial

import anyio
import pytest

import redwire
from redwire import errors
from redwire.errors import Code
from redwire.frame import Kind
from redwire.message.client import RESULT, RecordStatus
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.record import decode_write


def keys_of(node) -> list[tuple[bytes, int, int]]:
    found = [(decode_write(write.request).key, write.attempt) for write in node.writes]
    return [(key.client, key.sequence, attempt) for key, attempt in found]


# documents


async def test_what_is_put_can_be_read_and_the_receipt_says_who_has_it(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        written = await db.put("products", "p1", {"name": "lamp"})
        document = await db.get("products", "p1")
        assert await db.get("products", "p2") is None
    assert (written.id, written.version, written.receipt.lsn) == ("p1", 1, 1)
    assert [(ack.node, ack.region) for ack in written.receipt.acks] == [("eu-1", "eu"), ("us-1", "us")]
    assert written.receipt.token == Token(cluster.id, Term(1), Lsn(1))
    assert document.value == {"name": "lamp"} and document.raw == b'{"name":"lamp"}'
    assert document.version == 1 and document.token.lsn == 1


async def test_raw_json_is_stored_as_it_is(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", b'{ "a" : 1 }')
        assert (await db.get("products", "p1")).raw == b'{ "a" : 1 }'


async def test_a_conflict_is_an_error_that_names_the_version_that_stands(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.insert("products", {"a": 1}, "p1")
        with pytest.raises(errors.Conflict, match="products/p1 exists already") as exists:
            await db.insert("products", {"a": 2}, "p1")
        with pytest.raises(errors.Conflict) as mismatch:
            await db.put("products", "p1", {"a": 2}, if_version=7)
        assert (await db.put("products", "p1", {"a": 3}, if_version=1)).version == 4
    assert (exists.value.status, exists.value.version, exists.value.receipt.lsn) == ("EXISTS", 1, 2)
    assert (mismatch.value.status, mismatch.value.version) == ("VERSION_MISMATCH", 1)


async def test_a_collection_that_differs_from_another_one_only_in_case_is_the_conflict_that_is_told(
    cluster,
) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        with pytest.raises(errors.Conflict, match="the name of its collection differs .* only in case$"):
            await db.put("Products", "p1", {})


async def test_an_insert_without_an_id_gets_its_lsn_as_id(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        assert (await db.insert("products", {"a": 1})).id == "1"


async def test_a_delete_of_nothing_is_no_error(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        gone = await db.delete("products", "p1")
        again = await db.delete("products", "p1")
        with pytest.raises(errors.Conflict, match="products/p1 does not exist, so it has no version"):
            await db.delete("products", "p1", if_version=3)
    assert (gone.deleted, gone.version, gone.receipt.lsn) == (True, 1, 2)
    assert (again.deleted, again.version) == (False, 0)


async def test_inserted_rows_have_a_result_each_and_a_conflict_leaves_the_others(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        inserted = await db.insert_many("products", [("a", {}), ("a", {}), {"x": 1}])
        with pytest.raises(errors.Conflict):
            await db.insert_many("products", [("b", {}), ("a", {})], atomic=True)
        with pytest.raises(errors.RequestInvalid, match="no rows"):
            await db.insert_many("products", [])
        with pytest.raises(errors.RequestInvalid, match="record 1: .*mapping"):
            await db.insert_many("products", [{}, 7])
    assert [(row.id, row.status) for row in inserted.records] == [
        ("a", RecordStatus.APPLIED),
        ("a", RecordStatus.EXISTS),
        ("3", RecordStatus.APPLIED),
    ]
    assert inserted.receipt.lsn == 3
    assert str(inserted.pieces[0]).startswith("2 APPLIED, 1 EXISTS; LSN 3 in term ")


async def test_a_single_row_that_exists_is_told_row_by_row_unless_it_is_all_or_nothing(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        assert [row.status.name for row in (await db.insert_many("products", [("p1", {})])).records] == [
            "EXISTS"
        ]
        with pytest.raises(errors.Conflict):
            await db.insert_many("products", [("p1", {})], atomic=True)


async def test_many_rows_go_out_in_pieces_of_which_an_error_tells_how_many_stand(cluster, scripts) -> None:
    rows = [(f"{number:05}", {}) for number in range(10_001)]
    async with redwire.connect(cluster.uri()) as db:
        assert len((await db.insert_many("products", rows)).records) == 10_001
        cluster.leader.script.extend([scripts.commit, scripts.refusing(Code.FORBIDDEN)])
        with pytest.raises(errors.Refused) as refused:
            await db.insert_many("others", rows)
    assert refused.value.facts["rows_committed"] == 10_000
    assert [len(decode_write(write.request).records) for write in cluster.leader.writes[:2]] == [10_000, 1]


async def test_a_scan_goes_page_by_page_in_order_and_stops_at_its_limit(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.insert_many("products", [(f"{number:05}", {"n": number}) for number in range(1_500)])
        everything = [document.id async for document in db.scan("products")]
        some = [document.id async for document in db.scan("products", after="01000", limit=3)]
        exact = [document.id async for document in db.scan("products", limit=1_000)]
    assert everything == sorted(everything) and len(everything) == 1_500
    assert some == ["01001", "01002", "01003"] and len(exact) == 1_000


async def test_status_topology_and_accounts_are_asked_of_a_node(cluster) -> None:
    from redwire.message.admin import PutToken, RemoveUser

    async with redwire.connect(cluster.uri()) as db:
        assert (await db.status()).own.id == "eu-1"
        assert (await db.status(cluster.nodes[1].addr)).own.id == "us-1"
        assert (await db.topology()).primary.addr == cluster.leader.addr
        with pytest.raises(errors.Conflict, match="there is no user bob") as nobody:
            await db.admin.change_account(RemoveUser("bob"))
        assert nobody.value.facts == {"status": "NOT_FOUND", "version": 0, "lsn": 9, "term": 1}
        with pytest.raises(errors.Conflict, match="ops is an administrator by configuration"):
            await db.admin.change_account(PutToken(id="t", user="ops", role="read", sha256=bytes(32)))
        assert db.routing.primary == cluster.leader.addr
    assert cluster.accounts[0] == RemoveUser("bob")


async def test_an_account_change_that_was_sent_twice_does_not_deny_the_first_one(cluster) -> None:
    from redwire.message.admin import RemoveUser

    cluster.leader.account_script.append(lambda node, wire, frame: node.drop(wire))
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.Conflict, match="an earlier attempt of this call may have removed it"):
            await db.admin.change_account(RemoveUser("bob"))


async def test_a_refusal_does_not_tell_what_became_of_an_account_change_that_was_sent_before(cluster) -> None:
    from redwire.message.admin import RemoveUser

    forbidden = errors.Refused(Code.FORBIDDEN, "you administrate no more")
    cluster.leader.account_script.append(lambda node, wire, frame: node.drop(wire))
    cluster.leader.account_script.append(lambda node, wire, frame: wire.fail(frame.correlation, forbidden))
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome, match="administrate no more"):
            await db.admin.change_account(RemoveUser("bob"))


@pytest.mark.parametrize("code", [Code.NOT_READY, Code.BUSY, Code.MISSING_REGIONS])
async def test_of_what_stands_against_a_change_of_the_settings_only_what_passes_by_itself_is_waited_for(
    cluster, code: Code
) -> None:
    from redwire.message.settings import SetPolicy

    asked = []

    def refuse(node, wire, frame) -> None:
        asked.append(frame)
        wire.fail(frame.correlation, errors.Refused(code, "not now"))

    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.CHANGE_SETTINGS: refuse}
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.Refused, match="not now"):
            await db.admin.change_settings(SetPolicy(policy="majority"), timeout_s=0.3)
        assert db.routing.trouble == ""
    assert (len(asked) == 1) == (code is Code.MISSING_REGIONS)


async def test_a_change_of_the_settings_whose_session_ends_is_not_sent_again(cluster) -> None:
    from redwire.message.settings import SetPolicy

    asked = []

    def drop(node, wire, frame) -> None:
        asked.append(frame)
        node.drop(wire)

    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.CHANGE_SETTINGS: drop}
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome) as unknown:
            await db.admin.change_settings(SetPolicy(policy="majority"))
    assert len(asked) == 1 and unknown.value.hint == "look at the settings"


async def test_the_last_word_about_a_session_is_why_the_client_is_refused(cluster) -> None:
    cluster.hide_replicas = True
    async with redwire.connect(cluster.uri(cluster.leader)) as db:
        await db.put("products", "p1", {})
        (wire,) = cluster.leader.wires
        wire.fail(0, errors.AuthenticationFailed("the user bob was removed"))
        with pytest.raises(errors.AuthenticationFailed, match="bob was removed"):
            while True:
                await db.get("products", "p1")


async def test_rights_that_changed_open_a_new_session_by_themselves(cluster) -> None:
    changed = errors.AuthenticationFailed("the rights of the user bob were changed")
    changed.retry = True
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        before = {*cluster.leader.wires}
        for wire in before:
            wire.fail(0, changed)
        await db.put("products", "p2", {})
        assert await db.get("products", "p2") is not None
        while not cluster.leader.wires - before:
            await db.put("products", "p2", {})


# connecting


async def test_the_primary_is_found_from_any_node(cluster) -> None:
    async with redwire.connect(cluster.uri(cluster.nodes[2])) as db:
        await db.put("products", "p1", {})
        assert not cluster.nodes[2].writes
    assert len(cluster.nodes[0].writes) == 1


async def test_a_dead_seed_is_no_obstacle(cluster) -> None:
    uri = cluster.uri().replace("reds://", "reds://127.0.0.1:1,")
    async with redwire.connect(uri) as db:
        await db.put("products", "p1", {})


async def test_without_discovery_the_primary_is_found_among_the_seeds(cluster) -> None:
    cluster.addresses = {node.name: f"{node.name}.invalid:5050" for node in cluster.nodes}
    async with redwire.connect(cluster.uri(*reversed(cluster.nodes), discovery="off")) as db:
        await db.put("products", "p1", {})


async def test_advertised_addresses_that_cannot_be_reached_do_not_stop_writes(cluster) -> None:
    cluster.addresses = {"eu-1": "127.0.0.1:1"}
    async with redwire.connect(cluster.uri(*reversed(cluster.nodes))) as db:
        await db.put("products", "p1", {}, timeout_s=5)


async def test_a_password_gets_in_and_a_wrong_one_does_not_and_neither_is_ever_shown(cluster, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    client = redwire.connect(cluster.uri(user="app:secret@"))
    async with client as db:
        await db.put("products", "p1", {})
        shown = repr(db) + repr(db.config) + repr(vars(db))
    wrong = redwire.connect(cluster.uri(user="app:geheim@"))
    with pytest.raises(errors.AuthenticationFailed) as refused:
        async with wrong:
            pass
    shown += repr(refused.value) + str(refused.value) + repr(wrong) + caplog.text
    assert "secret" not in shown and "geheim" not in shown


async def test_a_server_of_another_authority_is_refused_at_once(cluster, stranger) -> None:
    cluster.ca = stranger.ca
    with anyio.fail_after(5), pytest.raises(errors.ConnectFailed, match="not accepted"):
        async with redwire.connect(cluster.uri()):
            pass


async def test_nobody_there_ends_at_the_deadline_and_says_why() -> None:
    with anyio.fail_after(5), pytest.raises(errors.DeadlineExceeded, match="refused"):
        async with redwire.connect("red://127.0.0.1:1/?timeout_ms=300"):
            pass


async def test_a_plain_uri_is_told_at_once_that_the_node_speaks_tls(cluster) -> None:
    uri = f"red://{','.join(node.addr for node in cluster.nodes)}"
    with anyio.fail_after(5), pytest.raises(errors.ConnectFailed, match="speaks TLS only; write reds://"):
        async with redwire.connect(uri):
            pass


async def test_a_tls_uri_is_told_at_once_that_the_node_speaks_plain_text(cluster) -> None:
    cluster.context = None
    with anyio.fail_after(5), pytest.raises(errors.ConnectFailed, match="plain text: .*write red://"):
        async with redwire.connect(cluster.uri()):
            pass


async def test_a_host_that_does_not_exist_is_told_at_once() -> None:
    with anyio.fail_after(5), pytest.raises(errors.ConnectFailed, match="cannot find no-such-host"):
        async with redwire.connect("reds://no-such-host.invalid"):
            pass


async def test_what_calls_wait_for_can_be_asked_while_they_do(cluster, scripts) -> None:
    nobody = redwire.connect("red://127.0.0.1:1/?timeout_ms=400")

    async def connect() -> None:
        with pytest.raises(errors.DeadlineExceeded):
            async with nobody:
                pass

    async with anyio.create_task_group() as tasks, redwire.connect(cluster.uri()) as db:
        tasks.start_soon(connect)
        assert db.routing.trouble == ""
        cluster.leader.script.extend([scripts.refusing(Code.MISSING_REGIONS)] * 20)
        pending = db.submit_put("products", "p1", {})
        with anyio.fail_after(5):
            while "MISSING_REGIONS" not in db.routing.trouble or "refused" not in nobody.routing.trouble:
                await anyio.sleep(0.01)
        cluster.leader.script.clear()
        await pending
        assert db.routing.trouble == ""


async def test_a_client_that_is_open_is_not_opened_again_and_stays_open(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.RequestInvalid, match="is open already; connect"):
            await db.__aenter__()
        await db.put("products", "p1", {})


async def test_a_change_that_no_primary_was_asked_for_is_certainly_not_made(cluster, scripts) -> None:
    from redwire.message.admin import RemoveUser

    async with redwire.connect(cluster.uri()) as db:
        cluster.leader, cluster.term = None, Term(2)
        with pytest.raises(errors.DeadlineExceeded) as never:
            await db.admin.change_account(RemoveUser("bob"), timeout_s=0.3)
        cluster.leader, cluster.term = cluster.nodes[0], Term(3)
        with pytest.raises(errors.Conflict, match="no user ann"):
            await db.admin.change_account(RemoveUser("ann"))
        cluster.leader.frozen = True
        with pytest.raises(errors.UnknownOutcome):
            await db.admin.change_account(RemoveUser("bob"), timeout_s=0.3)
    assert not never.value.sent and "nobody could be asked" in never.value.message
    assert cluster.accounts == [RemoveUser("ann")]


async def test_a_session_that_ends_before_a_change_is_answered_leaves_it_unknown(cluster) -> None:
    from redwire.message.settings import SetPolicy

    def end(node, wire, frame) -> None:
        wire.fail(0, errors.AuthenticationFailed("the rights of the user bob were changed"))

    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.CHANGE_SETTINGS: end}
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome, match="rights of the user bob"):
            await db.admin.change_settings(SetPolicy(policy="majority"))


async def test_a_change_of_accounts_after_which_nobody_is_let_in_again_is_unknown(cluster) -> None:
    from redwire.message.admin import RemoveUser

    def end(node, wire, frame) -> None:
        cluster.methods = lambda certificate: ["bearer"]
        wire.fail(0, errors.AuthenticationFailed("the user bob was removed"))

    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.ACCOUNT: end}
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome, match="no other began"):
            await db.admin.change_account(RemoveUser("bob"))


async def test_a_node_of_another_cluster_is_refused(cluster) -> None:
    async with redwire.connect(cluster.uri(cluster.nodes[0])) as db:
        await db.put("products", "p1", {})
        cluster.id = ClusterId("cd" * 16)
        with pytest.raises(errors.Refused, match="OTHER_CLUSTER"):
            await db.status(cluster.nodes[1].addr)


async def test_what_a_node_of_another_cluster_says_of_its_primary_is_not_believed(cluster) -> None:
    stranger = cluster.nodes[1]

    def open_elsewhere(node, wire, frame) -> None:
        ours = cluster.id, cluster.term, cluster.leader
        cluster.id, cluster.term, cluster.leader = ClusterId("cd" * 16), Term(99), node
        node.open(wire, frame)
        wire.send(Kind.TOPOLOGY, cluster.notice())
        cluster.id, cluster.term, cluster.leader = ours

    stranger.open_script.append(open_elsewhere)
    async with redwire.connect(cluster.uri(cluster.leader)) as db:
        await db.put("products", "p1", {})
        with pytest.raises(errors.Refused, match="OTHER_CLUSTER"):
            await db.status(stranger.addr)
        for wire in [*cluster.leader.wires]:
            wire.channel.close()
        await db.put("products", "p2", {}, timeout_s=5)
        assert db.routing.primary == cluster.leader.addr
    assert not stranger.writes


async def test_an_error_in_the_body_comes_out_as_it_is(cluster) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with redwire.connect(cluster.uri()):
            raise ValueError("mine")


async def test_a_closed_client_says_that_it_is_closed(cluster) -> None:
    client = redwire.connect(cluster.uri())
    with pytest.raises(errors.ChannelClosed, match="async with"):
        await client.put("products", "p1", {})
    async with client:
        pass
    with pytest.raises(errors.ChannelClosed):
        await client.get("products", "p1")


# following the primary


async def test_a_push_moves_the_writes_to_the_new_primary(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.hand_over(cluster.nodes[1], push=True)
        await db.status(cluster.nodes[0].addr)
        await db.put("products", "p2", {})
    assert len(cluster.nodes[0].writes) == 1 and len(cluster.nodes[1].writes) == 1


async def test_a_refusal_of_the_old_primary_names_the_new_one_and_the_write_goes_there(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.hand_over(cluster.nodes[2], push=False)
        await db.put("products", "p2", {})
    assert [attempt for *_, attempt in keys_of(cluster.nodes[2])] == [1]


async def test_the_primary_is_found_again_when_the_old_one_is_gone(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.hand_over(cluster.nodes[1], push=False)
        cluster.stop(cluster.nodes[0])
        await db.put("products", "p2", {}, timeout_s=10)
    assert len(cluster.nodes[1].writes) == 1


async def test_one_that_takes_long_to_say_that_it_leads_is_found(cluster) -> None:
    cluster.addresses = {node.name: f"{node.name}.invalid:5050" for node in cluster.nodes}
    late = cluster.nodes[1]
    async with redwire.connect(cluster.uri(discovery="off")) as db:
        await db.put("products", "p1", {})
        for node in cluster.nodes:
            await db.status(node.addr)

        def open_late(node, wire, frame) -> None:
            asyncio.get_running_loop().call_later(1.3, type(late).open, node, wire, frame)

        late.HANDLERS = late.HANDLERS | {Kind.OPEN: open_late}
        cluster.hand_over(late, push=False)
        await db.put("products", "p2", {}, timeout_s=8)
    assert len(late.writes) == 1


@pytest.mark.slow
async def test_one_that_leads_in_an_older_term_is_found_when_all_of_the_newer_term_are_gone(cluster) -> None:
    """As after a take-over by nodes that never heard of the newest reigns, whose nodes are lost."""
    lost, survivor, _ = cluster.nodes
    cluster.term = Term(8)
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.stop(lost)
        cluster.hand_over(survivor, push=False)
        cluster.term = Term(6)
        await db.put("products", "p2", {}, timeout_s=10)
        assert db.routing.primary == survivor.addr and db.routing.epoch == 6 << 24
        cluster.hand_over(cluster.nodes[2], push=True)
        await db.put("products", "p3", {}, timeout_s=1)
        assert db.routing.primary == cluster.nodes[2].addr


async def test_an_older_topology_changes_nothing(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        old = cluster.notice()
        cluster.hand_over(cluster.nodes[1], push=True)
        await db.put("products", "p1", {})
        for wire in cluster.nodes[1].wires:
            wire.send(0x4B, old)
        await db.put("products", "p2", {})
        assert db.routing.primary == cluster.nodes[1].addr


async def test_without_a_primary_a_write_that_was_never_sent_says_so(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        cluster.leader = None
        cluster.term = Term(2)
        with pytest.raises((errors.DeadlineExceeded, errors.NotPrimary)):
            await db.put("products", "p1", {}, timeout_s=0.3)


# outcomes


async def test_a_connection_that_breaks_is_followed_by_the_same_key_as_the_second_attempt(
    cluster, scripts
) -> None:
    cluster.leader.script.append(scripts.cut_before)
    async with redwire.connect(cluster.uri()) as db:
        written = await db.put("products", "p1", {})
    (first, sequence, one), (second, again, two) = keys_of(cluster.leader)
    assert (first, sequence) == (second, again) and (one, two) == (1, 2)
    assert not written.receipt.duplicate


async def test_a_write_that_was_executed_before_the_break_is_not_executed_again(cluster, scripts) -> None:
    cluster.leader.script.append(scripts.cut_after)
    async with redwire.connect(cluster.uri()) as db:
        written = await db.insert("products", {"a": 1}, "p1")
    assert written.receipt.duplicate and written.version == 1 and cluster.lsn == 1


async def test_a_refusal_that_may_pass_is_tried_again_as_the_first_attempt(cluster, scripts) -> None:
    cluster.leader.script.extend([scripts.refusing(Code.INSUFFICIENT_REPLICAS), scripts.refusing(Code.BUSY)])
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
    assert [attempt for *_, attempt in keys_of(cluster.leader)] == [1, 1, 1]


async def test_a_refusal_that_lasts_until_the_deadline_is_the_outcome(cluster, scripts) -> None:
    cluster.leader.script.extend([scripts.refusing(Code.MISSING_REGIONS)] * 100)
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.Refused, match="MISSING_REGIONS"):
            await db.put("products", "p1", {}, timeout_s=5.0)  # most of it is a pause between two tries
    assert len(cluster.leader.writes) > 1


async def test_a_refusal_for_good_is_not_tried_again(cluster, scripts) -> None:
    cluster.leader.script.append(scripts.refusing(Code.FORBIDDEN))
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.Refused, match="FORBIDDEN"):
            await db.put("products", "p1", {})
    assert len(cluster.leader.writes) == 1


async def test_not_confirmed_carries_what_is_proven_and_the_key_that_resolves_it(cluster, scripts) -> None:
    cluster.leader.script.append(scripts.unconfirmed)
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.NotConfirmed) as unsure:
            await db.put("products", "p1", {})
        resolved = await db.resolve(unsure.value.key)
    assert unsure.value.lsn == 1 and len(unsure.value.receipt.acks) == 2
    assert (resolved.id, resolved.version, resolved.receipt.duplicate) == ("p1", 1, True)


async def test_what_is_resolved_raises_the_conflict_that_the_write_would_have_raised(
    cluster, scripts
) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.leader.script.append(scripts.execute_silently)
        with pytest.raises(errors.UnknownOutcome) as unsure:
            await db.put("products", "p1", {}, if_version=9, timeout_s=0.2)
        with pytest.raises(errors.Conflict, match="p1 has another version; it stands at 1") as conflict:
            await db.resolve(unsure.value.key)
    assert (conflict.value.status, conflict.value.version) == ("VERSION_MISMATCH", 1)
    assert conflict.value.receipt is not None and conflict.value.receipt.duplicate


async def test_what_is_resolved_of_rows_is_a_status_for_each_even_for_a_single_one(cluster, scripts) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        for rows in ([("p1", {})], [("p1", {}), ("p2", {})]):
            cluster.leader.script.append(scripts.execute_silently)
            with pytest.raises(errors.UnknownOutcome) as unsure:
                await db.insert_many("products", rows, timeout_s=0.2)
            resolved = await db.resolve(unsure.value.key)
            assert [row.id for row in resolved.records] == [name for name, _ in rows]
            assert resolved.records[0].status is RecordStatus.EXISTS


async def test_silence_until_the_deadline_is_an_unknown_outcome_that_can_be_resolved(
    cluster, scripts
) -> None:
    cluster.leader.script.extend([scripts.execute_silently, scripts.silence])
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome) as executed:
            await db.put("products", "p1", {}, timeout_s=0.2)
        with pytest.raises(errors.UnknownOutcome) as lost:
            await db.put("products", "p2", {}, timeout_s=0.2)
        assert (await db.resolve(executed.value.key)).id == "p1"
        with pytest.raises(errors.Refused, match="NOT_FOUND"):
            await db.resolve(lost.value.key)
    assert executed.value.phase == "answer"


async def test_a_key_can_be_asked_for_although_its_answer_came_late(cluster, scripts) -> None:
    asked = []
    cluster.leader.script.append(lambda *write: asked.append(write))
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome) as unknown:
            await db.put("products", "p1", {}, timeout_s=0.2)
        ((_, wire, frame, envelope),) = asked
        cluster.leader.commit(wire, frame, envelope)
        for _ in range(2):  # the first one is answered behind it
            await db.put("products", "p2", {})
        assert decode_write(cluster.leader.writes[-1].request).key.oldest == unknown.value.key.sequence
        assert (await db.resolve(unknown.value.key)).id == "p1"
        await db.put("products", "p3", {})
    assert decode_write(cluster.leader.writes[-1].request).key.oldest > unknown.value.key.sequence


async def test_a_later_refusal_does_not_override_a_lost_attempt_that_was_executed(cluster, scripts) -> None:
    cluster.leader.script.extend([scripts.cut_after, scripts.refusing(Code.FORBIDDEN)])
    async with redwire.connect(cluster.uri()) as db:
        written = await db.put("products", "p1", {})
    assert written.version == 1 and written.receipt.duplicate


async def test_a_later_refusal_stands_once_the_primary_says_that_the_key_is_absent(cluster, scripts) -> None:
    cluster.leader.script.extend([scripts.cut_before, scripts.refusing(Code.FORBIDDEN)])
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.Refused, match="FORBIDDEN"):
            await db.put("products", "p1", {})
    assert not cluster.documents


async def test_an_answer_about_a_key_that_does_not_fit_its_write_leaves_it_unknown_and_the_client_open(
    cluster, scripts
) -> None:
    def two_rows(node, wire, frame) -> None:
        node.answer(wire, frame.correlation, "majority", 1, bytes(18), True)

    cluster.leader.script.extend([scripts.cut_before, *[scripts.refusing(Code.FORBIDDEN)] * 100])
    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.RESOLVE: two_rows}
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome):
            await db.put("products", "p1", {}, timeout_s=0.5)
        cluster.leader.script.clear()
        await db.put("products", "p1", {})


async def test_a_later_refusal_that_lasts_leaves_a_lost_attempt_unknown(cluster, scripts) -> None:
    cluster.leader.script.extend([scripts.cut_before, *[scripts.refusing(Code.NOT_READY)] * 100])
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome):
            await db.put("products", "p1", {}, timeout_s=0.4)


async def test_a_new_primary_that_cannot_look_back_yet_is_asked_again(cluster, scripts) -> None:
    cluster.leader.script.extend([scripts.cut_after, scripts.unsettled])
    async with redwire.connect(cluster.uri()) as db:
        assert (await db.put("products", "p1", {})).receipt.duplicate


async def test_a_late_refusal_is_the_outcome_and_no_last_try_makes_it_unknown(cluster, scripts) -> None:
    def late(*asked) -> None:
        asyncio.get_running_loop().call_later(2.75, scripts.refusing(Code.MISSING_REGIONS), *asked)

    cluster.leader.script.extend([late, scripts.silence])
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.Refused, match="MISSING_REGIONS"):
            await db.put("products", "p1", {}, timeout_s=3)
    assert len(cluster.leader.writes) == 1


@pytest.mark.parametrize("code", [Code.NOT_READY, Code.INSUFFICIENT_REPLICAS, Code.MISSING_REGIONS])
async def test_of_two_that_lead_in_one_term_writes_go_to_the_one_that_serves_them(
    cluster, scripts, code
) -> None:
    cluster.rival, cluster.leader, _ = cluster.nodes
    cluster.rival.script.extend([scripts.refusing(code)] * 100)
    async with redwire.connect(cluster.uri(cluster.rival)) as db:
        await db.put("products", "p1", {}, timeout_s=5)
        asked = len(cluster.rival.writes)
        await db.put("products", "p2", {}, timeout_s=5)
    assert asked >= 1 and len(cluster.rival.writes) == asked


async def test_two_that_lead_in_one_term_and_cannot_serve_yet_are_asked_in_turns(cluster, scripts) -> None:
    cluster.rival, cluster.leader, _ = cluster.nodes
    cluster.rival.script.extend([scripts.refusing(Code.INSUFFICIENT_REPLICAS)] * 100)
    cluster.leader.script.extend([scripts.refusing(Code.NOT_READY)] * 3)
    async with redwire.connect(cluster.uri(cluster.rival)) as db:
        await db.put("products", "p1", {}, timeout_s=5)
    assert len(cluster.leader.writes) == 4 and len(cluster.rival.writes) >= 3


async def test_a_node_that_says_it_does_not_lead_is_sent_no_write_though_the_topology_names_it(
    cluster,
) -> None:
    leads, named, _ = cluster.nodes
    cluster.addresses[leads.name] = named.addr
    async with redwire.connect(cluster.uri(named, leads)) as db:
        await db.put("products", "p1", {})
        await db.put("products", "p2", {})
    assert len(leads.writes) == 2 and not named.writes


async def test_one_that_we_knew_as_a_replica_is_found_to_serve_in_the_term_of_another_that_does_not(
    cluster, scripts
) -> None:
    """Its topology has the same epoch as that of the one that led first."""
    void, serves, _ = cluster.nodes
    async with redwire.connect(cluster.uri(void, serves)) as db:
        await db.get("products", "p1", read="nearest")
        await db.put("products", "p1", {})
        await db.get("products", "p1", read="any")
        await db.get("products", "p1", read="any")
        void.script.extend([scripts.refusing(Code.NOT_READY)] * 100)
        cluster.rival, cluster.leader = void, serves
        await db.put("products", "p2", {}, timeout_s=5)


async def test_an_answer_about_a_key_that_makes_no_sense_costs_that_write_alone(cluster, scripts) -> None:
    def remembered_with_a_result_too_many(node, wire, frame, envelope) -> None:
        key = decode_write(envelope.request).key
        node.cluster.keys[key.client, key.sequence] = 1, RESULT.pack(RecordStatus.APPLIED, 1) * 2
        node.drop(wire)

    cluster.leader.script.extend([remembered_with_a_result_too_many, scripts.refusing(Code.INVALID)])
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome):
            await db.put("products", "p1", {}, timeout_s=1)
        assert (await db.put("products", "p2", {})).version == 1


async def test_a_forgotten_client_goes_on_under_a_new_id(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.forgotten.add(keys_of(cluster.leader)[0][0])
        await db.put("products", "p2", {})
        await db.put("products", "p3", {})
    clients = [client for client, *_ in keys_of(cluster.leader)]
    assert clients[0] == clients[1] != clients[2] == clients[3]


async def test_a_call_that_is_cancelled_while_its_new_id_is_fetched_takes_no_place_under_it(cluster) -> None:
    held = []
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.forgotten.add(keys_of(cluster.leader)[0][0])
        cluster.leader.open_script.append(lambda node, *parts: held.append(parts))
        async with anyio.create_task_group() as calls:
            calls.start_soon(db.put, "products", "p2", {})
            while not held:
                await anyio.sleep(0.01)
            calls.cancel_scope.cancel()
        cluster.leader.open(*held[0])
        await db.put("products", "p3", {})
        pending = [db.submit_put("products", f"q{number}", {}) for number in range(4_096)]
        for each in pending:
            await each
    assert ("products", "p2") not in cluster.documents


async def test_a_cancelled_call_ends_the_wait_and_disturbs_nobody(cluster, scripts) -> None:
    cluster.leader.script.append(scripts.silence)
    async with redwire.connect(cluster.uri()) as db:
        with anyio.move_on_after(0.1) as waiting:
            await db.put("products", "p1", {})
        assert waiting.cancelled_caught
        await db.put("products", "p2", {})


async def test_a_write_without_an_answer_is_not_laid_to_an_address_that_it_did_not_need(
    cluster, scripts
) -> None:
    away = cluster.nodes[2]
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.stop(away)
        with pytest.raises(errors.ConnectFailed, match=away.addr):
            await db.status(away.addr, timeout_s=0.5)
        cluster.leader.script.append(scripts.silence)
        with pytest.raises(errors.UnknownOutcome) as unknown:
            await db.put("products", "p2", {}, timeout_s=0.2)
    assert away.addr not in unknown.value.message


async def test_closing_the_client_tells_those_who_wait(cluster, scripts) -> None:
    cluster.leader.script.append(scripts.silence)
    outcomes = []
    async with anyio.create_task_group() as tasks, redwire.connect(cluster.uri()) as db:

        async def put() -> None:
            try:
                await db.put("products", "p1", {})
            except errors.UnknownOutcome as error:
                outcomes.append(error.message)

        tasks.start_soon(put)
        with anyio.fail_after(5):
            while not cluster.leader.writes:
                await anyio.sleep(0.01)
    assert len(outcomes) == 1 and "closed" in outcomes[0]


async def test_closing_the_client_tells_those_who_wait_for_a_place_that_nothing_was_written(
    cluster, scripts
) -> None:
    cluster.leader.script.extend([scripts.silence] * 4_096)
    outcomes = []

    async def put(db: redwire.Client, number: int) -> None:
        try:
            await db.put("products", f"q{number}", {}, timeout_s=60)
        except errors.ChannelClosed as error:
            outcomes.append(error.message)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, redwire.connect(cluster.uri()) as db:
            for number in range(4_096):
                db.submit_put("products", f"p{number}", {}, timeout_s=60)
            for number in range(3):
                tasks.start_soon(put, db, number)
            await anyio.wait_all_tasks_blocked()
    assert outcomes == ["the client was closed"] * 3


async def test_a_callback_that_fails_keeps_no_other_write_from_its_outcome_and_no_task_alive(
    cluster, scripts
) -> None:
    cluster.leader.script.extend([scripts.silence] * 3)
    tasks = asyncio.all_tasks()
    client = redwire.connect(cluster.uri())

    def once_more(pending: redwire.Pending) -> None:
        client.submit_put("products", "p4", {}, callback=once_more)

    with pytest.raises(errors.ChannelClosed, match="not open"):
        async with client as db:
            written = [db.submit_put("products", f"p{number}", {}, callback=once_more) for number in range(3)]
    assert {type(each.error) for each in written} == {errors.UnknownOutcome}
    names = {task.get_name() for task in asyncio.all_tasks() - tasks}
    assert not [name for name in names if "Link" in name or "Writes" in name]


async def test_closing_the_client_ends_at_once_what_would_wait_for_a_node(cluster) -> None:
    from redwire.message.admin import RemoveUser

    asked = anyio.Event()
    cluster.leader.account_script.append(lambda node, wire, frame: asked.set())
    outcomes: dict[str, errors.RedwireError] = {}
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks, redwire.connect(cluster.uri()) as db:

            async def call(name: str, method, *arguments, **options) -> None:
                try:
                    await method(*arguments, **options, timeout_s=60)
                except errors.RedwireError as error:
                    outcomes[name] = error

            await db.put("products", "p1", {})
            tasks.start_soon(call, "account", db.admin.change_account, RemoveUser("bob"))
            await asked.wait()
            for node in cluster.nodes:
                cluster.stop(node)
            tasks.start_soon(call, "get", db.get, "products", "p1")
            tasks.start_soon(call, "nearest", partial(db.get, read="any"), "products", "p1")
            tasks.start_soon(call, "status", db.status)
            tasks.start_soon(call, "settings", db.admin.settings)
            await anyio.sleep(0.3)
            assert not outcomes
    assert type(outcomes.pop("account")) is errors.UnknownOutcome
    assert {type(error) for error in outcomes.values()} == {errors.ChannelClosed}
    assert {error.message for error in outcomes.values()} == {"the client was closed"}


async def test_a_write_beyond_the_limits_is_refused_here(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.TooLarge):
            await db.insert_many("products", [{}] * 10_001, atomic=True)
        with pytest.raises(errors.TooLarge):
            await db.insert_many("products", [b'{"a": "%s"}' % (b"x" * (8 << 20))])
        for collection, ident, document in [
            ("../x", "a", {}),
            ("c", "", {}),
            ("c", "a\0", {}),
            ("c", "a", []),
        ]:
            with pytest.raises(errors.RequestInvalid):
                await db.put(collection, ident, document)
    assert not cluster.leader.writes


# many at once


async def test_thousands_in_flight_need_no_task_each_and_keep_to_the_window(cluster) -> None:
    done = []
    async with redwire.connect(cluster.uri()) as db:
        pending = [
            db.submit_put("products", f"p{number}", {"n": number}, callback=done.append)
            for number in range(4_096)
        ]
        with pytest.raises(errors.Refused, match="BUSY"):
            db.submit_put("products", "one-more", {})
        assert {committed.version for committed in [await each for each in pending]} == set(range(1, 4_097))
        await db.put("products", "one-more", {})
    assert len(done) == 4_096 and all(each.done and each.error is None for each in done)


async def test_a_full_window_makes_calls_wait_and_then_lets_them_in(cluster, scripts) -> None:
    held = []
    cluster.leader.script.append(lambda node, *parts: held.append(parts))
    async with redwire.connect(cluster.uri()) as db:
        pending = [db.submit_put("products", f"p{number}", {}) for number in range(4_096)]
        with pytest.raises(errors.DeadlineExceeded) as late:
            await db.put("products", "late", {}, timeout_s=0.2)
        assert late.value.phase == "send"

        async def release() -> None:
            await anyio.sleep(0.1)
            cluster.leader.commit(*held[0])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(release)
            for number in range(3):
                tasks.start_soon(db.put, "products", f"q{number}", {})
        await pending[0]
    assert "late" not in {ident for _, ident in cluster.documents}


async def test_one_write_that_is_refused_for_long_keeps_the_window_open_for_others(cluster, scripts) -> None:
    def by_policy(node, wire, frame, envelope) -> None:
        if envelope.policy:
            scripts.refusing(Code.MISSING_REGIONS)(node, wire, frame, envelope)
        else:
            node.commit(wire, frame, envelope)

    cluster.leader.script.extend([by_policy] * 20_000)
    async with redwire.connect(cluster.uri()) as db:
        refused = db.submit_put("products", "far", {}, policy="regions(moon)", timeout_s=30)
        for batch in range(3):
            pending = [db.submit_put("products", f"p{batch}-{number}", {}) for number in range(2_000)]
            for each in pending:
                await each
            await anyio.sleep(1.0)  # until it is refused once more
        assert not refused.done
        cluster.leader.script.clear()
        assert (await refused).id == "far"


async def test_a_broken_connection_loses_none_of_those_in_flight(cluster, scripts) -> None:
    cluster.leader.script.extend([scripts.silence] * 20 + [scripts.cut_after])
    async with redwire.connect(cluster.uri()) as db:
        pending = [db.submit_put("products", f"p{number}", {}) for number in range(50)]
        for each in pending:
            await each
    assert len(cluster.documents) == 50


# reads


async def test_reads_go_where_the_mode_says(cluster) -> None:
    async with redwire.connect(cluster.uri(region="us")) as db:
        await db.put("products", "p1", {})
        for mode, node in [("primary", 0), ("region:ap", 2), ("nearest", 1)]:
            before = [each.fetches for each in cluster.nodes]
            assert await db.get("products", "p1", read=mode) is not None
            after = [each.fetches for each in cluster.nodes]
            assert after[node] == before[node] + 1, mode
        before = cluster.nodes[0].fetches
        for _ in range(4):
            await db.get("products", "p1", read="any")
        assert cluster.nodes[0].fetches == before


async def test_what_no_call_can_mean_is_refused_by_the_name_of_its_argument_and_nobody_is_asked(
    cluster,
) -> None:
    async with redwire.connect(cluster.uri()) as db:
        fetches = [each.fetches for each in cluster.nodes]
        wrong = [
            (
                db.get("products", "p1", read="nearst"),
                "read: unknown read mode 'nearst'; did you mean 'nearest'",
            ),
            (
                db.get("products", "p1", read="foo"),
                "read: .* 'foo'; one of primary, nearest, any, region:<name>",
            ),
            (db.get("products", "p1", read=7), "read is 7, of type int; pass a str"),
            (db.get("products", 7), "id is 7, of type int; pass a str"),
            (db.get(None, "p1"), "collection is None, of type NoneType"),
            (db.get("products", "p1", at_least=7), "at_least is 7"),
            (db.put("products", b"p1", {}), "id is b'p1', of type bytes"),
            (db.put(["products"], "p1", b"{}"), "collection is "),
            (db.delete("products", 7), "id is 7"),
            (db.insert_many("products", [{}, (7, {})]), "record 1: id is 7"),
            (anext(db.scan("products", after=7)), "after is 7"),
            (anext(db.scan(7)), "collection is 7"),
            (anext(db.scan("products", limit="7")), "limit is '7', of type str; pass an int"),
            (db.put("products", "p1", {}, policy=7), "policy is 7, of type int"),
            (db.put("products", "p1", {}, policy=False), "policy is False"),
            (db.put("products", "p1", {}, policy="x" * 256), "256, at most 255"),
            (db.put("products", "p1", {}, policy="\ud800"), "cannot carry"),
            (db.put("products", "p1", {}, timeout_s="7"), "timeout_s is '7', of type str; pass seconds"),
            (db.put("products", "p1", {}, timeout_s=math.nan), "timeout_s is nan; pass seconds above 0"),
            (db.put("products", "p1", {}, timeout_s=0), "timeout_s is 0"),
            (db.put("products", "p1", {}, timeout_s=math.inf), "timeout_s is inf"),
            (db.put("products", "p1", {}, timeout_s=True), "timeout_s is True"),
            (db.put("products", "p1", None), "not NoneType"),
            (db.put("products", "p1", {}, if_version="7"), "if_version is '7', of type str; pass an int"),
            (db.delete("products", "p1", if_version=-1), "if_version is -1; it is never below 0"),
            (db.delete("products", "p1", if_version=1 << 64), "if_version is 18446744073709551616"),
            (db.insert_many("products", [("p1", {}, 7)]), "record 0: a row is .* not a tuple of 3"),
            (db.resolve("key"), "key is 'key', of type str; pass the key of the error"),
            (db.status(7), "addr is 7"),
            (db.status("host"), "addr is 'host'; pass host:port"),
            (db.status("host:65536"), "addr is 'host:65536'"),
            (db.topology(timeout_s=-1), "timeout_s is -1"),
        ]
        for call, text in wrong:
            with pytest.raises(errors.RequestInvalid, match=text):
                await call
        assert [each.fetches for each in cluster.nodes] == fetches
        assert (await db.put("products", "p1", {})).receipt.lsn == 1
    (first,) = cluster.leader.writes
    assert decode_write(first.request).key.sequence == 1, "what is refused takes no key"


async def test_a_region_that_does_not_exist_is_refused_at_once(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        with anyio.fail_after(3), pytest.raises(errors.Refused, match="MISSING_REGIONS.*ap, eu, us"):
            await db.get("products", "p1", read="region:moon")


async def test_a_replica_behind_the_token_is_followed_by_the_primary(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        written = await db.put("products", "p1", {})
        cluster.nodes[1].applied_back = cluster.nodes[2].applied_back = 1
        assert await db.get("products", "p1", read="any", at_least=written.receipt.token) is not None
        assert await db.get("products", "p1", read="any", at_least=str(written.receipt.token)) is not None
        assert cluster.nodes[0].fetches == 2
        with pytest.raises(errors.Refused, match="STALE"):
            await db.get("products", "p1", read="region:us", at_least=written.receipt.token, timeout_s=0.3)


async def test_a_lost_token_is_never_answered_from_another_history(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        cluster.nodes[1].reads.append(errors.TokenLost("term 3 wrote it"))
        with pytest.raises(errors.TokenLost):
            await db.get("products", "p1", read="region:us", at_least=Token(cluster.id, Term(1), Lsn(1)))
        assert cluster.nodes[0].fetches == 0


async def test_a_read_goes_on_to_the_next_node_when_one_is_gone(cluster) -> None:
    async with redwire.connect(cluster.uri(cluster.nodes[0], region="us")) as db:
        await db.put("products", "p1", {})
        cluster.stop(cluster.nodes[1])
        with anyio.fail_after(5):
            assert await db.get("products", "p1", read="nearest") is not None


async def test_a_read_that_nobody_answers_names_its_phase(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        cluster.nodes[0].frozen = True
        with pytest.raises(errors.DeadlineExceeded) as late:
            await db.get("products", "p1", timeout_s=0.2)
        cluster.nodes[0].frozen = False
        assert await db.get("products", "p1") is None
    assert late.value.phase == "answer"


@pytest.mark.parametrize("read", ["primary", "region:eu"])
async def test_a_read_that_the_primary_keeps_says_whom_it_waited_for_and_what_to_do(cluster, read) -> None:
    silent = cluster.nodes[0]
    async with redwire.connect(cluster.uri()) as db:
        assert await db.get("products", "p1", read=read) is None
        silent.frozen = True
        with pytest.raises(errors.DeadlineExceeded) as late:
            await db.get("products", "p1", read=read, timeout_s=0.3)
    told = late.value
    text = f"no answer within 0.3 s, in phase answer: {silent.addr} did not answer within 0.3 s"
    assert (told.message, told.phase, told.sent) == (text, "answer", True)
    assert told.hint == (errors.ELSEWHERE_HINT if read == "primary" else "")


async def test_a_question_to_one_node_that_is_silent_says_so(cluster) -> None:
    silent = cluster.nodes[1]
    async with redwire.connect(cluster.uri()) as db:
        link = db._opened().pool.link(silent.addr)
        await link.settled.wait()
        silent.frozen = True
        with pytest.raises(errors.DeadlineExceeded) as late:
            await db.status(silent.addr, timeout_s=0.3)
    told = late.value
    assert (told.message, told.phase) == (
        f"no node answered within 0.3 s: {silent.addr} said nothing",
        "answer",
    )


async def test_a_read_that_may_pass_is_asked_again(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        cluster.nodes[0].reads.append(errors.Refused(Code.NOT_READY, "a new reign"))
        assert await db.get("products", "p1") is None


@pytest.mark.slow
async def test_a_primary_that_falls_silent_is_left_behind(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.nodes[0].frozen = True
        cluster.hand_over(cluster.nodes[1], push=False)
        await db.put("products", "p2", {}, timeout_s=25)
    assert [attempt for *_, attempt in keys_of(cluster.nodes[1])] == [2]


async def test_no_task_outlives_the_client(cluster) -> None:
    import asyncio

    before = len(asyncio.all_tasks())
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        await db.get("products", "p1", read="any")
        assert len(asyncio.all_tasks()) > before
    with anyio.fail_after(3):
        while any(node.wires for node in cluster.nodes):
            await anyio.sleep(0.01)
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not [name for name in names if "Link" in name or "Writes" in name]


def test_the_package_exports_what_it_names() -> None:
    assert all(getattr(redwire, name) is not None for name in redwire.__all__)
    assert set(redwire.__all__) <= set(dir(redwire))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        redwire.nothing  # noqa: B018
