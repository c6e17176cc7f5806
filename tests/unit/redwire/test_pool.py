"""Where the client's connections go: how it finds the primary, follows it, and is told that it cannot."""

from __future__ import annotations

import asyncio
import logging
import random

import anyio
import pytest

import redwire
from redwire import errors
from redwire.errors import Code
from redwire.frame import Kind
from redwire.handshake import Anonymous
from redwire.message.admin import RemoveUser
from redwire.pool import Dialler, Pool
from redwire.position import ClusterId, Term
from redwire.routing import Router
from redwire.tls import server_context
from redwire.topology import Endpoint, ReplicaEntry, Topology


def topology(epoch: int, *replicas: str) -> bytes:
    entries = tuple(ReplicaEntry(addr, "eu", True, 0, 1) for addr in replicas)
    return Topology(epoch, Endpoint("p:1", "eu"), entries).encode()


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


@pytest.mark.parametrize("call", ["put", "get", "status", "settings"])
async def test_what_to_do_about_a_certificate_that_is_refused_later_is_told_at_the_deadline(
    cluster, stranger, call: str
) -> None:
    calls = {
        "put": lambda db: db.put("products", "p1", {}, timeout_s=0.4),
        "get": lambda db: db.get("products", "p1", timeout_s=0.4),
        "status": lambda db: db.status(timeout_s=0.4),
        "settings": lambda db: db.admin.change_account(RemoveUser("bob"), timeout_s=0.4),
    }
    async with redwire.connect(cluster.uri()) as db:
        foreign = stranger.sign("node")
        cluster.context = server_context(stranger.ca, foreign.cert, foreign.key)
        for node in cluster.nodes:
            for wire in node.wires:
                wire.channel.close()
        cluster.stop(cluster.nodes[2])  # it may come back, so the client goes on to look
        with pytest.raises(errors.DeadlineExceeded):  # by then it knows that its lines are gone
            await db.get("products", "p1", timeout_s=0.4)
        with pytest.raises(errors.DeadlineExceeded, match="is not accepted") as late:
            await calls[call](db)
    assert "no authority that is trusted here issued it" in late.value.hint


async def test_where_a_node_is_reached_the_hint_of_another_one_is_not_what_is_missing(cluster) -> None:
    uri = cluster.uri(cluster.nodes[1]).replace("reds://", "reds://no-such-host.invalid,")
    async with redwire.connect(uri) as db:
        cluster.leader, cluster.term = None, Term(2)
        with pytest.raises(errors.DeadlineExceeded) as late:
            await db.admin.change_account(RemoveUser("bob"), timeout_s=0.5)
    assert "check the name of the host" not in late.value.hint


async def test_each_who_seeks_in_vain_gets_an_error_of_its_own(cluster) -> None:
    wanted: list[errors.RedwireError] = []
    async with redwire.connect(cluster.uri(user="app:secret@")) as db:
        await db.put("products", "p1", {})
        search = db._session.pool._search

        async def seek() -> None:
            try:
                await search.until(lambda: None)
            except errors.RedwireError as error:
                error.facts["rows_committed"] = len(wanted)
                wanted.append(error)

        async def hopeless() -> None:
            search._hopeless = errors.ConnectFailed("nobody", retry=False, addr="a:1")

        search._go_round = hopeless
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(seek)
                tasks.start_soon(seek)
                await anyio.wait_all_tasks_blocked()
                search.changed()
    assert [error.facts for error in wanted] == [
        {"addresses": ["a:1"], "rows_committed": number} for number in range(2)
    ]


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
    assert [attempt for *_, attempt in cluster.nodes[2].keys] == [1]


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


@pytest.mark.slow
async def test_a_primary_that_falls_silent_is_left_behind(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        cluster.nodes[0].frozen = True
        cluster.hand_over(cluster.nodes[1], push=False)
        await db.put("products", "p2", {}, timeout_s=25)
    assert [attempt for *_, attempt in cluster.nodes[1].keys] == [2]


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


async def test_an_address_that_has_left_the_cluster_is_no_trouble_any_more() -> None:
    router = Router(["p:1"], None, True, random.Random(1))
    async with anyio.create_task_group() as tasks:
        pool = Pool(router, Dialler(None, Anonymous(), "test"), tasks)
        pool.learned(topology(1, "old:1", "new:1"))
        for addr in ("old:1", "new:1"):
            pool.failures[addr] = errors.ConnectFailed(f"{addr} is out", retry=True)
        assert pool.trouble == "new:1 is out; old:1 is out"
        pool.learned(topology(2, "new:1"))
        assert pool.trouble == "new:1 is out"
