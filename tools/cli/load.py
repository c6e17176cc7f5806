"""`redwire load`: a file or a stream of JSON lines into a collection, many requests in flight, resumable."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import click

from redwire.client import Client
from redwire.errors import ASK_HINT, NotConfirmed, RedwireError, RequestInvalid, UnknownOutcome
from redwire.pending import Pending
from redwire.record import COLLECTION, COLLECTION_RULE
from tools.cli.connection import begun, policy_option, timeout_option, uri_option, with_client
from tools.cli.failure import EXIT_REFUSED, EXIT_UNSENT, exit_code
from tools.cli.ndjson import Piece, Place
from tools.cli.output import json_option, show
from tools.cli.printer import say
from tools.cli.source import Source, opened
from tools.errors import Interrupted, LineInvalid, LoadStopped

SAVE_S = 1.0
"""How often the bookmark is renewed: so much is sent again after a crash, to no effect."""


def _collection_value(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Callback of `--collection`: what is no name is wrong for every line, so none is blamed for it."""
    if not COLLECTION.match(value):
        raise click.BadParameter(f"{value[:80]!r} is no name of a collection: {COLLECTION_RULE}")
    return value


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--collection", required=True, callback=_collection_value, help="Where the documents go.")
@click.option("--id-field", required=True, help="The field of a document that is its id: a text or a number.")
@click.option(
    "--in-flight", type=click.IntRange(1, 1024), default=16, show_default=True, help="Requests at once."
)
@click.option("--restart", is_flag=True, help="Begin at the first line, whatever an earlier load has done.")
@policy_option
@timeout_option("to connect, and for each request")
@uri_option
@json_option
def load(
    file: Path,
    collection: str,
    id_field: str,
    in_flight: int,
    restart: bool,
    policy: str | None,
    timeout_s: float | None,
    uri: str,
    as_json: bool,
) -> None:
    """Write each line of FILE, a JSON object, as a document, over the one that has its id.

    How far the file is committed is kept beside it, in FILE.redwire-load, until all of it is: the same
    command goes on from there, also after Ctrl-C, but not in another cluster. A line that is no such
    document stops the load; what stands before it is committed. FILE may be a pipe, or - for standard input:
    nothing is kept of these.
    """
    began_s = time.monotonic()
    with opened(file, collection, id_field) as source:
        save = _keeper(source, as_json=as_json)
        start = Place() if restart else source.start()
        made: list[Loader] = []

        async def call(client: Client) -> Loader:
            async def submit(piece: Piece, callback: Callable[[Pending], None]) -> Pending:
                def once(limit_s: float) -> Pending:
                    return client.submit(
                        piece.records, piece.ids, policy=policy, timeout_s=limit_s, callback=callback
                    )

                return await begun(client, once)

            source.begin(client.cluster)
            with _progress(source, start, as_json=as_json) as report:
                made.append(Loader(submit, source.name, start, in_flight, save, report))
                await made[0].run(source.pieces(start))
            return made[0]

        try:
            loader = with_client(uri, call, timeout_s, long=True)
        except (RedwireError, KeyboardInterrupt) as error:
            go_on = (
                "" if source.once else "the same command without --restart" if restart else "the same command"
            )
            raise _stopped(error, made[0] if made else None, go_on) from error
        source.done()
    _show_loaded(file, collection, start, loader, time.monotonic() - began_s, as_json=as_json)


def _keeper(source: Source, *, as_json: bool) -> Callable[[Place], None]:
    """What keeps the bookmark of `source`; that none is kept, now or later, is said once, and why."""

    def tell() -> None:
        if source.once and not as_json:
            say(f"redwire: {source.once}: no bookmark is kept", err=True)

    def save(place: Place) -> None:
        before = source.once
        source.save(place)
        if source.once != before:
            tell()

    tell()
    return save


def _stopped(error: RedwireError | KeyboardInterrupt, loader: Loader | None, go_on: str) -> RedwireError:
    """The error that ends the load, with how far it came, and what goes on there; "" without a bookmark."""
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("interrupted")
    elif loader is None:
        return error
    line = 0 if loader is None else loader.place.line
    if line:
        on = f"{go_on} goes on" if go_on else "without a bookmark give it the rest,"
        how = f"lines 1 to {line} are committed, and {on} from line {line + 1}"
        how += "" if go_on else f" (tail -n +{line + 1})"
    elif loader is not None and loader.began:
        how = "the same command begins again at the first line"
    else:
        how = "nothing was written"
    error.hint = how if error.hint in ("", ASK_HINT) else f"{error.hint}; {how}"
    error.facts["lines_committed"] = line
    told = exit_code(error) in (EXIT_REFUSED, EXIT_UNSENT)
    return LoadStopped(error) if told and loader is not None and loader.wrote else error


