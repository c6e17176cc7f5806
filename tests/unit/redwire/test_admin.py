"""Administration through the client: accounts and settings, and what is known when a change went astray."""

from __future__ import annotations

import pytest

import redwire
from redwire import errors
from redwire.errors import Code
from redwire.frame import Kind
from redwire.message.admin import PutToken, RemoveUser
from redwire.message.settings import SetPolicy
from redwire.position import Term


async def test_status_topology_and_accounts_are_asked_of_a_node(cluster) -> None:
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
    cluster.leader.account_script.append(lambda node, wire, frame: node.drop(wire))
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.Conflict, match="an earlier attempt of this call may have removed it"):
            await db.admin.change_account(RemoveUser("bob"))


async def test_a_refusal_does_not_tell_what_became_of_an_account_change_that_was_sent_before(cluster) -> None:
    forbidden = errors.Refused(Code.FORBIDDEN, "you administrate no more")
    cluster.leader.account_script.append(lambda node, wire, frame: node.drop(wire))
    cluster.leader.account_script.append(lambda node, wire, frame: wire.fail(frame.correlation, forbidden))
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome, match="administrate no more"):
            await db.admin.change_account(RemoveUser("bob"))


async def test_what_is_refused_after_a_change_was_logged_leaves_it_not_confirmed(cluster) -> None:
    def answer(error):
        return lambda node, wire, frame: wire.fail(frame.correlation, error)

    lacking = errors.Refused(Code.INSUFFICIENT_REPLICAS, "us-1 is away")
    for first in (answer(errors.NotConfirmed("logged")), lambda node, wire, frame: node.drop(wire)):
        cluster.leader.account_script.extend([first, answer(errors.NotConfirmed("logged"))])
        cluster.leader.account_script.extend([answer(lacking)] * 20)
        async with redwire.connect(cluster.uri()) as db:
            with pytest.raises(errors.NotConfirmed, match="logged"):
                await db.admin.change_account(RemoveUser("bob"), timeout_s=1)
        cluster.leader.account_script.clear()


@pytest.mark.parametrize("code", [Code.NOT_READY, Code.BUSY, Code.MISSING_REGIONS])
async def test_of_what_stands_against_a_change_of_the_settings_only_what_passes_by_itself_is_waited_for(
    cluster, code: Code
) -> None:
    asked = []

    def refuse(node, wire, frame) -> None:
        asked.append(frame)
        wire.fail(frame.correlation, errors.Refused(code, "not now"))

    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.CHANGE_SETTINGS: refuse}
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.Refused, match="not now"):
            await db.admin.change_settings(SetPolicy(policy="majority"), timeout_s=1)
        assert db.routing.trouble == ""
    assert (len(asked) == 1) == (code is Code.MISSING_REGIONS)


async def test_a_change_of_the_settings_whose_session_ends_is_not_sent_again(cluster) -> None:
    asked = []

    def drop(node, wire, frame) -> None:
        asked.append(frame)
        node.drop(wire)

    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.CHANGE_SETTINGS: drop}
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome) as unknown:
            await db.admin.change_settings(SetPolicy(policy="majority"))
    assert len(asked) == 1 and unknown.value.hint == "look at the settings"


async def test_a_change_that_no_primary_was_asked_for_is_certainly_not_made(cluster, scripts) -> None:
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
    def end(node, wire, frame) -> None:
        wire.fail(0, errors.AuthenticationFailed("the rights of the user bob were changed"))

    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.CHANGE_SETTINGS: end}
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome, match="rights of the user bob"):
            await db.admin.change_settings(SetPolicy(policy="majority"))


async def test_a_change_of_accounts_after_which_nobody_is_let_in_again_is_unknown(cluster) -> None:
    def end(node, wire, frame) -> None:
        cluster.methods = lambda certificate: ["bearer"]
        wire.fail(0, errors.AuthenticationFailed("the user bob was removed"))

    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.ACCOUNT: end}
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(errors.UnknownOutcome, match="no other began"):
            await db.admin.change_account(RemoveUser("bob"))
