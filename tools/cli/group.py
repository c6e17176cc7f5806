"""A group of verbs whose help shows each summary in full."""

from __future__ import annotations

import click

SUMMARY_CHARS_MAX = 400
"""Click cuts a summary to one line by default; ours wrap."""


class Group(click.Group):
    """A `click.Group`, but for its help."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every verb with its summary, over as many lines as that takes."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(SUMMARY_CHARS_MAX))
                    for name, command in found
                    if command is not None and not command.hidden
                ]
            )
