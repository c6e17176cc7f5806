"""What a write comes to that does not go straight: tried again, refused, not confirmed, unknown, resolved."""

from __future__ import annotations

import asyncio
from functools import partial

import anyio
import pytest

import redwire
from redwire import errors
from redwire.errors import Code
from redwire.frame import Kind
from redwire.message.client import RESULT, RecordStatus, Resolve
from redwire.pipe import Pipe
from redwire.record import CLIENT_BYTES, NO_CLIENT, OPEN_MAX, decode_write


async def test_a_connection_that_breaks_is_followed_by_the_same_key_as_the_second_attempt(
    cluster, scripts
) -> None:
    cluster.leader.script.append(scripts.cut_before)
    async with redwire.connect(cluster.uri()) as db:
        written = await db.put("products", "p1", {})
    (first, sequence, one), (second, again, two) = cluster.leader.keys
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
    assert [attempt for *_, attempt in cluster.leader.keys] == [1, 1, 1]


async def test_a_refusal_that_lasts_until_the_deadline_is_the_outcome(cluster, scripts, monkeypatch) -> None:
    monkeypatch.setattr("redwire.course.PAUSE_MAX_S", 0.2)
    monkeypatch.setattr(
        "redwire.pending.LAST_TRY_SHARE", 0.5
    )  # that long a busy machine has for the last one
    cluster.leader.script.extend([scripts.refusing(Code.MISSING_REGIONS)] * 100)
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.Refused, match="MISSING_REGIONS"):
            await db.put("products", "p1", {}, timeout_s=1.0)  # most of it are pauses between tries
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


async def test_the_receipt_of_several_records_that_are_not_confirmed_is_of_the_last_one(
    cluster, scripts
) -> None:
    cluster.leader.script.append(scripts.unconfirmed)
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.NotConfirmed) as unsure:
            await db.insert_many("products", [("p1", {}), ("p2", {}), ("p3", {})], atomic=True)
        resolved = await db.resolve(unsure.value.key)
    assert unsure.value.lsn == unsure.value.receipt.token.lsn == resolved.receipt.lsn == 3


async def test_who_reached_a_node_without_ids_gets_one_of_the_primary_for_its_first_write(cluster) -> None:
    first = cluster.nodes[1]
    first.issues_ids = False
    async with redwire.connect(cluster.uri(first)) as db:
        await db.put("products", "p1", {})
        await db.put("products", "p2", {})
    (one, sequence, _), (two, following, _) = cluster.leader.keys
    assert one == two != NO_CLIENT and (sequence, following) == (1, 2)


async def test_a_write_waits_until_a_node_can_issue_a_client_id(cluster) -> None:
    cluster.leader.issues_ids = False
    async with redwire.connect(cluster.uri(cluster.leader)) as db, anyio.create_task_group() as tasks:
        tasks.start_soon(db.put, "products", "p1", {})
        await anyio.sleep(0.2)
        assert not cluster.leader.writes
        cluster.leader.issues_ids = True
    assert len(cluster.leader.writes) == 1


async def test_a_primary_that_falls_silent_before_it_issues_an_id_holds_up_no_write_for_long(
    cluster, monkeypatch
) -> None:
    monkeypatch.setattr("redwire.pool.VISIT_S", 0.3)
    old, new = cluster.nodes[:2]
    old.issues_ids = new.issues_ids = False
    async with redwire.connect(cluster.uri()) as db, anyio.create_task_group() as tasks:
        tasks.start_soon(db.put, "products", "p1", {})
        await anyio.sleep(0.25)
        old.frozen = True
        await anyio.sleep(0.25)  # a visit to it is under way
        cluster.leader, cluster.term, new.issues_ids = new, cluster.term + 1, True
        for node in cluster.nodes:
            for wire in node.wires:
                if wire.subscribed:
                    wire.send(Kind.TOPOLOGY, cluster.notice())
        with anyio.fail_after(3):
            while not new.writes:
                await anyio.sleep(0.01)


async def test_whoever_leads_and_issues_no_id_in_time_is_told_of_as_that(cluster, monkeypatch) -> None:
    monkeypatch.setattr("redwire.pool.VISIT_S", 0.2)
    async with redwire.connect(cluster.uri(cluster.leader)) as db:
        await db.put("products", "p1", {})
        cluster.leader.frozen = True
        with pytest.raises(errors.ConnectFailed, match="issued no client id within 0.2 s") as late:
            await db._opened().pool.new_client_id()
    assert late.value.retry


