"""Parameters of our own types."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from redwire.errors import RedwireError

T = TypeVar("T")


class Seconds(click.FloatRange):
    """The type of a length of time: within the bounds, and finite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Fails as wrong usage."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} is no length of time.", param, ctx)
        return seconds


def parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The type of a parameter that `parse` reads; what it refuses is wrong usage."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except RedwireError as error:
            raise click.BadParameter(str(error)) from error

    return convert
