"""A change of the settings as the command line makes it: the plan, what is typed back, the deed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

import click
import msgspec

from redwire.client import Client
from redwire.errors import Code, DeadlineExceeded, Refused, RequestInvalid, UnknownOutcome
from redwire.message.settings import SetPolicy, SettingsChange, SettingsChanged, SettingsView
from tools.cli.connection import uri_option, with_client
from tools.cli.output import json_option, show_parts
from tools.grid import Parts, Words
from tools.outlook import document, outlook, own_floor, part


class How(msgspec.Struct, frozen=True):
    """How a change is to be made: by which cluster's URI, and what the options of `change_options` say."""

    uri: str
    lost: tuple[str, ...]
    confirm_lost: str | None
    yes: bool
    dry_run: bool
    as_json: bool


def change_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--dry-run`, `--yes`, `--lost`, `--confirm-lost`, `--uri` and `--json`, all of them as
    `how`.
    """

    @functools.wraps(function)
    def command(
        *,
        uri: str,
        lost: tuple[str, ...],
        confirm_lost: str | None,
        yes: bool,
        dry_run: bool,
        as_json: bool,
        **named: object,
    ) -> None:
        function(how=How(uri, lost, confirm_lost, yes, dry_run, as_json), **named)

    for option in (
        json_option,
        uri_option,
        click.option(
            "--confirm-lost",
            metavar="NAMES",
            help="The names of --lost once more, where nobody can be asked; separated by commas.",
        ),
        click.option(
            "--lost",
            multiple=True,
            metavar="REGION|NODE",
            help="Gone for good: the old commit rule does not wait for it. Repeatable, typed back, audited.",
        ),
        click.option("--yes", is_flag=True, help="Do not ask where acknowledged writes would survive less."),
        click.option("--dry-run", is_flag=True, help="Change nothing; print what would be won and lost."),
    ):
        command = option(command)
    return command


def settings(uri: str) -> SettingsView:
    """The settings in force."""

    async def ask(client: Client) -> SettingsView:
        return await client.admin.settings()

    return with_client(uri, ask)


def change(wanted: SettingsChange, how: How) -> None:
    """Plan `wanted`, have what is lost typed back, make the change, and print what it wins and loses. Where
    acknowledged writes would survive less, that is asked about first, or takes `--yes`.

    The change is based on the settings that the plan saw: who changes them in between wins, and this one is
    told. Nothing is connected while somebody is asked: they may take their time, and Ctrl-C ends it. Raises
    as `redwire.admin.Admin.change_settings`.
    """
    _require_answer(how)
    try:
        changed = _request(wanted, how, dry_run=True)
        if not how.dry_run:
            if how.lost:
                _type_back(how.lost, how.confirm_lost)
            if not how.yes:
                _agree(outlook(changed).risk)
            changed = _request(wanted, how, based_on=changed.before.lsn)
    except Refused as error:
        if error.code in (Code.MISSING_REGIONS, Code.INSUFFICIENT_REPLICAS):
            error.hint = "bring the missing nodes back; what is gone for good is named with --lost"
        raise
    _print(changed, how, own_floor(changed.after) if isinstance(wanted, SetPolicy) else "")


def _request(
    wanted: SettingsChange, how: How, *, based_on: int = 0, dry_run: bool = False
) -> SettingsChanged:
    async def call(client: Client) -> SettingsChanged:
        return await client.admin.change_settings(wanted, based_on=based_on, lost=how.lost, dry_run=dry_run)

    try:
        return with_client(how.uri, call)
    except UnknownOutcome as error:
        if not dry_run:
            raise
        raise DeadlineExceeded(error.message, phase=error.phase, hint="nothing was changed") from error


def _require_answer(how: How) -> None:
    """What is lost was confirmed, or there is somebody to ask. Raises `click.UsageError`."""
    names = ",".join(sorted(how.lost))
    if names and not how.dry_run and how.confirm_lost is None and not sys.stdin.isatty():
        raise click.UsageError(f"--lost {names} is to be typed back; add --confirm-lost {names}")


def _type_back(lost: Sequence[str], confirmed: str | None) -> None:
    """Have the operator say again what is gone. Raises `RequestInvalid` when it is not the same."""
    names = ",".join(sorted(lost))
    if confirmed is None:
        confirmed = click.prompt(f"What only {names} holds is given up. Type {names} to go on", err=True)
    said = ",".join(sorted(name.strip() for name in str(confirmed).split(",")))
    if said != names:
        raise RequestInvalid(f"{said!r} was typed back, not {names!r}", hint="nothing was changed")


def _agree(risk: str) -> None:
    """Have the operator say that `risk` is meant. Raises `RequestInvalid` where it is not, or nobody says."""
    if not risk:
        return
    if not sys.stdin.isatty():
        raise RequestInvalid(
            risk, hint="nothing was changed; add --yes if that is meant, or look with --dry-run"
        )
    if not click.confirm(f"{risk[0].upper()}{risk[1:]}. Is that meant?", err=True):
        raise RequestInvalid("it was not meant", hint="nothing was changed")


def _print(changed: SettingsChanged, how: How, floor: str) -> None:
    found = outlook(changed)
    if how.dry_run:
        lines = [f"would be: {changed.text}"]
    elif changed.lsn:
        lines = [f"{changed.text} (LSN {changed.lsn}, in force)"]
    else:
        lines = [changed.text]
    if floor:
        lines.append(floor)
    lines += [f"warning: {text}" for text in (found.warning, found.refused) if text]
    parts: Parts = [Words("\n".join(lines)), part(found)]
    show_parts(document(changed, found, dry_run=how.dry_run), parts, as_json=how.as_json)