async def test_without_a_client_id_a_write_is_certainly_not_sent_and_says_why(cluster) -> None:
    cluster.leader.issues_ids = False
    async with redwire.connect(cluster.uri(cluster.leader)) as db:
        with pytest.raises(errors.DeadlineExceeded, match="no node could issue a client id yet") as late:
            await db.put("products", "p1", {}, timeout_s=0.3)
        with pytest.raises(errors.Refused, match="no node could issue a client id yet") as refused:
            db.submit_put("products", "p1", {})
    assert not late.value.sent and refused.value.code is Code.NOT_READY and refused.value.retry
    assert not cluster.leader.writes


async def test_who_waits_for_the_first_client_id_is_told_when_the_client_is_closed(cluster) -> None:
    cluster.leader.issues_ids = False

    async def put() -> None:
        with pytest.raises(errors.ChannelClosed, match="the client was closed"):
            await db.put("products", "p1", {}, timeout_s=60.0)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, redwire.connect(cluster.uri(cluster.leader)) as db:
            tasks.start_soon(put)
            await anyio.sleep(0.2)


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


async def test_a_question_that_reaches_no_primary_leaves_the_write_unknown_whatever_stands_against_it(
    cluster, scripts
) -> None:
    cluster.leader.script.append(scripts.silence)
    async with redwire.connect(cluster.uri(user="app:secret@")) as db:
        with pytest.raises(errors.UnknownOutcome) as lost:
            await db.put("products", "p1", {}, timeout_s=0.2)
        key, refused = lost.value.key, errors.AuthenticationFailed("who are you?")
        db._session.pool.leader = partial(_refuse, refused)
        with pytest.raises(errors.UnknownOutcome, match="who are you") as unknown:
            await db.resolve(key)
        with pytest.raises(errors.RequestInvalid):
            await db.resolve(key, timeout_s=-1)
    assert (unknown.value.key, unknown.value.__cause__, unknown.value.phase) == (key, refused, "connect")


async def test_a_question_that_the_primary_does_not_answer_in_time_is_to_be_asked_again(cluster) -> None:
    key = redwire.Key.parse("01" * CLIENT_BYTES + "-7")
    async with redwire.connect(cluster.uri()) as db:
        cluster.leader.frozen = True
        with pytest.raises(errors.UnknownOutcome, match="did not answer within 0.2 s; ask again") as unknown:
            await db.resolve(key, timeout_s=0.2)
    assert unknown.value.key == key and 'read="any"' not in str(unknown.value)


async def test_a_question_tells_the_primary_how_long_it_has_and_its_answer_is_no_failure_of_it(
    cluster, scripts
) -> None:
    def wait_and_say_so(node, wire, frame) -> None:
        remaining_ms.append(Resolve.decode(frame.payload).remaining_ms)
        error = errors.NotConfirmed("the key cannot be settled now: us-1 is away")
        call_later(0.5 * remaining_ms[-1] / 1000, wire.fail, frame.correlation, error)

    remaining_ms, call_later = [], asyncio.get_running_loop().call_later
    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.RESOLVE: wait_and_say_so}
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.NotConfirmed, match="us-1 is away"):
            await db.resolve(redwire.Key(bytes(CLIENT_BYTES), 7, 1), timeout_s=2)
        node = next(node for node in db.routing.nodes if node.addr == cluster.leader.addr)
        assert 1_000 < remaining_ms[0] <= 2_000 and node.failures == 0
        cluster.leader.script.extend([scripts.cut_after, scripts.refusing(Code.FORBIDDEN)])
        remaining_ms.clear()
        with pytest.raises(errors.UnknownOutcome):
            await db.put("products", "p1", {}, timeout_s=2)
        assert 0 < max(remaining_ms) <= 2_000  # the last question of before may come late, with nothing left


async def test_a_primary_that_waits_before_it_tells_of_a_key_is_not_taken_for_a_far_one(
    cluster, scripts
) -> None:
    def late(node, wire, frame) -> None:
        asyncio.get_running_loop().call_later(0.5, node.resolve, wire, frame)

    cluster.leader.script.append(scripts.execute_silently)
    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.RESOLVE: late}
    async with redwire.connect(cluster.uri(cluster.leader)) as db:
        with pytest.raises(errors.UnknownOutcome) as unknown:
            await db.put("products", "p1", {}, timeout_s=0.2)
        before = db.routing.nodes[0].rtt_us
        assert (await db.resolve(unknown.value.key)).id == "p1"
        assert db.routing.nodes[0].rtt_us == before is not None


async def _refuse(error: errors.RedwireError) -> None:
    raise error


