"""`redwire put`, `get`, `delete`, `scan` and `resolve`: documents, one at a time or in order."""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from redwire.client import Client
from redwire.document import Document, encode_record
from redwire.errors import (
    AuthenticationFailed,
    Code,
    ConnectFailed,
    DeadlineExceeded,
    NotConfirmed,
    RedwireError,
    Refused,
    RequestInvalid,
    UnknownOutcome,
)
from redwire.pending import Pending
from redwire.printable import printable
from redwire.reads import read_mode
from redwire.receipt import Committed, Deleted
from redwire.record import Key, Op
from tools.cli.connection import begun, policy_option, timeout_option, uri_option, with_client
from tools.cli.output import escaped, json_option, show, to_json, to_json_line
from tools.cli.printer import say_document
from tools.errors import DocumentMissing, Interrupted, ScanStopped

_if_version = click.option(
    "--if-version", type=click.IntRange(min=0), help="Only over this version (0: none)."
)


def _read_value(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A read mode, checked before anything is dialled."""
    try:
        if value is not None:
            read_mode(value)
    except RequestInvalid as error:
        raise click.BadParameter(str(error).removeprefix("read: ")) from error
    return value


_read = click.option(
    "--read",
    metavar="MODE",
    callback=_read_value,
    help="primary, nearest, any or region:<name>.  [default: the URI's, or primary]",
)
_at_least = click.option("--at-least", metavar="TOKEN", help="As fresh as what this token saw.")


@contextmanager
def _one_record() -> Iterator[None]:
    """Where a write has one record, what is wrong with it needs no number."""
    try:
        yield
    except RequestInvalid as error:
        raise error.at(None) from error


@click.command()
@click.argument("collection")
@click.argument("id")
@click.argument("document")
@_if_version
@policy_option
@timeout_option()
@uri_option
@json_option
@_one_record()
def put(
    collection: str,
    id: str,
    document: str,
    if_version: int | None,
    policy: str | None,
    timeout_s: float | None,
    uri: str,
    as_json: bool,
) -> None:
    """Write DOCUMENT, a JSON object or - for standard input, under ID."""
    data = document.encode("utf-8", "surrogateescape")
    if document == "-":
        data = sys.stdin.buffer.read().removeprefix(BOM_UTF8)
    record = encode_record(Op.PUT, collection, id, data.strip(), if_version)
    written = _write(uri, record, id, policy, timeout_s)
    receipt = written.receipt
    show(
        {
            "collection": collection,
            "id": written.id,
            "version": written.version,
            "receipt": receipt.to_json(),
        },
        f"{_named(collection, written.id)} is at version {written.version}\n{receipt}\ntoken {receipt.token}",
        as_json=as_json,
    )


@click.command()
@click.argument("collection")
@click.argument("id")
@_read
@_at_least
@timeout_option()
@uri_option
@json_option
def get(
    collection: str,
    id: str,
    read: str | None,
    at_least: str | None,
    timeout_s: float | None,
    uri: str,
    as_json: bool,
) -> None:
    """Print the document under ID as it is stored."""

    async def call(client: Client) -> Document | None:
        return await client.get(collection, id, read=read, at_least=at_least, timeout_s=timeout_s)

    document = with_client(uri, call, timeout_s)
    if document is None:
        raise DocumentMissing(f"there is no document {_named(collection, id)}")
    known = {"collection": collection, "id": document.id, "version": document.version}
    if as_json:
        click.echo(_with_document(known | {"token": str(document.token)}, document, to_json))
    else:
        say_document("", document.raw)


@click.command()
@click.argument("collection")
@click.argument("id")
@_if_version
@policy_option
@timeout_option()
@uri_option
@json_option
@_one_record()
def delete(
    collection: str,
    id: str,
    if_version: int | None,
    policy: str | None,
    timeout_s: float | None,
    uri: str,
    as_json: bool,
) -> None:
    """Delete the document under ID; deleting nothing is no error."""
    record = encode_record(Op.DELETE, collection, id, None, if_version)
    gone = Deleted(_write(uri, record, id, policy, timeout_s))
    what = f"deleted, it was at version {gone.version}" if gone.deleted else "was not there"
    show(
        {
            "collection": collection,
            "id": id,
            "deleted": gone.deleted,
            "version": gone.version,
            "receipt": gone.receipt.to_json(),
        },
        f"{_named(collection, id)} {what}\n{gone.receipt}\ntoken {gone.receipt.token}",
        as_json=as_json,
    )


@click.command()
@click.argument("collection")
@click.option("--after", default="", metavar="ID", help="Begin above this id.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many documents.")
@_read
@_at_least
@timeout_option("to connect, and for each page")
@uri_option
@json_option
def scan(
    collection: str,
    after: str,
    limit: int | None,
    read: str | None,
    at_least: str | None,
    timeout_s: float | None,
    uri: str,
    as_json: bool,
) -> None:
    """Print documents in order of their ids: id, version and document, a line each.

    With --json: one array, written as it comes. Where it stops midway, that is said with the last id, the
    array stays open, and the exit code is 1, or 130 after Ctrl-C.
    """
    last: str | None = None

    async def call(client: Client) -> None:
        documents = client.scan(
            collection, after=after, limit=limit, read=read, at_least=at_least, timeout_s=timeout_s
        )
        nonlocal last
        before = "["
        async for document in documents:
            if as_json:
                known = {"id": document.id, "version": document.version}
                click.echo(before + _with_document(known, document, to_json_line), nl=False)
                before = ",\n"
            else:
                say_document(f"{printable(document.id)}\t{document.version}\t", document.raw)
            last = document.id
        if as_json:
            click.echo("[]" if before == "[" else "]")

    try:
        with_client(uri, call, timeout_s, long=True)
    except (RedwireError, KeyboardInterrupt) as error:
        if last is None:
            raise
        reason = error if isinstance(error, RedwireError) else Interrupted("interrupted")
        raise ScanStopped(collection, last, reason) from error


@click.command()
@click.argument("key")
@timeout_option()
@uri_option
@json_option
def resolve(key: str, timeout_s: float | None, uri: str, as_json: bool) -> None:
    """Say what became of a write that was not confirmed, or whose outcome was unknown.

    KEY is what its error named. Exit code 0: committed; 3: still open, or it cannot be told; 4: certainly not
    written, also where its condition did not hold.
    """
    try:
        asked = Key.parse(key)
    except RequestInvalid as error:  # exit code 4 would say that it was not written
        raise click.UsageError(str(error)) from error

    async def call(client: Client) -> Committed:
        return await client.resolve(asked, timeout_s=timeout_s)

    try:
        found = with_client(uri, call, timeout_s)
    except (Refused, DeadlineExceeded, ConnectFailed, AuthenticationFailed) as error:
        raise _verdict(error, asked) from error
    receipt = found.receipt
    counts = Counter(record.status.name for record in found.records)
    what = ", ".join(f"{count} {name}" for name, count in counts.items())
    show(
        {
            "key": str(asked),
            "committed": True,
            "records": [{"status": each.status.name, "version": each.version} for each in found.records],
            "receipt": receipt.to_json(),
        },
        f"committed: {what}\n{receipt}\ntoken {receipt.token}",
        as_json=as_json,
    )


def _verdict(error: RedwireError, key: Key) -> RedwireError:
    """What a refusal, or a cluster that was not reached, says of the write: only NOT_FOUND that it was not
    executed. Else its outcome stays open, and the code says why, as KEY_EXPIRED does.
    """
    if error.code is Code.NOT_FOUND:
        hint = "it was certainly not written: write it again"
        return Refused(error.code, error.without_code, hint=hint)
    unknown = UnknownOutcome(error.message, phase="answer", hint=error.hint)
    unknown.code, unknown.key, unknown.facts = error.code, key, error.facts
    unknown.without_code = error.without_code
    return unknown


def _write(uri: str, record: bytes, ident: str, policy: str | None, timeout_s: float | None) -> Committed:
    """Write one record. After Ctrl-C raises `Interrupted`, which says what is known of it."""
    under_way: list[Pending] = []

    async def call(client: Client) -> Committed:
        def submit(limit_s: float) -> Pending:
            return client.submit([record], (ident,), policy=policy, timeout_s=limit_s)

        under_way.append(await begun(client, submit))
        return await under_way[0]

    try:
        return with_client(uri, call, timeout_s)
    except KeyboardInterrupt:
        raise _interrupted(under_way) from None


def _interrupted(under_way: list[Pending]) -> Interrupted:
    """What is known of a write, if one was under way, once its client is closed."""
    error = under_way[0].error if under_way else None
    if under_way and error is None:
        return Interrupted("interrupted: it is written")
    if not isinstance(error, NotConfirmed | UnknownOutcome):
        return Interrupted("interrupted: nothing was written")
    interrupted = Interrupted("interrupted: written or not is not known")
    interrupted.key = error.key
    return interrupted


def _named(collection: str, ident: str) -> str:
    """A document, in words on one line."""
    return printable(f"{collection}/{ident}")


def _with_document(known: dict[str, Any], document: Document, written: Callable[[object], str]) -> str:
    """What is `known` of the document, and it as `document`; on one line, and that as it was put, where
    Python has no room for its numbers.
    """
    try:
        return written(known | {"document": document.value})
    except RequestInvalid:
        return f'{to_json_line(known)[:-1]}, "document": {escaped(document.raw.decode())}}}'
