"""What a verb prints: for people by default, one JSON document with `--json`.

JSON is ASCII, whatever is in it, so no locale changes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TypeVar

import click
from rich.console import Console

from tools.cli.printer import say
from tools.grid import Parts, draw

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
F = TypeVar("F", bound=Callable[..., object])


def json_option(function: F) -> F:
    """Give a command `--json`, which arrives as `as_json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON; docs/COMMANDS.md has its fields."
    )(function)


def to_json(document: object) -> str:
    """`document` over several lines."""
    return json.dumps(document, indent=2)


def to_json_line(document: object) -> str:
    """`document` on one line."""
    return json.dumps(document)


def escaped(text: str) -> str:
    """The JSON `text`, which is kept as it is but for characters beyond ASCII: those of its strings."""
    return _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)


def show(document: object, text: str, *, as_json: bool) -> None:
    """Print `document` as JSON or `text` by `say`. Both say the same."""
    if as_json:
        click.echo(to_json(document))
    else:
        say(text)


def show_parts(document: object, parts: Parts, *, as_json: bool) -> None:
    """Print `document` as JSON, or the parts: tables are drawn on a terminal and plain text elsewhere."""
    if as_json:
        click.echo(to_json(document))
    else:
        draw(parts, Console(highlight=False))