def _show_loaded(
    file: Path, collection: str, start: Place, loader: Loader, seconds: float, *, as_json: bool
) -> None:
    rate = loader.documents / seconds
    went_on = f", from line {start.line + 1} on" if start.line else ""
    show(
        {
            "file": str(file),
            "collection": collection,
            "documents": loader.documents,
            "first_line": start.line + 1,
            "seconds": round(seconds, 3),
            "documents_per_s": round(rate),
            "token": loader.token,
        },
        f"{loader.documents} documents in {collection} after {seconds:.1f} s ({rate:.0f}/s){went_on}",
        as_json=as_json,
    )


class Loader:
    """Keeps `in_flight` pieces under way, and knows up to where everything is committed.

    `submit` begins to write a piece, `save` keeps a bookmark, `report` hears of progress.
    """

    def __init__(
        self,
        submit: Callable[[Piece, Callable[[Pending], None]], Awaitable[Pending]],
        name: str,
        start: Place,
        in_flight: int,
        save: Callable[[Place], None],
        report: Callable[[Place], None],
    ) -> None:
        self.place = start
        self.documents = 0
        self.token = ""
        self._submit = submit
        self._name = name
        self._in_flight = in_flight
        self._save = save
        self._report = report
        self._under_way: deque[tuple[Piece, Pending]] = deque()
        self._failure: RedwireError | None = None
        self._moved = anyio.Event()
        self._saved_s = time.monotonic()

    @property
    def began(self) -> bool:
        """Whether any piece was to be written."""
        return bool(self.documents or self._under_way)

    @property
    def wrote(self) -> bool:
        """Whether any piece was written, or may have been."""
        errors = [pending.error for _, pending in self._under_way]
        open_outcome = (NotConfirmed, UnknownOutcome)
        return bool(self.documents) or any(
            error is None or isinstance(error, open_outcome) for error in errors
        )

    async def run(self, source: AsyncIterator[Piece]) -> None:
        """Write all pieces. Raises the first error, once every piece in flight has its outcome."""
        try:
            try:
                async for piece in source:
                    self._under_way.append((piece, await self._submit(piece, self._finished)))
                    await self._until(self._in_flight - 1)
                    if self._failure is not None:
                        break
            except LineInvalid as error:  # a bad line: what was read before it is on its way
                self._failure = self._failure or error
            await self._until(0)
        finally:
            self._save(self.place)
        if self._failure is not None:
            raise self._failure

    async def _until(self, under_way_max: int) -> None:
        while sum(not pending.done for _, pending in self._under_way) > under_way_max:
            self._moved = anyio.Event()
            await self._moved.wait()

    def _finished(self, pending: Pending) -> None:
        """Move the place to the end of the pieces that are committed without a gap."""
        under_way = self._under_way
        while under_way and under_way[0][1].done and under_way[0][1].error is None:
            piece, first = under_way.popleft()
            self.place = piece.end
            self.documents += len(piece.records)
            self.token = str(first.result().receipt.token)
        if pending.error is not None and self._failure is None:
            self._failure = self._located(pending)
        self._moved.set()
        self._report(self.place)
        if time.monotonic() - self._saved_s > SAVE_S:
            self._saved_s = time.monotonic()
            self._save(self.place)

    def _located(self, pending: Pending) -> RedwireError:
        """The error of a piece; the server's word on one record becomes one on its line."""
        error = pending.error
        assert error is not None
        piece = next((piece for piece, each in self._under_way if each is pending), None)
        if isinstance(error, RequestInvalid) and error.record is not None and piece is not None:
            bad = LineInvalid(self._name, piece.lines[error.record], error.reason, hint=error.hint)
            bad.facts |= {name: value for name, value in error.facts.items() if name != "record"}
            return bad
        return error


@contextmanager
def _progress(source: Source, start: Place, *, as_json: bool) -> Iterator[Callable[[Place], None]]:
    """A bar on standard error, where that is a terminal."""
    if as_json or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(Path(source.name).name, total=source.size, completed=start.offset)
        yield lambda place: bar.update(task, completed=place.offset)