async def test_closing_the_client_leaves_what_is_being_resolved_unknown(cluster) -> None:
    key, told = redwire.Key(bytes(24), 7, 1), []
    async with anyio.create_task_group() as tasks, redwire.connect(cluster.uri()) as db:

        async def resolve() -> None:
            try:
                await db.resolve(key, timeout_s=60)
            except errors.UnknownOutcome as error:
                told.append(error)

        for node in cluster.nodes:
            cluster.stop(node)
        tasks.start_soon(resolve)
        await anyio.sleep(0.3)
    assert [(error.key, type(error.__cause__)) for error in told] == [(key, errors.ChannelClosed)]


async def test_a_write_that_waited_for_its_place_keeps_to_the_callers_deadline_and_names_it(
    cluster, scripts
) -> None:
    cluster.leader.script.extend([scripts.silence] * 4_097)
    async with redwire.connect(cluster.uri()) as db:
        for number in range(4_096):
            db.submit_put("products", f"p{number}", {}, timeout_s=1)
        began_s = anyio.current_time()
        with pytest.raises(errors.UnknownOutcome, match="no answer within 2.5 s:"):
            await db.put("products", "late", {}, timeout_s=2.5)
        assert anyio.current_time() - began_s < 3.3


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
        assert (await db.resolve(unknown.value.key)).id == "p1", "who asked may not have noted it yet"


async def test_a_key_that_was_looked_at_can_be_asked_for_after_the_answer_and_others_cannot(cluster) -> None:
    def oldest() -> int:
        return decode_write(cluster.leader.writes[-1].request).key.oldest

    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p0", {})
        stored = (pending := db.submit_put("products", "p1", {})).key
        await pending
        for _ in range(2):
            await db.put("products", "p2", {})
        assert oldest() == stored.sequence == 2
        for _ in range(2):  # who asked may not have noted it yet
            assert (await db.resolve(redwire.Key.parse(str(stored)))).version == 2
            await db.put("products", "p3", {})
        assert oldest() == 2


async def test_nothing_of_what_is_submitted_leaves_before_the_program_waits(cluster, monkeypatch) -> None:
    left: list[int] = []
    write = Pipe.write

    def written(pipe: Pipe, data: bytes | memoryview) -> None:
        left.append(len(data))
        write(pipe, data)

    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p0", {})
        monkeypatch.setattr(Pipe, "write", written)
        pending = [db.submit_put("products", f"p{number}", {}) for number in range(2)]
        assert not left, "their keys may not be stored yet"
        for each in pending:
            await each
        assert left and len(cluster.documents) == 2


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
        cluster.forgotten.add(cluster.leader.keys[0][0])
        await db.put("products", "p2", {})
        await db.put("products", "p3", {})
    clients = [client for client, *_ in cluster.leader.keys]
    assert clients[0] == clients[1] != clients[2] == clients[3]


async def test_a_client_whose_ids_are_all_forgotten_goes_on_under_a_new_one(cluster, scripts) -> None:
    cluster.leader.script.append(scripts.silence)
    async with redwire.connect(cluster.uri()) as db:
        slow = db.submit_put("products", "slow", {}, timeout_s=60)
        for batch in range(9):
            async with anyio.create_task_group() as calls:
                for number in range(500):
                    calls.start_soon(db.put, "products", f"p{batch}-{number}", {})
        with anyio.move_on_after(0.01):
            await slow
        cluster.forgotten |= {client for client, *_ in cluster.leader.keys}
        assert len(cluster.forgotten) > 1
        await db.put("products", "p1", {})
        pending = [db.submit_put("products", f"q{number}", {}) for number in range(100)]
        for each in pending:
            await each


