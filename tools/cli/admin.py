"""`redwire user`: who may come in."""

from __future__ import annotations

import hashlib
import secrets
import sys
from functools import partial

import click
import msgspec

from redwire.client import Client
from redwire.handshake import USER_NAME
from redwire.message.admin import (
    AccountChange,
    AccountDone,
    PutToken,
    RemoveToken,
    RemoveUser,
    SetRole,
    TokenRow,
    UserRole,
    UserRow,
)
from tools.accounts import password_user
from tools.cli.choice import Choice
from tools.cli.connection import addr_of, node_option, uri_option, with_client
from tools.cli.group import Group
from tools.cli.output import json_option, show
from tools.errors import RoleAbove

TOKEN_BYTES = 32
"""256 bits of chance: only its plain SHA-256 is stored, which must not be searchable."""

ROLES: tuple[UserRole, ...] = ("read", "write", "admin")
"""Each may do what those before it may."""

_role = click.option("--role", type=Choice(ROLES), required=True, help="What it may do.")

_node = node_option("Ask this node.")


@click.group(cls=Group)
def user() -> None:
    """Make and remove users and bearer tokens; takes an administrator's certificate in the URI."""


@user.command()
@click.argument("name")
@_role
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input, one line.")
@click.option(
    "--topology/--no-topology",
    "topology_read",
    default=True,
    show_default=True,
    help="Whether it may see every node.",
)
@uri_option
@json_option
def add(
    name: str, role: UserRole, password_stdin: bool, topology_read: bool, uri: str, as_json: bool
) -> None:
    """Make the user NAME, or replace its role and password.

    The password does not leave this machine: what is sent and stored is a verifier.
    """
    _require_name(name)
    change = password_user(name, _password(password_stdin), role, topology_read=topology_read)

    async def call(client: Client) -> tuple[bool, AccountDone]:
        return name in (await client.admin.users()).admins, await client.admin.change_account(change)

    twice, done = with_client(uri, call)
    text = f"user {name} may {role} (LSN {done.lsn})"
    warning = ""
    if twice:
        warning = f"{name} is an administrator by its certificate too: by its password it may {role}"
        text += f"\nwarning: {warning}; 'redwire user remove {name}' leaves the certificate alone"
    document = {"user": name, "role": role, "topology_read": topology_read, "warning": warning}
    show({**document, **_position(done)}, text, as_json=as_json)


@user.command("role")
@click.argument("name")
@click.argument("role", type=Choice(ROLES))
@click.option(
    "--topology/--no-topology",
    "topology_read",
    default=None,
    help="Whether it may see every node.  [default: as it was]",
)
@uri_option
@json_option
def set_role(name: str, role: UserRole, topology_read: bool | None, uri: str, as_json: bool) -> None:
    """Let the user NAME do what ROLE is for: read, write or admin. Its password and tokens stay.

    A token has a role of its own, and never does more than its user.
    """
    _require_name(name)
    done = _change(uri, SetRole(name=name, role=role, topology_read=topology_read))
    text = f"user {name} may {role} (LSN {done.lsn})"
    document = {"user": name, "role": role, "topology_read": topology_read, **_position(done)}
    show(document, text, as_json=as_json)


@user.command()
@click.argument("name")
@uri_option
@json_option
def remove(name: str, uri: str, as_json: bool) -> None:
    """Remove the user NAME and all its tokens."""
    _require_name(name)
    done = _change(uri, RemoveUser(name))
    show(
        {"user": name, "removed": True, **_position(done)},
        f"user {name} is gone, and its tokens (LSN {done.lsn})",
        as_json=as_json,
    )


@user.command()
@click.argument("name")
@_role
@click.option("--id", "ident", help="What to call the token.  [default: made from its hash]")
@uri_option
@json_option
def token(name: str, role: UserRole, ident: str | None, uri: str, as_json: bool) -> None:
    """Make a bearer token that acts for the user NAME; it is shown this once and stored nowhere.

    It never may do more than NAME: a role above that user's own is refused.
    """
    secret = secrets.token_urlsafe(TOKEN_BYTES)
    digest = hashlib.sha256(secret.encode()).digest()
    ident = ident or f"{name[:48]}-{digest.hex()[:12]}"
    _require_name(name)
    _require_name(ident)

    async def call(client: Client) -> AccountDone:
        await _require_role(client, name, role)
        return await client.admin.change_account(PutToken(id=ident, user=name, role=role, sha256=digest))

    done = with_client(uri, call)
    show(
        {"id": ident, "user": name, "role": role, "token": secret, **_position(done)},
        f"token {ident} may {role} as {name} (LSN {done.lsn}); keep it, it is not shown again:\n{secret}",
        as_json=as_json,
    )


