"""Who leads: two that want to, one that was told to in the place of another, and one that must not."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import anyio
import pytest

from cluster.catchup import REPLAY_RECORDS_MAX
from redwire import connect, connect_sync
from redwire.errors import Code, NotConfirmed, Refused, TokenLost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TIMES = {"policy_timeout_ms": 1_500, "replica_timeout_ms": 1_500}
HOP_MS = 2.0
SLOW_MS = 1_500
"""One way: long beside the time between two looks at a node's log, and a round trip takes less than the 5 s
after which a line is dead.
"""


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    """Three regions with links that can be cut. Each test leaves it whole, whoever leads then."""
    regions = [("eu", "us"), ("ap", "eu"), ("ap", "us")]
    return module_fleet("eu-1", "us-1", "ap-1", rtt_ms=dict.fromkeys(regions, HOP_MS), **TIMES)


def test_of_two_that_are_told_to_lead_over_empty_disks_one_leads_and_the_other_ends_and_says_why(
    fleet: Any,
) -> None:
    shop = fleet("eu-1", "us-1", "ap-1", start=False, **TIMES)
    shop.set_role("us-1", "primary")
    shop.start()
    rivals = ("eu-1", "us-1")
    loser = shop.until(lambda: next((n for n in rivals if shop.processes[n].poll() is not None), None), "one")
    winner = next(node for node in rivals if node != loser)
    shop.wait_ready(winner)
    assert shop.ends(loser) == 1
    assert f"{winner} " in shop.said(loser).splitlines()[-1].split("stopped: ")[1]
    assert "start this node with role: replica" in shop.said(loser)
    shop.set_role(loser, "replica")
    shop.start_node(loser)
    shop.db.put("c", "one", {"n": 1}, policy="ack_n=2", timeout_s=30)
    shop.converge()
    assert {shop.status(node).term for node in shop.nodes} == {1}
    shop.check_same_log()


def test_a_node_is_refused_the_lead_while_the_primary_is_in_reach(shop: Any) -> None:
    leader, (rival, _) = shop.leader, shop.followers
    shop.converge()  # the rival has joined: a node without a log is refused for that
    with shop.writer() as writer:
        writer.wait_acked()
        assert shop.terminate(rival) == 0
        assert refused_the_lead(shop, rival, "--take-over") == f"TERM_TAKEN: {leader} leads term"
        writer.wait_acked()
        shop.start_node(rival)
    assert not writer.doubtful and not writer.refused
    shop.check_nothing_lost(writer)


def refused_the_lead(shop: Any, node: str, *arguments: str) -> str:
    """Start `node` as primary, which must end with exit code 1; the beginning of why it did."""
    role, mark = shop.role(node), shop.mark(node)
    shop.set_role(node, "primary")
    shop.start_node(node, *arguments)
    assert shop.ends(node) == 1
    shop.set_role(node, role)
    why = next(line for line in shop.said(node, mark).splitlines() if "stopped: " in line).split("stopped: ")[
        1
    ]
    return why[: why.index(" term") + 5] if " term" in why else why


def test_an_isolated_primary_commits_nothing_more_and_follows_the_new_one_when_it_hears_of_it(
    shop: Any,
) -> None:
    old, (new, _) = shop.leader, shop.followers
    term = shop.status(old).term
    with (
        connect_sync(shop.uri(old, discovery="off")) as alone,
        shop.writer(timeout_s=30) as writer,
    ):
        writer.wait_acked()
        shop.isolate(old)
        with pytest.raises(NotConfirmed) as tail:
            alone.put("alone", "in-the-tail", {})
        shop.crown(new)
        writer.wait_acked()
        assert shop.status(old).own.role == "primary"
        elsewhere = anyio.run(key_of_a_write, shop.uri(new, discovery="off"))
        with pytest.raises(NotConfirmed):  # it has not heard of that key, and does not say that nobody has
            alone.resolve(elsewhere, timeout_s=2)
        with pytest.raises((Refused, NotConfirmed)):
            alone.put("alone", "too-late", {}, timeout_s=5)
        mark = shop.mark(old)
        shop.heal(old)
        shop.wait_log(old, f"the reign ends: STALE_TERM: {new} leads term {term + 1}", since=mark)
        writer.wait_acked()
    shop.check_nothing_lost(writer)
    assert shop.documents(new, "alone") == {}
    with pytest.raises(Refused) as absent:
        shop.db.resolve(tail.value.key)
    assert absent.value.code is Code.NOT_FOUND
    kept = tails(shop, old)
    assert any(b"in-the-tail" in data for data in kept.values())


def test_of_two_primaries_of_one_term_the_one_that_committed_nothing_follows_the_other(shop: Any) -> None:
    old, (new, other) = shop.leader, shop.followers
    with shop.writer(timeout_s=30) as writer:
        writer.wait_acked()
        shop.isolate(old)
        mark = shop.mark(old)
        shop.kill(old)
        shop.start_node(old, "--take-over", "--lost", f"{new},{other}")
        shop.wait_log(old, "begins at LSN", since=mark)
        shop.crown(new)
        writer.wait_acked()
        assert shop.status(old).term == shop.status(new).term
        shop.heal(old)
        ended = shop.wait_log(old, "the reign ends: ", since=mark)  # by whom it hears first
        assert f"TERM_TAKEN: {new} leads term" in ended or "knows what is committed up to LSN" in ended
        writer.wait_acked()
    shop.check_nothing_lost(writer)
    for node in (old, other):
        assert shop.status(node).primary.node == new


def test_a_take_over_waits_while_another_node_follows_a_primary_that_it_does_not_hear(shop: Any) -> None:
    old, (new, other) = shop.leader, shop.followers
    line = "-".join(sorted(node.split("-")[0] for node in (old, new)))
    with shop.writer(timeout_s=30) as writer:
        writer.wait_acked()
        assert shop.terminate(new) == 0
        assert shop.command(f"cut {line}") == "ok"
        shop.set_role(new, "primary")
        mark = shop.mark(new)
        shop.start_node(new, "--take-over")
        shop.wait_log(new, f"{other} follows {old}, which leads term", since=mark)
        writer.wait_acked()
        shop.kill(old)
        shop.set_role(old, "replica")
        shop.wait_log(new, "serves writes", since=mark)
        assert shop.command(f"heal {line}") == "ok"
        shop.start_node(old)
        writer.wait_acked()
    assert not writer.refused
    shop.check_nothing_lost(writer)


def test_a_vote_for_one_who_does_not_begin_costs_a_new_reign_and_nothing_else(shop: Any) -> None:
    """The old primary is out of reach of a third node when that votes, and back before the new one begins."""
    old, (new, other) = shop.leader, shop.followers
    line = {frozenset((a, b)): "-".join(sorted((a[:2], b[:2]))) for a in shop.nodes for b in shop.nodes}
    shop.converge()
    term = shop.status(old).term
    assert shop.terminate(new) == 0
    shop.command(f"cut {line[frozenset((old, new))]}")
    shop.set_role(new, "primary")
    mark, seen, held = shop.mark(new), shop.mark(other), shop.mark(old)
    shop.start_node(new, "--take-over")
    shop.wait_log(new, f"{other} follows {old}, which leads term", since=mark)
    shop.command(f"slow {line[frozenset((new, other))]} {SLOW_MS}")  # so long no vote is heard of
    shop.command(f"cut {line[frozenset((old, other))]} reset")
    shop.wait_log(other, f"{new} has our vote for term {term + 1}", since=seen)
    shop.pause(new)
    shop.command(f"heal {line[frozenset((old, other))]}")
    shop.wait_log(old, "follows nobody of this one: a newer reign begins", since=held)
    shop.wait_log(old, f"term {term + 2} serves writes", since=held)
    with shop.writer(timeout_s=30) as writer:
        writer.wait_acked()
        shop.kill(new)
        shop.set_role(new, "replica")
        shop.heal(new)
        shop.start_node(new)
        shop.converge()
    assert not writer.doubtful and not writer.refused
    shop.check_nothing_lost(writer)
    shop.check_same_log()


def test_a_newer_reign_over_an_outgrown_log_ends_and_the_one_that_serves_goes_on(shop: Any) -> None:
    old, (new, other) = shop.leader, shop.followers
    shop.db.put("c", "before", {}, timeout_s=30)
    shop.isolate(old)
    for _ in range(2):
        mark = shop.mark(old)
        shop.kill(old)
        shop.start_node(old, "--take-over", "--lost", f"{new},{other}")
        shop.wait_log(old, "begins at LSN", since=mark)
    shop.crown(new)
    assert shop.status(old).term > shop.status(new).term
    with connect_sync(shop.uri(new, discovery="off")) as there:
        there.put("c", "behind", {}, timeout_s=30)
        mark = shop.mark(old)
        shop.heal(old)
        ended = shop.wait_log(old, "the reign ends", since=mark)
        assert "PRIMARY_LACKS_COMMITTED" in ended and "knows what is committed up to LSN" in ended
        shop.wait_log(new, "a newer reign begins")  # above the terms that the old one has seen
        there.put("c", "beside", {}, timeout_s=30)
    shop.converge()
    assert {"before", "behind", "beside"} <= shop.documents(old, "c").keys()
    shop.check_same_log()


@pytest.mark.parametrize("busy", [True, False])
def test_a_member_that_opened_reigns_out_of_reach_is_led_again_in_a_newer_one(shop: Any, busy: bool) -> None:
    leader, (lone, other) = shop.leader, shop.followers
    shop.converge()
    with shop.writer(timeout_s=30) as writer:
        if busy:
            writer.wait_acked()
        else:
            writer.stop()
            shop.converge()
        term = shop.status(leader).term
        shop.isolate(lone)
        shop.set_role(lone, "primary")
        for opened in (term + 1, term + 2):
            shop.kill(lone)
            mark = shop.mark(lone)
            shop.start_node(lone, "--take-over", "--lost", f"{leader},{other}")
            shop.wait_log(lone, f"term {opened} begins at LSN", since=mark)
        shop.kill(lone)
        shop.set_role(lone, "replica")
        shop.start_node(lone)
        mark = shop.mark(leader)
        shop.heal(lone)
        shop.wait_log(leader, "follows nobody of this one: a newer reign begins", since=mark)
        shop.wait_log(leader, f"term {term + 3} serves writes", since=mark)
        shop.until(
            lambda: shop.status(lone).own.role == "replica" and shop.status(lone).term == term + 3, "it"
        )
        if busy:
            writer.wait_acked()
    assert not writer.refused  # what was under way when the reign ended is not confirmed
    shop.converge()
    shop.check_nothing_lost(writer)
    shop.check_same_log()


async def key_of_a_write(uri: str) -> Any:
    async with connect(uri) as db:
        pending = db.submit_put("elsewhere", "new", {})
        await pending.wait()
        return pending.key


def tails(shop: Any, node: str) -> dict[int, bytes]:
    """The tails that a node keeps of histories that lost, by their first LSN."""
    found = {}
    for manifest in (shop.data_dir(node) / "diverged").glob("*.json"):
        found[json.loads(manifest.read_bytes())["first"]] = manifest.with_suffix(".log").read_bytes()
    return found


def test_a_planned_hand_over_takes_the_clients_along_and_keeps_every_answer(shop: Any) -> None:
    old, (new, other) = shop.leader, shop.followers
    everywhere = "regions(eu,us,ap)"
    with connect_sync(shop.uri()) as app, shop.writer(timeout_s=30) as writer:
        writer.wait_acked()
        shop.pause(other)
        with pytest.raises(NotConfirmed) as unconfirmed:
            app.put("orders", "open", {"n": 1}, policy=everywhere)
        shop.resume(other)
        key, lsn = unconfirmed.value.key, unconfirmed.value.lsn

        assert shop.terminate(old) == 0
        shop.set_role(old, "replica")
        assert shop.terminate(new) == 0
        why = refused_the_lead(shop, new)
        assert why.startswith(f"NOT_PRIMARY: this data directory last followed {old}")
        assert "--take-over" in shop.said(new)
        shop.start_node(old)
        shop.set_role(new, "primary")
        shop.lead(new, "--take-over")
        writer.wait_acked()
        answers = [shop.db.resolve(key, timeout_s=30) for _ in range(2)]

        assert shop.terminate(new) == 0
        shop.set_role(new, "replica")
        shop.start_node(new)
        shop.crown(other)
        writer.wait_acked()
        answers += [client.resolve(key, timeout_s=30) for client in (shop.db, app)]
        assert {(one.id, one.version, one.receipt.lsn) for one in answers} == {("open", lsn, lsn)}
        app.put("orders", "next", {"n": 2}, timeout_s=30)
    assert not writer.doubtful and not writer.refused
    shop.check_nothing_lost(writer)
    assert shop.documents(old, "orders").keys() == {"open", "next"}


def test_a_primary_whose_disk_was_replaced_must_not_lead_and_comes_back_by_a_snapshot(shop: Any) -> None:
    lost, (new, other) = shop.leader, shop.followers
    shop.fill("bulk", REPLAY_RECORDS_MAX + 1, 10)
    with shop.writer(timeout_s=30) as writer:
        writer.wait_acked()
        shop.kill(lost)
        shop.wipe(lost)
        mark = shop.mark(lost)
        refused_the_lead(shop, lost)
        assert "the data directory is empty, and " in shop.said(lost, mark)
        assert "this disk was replaced: start the node as replica" in shop.said(lost, mark)
        assert min(shop.status(node).own.received for node in (new, other)) > REPLAY_RECORDS_MAX
        shop.set_role(lost, "replica")
        shop.start_node(lost)
        shop.crown(new)
        shop.wait_log(lost, "the snapshot is installed", since=mark)
        writer.wait_acked()
    assert not writer.refused
    shop.check_nothing_lost(writer)
    shop.check_same_documents("bulk")


def test_a_take_over_behind_a_longer_log_begins_once_that_is_followed_and_calls_nobody_lost(
    shop: Any,
) -> None:
    old, (new, other) = shop.leader, shop.followers
    shop.converge()
    assert shop.terminate(new) == 0
    shop.db.put("c", "acknowledged", {"n": 1}, timeout_s=30)
    shop.converge(old, other)
    shop.kill(old)
    shop.set_role(old, "replica")
    shop.set_role(new, "primary")
    mark = shop.mark(new)
    shop.lead(new, "--take-over")
    said = shop.said(new, mark)
    assert f"{other} has the longer log: following it to its end first" in said
    assert said.count(f"connected to {other}") == 2, "the line over which it was borrowed has begun anew"
    assert "--lost" not in said and "been silent" not in said
    shop.start_node(old)
    shop.converge()
    assert "acknowledged" in shop.documents(new, "c")
    shop.check_same_log()


def test_a_follower_that_knows_a_committed_record_ends_the_reign_of_a_primary_without_it(shop: Any) -> None:
    lacks, (knows, leads) = shop.followers[0], (shop.followers[1], shop.leader)
    assert shop.terminate(lacks) == 0
    shop.db.put("c", "committed", {"n": 1}, timeout_s=30)
    end = shop.converge(knows, leads)
    shop.kill(knows)
    shop.kill(leads)
    shop.set_role(leads, "replica")
    shop.set_role(lacks, "primary")
    mark = shop.mark(lacks)
    shop.start_node(lacks, "--take-over")
    shop.wait_log(lacks, f"{knows} (not heard yet)", since=mark)
    kept = shop.data_dir(knows).rename(shop.data_dir(knows).with_name("kept"))
    shop.start_node(knows)
    shop.wait_log(lacks, f"{knows} (its disk was replaced)", since=mark)
    shop.kill(knows)
    shop.wipe(knows)
    kept.rename(shop.data_dir(knows))
    assert shop.terminate(lacks) == 0
    shop.start_node(lacks, "--take-over", "--lost", f"{knows},{leads}")
    shop.wait_log(lacks, "begins at LSN", since=mark)
    shop.start_node(knows)
    ended = shop.wait_log(lacks, "the reign ends", since=mark)  # by its word, or as it refuses to follow
    assert "PRIMARY_LACKS_COMMITTED" in ended and f"LSN {end}" in ended
    assert "serves writes" not in shop.said(lacks, mark)
    assert shop.status(lacks).own.role == "replica"
    shop.start_node(leads)
    shop.crown(knows)
    shop.converge()
    for node in shop.nodes:
        assert "committed" in shop.documents(node, "c")
    assert end in tails(shop, lacks)
    shop.check_same_log()


def test_a_token_of_a_lost_history_is_never_answered_and_who_was_given_up_keeps_that_history_and_follows(
    fleet: Any,
) -> None:
    """Under `local` the primary's disk is all there is: what only it held is lost with it."""
    shop = fleet("eu-1", "us-1", policy="local", **TIMES)
    shop.db.put("c", "kept", {"n": 1})
    shop.converge()
    shop.kill("us-1")
    seen = shop.db.put("c", "lost", {"n": 2}, timeout_s=30).receipt.token
    shop.kill("eu-1")
    shop.set_role("eu-1", "replica")
    shop.set_role("us-1", "primary")
    shop.lead("us-1", "--take-over", "--lost", "eu-1")
    shop.db.put("c", "instead", {"n": 3}, timeout_s=30)
    with pytest.raises(TokenLost):
        shop.db.get("c", "kept", at_least=seen, timeout_s=30)
    with pytest.raises(TokenLost):
        shop.at("us-1").get("c", "kept", at_least=str(seen), read="any", timeout_s=30)
    assert shop.db.get("c", "lost", timeout_s=30) is None

    us_1, eu_1 = shop.mark("us-1"), shop.mark("eu-1")
    shop.start_node("eu-1")
    shop.wait_log("eu-1", "this node was given up, and what only it knows committed with it", since=eu_1)
    shop.converge()
    assert "the reign ends" not in shop.said("us-1", us_1)
    for node in shop.nodes:
        assert shop.documents(node, "c").keys() == {"kept", "instead"}
    shop.check_same_log()
    assert any(b'lost{"n":2}' in tail for tail in tails(shop, "eu-1").values())
    (state,) = (shop.data_dir("eu-1") / "diverged").glob("*-state*.db")
    with closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as kept:
        assert list(kept.execute("SELECT id FROM docs ORDER BY id")) == [("kept",), ("lost",)]
