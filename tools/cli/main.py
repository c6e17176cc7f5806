"""The `redwire` command: finds the module of a verb when that verb is used, and prints errors in one form."""

from __future__ import annotations

import os
import select
import signal
import sys
from importlib import import_module

import click
import msgspec

from redwire import __version__
from redwire.errors import RedwireError
from tools.cli.failure import EXIT_PIPE_CLOSED, failure
from tools.cli.group import Group
from tools.cli.printer import say


class Verb(msgspec.Struct, frozen=True):
    """Where a verb's click command is, as `module:name`, and what it does: the summary in its own help."""

    where: str
    summary: str


VERBS = {
    "certs": Verb(
        "tools.cli.certs:command",
        "Make certificates: an authority for the cluster, one per node, one per user.",
    ),
    "user": Verb(
        "tools.cli.admin:user",
        "Make and remove users and bearer tokens; takes an administrator's certificate in the URI.",
    ),
    "status": Verb(
        "tools.cli.status:status",
        "Show how the cluster is: who leads, whether writes are accepted, every region and every node.",
    ),
    "lag": Verb(
        "tools.cli.status:lag",
        "Show how far every node is behind the primary, and when it will have caught up.",
    ),
    "events": Verb(
        "tools.cli.status:events",
        "Show what happened of late, on every node that can be heard; with --json one event a line.",
    ),
    "doctor": Verb(
        "tools.cli.doctor:command",
        "Look for what is wrong: files, ports, every pair of nodes, quorum, disks, clocks, certificates.",
    ),
    "topology": Verb(
        "tools.cli.topology:topology",
        "Show the cluster's shape as a node's handshake tells it: to strangers, and to this user.",
    ),
    "policy": Verb("tools.cli.policy:command", "Show, change and check the cluster's commit policy."),
    "regions": Verb("tools.cli.regions:command", "Show and change which node counts for which region."),
    "members": Verb("tools.cli.regions:members", "Show and change who is in the cluster."),
    "monitor": Verb(
        "tools.cli.monitor:command",
        "See regions, quorum, lag and what is coming; bind regions and change the policy, plan first.",
    ),
    "put": Verb("tools.cli.data:put", "Write DOCUMENT, a JSON object or - for standard input, under ID."),
    "get": Verb("tools.cli.data:get", "Print the document under ID as it is stored."),
    "delete": Verb("tools.cli.data:delete", "Delete the document under ID; deleting nothing is no error."),
    "scan": Verb(
        "tools.cli.data:scan", "Print documents in order of their ids: id, version and document, a line each."
    ),
    "resolve": Verb(
        "tools.cli.data:resolve",
        "Say what became of a write that was not confirmed, or whose outcome was unknown.",
    ),
    "load": Verb(
        "tools.cli.load:load",
        "Write each line of FILE, a JSON object, as a document, over the one that has its id.",
    ),
    "bench": Verb(
        "tools.cli.bench:command",
        "Start a fresh cluster here, put loads on it, print what was measured, and remove everything.",
    ),
    "demo": Verb(
        "tools.cli.demo:command", "Watch three regions accept writes by quorum, and lose one of them."
    ),
    "dev": Verb(
        "tools.cli.dev:command",
        "Regions on this machine: real nodes, certificates, and links between them that take their time.",
    ),
    "completion": Verb("tools.cli.completion:command", "Print a shell's completion script for redwire."),
}
"""In the order of the help. A verb pays for the imports of no other, and who lists them for none."""

PROGRAM = "redwire"
COMPLETE_VARIABLE = "_REDWIRE_COMPLETE"
"""Set by the shell's completion script when it asks what may follow."""
STDOUT = 1
EXIT_CODES = """\b
Exit codes:
  0    done
  1    error, which the message explains
  2    wrong usage
  3    not confirmed or unknown: it may or may not be written
  4    refused: certainly nothing was changed; or a policy that should not be set
  5    not sent: nobody was reached in time, or let us in; certainly nothing was changed
  130  interrupted
  141  nobody reads the output any more, as in redwire scan c | head

With --json an error is one JSON object on standard error, with code, message, hint, exit_code, facts, and the
key of a write where there is one.
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
        module, _, name = VERBS[cmd_name].where.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def summaries(self, ctx: click.Context) -> dict[str, str]:
        """As `Group.summaries`, and imports none of them."""
        return {name: verb.summary for name, verb in VERBS.items()}


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name=PROGRAM)
def redwire() -> None:
    """One replicated data set over several regions: make certificates, look, load, measure, try."""


def main() -> None:
    """Run the command line and exit. A failure is told on standard error, in one form."""
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    told = False
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))  # held back by tools.cli.start
        code = redwire.main(
            arguments, prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, standalone_mode=False
        )
    except (RedwireError, OSError, click.ClickException, click.Abort, KeyboardInterrupt) as error:
        failed, told = failure(error), True
        if "--json" in options:
            click.echo(failed.to_json(), err=True)
        elif isinstance(error, click.ClickException):
            error.show()
        else:
            say(str(failed), err=True)
        code = failed.exit_code
    except SystemExit as end:
        code = EXIT_PIPE_CLOSED if _ended_by_pipe(end) else end.code
    sys.exit(_left(code or 0, told=told))


def _left(code: str | int, *, told: bool) -> str | int:
    """`code`, once all that was said has left; else the one that says why it could not, unless a failure was
    `told`: there is one of each command.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # it is flushed once more at the end
        if isinstance(error, BrokenPipeError):
            return EXIT_PIPE_CLOSED
        if told:
            return code
        failed = failure(error)
        say(str(failed), err=True)
        return failed.exit_code
    return code


def _ended_by_pipe(end: SystemExit) -> bool:
    """Whether the output has nobody any more who reads it. Click and rich end quietly then, by 1: rich says
    of what, and has put another file in the place of the output; click does neither.
    """
    output = select.poll()
    output.register(STDOUT, 0)
    gone = any(event & select.POLLERR for _, event in output.poll(0))
    return gone or isinstance(end.__context__, BrokenPipeError)


if __name__ == "__main__":
    main()
