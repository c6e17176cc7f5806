"""The `redwire` command: finds the module of a verb when that verb is used, and prints errors in one form."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from redwire.errors import Conflict, NotConfirmed, PolicyInvalid, RedwireError, Refused, UnknownOutcome
from tools.errors import PromiseEmpty

VERBS = {
    "certs": "tools.cli.certs:command",
    "user": "tools.cli.admin:user",
    "status": "tools.cli.admin:status",
    "topology": "tools.cli.admin:topology",
    "policy": "tools.cli.policy:command",
    "regions": "tools.cli.regions:command",
    "members": "tools.cli.regions:members",
    "put": "tools.cli.data:put",
    "get": "tools.cli.data:get",
    "delete": "tools.cli.data:delete",
    "scan": "tools.cli.data:scan",
    "load": "tools.cli.load:load",
    "bench": "tools.cli.bench:command",
    "demo": "tools.cli.demo:command",
    "dev": "tools.cli.dev:command",
}
"""Each verb's module and the click command in it. A verb pays for the imports of no other."""

EXIT_FAILED = 1
EXIT_UNKNOWN = 3
"""Written or not: that is not known."""
EXIT_REFUSED = 4
"""Certainly nothing was changed; or a policy that should not be."""


class Verbs(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb called `cmd_name`; None if there is none."""
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="redwire-cluster", prog_name="redwire")
def redwire() -> None:
    """One replicated data set over several regions: make certificates, look, load, measure, try."""


def main() -> None:
    """Run the command line and exit.

    0 done, 1 an error that the message explains, 2 wrong usage, 3 not confirmed or unknown, 4 refused.
    """
    try:
        redwire()
    except RedwireError as error:
        click.echo(f"redwire: {error}", err=True)
        sys.exit(exit_code(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"redwire: {where}{error.strerror or error}", err=True)
        sys.exit(EXIT_FAILED)


def exit_code(error: RedwireError) -> int:
    """What the exit code says of an outcome."""
    if isinstance(error, NotConfirmed | UnknownOutcome):
        return EXIT_UNKNOWN
    return (
        EXIT_REFUSED if isinstance(error, Refused | Conflict | PolicyInvalid | PromiseEmpty) else EXIT_FAILED
    )


if __name__ == "__main__":
    main()
