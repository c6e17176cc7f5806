"""The client against a fake cluster over real TLS: documents, arguments, many at once, and its end."""

from __future__ import annotations

import asyncio
import math
import traceback
from functools import partial

import anyio
import anyio.to_thread
import pytest

import redwire
from redwire import errors
from redwire.document import encode_record
from redwire.errors import Code
from redwire.message.admin import RemoveUser
from redwire.message.client import RecordStatus
from redwire.message.failure import Failure
from redwire.position import Lsn, Term, Token
from redwire.record import Op, decode_write
from redwire.session_keys import WriteKey


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
        with pytest.raises(errors.Conflict, match="another name differs only in case, or "):
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


@pytest.mark.parametrize(
    "refusal", [errors.RequestInvalid("it is odd", 0), errors.TooLarge("it", 9, 3, record=0)]
)
async def test_a_row_of_a_later_piece_is_told_by_its_place_among_all(cluster, scripts, refusal) -> None:
    def refuse(node, wire, frame, envelope) -> None:
        wire.fail(frame.correlation, refusal)

    cluster.leader.script.extend([scripts.commit, refuse])
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(type(refusal), match=f"^record 10000: {refusal.reason}") as told:
            await db.insert_many("products", [{}] * 10_001)
    assert told.value.facts == refusal.facts | {"record": 10_000, "rows_committed": 10_000}


async def test_a_client_that_is_open_is_not_opened_again_and_stays_open(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.RequestInvalid, match="is open already; connect"):
            await db.__aenter__()
        await db.put("products", "p1", {})


async def test_any_task_may_open_a_client_and_any_other_close_it_in_any_order(cluster) -> None:
    old, new = redwire.connect(cluster.uri()), redwire.connect(cluster.uri())
    with anyio.fail_after(5):
        await old.__aenter__()
    await asyncio.create_task(new.__aenter__())
    await asyncio.create_task(old.__aexit__(None, None, None))
    assert (await new.put("products", "p1", {})).version == 1
    await new.__aexit__(None, None, None)
    await anyio.sleep(0.01)  # whoever closed one is not cancelled by it


async def test_a_client_that_is_being_opened_is_not_opened_by_another_task(cluster) -> None:
    client = redwire.connect(cluster.uri())
    opening = asyncio.create_task(client.__aenter__())
    await asyncio.sleep(0)
    with pytest.raises(errors.RequestInvalid, match="is being opened already; connect"):
        await client.__aenter__()
    db = await opening
    await db.put("products", "p1", {})
    await db.__aexit__(None, None, None)


@pytest.mark.parametrize("passes", [0, 1, 2, 3, 5, 10, 20])
async def test_one_whose_opening_was_cancelled_leaves_nothing_behind_and_is_opened_again(
    cluster, passes: int
) -> None:
    client, before = redwire.connect(cluster.uri()), asyncio.all_tasks()
    opening = asyncio.create_task(client.__aenter__())
    for _ in range(passes):
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    mine = {str(task.get_coro()) for task in asyncio.all_tasks() - before}
    assert not [coroutine for coroutine in mine if "Household" in coroutine or "Link" in coroutine]
    async with client as db:
        await db.put("products", "p1", {})


async def test_one_that_could_not_be_opened_is_not_open_and_may_be_tried_again(cluster) -> None:
    client, before = redwire.connect(cluster.uri(cluster.leader, timeout_ms="200")), asyncio.all_tasks()
    cluster.stop(cluster.leader)
    for _ in range(2):
        with pytest.raises(errors.DeadlineExceeded):
            await client.__aenter__()
        assert not {task for task in asyncio.all_tasks() - before if "Household" in str(task.get_coro())}
    with pytest.raises(errors.ChannelClosed, match="not open"):
        await client.put("products", "p1", {})
    await client.__aexit__(None, None, None)


