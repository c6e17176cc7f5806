"""`redwire completion`: what a shell needs to complete verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tools.cli.choice import Choice
from tools.cli.main import COMPLETE_VARIABLE, PROGRAM


@click.command("completion")
@click.argument("shell", type=Choice(("bash", "zsh", "fish")))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script for redwire.

    \b
    bash  eval "$(redwire completion bash)"    in ~/.bashrc
    zsh   eval "$(redwire completion zsh)"     in ~/.zshrc
    fish  redwire completion fish > ~/.config/fish/completions/redwire.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE).source())
