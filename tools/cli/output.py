"""What a verb prints: for people by default, one JSON document with `--json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import click
from rich.console import Console

from tools.grid import Parts, draw

F = TypeVar("F", bound=Callable[..., object])


def json_option(function: F) -> F:
    """Give a command `--json`, which arrives as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def show(document: object, text: str, *, as_json: bool) -> None:
    """Print `document` as JSON or `text` as it is. Both say the same."""
    click.echo(json.dumps(document, indent=2) if as_json else text)


def show_parts(document: object, parts: Parts, *, as_json: bool) -> None:
    """Print `document` as JSON, or the parts: tables are drawn on a terminal and plain text elsewhere."""
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        draw(parts, Console(highlight=False))
