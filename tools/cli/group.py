"""A group of verbs whose help shows each summary in full, and that knows a verb by a slip of it."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from redwire.spelling import guess

SUMMARY_CHARS_MAX = 400
"""Click cuts a summary to one line by default; ours wrap."""


class Group(click.Group):
    """A `click.Group`, but for its help, for verbs that it does not have, and for options before a verb."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As `click.Group`; `--json` in front of a verb is the verb's. Raises `click.UsageError`, which says
        where any other option belongs.
        """
        if args[:1] == ["--json"] and len(args) > 1:
            end = args.index("--") if "--" in args else len(args)
            args = [*args[1:end], "--json", *args[end:]]
        try:
            return super().parse_args(ctx, [*args])
        except click.NoSuchOption as error:
            if error.possibilities:
                raise
            verb = next((word for word in args if word in self.list_commands(ctx)), "VERB")
            where = f"options follow the verb, as in: {ctx.command_path} {verb} {error.option_name}"
            raise click.UsageError(f"No such option {error.option_name!r} here; {where}", ctx) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that `args` begin with. Raises `click.UsageError`, with the verb that was meant."""
        hint = ""
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            hint = guess(args[0], self.list_commands(ctx))
        if hint:
            raise click.UsageError(f"No such command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every verb with its summary, over as many lines as that takes."""
        with formatter.section("Commands"):
            formatter.write_dl([*self.summaries(ctx).items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What may stand here: verbs that begin with `incomplete`, each with its summary, or options."""
        verbs = self.summaries(ctx).items()
        found = [CompletionItem(name, help=text) for name, text in verbs if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def summaries(self, ctx: click.Context) -> dict[str, str]:
        """What each verb does, by its name, in the order of the help."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        return {
            name: command.get_short_help_str(SUMMARY_CHARS_MAX)
            for name, command in found
            if command is not None and not command.hidden
        }
