"""`redwire user` against a fake cluster."""

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