async def test_a_callback_that_raises_ends_the_client_and_every_write_is_told(cluster, scripts) -> None:
    cluster.leader.script.extend([scripts.silence, scripts.commit])

    def callback(pending: redwire.Pending) -> None:
        raise ValueError("mine")

    with anyio.fail_after(5), pytest.raises(ValueError, match="mine"):
        async with redwire.connect(cluster.uri()) as db:
            waiting = db.submit_put("products", "p1", {}, timeout_s=60)
            db.submit_put("products", "p2", {}, callback=callback, timeout_s=60)
            with pytest.raises(errors.UnknownOutcome, match="before the client was closed"):
                await waiting
            for call in (db.put("products", "p3", {}), db.get("products", "p1"), db.status()):
                with pytest.raises(errors.ChannelClosed, match="the client was closed"):
                    await call


async def test_a_call_from_another_loop_or_none_is_told_where_the_client_belongs(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        for call in (
            lambda: asyncio.run(db.get("products", "p1")),
            lambda: asyncio.run(db.put("products", "p1", {})),
            lambda: asyncio.run(db.admin.settings()),
            lambda: asyncio.run(db.__aexit__(None, None, None)),
            lambda: db.submit_put("products", "p1", {}),
        ):
            with pytest.raises(errors.RequestInvalid, match="the event loop it was opened in.*; open one in"):
                await anyio.to_thread.run_sync(call)
        assert (await db.put("products", "p1", {})).version == 1


async def test_the_lists_of_a_write_under_way_may_be_used_anew(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        records, ids, pending = [], [], []
        for number in range(4):
            ids.append(f"p{number}")
            records.append(encode_record(Op.PUT, "products", ids[-1], {}))
            if len(ids) == 2:
                pending.append(db.submit(records, ids, timeout_s=2))
                records.clear()
                ids.clear()
        told = [[row.id for row in (await each).records] for each in pending]
        inserted = await db.insert_many("products", [("p8", {}), ("p9", {})])
    assert told == [["p0", "p1"], ["p2", "p3"]]
    assert len({*(each.result() for each in pending), inserted.pieces[0]}) == 3


async def test_what_cannot_be_called_back_is_refused_before_anything_is_sent(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.RequestInvalid, match="callback is 5, of type int; pass a function"):
            db.submit_put("products", "p1", {}, callback=5)
        assert await db.get("products", "p1") is None


async def test_a_write_under_way_has_no_result_yet(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        pending = db.submit_put("products", "p1", {})
        with pytest.raises(errors.RequestInvalid, match="still under way; await it, or ask `done` first"):
            pending.result()
        assert await pending == pending.result()


async def test_a_write_under_way_is_not_awaited_in_another_loop_and_its_outcome_is(cluster, scripts) -> None:
    held = anyio.Event()

    def hold(node, wire, frame, envelope) -> None:
        held.set()

    cluster.leader.script.append(hold)
    async with redwire.connect(cluster.uri()) as db:
        pending = db.submit_put("products", "p1", {}, timeout_s=1)
        await held.wait()
        for run in (asyncio.run, lambda wait: wait.send(None)):
            with anyio.fail_after(3), pytest.raises(errors.RequestInvalid, match="open one in each loop"):
                await anyio.to_thread.run_sync(run, _of(pending))
        with pytest.raises(errors.UnknownOutcome):
            await pending
        with pytest.raises(errors.UnknownOutcome):
            await anyio.to_thread.run_sync(lambda: asyncio.run(_of(pending)))


async def _of(pending: redwire.Pending) -> object:
    return await pending


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (None, "name is None, of type NoneType; pass a str"),
        ("x" * 257, "characters of the client's name: 257, at most 256"),
        ("\ud800", "name is not UTF-8 at character 0"),
    ],
)
def test_a_name_that_no_node_can_be_told_is_refused_before_anybody_is_dialled(name, says) -> None:
    for connect in (redwire.connect, redwire.connect_sync):
        with pytest.raises(errors.RequestInvalid, match=says):
            connect("red://127.0.0.1:1", name=name)


def test_a_client_that_was_not_made_is_shown_in_a_traceback_that_has_its_locals(tmp_path) -> None:
    for uri, name in ((f"reds://127.0.0.1/?ca={tmp_path}/none.pem", "shop"), ("red://127.0.0.1:1", "\ud800")):
        with pytest.raises(errors.RedwireError) as refused:
            redwire.connect(uri, name=name)
        shown = "".join(
            traceback.TracebackException.from_exception(refused.value, capture_locals=True).format()
        )
        assert "<redwire.Client of 127.0.0.1:" in shown


def test_without_asyncio_no_client_is_opened() -> None:
    client = redwire.connect("reds://127.0.0.1:1")
    with pytest.raises(errors.RequestInvalid, match="runs on asyncio or uvloop"):
        client.__aenter__().send(None)


async def test_a_client_whose_loop_has_ended_is_opened_in_the_next_one(cluster) -> None:
    client = redwire.connect(cluster.uri())

    async def put() -> int:
        await client.__aenter__()
        return (await client.put("products", "p1", {})).version

    for version in (1, 2):
        assert await anyio.to_thread.run_sync(asyncio.run, put()) == version
    await client.__aexit__(None, None, None)
    with pytest.raises(errors.ChannelClosed, match="not open"):
        await client.put("products", "p1", {})


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
    cluster.leader.script.extend([lambda node, *parts: held.append(parts)] * 4_096)
    async with redwire.connect(cluster.uri()) as db:
        pending = [db.submit_put("products", f"p{number}", {}) for number in range(4_096)]
        with pytest.raises(errors.DeadlineExceeded) as late:
            await db.put("products", "late", {}, timeout_s=0.2)
        assert late.value.phase == "send"

        async def release() -> None:
            await anyio.sleep(0.1)
            for parts in held:
                cluster.leader.commit(*parts)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(release)
            for number in range(3):
                tasks.start_soon(db.put, "products", f"q{number}", {})
        await pending[0]
    assert "late" not in {ident for _, ident in cluster.documents}


async def test_what_no_call_can_mean_is_refused_by_the_name_of_its_argument_and_nobody_is_asked(
    cluster,
) -> None:
    async with redwire.connect(cluster.uri()) as db:
        fetches = [each.fetches for each in cluster.nodes]
        wrong = [
            (
                db.get("products", "p1", read="nearst"),
                "read: unknown read mode 'nearst'; did you mean nearest",
            ),
            (
                db.get("products", "p1", read="foo"),
                "read: .* 'foo'; one of primary, nearest, any, region:<name>",
            ),
            (db.get("products", "p1", read=7), "read is 7, of type int; pass a str"),
            (db.get("products", 7), "id is 7, of type int; pass a str"),
            (db.get("products", "a\ud800"), "^id is not UTF-8 at character 1$"),
            (db.get("x" * 256, "p1"), "^bytes of collection: 256, at most 255"),
            (anext(db.scan("products", after="x" * 65_536)), "^bytes of after: 65536, at most 65535"),
            (db.get(None, "p1"), "collection is None, of type NoneType"),
            (db.get("products", "p1", at_least=7), "at_least is 7"),
            (db.get("products", "p1", at_least=Token("xy", 1, 1)), "at_least is Token.*a receipt's token"),
            (db.get("products", "p1", at_least=Token("ab" * 16, -1, 1)), "at_least is Token"),
            (db.get("products", "p1", at_least=Token("ab" * 16, 1, 1 << 64)), "at_least is Token"),
            (db.get("products", "p1", at_least=Token("ab" * 16, 1, None)), "at_least is Token"),
            (db.resolve(redwire.Key(b"short", 1, 1)), "key is Key.*which no write has"),
            (db.resolve(redwire.Key(bytes(24), 0, 1)), "key is Key"),
            (db.resolve(redwire.Key(bytes(24), 1 << 64, 1)), "key is Key"),
            (db.resolve(redwire.Key("a" * 24, 1, 1)), "key is Key"),
            (db.resolve(WriteKey(bytes(24), 1, 1, None)), "key is WriteKey.*which no write has"),
            (db.resolve(WriteKey(bytes(24), 1, 1, "abc")), "key is WriteKey"),
            (db.resolve(WriteKey(bytes(24), 1, 1, ("a", 7))), "key is WriteKey"),
            (db.resolve(WriteKey(bytes(24), 1, 1, ("a",), 1)), "key is WriteKey"),
            (db.put("products", b"p1", {}), "id is b'p1', of type bytes"),
            (db.put(["products"], "p1", b"{}"), "collection is "),
            (db.delete("products", 7), "id is 7"),
            (db.insert_many("products", [{}, (7, {})]), "record 1: id is 7"),
            (db.insert_many("products", None), "rows is None, of type NoneType; pass a list of documents"),
            (anext(db.scan("products", after=7)), "after is 7"),
            (anext(db.scan(7)), "collection is 7"),
            (anext(db.scan("products", limit="7")), "limit is '7', of type str; pass an int"),
            (db.put("products", "p1", {}, policy=7), "policy is 7, of type int"),
            (db.put("products", "p1", {}, policy=False), "policy is False"),
            (db.put("products", "p1", {}, policy="x" * 256), "^bytes of policy: 256, at most 255"),
            (db.put("products", "p1", {}, policy="\ud800"), "^policy is not UTF-8 at character 0$"),
            (db.put("products", "p1", {}, timeout_s="7"), "timeout_s is '7', of type str; pass seconds"),
            (db.put("products", "p1", {}, timeout_s=math.nan), "timeout_s is nan; pass finite seconds"),
            (db.put("products", "p1", {}, timeout_s=0), "timeout_s is 0"),
            (db.put("products", "p1", {}, timeout_s=math.inf), "timeout_s is inf; pass finite seconds"),
            (db.put("products", "p1", {}, timeout_s=10**400), "timeout_s is inf"),
            (db.put("products", "p1", {}, timeout_s=True), "timeout_s is True"),
            (db.put("products", "p1", None), "not NoneType"),
            (db.put("products", "p1", {}, if_version="7"), "if_version is '7', of type str; pass an int"),
            (db.delete("products", "p1", if_version=-1), "if_version is -1; it is never below 0"),
            (db.delete("products", "p1", if_version=1 << 64), "if_version is 18446744073709551616"),
            (db.insert_many("products", [("p1", {}, 7)]), "record 0: a row is .* not a tuple of 3"),
            (
                db.resolve("key"),
                "key is 'key', of type str; pass the key of the error; Key.parse reads its text",
            ),
            (db.status(7), "addr is 7"),
            (db.status("host"), "addr is 'host'; pass host:port"),
            (db.status("host:65536"), "addr is 'host:65536'"),
            (db.topology(timeout_s=-1), "timeout_s is -1"),
        ]
        for call, text in wrong:
            with pytest.raises(errors.RequestInvalid, match=text):
                await call
        record = encode_record(Op.PUT, "products", "p1", {})
        for records, ids, text in [
            ([record], ("a", "b"), "2 ids for 1 records"),
            ([record, record], ["a", 5], "record 1: its id is of type int"),
            ([record, record], ["a"], "1 ids for 2 records"),
            ([], (), r"records is \[\]"),
            (record, ("a",), "records is b"),
            (iter([record]), ("a",), "records is <list_iterator"),
            ([record], "a", "ids is 'a'"),
            ([record, "x"], ("a", "b"), "record 1: it is of type str; pass a list of what .*encode_record"),
        ]:
            with pytest.raises(errors.RequestInvalid, match=text):
                db.submit(records, ids)
        assert [each.fetches for each in cluster.nodes] == fetches
        assert (await db.put("products", "p1", {})).receipt.lsn == 1
    (first,) = cluster.leader.writes
    assert decode_write(first.request).key.sequence == 1, "what is refused takes no key"


async def test_no_task_outlives_the_client(cluster) -> None:
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
    refused = Failure(code=Code.COMMIT_POLICY_INVALID, message="asks for too much").to_error()
    assert isinstance(refused, redwire.PolicyInvalid)  # who names policies can tell it from the others
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        redwire.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (errors.UnknownOutcome("?", phase="answer"), "UNKNOWN_OUTCOME"),
        (errors.DeadlineExceeded("?", phase="connect"), "DEADLINE_EXCEEDED"),
        (errors.ConnectFailed("?", retry=True), "CONNECT_FAILED"),
        (errors.RequestInvalid("?"), "REQUEST_INVALID"),
        (errors.NotConfirmed("?"), "NOT_CONFIRMED"),
        (errors.Refused(Code.BUSY, "?"), "BUSY"),
        (errors.NotPrimary("?"), "NOT_PRIMARY"),
    ],
)
def test_an_error_is_told_by_its_code_or_where_that_is_vague_by_its_class(error, name: str) -> None:
    assert error.name == name