@user.command()
@click.argument("ident", metavar="ID")
@uri_option
@json_option
def revoke(ident: str, uri: str, as_json: bool) -> None:
    """Revoke the bearer token ID."""
    _require_name(ident)
    done = _change(uri, RemoveToken(ident))
    show({"id": ident, "revoked": True, **_position(done)}, f"token {ident} is revoked", as_json=as_json)


@user.command("list")
@_node
@uri_option
@json_option
def list_(node: str | None, uri: str, as_json: bool) -> None:
    """Show every user: what it may do, and how many tokens it has."""
    admins, rows = with_client(uri, partial(_all_users, node=node))
    document = {"admins": admins, "users": [msgspec.to_builtins(row) for row in rows]}
    lines = [f"{name}  admin by configuration, with its certificate" for name in admins]
    for row in rows:
        sees = "" if row.topology_read else ", does not see the topology"
        lines.append(f"{row.name}  {row.role}{sees}, tokens: {row.tokens}")
    show(document, "\n".join(lines) or "there are no users", as_json=as_json)


@user.command()
@click.argument("name", default="")
@_node
@uri_option
@json_option
def tokens(name: str, node: str | None, uri: str, as_json: bool) -> None:
    """Show the bearer tokens of the user NAME, or of everybody; never the tokens themselves."""
    if name:
        _require_name(name)
    rows = with_client(uri, partial(_all_tokens, name=name, node=node))
    document = {"tokens": [msgspec.to_builtins(row) for row in rows]}
    lines = [f"{row.id}  {row.role} as {row.user}" for row in rows]
    show(document, "\n".join(lines) or "there are no tokens", as_json=as_json)


def _password(from_stdin: bool) -> str:
    try:
        password = _first_line() if from_stdin else _typed()
        password.encode()  # in some locales what is no UTF-8 is read all the same
    except UnicodeError as error:
        raise click.UsageError("the password is not UTF-8: no client could send it") from error
    if not password:
        raise click.UsageError("the password is empty; write it on the first line of standard input")
    return password


def _first_line() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def _typed() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(
            "nobody can be asked for the password: standard input is no terminal; pass --password-stdin, "
            "and the password on its first line",
            click.get_current_context(),
        )
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def _require_name(name: str) -> None:
    if not USER_NAME.match(name):
        raise click.UsageError(f"{name[:80]!r} is no name; 1 to 64 of A-Z a-z 0-9 . _ -")


async def _require_role(client: Client, name: str, role: UserRole) -> None:
    """Raises `RoleAbove` when the user `name` may do less than `role`; who is not there, the primary says."""
    _, rows = await _all_users(client, node=None)
    own = next((row for row in rows if row.name == name), None)
    if own is not None and ROLES.index(role) > ROLES.index(own.role):
        raise RoleAbove(
            f"the user {name} may only {own.role}, and no token of it may {role}",
            hint=f"ask for --role {own.role}, or raise the user first: redwire user role {name} {role}",
        )


def _change(uri: str, change: AccountChange) -> AccountDone:
    async def call(client: Client) -> AccountDone:
        return await client.admin.change_account(change)

    return with_client(uri, call)


async def _all_users(client: Client, *, node: str | None) -> tuple[list[str], list[UserRow]]:
    """The administrators by configuration, and all users, page by page."""
    addr = await addr_of(client, node)
    rows: list[UserRow] = []
    while True:
        page = await client.admin.users(addr, after=rows[-1].name if rows else "")
        rows += page.users
        if not page.more or not page.users:
            return [*page.admins], rows


async def _all_tokens(client: Client, *, name: str, node: str | None) -> list[TokenRow]:
    addr = await addr_of(client, node)
    rows: list[TokenRow] = []
    while True:
        page = await client.admin.tokens(name, addr, after=rows[-1].id if rows else "")
        rows += page.tokens
        if not page.more or not page.tokens:
            return rows


def _position(done: AccountDone) -> dict[str, int]:
    return {"lsn": done.lsn, "term": done.term}