async def test_a_forgotten_client_that_gets_no_new_id_says_why_nothing_was_sent(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.forgotten.add(cluster.leader.keys[0][0])
        cluster.context = None  # of connections from here on
        with pytest.raises(errors.DeadlineExceeded, match="not sent within 0.3 s.*: TLS handshake") as late:
            await db.put("products", "p2", {}, timeout_s=0.3)
    assert late.value.hint


async def test_a_call_that_is_cancelled_while_its_new_id_is_fetched_takes_no_place_under_it(cluster) -> None:
    held = []
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.forgotten.add(cluster.leader.keys[0][0])
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


async def test_nothing_more_is_done_about_a_write_whose_call_was_cancelled(cluster) -> None:
    def sought() -> bool:
        return any("Writes._pursue" in task.get_name() for task in asyncio.all_tasks())

    async with redwire.connect(cluster.uri()) as db:
        cluster.leader, cluster.term = None, cluster.term + 1
        with anyio.move_on_after(0.3):
            await db.put("products", "p1", {}, timeout_s=3_600)
        with anyio.fail_after(3):
            while sought():
                await anyio.sleep(0.01)


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


async def test_one_write_that_waits_for_long_holds_up_none_of_those_after_it(cluster, scripts) -> None:
    cluster.leader.script.append(scripts.silence)
    async with redwire.connect(cluster.uri()) as db:
        slow = db.submit_put("products", "slow", {}, timeout_s=60)
        for batch in range(20):
            async with anyio.create_task_group() as calls:
                for number in range(500):
                    calls.start_soon(db.put, "products", f"p{batch}-{number}", {})
        assert not slow.done
    clients = [client for client, *_ in cluster.leader.keys]
    assert 2 <= len(set(clients)) <= 4 and len(clients) == 10_001


async def test_no_more_than_a_windowful_is_under_way_whatever_the_ids(cluster, scripts) -> None:
    cluster.leader.script.extend([scripts.silence] * (OPEN_MAX + 1))
    async with redwire.connect(cluster.uri()) as db:
        waiting = [db.submit_put("products", f"p{number}", {}) for number in range(OPEN_MAX)]
        with pytest.raises(errors.Refused, match="4096 writes are under way"):
            db.submit_put("products", "one more", {})
        await anyio.sleep(0.3)  # another id is had by now
        with pytest.raises(errors.Refused, match="4096 writes are under way"):
            db.submit_put("products", "one more", {})
        assert not any(each.done for each in waiting)


async def test_one_write_that_is_refused_for_long_keeps_the_window_open_for_others(
    cluster, scripts, monkeypatch
) -> None:
    monkeypatch.setattr("redwire.course.PAUSE_MAX_S", 0.1)

    def by_policy(node, wire, frame, envelope) -> None:
        if envelope.policy:
            scripts.refusing(Code.MISSING_REGIONS)(node, wire, frame, envelope)
        else:
            node.commit(wire, frame, envelope)

    cluster.leader.script.extend([by_policy] * 20_000)
    async with redwire.connect(cluster.uri()) as db:
        refused = db.submit_put("products", "far", {}, policy="regions(moon)", timeout_s=30)
        key = str(refused.key)  # which a program may have stored by now
        for batch in range(3):
            pending = [db.submit_put("products", f"p{batch}-{number}", {}) for number in range(2_000)]
            for each in pending:
                await each
            await anyio.sleep(0.2)  # until it is refused once more
        assert not refused.done
        cluster.leader.script.clear()
        assert (await refused).id == "far" and str(refused.key) == key


async def test_a_broken_connection_loses_none_of_those_in_flight(cluster, scripts) -> None:
    cluster.leader.script.extend([scripts.silence] * 20 + [scripts.cut_after])
    async with redwire.connect(cluster.uri()) as db:
        pending = [db.submit_put("products", f"p{number}", {}) for number in range(50)]
        for each in pending:
            await each
    assert len(cluster.documents) == 50


@pytest.mark.parametrize("policy", [None, "majority", " majority "])
async def test_an_earlier_attempt_that_is_committed_is_the_outcome_of_one_refused_later(
    cluster, scripts, policy: str | None
) -> None:
    cluster.leader.script.extend([scripts.cut_after, scripts.refusing(Code.FORBIDDEN)])
    async with redwire.connect(cluster.uri()) as db:
        written = await db.put("products", "p1", {}, policy=policy)
    assert written.receipt.duplicate and written.receipt.achieved == "majority"


@pytest.mark.parametrize(("policy", "default"), [("ack_n=2", "majority"), (None, "ack_n=2")])
async def test_what_was_asked_beyond_the_commit_rule_is_not_confirmed_by_an_earlier_attempt(
    cluster, scripts, policy: str | None, default: str
) -> None:
    cluster.default = default
    cluster.leader.script.extend([scripts.cut_after, scripts.refusing(Code.FORBIDDEN)])
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(
            errors.NotConfirmed, match=r"not known to be by ack_n=2, and now: .*FORBIDDEN"
        ) as unsure:
            await db.put("products", "p1", {}, policy=policy)
        assert unsure.value.receipt.achieved == "majority" and unsure.value.lsn == 1
        assert (await db.resolve(unsure.value.key)).id == "p1"


async def test_many_in_flight_may_name_the_version_that_they_replace(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        first = await db.submit_put("products", "p1", {}, if_version=0)
        with pytest.raises(errors.Conflict, match="stands at 1"):
            await db.submit_put("products", "p1", {}, if_version=0)
        assert (await db.submit_put("products", "p1", {}, if_version=first.version)).version == 3
