"""`redwire put`, `get`, `delete` and `scan`: documents, one at a time or in order."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
import msgspec

from redwire.client import Client, Deleted
from redwire.document import Document
from redwire.errors import RequestInvalid
from redwire.receipt import Committed
from tools.cli.connection import policy_option, timeout_option, uri_option, with_client
from tools.cli.output import json_option, show

_if_version = click.option(
    "--if-version", type=click.IntRange(min=0), help="Only over this version (0: none)."
)
_read = click.option(
    "--read", metavar="MODE", help="primary, nearest, any or region:<name>.  [default: the URI's, or primary]"
)
_at_least = click.option("--at-least", metavar="TOKEN", help="As fresh as what this token saw.")


@click.command()
@click.argument("collection")
@click.argument("id")
@click.argument("document")
@_if_version
@policy_option
@timeout_option
@uri_option
@json_option
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
    data = sys.stdin.buffer.read() if document == "-" else document.encode("utf-8", "surrogateescape")

    async def call(client: Client) -> Committed:
        return await client.put(
            collection, id, data.strip(), policy=policy, if_version=if_version, timeout_s=timeout_s
        )

    written = with_client(uri, call)
    receipt = written.receipt
    show(
        {
            "collection": collection,
            "id": written.id,
            "version": written.version,
            "receipt": receipt.to_json(),
        },
        f"{collection}/{written.id} is at version {written.version}\n{receipt}\ntoken {receipt.token}",
        as_json=as_json,
    )


@click.command()
@click.argument("collection")
@click.argument("id")
@_read
@_at_least
@timeout_option
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

    document = with_client(uri, call)
    if document is None:
        raise RequestInvalid(f"there is no document {collection}/{id}")
    described = _described(document) | {"collection": collection, "token": str(document.token)}
    show(described, document.raw.decode(), as_json=as_json)


@click.command()
@click.argument("collection")
@click.argument("id")
@_if_version
@policy_option
@timeout_option
@uri_option
@json_option
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

    async def call(client: Client) -> Deleted:
        return await client.delete(collection, id, policy=policy, if_version=if_version, timeout_s=timeout_s)

    gone = with_client(uri, call)
    what = f"deleted, it was at version {gone.version}" if gone.deleted else "was not there"
    show(
        {
            "collection": collection,
            "id": id,
            "deleted": gone.deleted,
            "version": gone.version,
            "receipt": gone.receipt.to_json(),
        },
        f"{collection}/{id} {what}\n{gone.receipt}\ntoken {gone.receipt.token}",
        as_json=as_json,
    )


@click.command()
@click.argument("collection")
@click.option("--after", default="", metavar="ID", help="Begin above this id.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many documents.")
@_read
@_at_least
@timeout_option
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

    With --json: one array, written as it comes.
    """

    async def call(client: Client) -> None:
        documents = client.scan(
            collection, after=after, limit=limit, read=read, at_least=at_least, timeout_s=timeout_s
        )
        before = "["
        async for document in documents:
            if as_json:
                click.echo(before + json.dumps(_described(document)), nl=False)
                before = ",\n"
            else:
                click.echo(f"{document.id}\t{document.version}\t{document.raw.decode()}")
        if as_json:
            click.echo("[]" if before == "[" else "]")

    with_client(uri, call)


def _described(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "version": document.version,
        "document": msgspec.json.decode(document.raw),
    }
