"""Where text leaves for people: a terminal gets nothing from it that it would act on, whoever wrote it."""

from __future__ import annotations

import sys

import click

from redwire.printable import harmless, printable


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print `text`; what is not printable, line ends apart, is escaped as JSON would."""
    click.echo(printable(text, keep="\n"), err=err, nl=nl)


def say_document(before: str, raw: bytes) -> None:
    """Print a document behind the line's beginning, which has no line end: as it is stored, but for what a
    terminal would act on where there is one.
    """
    if sys.stdout.isatty():
        raw = harmless(raw.decode("utf-8", "replace")).encode()
    click.echo(printable(before, keep="\t").encode() + raw)  # bytes: no locale changes them
