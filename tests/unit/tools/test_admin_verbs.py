"""`redwire user`, `status` and `topology` against a fake cluster."""

from __future__ import annotations

import hashlib
import json

from redwire.message.admin import PutToken, PutUser, RemoveToken, RemoveUser
from redwire.scram import make_verifier


async def test_a_user_is_made_by_a_verifier_and_its_password_goes_nowhere(cluster, command_line) -> None:
    ran = await command_line(
        *("user", "add", "bob", "--role", "write", "--password-stdin", "--json", "--uri", cluster.uri()),
        stdin=b"geheim\n",
    )
    (change,) = cluster.accounts
    assert ran.code == 0 and json.loads(ran.out)["user"] == "bob"
    assert isinstance(change, PutUser) and (change.role, change.topology_read) == ("write", True)
    expected = make_verifier("geheim", change.verifier.salt, change.verifier.iterations)
    assert change.verifier.stored_key == expected.stored_key
    assert "geheim" not in ran.out + ran.err


async def test_a_token_is_shown_once_and_only_its_hash_is_sent(cluster, command_line) -> None:
    uri = ("--uri", cluster.uri())
    ran = await command_line("user", "token", "bob", "--role", "read", "--json", *uri)
    shown = json.loads(ran.out)
    assert (await command_line("user", "revoke", shown["id"], *uri)).code == 0
    assert cluster.accounts == [
        PutToken(
            id=shown["id"],
            user="bob",
            role="read",
            sha256=hashlib.sha256(shown["token"].encode()).digest(),
        ),
        RemoveToken(shown["id"]),
    ]


async def test_a_user_is_removed(cluster, command_line) -> None:
    ran = await command_line("user", "remove", "bob", "--uri", cluster.uri())
    assert ran.code == 0 and cluster.accounts == [RemoveUser("bob")]


async def test_what_cannot_be_a_name_or_a_password_is_refused_here(cluster, command_line) -> None:
    uri = ("--uri", cluster.uri())
    add = ("user", "add", "--role", "read", "--password-stdin")
    assert "is no name" in (await command_line(*add, "a b", *uri, stdin=b"x\n")).err
    assert "password is empty" in (await command_line(*add, "bob", *uri, stdin=b"\n")).err
    assert cluster.accounts == []


async def test_a_password_that_nobody_can_type_names_the_way_to_give_it(cluster, command_line) -> None:
    ran = await command_line("user", "add", "bob", "--role", "read", "--uri", cluster.uri())
    assert ran.code == 2 and "--password-stdin" in ran.err and not cluster.accounts


async def test_a_change_without_a_primary_is_certainly_not_made(cluster, command_line) -> None:
    cluster.leader = None
    uri = cluster.uri(timeout_ms="300")
    ran = await command_line("user", "remove", "bob", "--uri", uri)
    assert ran.code == 1 and "nobody could be asked within 0.3 s" in ran.err and not cluster.accounts


async def test_topology_tells_what_strangers_and_what_this_user_see(cluster, command_line) -> None:
    uri = cluster.uri(cluster.nodes[1], user="app:secret@")
    shown = json.loads((await command_line("topology", "--json", "--uri", uri)).out)
    assert shown["user"] == "app" and shown["asked"] == cluster.nodes[1].addr
    assert shown["full"]["primary"] == {"addr": cluster.leader.addr, "region": "eu"}
    assert [replica["region"] for replica in shown["full"]["replicas"]] == ["us", "ap"]
    text = (await command_line("topology", "--uri", uri)).out
    assert "HelloAck" in text and f"{cluster.nodes[2].addr} (ap) healthy" in text


async def test_status_shows_every_node_and_what_is_wrong_with_those_that_do_not_answer(
    cluster, command_line
) -> None:
    cluster.stop(cluster.nodes[2])
    ran = await command_line("status", "--json", "--uri", cluster.uri(cluster.nodes[0]))
    nodes = json.loads(ran.out)["nodes"]
    assert ran.code == 0
    assert [node.get("node") for node in nodes] == ["eu-1", "us-1", None]
    assert nodes[2]["addr"] == cluster.nodes[2].addr and "refused" in nodes[2]["error"]
    only = await command_line(
        "status", "--json", "--node", cluster.nodes[1].addr, "--uri", cluster.uri(cluster.nodes[0])
    )
    assert [node["node"] for node in json.loads(only.out)["nodes"]] == ["us-1"]
    text = (await command_line("status", "--uri", cluster.uri(cluster.nodes[0]))).out
    assert "eu-1 (eu)  primary, term 1" in text and "us-1 (us, voter)" in text and "unreachable" in text
