"""The `redwire` command: finds the module of a verb when that verb is used, and prints errors in one form."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from redwire import __version__
from redwire.errors import RedwireError
from tools.cli.failure import failure
from tools.cli.group import Group

VERBS = {
    "certs": "tools.cli.certs:command",
    "user": "tools.cli.admin:user",
    "status": "tools.cli.status:status",
    "lag": "tools.cli.status:lag",
    "events": "tools.cli.status:events",
    "doctor": "tools.cli.doctor:command",
    "topology": "tools.cli.topology:topology",
    "policy": "tools.cli.policy:command",
    "regions": "tools.cli.regions:command",
    "members": "tools.cli.regions:members",
    "monitor": "tools.cli.monitor:command",
    "put": "tools.cli.data:put",
    "get": "tools.cli.data:get",
    "delete": "tools.cli.data:delete",
    "scan": "tools.cli.data:scan",
    "resolve": "tools.cli.data:resolve",
    "load": "tools.cli.load:load",
    "bench": "tools.cli.bench:command",
    "demo": "tools.cli.demo:command",
    "dev": "tools.cli.dev:command",
    "completion": "tools.cli.completion:command",
}
"""Each verb's module and the click command in it. A verb pays for the imports of no other."""

PROGRAM = "redwire"
COMPLETE_VARIABLE = "_REDWIRE_COMPLETE"
"""Set by the shell's completion script when it asks what may follow."""
EXIT_CODES = """\b
Exit codes:
  0    done
  1    error, which the message explains
  2    wrong usage
  3    not confirmed or unknown: it may or may not be written
  4    refused: certainly nothing was changed; or a policy that should not be set
  130  interrupted

With --json an error is one JSON object on standard error, with code, message, hint, exit_code, and the key of
a write where there is one.
"""


class Verbs(Group):
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


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name=PROGRAM)
def redwire() -> None:
    """One replicated data set over several regions: make certificates, look, load, measure, try."""


def main() -> None:
    """Run the command line and exit. A failure is told on standard error, in one form."""
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    try:
        code = redwire.main(
            arguments, prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, standalone_mode=False
        )
    except (RedwireError, OSError, click.ClickException, click.Abort) as error:
        failed = failure(error)
        if "--json" in options:
            click.echo(failed.to_json(), err=True)
        elif isinstance(error, click.ClickException):
            error.show()
        else:
            click.echo(str(failed), err=True)
        code = failed.exit_code
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
