"""A parameter whose text one of our parsers reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from redwire.errors import RedwireError

T = TypeVar("T")


def parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The type of a parameter that `parse` reads; what it refuses is wrong usage."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except RedwireError as error:
            raise click.BadParameter(str(error)) from error

    return convert
