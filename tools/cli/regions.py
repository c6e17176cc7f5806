"""`redwire regions` and `redwire members`: which node counts for which region, and who is in the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from redwire.errors import RequestInvalid
from redwire.message.settings import (
    AddMember,
    BindRegion,
    MoveMember,
    PromoteMember,
    RemoveMember,
    SettingsView,
)
from redwire.spelling import nearest
from tools.cli.change import How, change, change_options, settings
from tools.cli.connection import uri_option
from tools.cli.group import Group
from tools.cli.output import json_option, show_parts
from tools.grid import Grid
from tools.outlook import settings_document

_NOWHERE = "(no region)"


@click.group("regions", cls=Group)
def command() -> None:
    """Show and change which node counts for which region."""


@command.command("list")
@uri_option
@json_option
def list_regions(uri: str, as_json: bool) -> None:
    """Show the regions and the nodes bound to them."""
    view = settings(uri)
    _require_members(view)
    names = sorted({member.region for member in view.members}, key=lambda name: (not name, name))
    lines = [
        (
            name or _NOWHERE,
            ", ".join(m.id for m in view.members if m.region == name and m.kind == "voter") or "-",
            ", ".join(m.id for m in view.members if m.region == name and m.kind == "reader") or "-",
        )
        for name in names
    ]
    table = Grid(f"Regions, by the settings of LSN {view.lsn}", ("region", "voters", "readers"), lines)
    show_parts(
        {"lsn": view.lsn, "regions": [_region(view, name) for name in names], "pending": view.pending},
        [table],
        as_json=as_json,
    )


@command.command()
@click.argument("node")
@click.argument("region")
@click.option("--new", is_flag=True, help="REGION is one that no node is bound to yet.")
@change_options
def bind(
    node: str,
    region: str,
    new: bool,
    how: How,
) -> None:
    """Count NODE for REGION."""
    if not new:
        known = sorted({member.region for member in settings(how.uri).members if member.region})
        _require_known(region, known)
    change(BindRegion(node, region), how)


@command.command()
@click.argument("node")
@change_options
def unbind(node: str, how: How) -> None:
    """Count NODE for no region; as a voter it still counts."""
    change(BindRegion(node, ""), how)


@click.group("members", cls=Group)
def members() -> None:
    """Show and change who is in the cluster."""


@members.command("list")
@uri_option
@json_option
def list_members(uri: str, as_json: bool) -> None:
    """Show all members, and the policy that they commit by."""
    view = settings(uri)
    _require_members(view)
    lines = [(member.id, member.region or _NOWHERE, member.kind, member.addr) for member in view.members]
    table = Grid(f"Members, by the settings of LSN {view.lsn}", ("node", "region", "kind", "address"), lines)
    show_parts(settings_document(view), [table], as_json=as_json)


@members.command()
@click.argument("node")
@click.argument("region")
@click.argument("addr", metavar="HOST:PORT")
@change_options
def add(
    node: str,
    region: str,
    addr: str,
    how: How,
) -> None:
    """Let NODE in as a reader. Then start it, and promote it once it has caught up."""
    change(AddMember(node=node, region=region, addr=addr), how)


@members.command()
@click.argument("node")
@change_options
def promote(node: str, how: How) -> None:
    """Make the reader NODE a voter, once it follows."""
    change(PromoteMember(node), how)


@members.command()
@click.argument("node")
@click.argument("addr", metavar="HOST:PORT")
@change_options
def move(node: str, addr: str, how: How) -> None:
    """Reach NODE at HOST:PORT from now on. It stays what it is; a primary cannot be moved beside others."""
    change(MoveMember(node, addr), how)


@members.command()
@click.argument("node")
@change_options
def remove(node: str, how: How) -> None:
    """Let NODE out of the cluster. The primary cannot be removed."""
    change(RemoveMember(node), how)


def _region(view: SettingsView, name: str) -> dict[str, Any]:
    """A region for programs, as the status document has it."""
    bound = [member for member in view.members if member.region == name]
    voters = sum(member.kind == "voter" for member in bound)
    return {"name": name, "nodes": [member.id for member in bound], "voters": voters}


def _require_known(region: str, known: Iterable[str]) -> None:
    """Refuse a region that is probably a slip of the finger. Raises `RequestInvalid`."""
    known = list(known)
    if region not in known:
        meant = nearest(region, known)
        text = f"{meant} is near" if meant else f"regions are {', '.join(known)}"
        hint = f"{text}; --new makes a new region"
        raise RequestInvalid(f"no node is bound to {region!r} yet", hint=hint, facts={"region": region})


def _require_members(view: SettingsView) -> None:
    if not view.members:
        text = "this user may not see who is in the cluster"
        raise RequestInvalid(
            text, hint="an administrator gives it the right: redwire user role NAME ROLE --topology"
        )
