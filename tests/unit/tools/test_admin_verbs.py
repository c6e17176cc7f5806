"""`redwire user` against a fake cluster."""

from __future__ import annotations

import hashlib
import json

import msgspec

from redwire.message.admin import PutToken, PutUser, RemoveToken, RemoveUser, ScramRecord, SetRole
from redwire.scram import make_verifier
from tools.cli.failure import EXIT_REFUSED

BOB = PutUser(
    name="bob",
    role="write",
    verifier=ScramRecord(salt=bytes(16), iterations=16_384, stored_key=bytes(32), server_key=bytes(32)),
    topology_read=False,
)
TOKEN = PutToken(id="bob-1", user="bob", role="read", sha256=bytes(32))


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


async def test_a_user_with_the_name_of_an_administrator_is_warned_of(cluster, command_line) -> None:
    rest = ("--role", "read", "--password-stdin", "--uri", cluster.uri())
    ran = await command_line("user", "add", "ops", *rest, stdin=b"geheim\n")
    assert ran.code == 0 and "warning: ops is an administrator by its certificate too" in ran.out
    ran = await command_line("user", "add", "ops", "--json", *rest, stdin=b"geheim\n")
    assert "by its password it may read" in json.loads(ran.out)["warning"]
    ran = await command_line("user", "add", "bob", *rest, stdin=b"geheim\n")
    assert ran.code == 0 and "warning" not in ran.out


async def test_a_token_is_shown_once_and_only_its_hash_is_sent(cluster, command_line) -> None:
    cluster.registry = cluster.registry.after(BOB)
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


async def test_a_token_above_its_user_is_refused_and_not_made(cluster, command_line) -> None:
    cluster.registry = cluster.registry.after(BOB)
    ran = await command_line("user", "token", "bob", "--role", "admin", "--uri", cluster.uri())
    assert (ran.code, ran.out, cluster.accounts) == (EXIT_REFUSED, "", [])
    assert "the user bob may only write" in ran.err
    assert ran.err.endswith("redwire user role bob admin\n")
    for role in ("read", "write"):
        ran = await command_line("user", "token", "bob", "--role", role, "--uri", cluster.uri())
        assert ran.code == 0 and f"may {role} as bob" in ran.out


async def test_a_role_is_changed_and_nothing_else(cluster, command_line) -> None:
    cluster.registry = cluster.registry.after(BOB)
    for words, sees in (((), None), (("--topology",), True), (("--no-topology",), False)):
        ran = await command_line("user", "role", "bob", "read", *words, "--json", "--uri", cluster.uri())
        shown = json.loads(ran.out)
        assert (ran.code, shown["user"], shown["role"], shown["topology_read"]) == (0, "bob", "read", sees)
        assert cluster.accounts[-1] == SetRole(name="bob", role="read", topology_read=sees)
    ran = await command_line("user", "role", "bob", "wirte", "--uri", cluster.uri())
    assert ran.code == 2 and "did you mean write?" in ran.err


async def test_a_user_is_removed(cluster, command_line) -> None:
    cluster.registry = cluster.registry.after(BOB)
    ran = await command_line("user", "remove", "bob", "--uri", cluster.uri())
    assert ran.code == 0 and cluster.accounts == [RemoveUser("bob")]


async def test_who_is_not_there_is_not_called_gone(cluster, command_line) -> None:
    cluster.registry = cluster.registry.after(BOB).after(TOKEN)
    for words, said in (
        (("remove", "bop"), "there is no user bop; did you mean bob?"),
        (("remove", "ops"), "there is no user ops: ops is an administrator by configuration"),
        (("role", "bop", "read"), "there is no user bop; did you mean bob?"),
        (("revoke", "bob-2"), "there is no token bob-2; did you mean bob-1?"),
        (("token", "carol", "--role", "read"), "there is no user carol"),
    ):
        ran = await command_line("user", *words, "--uri", cluster.uri())
        assert ran.code == EXIT_REFUSED and said in ran.err and ran.out == ""


async def test_users_and_tokens_are_listed_page_by_page_without_what_is_secret(cluster, command_line) -> None:
    names = [f"u{number:03}" for number in range(450)]
    for name in names:
        cluster.registry = cluster.registry.after(msgspec.structs.replace(BOB, name=name))
    cluster.registry = cluster.registry.after(BOB).after(TOKEN)
    uri = ("--uri", cluster.uri())
    shown = json.loads((await command_line("user", "list", "--json", *uri)).out)
    assert shown["admins"] == ["ops"]
    assert [user["name"] for user in shown["users"]] == ["bob", *names]
    assert shown["users"][0] == {"name": "bob", "role": "write", "topology_read": False, "tokens": 1}
    text = (await command_line("user", "list", *uri)).out.splitlines()
    assert text[:2] == [
        "ops  admin by configuration, with its certificate",
        "bob  write, does not see the topology, tokens: 1",
    ]
    for name in ("bob", ""):
        words = ("user", "tokens", *filter(None, (name,)), "--json")
        (token,) = json.loads((await command_line(*words, *uri)).out)["tokens"]
        assert token == {"id": "bob-1", "user": "bob", "role": "read"}
    assert "bob-1  read as bob" in (await command_line("user", "tokens", *uri)).out
    assert "no tokens" in (await command_line("user", "tokens", "u001", *uri)).out
    nobody = await command_line("user", "tokens", "u0010", *uri)
    assert nobody.code == EXIT_REFUSED and "there is no user u0010; did you mean u" in nobody.err


async def test_what_cannot_be_a_name_or_a_password_is_refused_here(cluster, command_line) -> None:
    uri = ("--uri", cluster.uri())
    add = ("user", "add", "--role", "read", "--password-stdin")
    assert "is no name" in (await command_line(*add, "a b", *uri, stdin=b"x\n")).err
    assert "password is empty" in (await command_line(*add, "bob", *uri, stdin=b"\n")).err
    assert "password is not UTF-8" in (await command_line(*add, "bob", *uri, stdin=b"\xff\n")).err
    assert cluster.accounts == []


async def test_a_password_that_nobody_can_type_names_the_way_to_give_it(cluster, command_line) -> None:
    ran = await command_line("user", "add", "bob", "--role", "read", "--uri", cluster.uri())
    assert ran.code == 2 and "--password-stdin" in ran.err and not cluster.accounts


async def test_a_change_without_a_primary_is_certainly_not_made(cluster, command_line) -> None:
    cluster.leader = None
    uri = cluster.uri(timeout_ms="300")
    ran = await command_line("user", "remove", "bob", "--uri", uri)
    assert ran.code == 5 and "nobody could be asked within 0.3 s" in ran.err and not cluster.accounts
