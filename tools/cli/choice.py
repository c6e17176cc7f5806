"""A parameter that is one of a few words, and that knows a word by a slip of it."""

from __future__ import annotations

from typing import Any

import click

from redwire.spelling import guess


class Choice(click.Choice[str]):
    """A `click.Choice`, but for what it says of a word that is none of its own."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """What click says, and the word that was meant."""
        said, hint = super().get_invalid_choice_message(value, ctx), guess(str(value), self.choices)
        return f"{said.removesuffix('.')}; {hint}" if hint else said
