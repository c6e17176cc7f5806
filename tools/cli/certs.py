"""`redwire certs`: the cluster's certificate authority, and certificates for its nodes and users."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from tools.authority import CERTIFICATE_DAYS, Authority, Issued
from tools.cli.group import Group
from tools.cli.output import json_option, show
from tools.cli.printer import say
from tools.errors import AuthorityInvalid

_FOLDER = click.Path(file_okay=False, path_type=Path)
_DEFAULT_FOLDER = Path("certs")


@click.group("certs", cls=Group)
def command() -> None:
    """Make certificates: an authority for the cluster, one per node, one per user."""


@command.command()
@click.option("--cluster", required=True, help="Name of the cluster.")
@click.option("--out", type=_FOLDER, default=_DEFAULT_FOLDER, show_default=True, help="Folder to write to.")
@json_option
def init(cluster: str, out: Path, as_json: bool) -> None:
    """Make the cluster's authority: ca.pem, which everybody trusts, and ca.key, which stays with you."""
    authority = Authority.create(cluster)
    cert, key = authority.save(out)
    end = authority.certificate.not_valid_after_utc
    show(
        {"cluster": cluster, "cert": str(cert), "key": str(key), "ends_at_ms": _at_ms(end)},
        f"wrote {cert} and {key}: the authority of {cluster}, valid until {end:%Y-%m-%d}\n"
        f"keep {key.name} off the nodes; whoever has it can be any of them",
        as_json=as_json,
    )


@command.group(cls=Group)
def issue() -> None:
    """Issue a certificate to a node or a user."""


_authority_option = click.option(
    "--authority",
    type=_FOLDER,
    default=_DEFAULT_FOLDER,
    show_default=True,
    help="Folder with ca.pem and ca.key.",
)
_cluster_option = click.option(
    "--cluster", help="Name of the cluster; refused if the authority is another's."
)
_out_option = click.option("--out", type=_FOLDER, help="Folder to write to.  [default: the authority's]")
_days_option = click.option(
    "--days",
    type=click.IntRange(1, 3_650),
    default=CERTIFICATE_DAYS,
    show_default=True,
    help="Days until it expires.",
)


@issue.command()
@click.argument("id")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="Where clients reach it, or they refuse it: name or IP address; repeatable.",
)
@_cluster_option
@_authority_option
@_out_option
@_days_option
@json_option
def node(
    id: str,
    hosts: tuple[str, ...],
    cluster: str | None,
    authority: Path,
    out: Path | None,
    days: int,
    as_json: bool,
) -> None:
    """Issue ID.pem and ID.key to the node ID."""
    issuer = _load(authority, cluster)
    issued = issuer.issue_node(id, hosts, days=days)
    warning = (
        f"the certificate of {id} names no host, so clients will refuse it; remove both files and issue it "
        "again, with --host for every name or address that clients dial"
    )
    _save(issuer, issued, "node", id, out or authority, as_json, warning="" if hosts else warning)


@issue.command()
@click.argument("name")
@_cluster_option
@_authority_option
@_out_option
@_days_option
@json_option
def user(name: str, cluster: str | None, authority: Path, out: Path | None, days: int, as_json: bool) -> None:
    """Issue NAME.pem and NAME.key to the user NAME."""
    issuer = _load(authority, cluster)
    _save(issuer, issuer.issue_user(name, days=days), "user", name, out or authority, as_json)


def _at_ms(moment: datetime) -> int:
    """In ms since 1970, as the status document has it; a certificate has whole seconds."""
    return int(moment.timestamp()) * 1000


def _load(folder: Path, cluster: str | None) -> Authority:
    authority = Authority.load(folder)
    if cluster not in (None, authority.cluster):
        raise AuthorityInvalid(
            f"the authority in {folder} is that of {authority.cluster}, not of {cluster}",
            hint="name the folder of the right one with --authority",
        )
    return authority


def _save(
    authority: Authority,
    issued: Issued,
    kind: str,
    name: str,
    folder: Path,
    as_json: bool,
    *,
    warning: str = "",
) -> None:
    """Write both files and say so; what is to be warned of people read on standard error."""
    cert, key = issued.save(folder, name)
    document = {
        "cluster": authority.cluster,
        kind: name,
        "cert": str(cert),
        "key": str(key),
        "ends_at_ms": _at_ms(issued.not_after),
        "warning": warning,
    }
    whom = f"{kind} {name} of {authority.cluster}"
    show(
        document, f"wrote {cert} and {key}: {whom}, valid until {issued.not_after:%Y-%m-%d}", as_json=as_json
    )
    if warning and not as_json:
        say(f"redwire: warning: {warning}", err=True)
