"""Finds out what the doctor judges: files of this machine, and the answers of all nodes at once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import anyio
from msgspec.structs import replace

from cluster.address import Address
from cluster.cluster_config import MemberConfig
from cluster.config import NodeConfig, parse_node_config
from cluster.credentials import authority_ends, wall_ms
from cluster.inspection import inspect
from cluster.settings import Settings
from cluster.yaml_file import load_yaml
from redwire import __version__
from redwire.errors import AuthenticationFailed, Code, ConnectFailed, RedwireError, Refused, TlsInvalid
from redwire.handshake import PrincipalKind
from redwire.status import Cluster
from redwire.stream import connect
from redwire.tls import certificate_validity_ms, client_context
from redwire.uri import ConnectionConfig, parse
from tools.authority import holder
from tools.cli.connection import onlooker
from tools.dev.cluster_folder import ClusterFolder
from tools.doctor.facts import Asked, Door, Facts, FileFacts, Lack, Paper

DOOR_S = 3.0
"""For TCP and TLS from anywhere on earth."""
LOOKS = 2
"""The quicker of two answers tells the clock better."""
OF_DATES = ("bad certificate", "certificate expired")
"""What OpenSSL's alerts say of a certificate that has not begun, or has ended, by the clock of who refuses
it. The first may have other reasons, which a node that takes the same certificate rules out.
"""
NEW_AUTHORITY = "set a second one beside it on every node: docs/OPERATIONS.md, Replace the authority"


async def survey(uri: str | None, file: str | None) -> Facts:
    """All facts. Raises `UriInvalid`; whatever else is wrong is a fact."""
    config = None if uri is None else parse(uri)
    now_ms = wall_ms()
    about_file = None if file is None else _file(file, now_ms)
    facts = Facts(now_ms=now_ms, version=__version__, file=about_file, papers=_shown(about_file))
    if uri is not None and config is not None:
        facts = await _asked(facts, uri, config)
    return facts if facts.file is None else replace(facts, file=await _with_doors(facts.file, facts.settings))


async def _asked(facts: Facts, uri: str, config: ConnectionConfig) -> Facts:
    """`facts` with what the nodes say."""
    try:
        papers = facts.papers + _papers(config)
    except TlsInvalid as error:
        return replace(facts, hosts=config.seeds, trust=error)
    asked, twins = await _ask_all(uri, config.seeds)
    settings = None if facts.file is None else await _settings(uri, asked)
    return replace(
        facts,
        hosts=config.seeds,
        asked=tuple(asked),
        twins=tuple(twins),
        papers=papers,
        settings=settings,
        dev=_dev_folder(config),
    )


def _dev_folder(config: ConnectionConfig) -> Path | None:
    """The folder of the cluster of `redwire dev` to which the authority of the URI belongs."""
    folder = None if config.ca is None else Path(config.ca).parent
    return folder if folder is not None and ClusterFolder.is_one(folder) else None


async def _ask_all(uri: str, seeds: Iterable[str]) -> tuple[list[Asked], list[Asked]]:
    """Ask the hosts of the URI, then every member that was not among them; a node is in it once, as it
    answers at its own address if it does. Then who answers elsewhere by the name of one of these.
    """
    found = _of_one_cluster(await _ask_each(uri, dict.fromkeys(seeds, "")))
    told = sorted(found, key=_stray, reverse=True)  # who hears others has the last word
    members = {node.id: node.addr for each in told if each.status is not None for node in each.status.nodes}
    names = {addr: name for name, addr in members.items()}
    found = [each if each.member else _named(each, names) for each in found]
    known = {each.addr for each in found} | {each.member for each in found if not _stray(each)}
    missed = {addr: name for name, addr in members.items() if addr and not {addr, name} & known}
    found = _of_one_cluster(found + await _ask_each(uri, missed))
    once: dict[str, Asked] = {}
    for each in sorted(found, key=lambda one: (one.status is None, one.addr != members.get(one.name))):
        once.setdefault(each.name, each)
    order = [*members, *once]
    twins = [each for each in found if _stray(each) and not _stray(once[each.name])]
    return sorted(once.values(), key=lambda one: order.index(one.name)), twins


def _of_one_cluster(found: list[Asked]) -> list[Asked]:
    """Without what nodes say of another cluster than most are of, or than who hears others: such as one on an
    old disk.
    """
    joined = [each.status for each in found if each.status is not None and each.status.cluster.id]
    clusters = [status.cluster for status in sorted(joined, key=lambda one: not one.own.rtts_us)]
    ours = max(clusters, key=clusters.count, default=Cluster())
    return [
        replace(each, status=None, lack=Lack.FOREIGN, error=f"{_called(theirs)}, not {_called(ours)}")
        if each.status is not None and (theirs := each.status.cluster).id not in ("", ours.id)
        else each
        for each in found
    ]


def _called(cluster: Cluster) -> str:
    return f"{cluster.name} {cluster.id[:8]}"


def _stray(each: Asked) -> bool:
    """It answers, and hears no other node: as one does whom they do not let in, for its name is taken."""
    return each.status is not None and len(each.status.nodes) > 1 and not each.status.own.rtts_us


def _named(each: Asked, names: dict[str, str]) -> Asked:
    """A host that did not answer may be a member's address."""
    return replace(each, member=names.get(each.addr, ""))


async def _ask_each(uri: str, addrs: dict[str, str]) -> list[Asked]:
    """`addrs` maps addresses to the names that are known of them."""
    found: list[Asked] = []

    async def ask(addr: str, name: str) -> None:
        found.append(await _ask(uri, addr, name))

    async with anyio.create_task_group() as tasks:
        for addr, name in addrs.items():
            tasks.start_soon(ask, addr, name)
    return found


async def _ask(uri: str, addr: str, name: str) -> Asked:
    try:
        async with onlooker(uri, addr) as client:
            best: Asked | None = None
            for _ in range(LOOKS):
                began_ms, began = wall_ms(), time.monotonic()
                status = await client.status(addr)
                half_ms = (time.monotonic() - began) * 500
                ahead_ms = status.vantage.at_ms - (began_ms + half_ms)
                if best is None or half_ms < best.unsure_ms:
                    best = Asked(status.vantage.node, addr, status, ahead_ms, half_ms)
            assert best is not None
            return best
    except RedwireError as error:
        if isinstance(error.__cause__, Refused) and error.__cause__.code is Code.NOT_READY:
            return _unjoined(name, addr, error.__cause__)
        return Asked(name, addr, error=error.message, hint=error.hint, lack=_lack(error))


def _lack(error: RedwireError) -> Lack:
    if not isinstance(error, AuthenticationFailed):
        return Lack.PAPER if "certificate_of" in error.facts else Lack.SILENCE
    alert = str(error.facts.get("alert", ""))
    return Lack.DATE if any(word in alert for word in OF_DATES) else Lack.REFUSAL


def _unjoined(name: str, addr: str, refusal: Refused) -> Asked:
    """It answers, and says for what it waits."""
    member = name or str(refusal.facts.get("node", ""))
    missing = refusal.facts.get("missing", ())
    missing = tuple(missing) if isinstance(missing, list) else ()
    return Asked(member, addr, error=refusal.without_code, lack=Lack.WAITING, missing=missing)


async def _settings(uri: str, asked: Iterable[Asked]) -> Settings | RedwireError | None:
    """The settings in force, as the primary says, or whoever answers where nobody leads; else why not. None
    where nobody answered before.
    """
    names = [each.status.cluster.name for each in asked if each.status is not None]
    if not names:
        return None
    try:
        async with onlooker(uri, None) as client:
            return Settings.shown(await client.admin.settings(), names[0])
    except RedwireError as error:
        return error


def _papers(config: ConnectionConfig) -> tuple[Paper, ...]:
    """The certificates that the URI names. Raises `TlsInvalid`."""
    papers = []
    if config.cert is not None:
        _, ends_at_ms = certificate_validity_ms(Path(config.cert))
        papers.append(_own(config.cert, ends_at_ms))
    if config.ca is not None:
        context = client_context(Path(config.ca), peer=False)
        papers += [
            Paper(authority.name, config.ca, authority.not_after_ms, NEW_AUTHORITY)
            for authority in authority_ends(context)
        ]
    return tuple(papers)


def _own(cert: str, ends_at_ms: int) -> Paper:
    """The certificate by which we come in."""
    who = holder(Path(cert))
    if who is None or who.kind is not PrincipalKind.USER:
        return Paper("our certificate", cert, ends_at_ms, "have its issuer renew it")
    mend = f"redwire certs issue user {who.name} --out renewed"
    return Paper(f"the certificate of {who.name}", cert, ends_at_ms, mend)


def _shown(file: FileFacts | None) -> tuple[Paper, ...]:
    """The certificates that a node's file names."""
    if file is None or file.config is None or file.inspection is None or file.inspection.shown is None:
        return ()
    shown, node = file.inspection.shown, file.config.node.id
    mend = f"redwire certs issue node {node} --host HOST --out renewed, then here redwire-node reload"
    return (
        Paper(f"the certificate of {node}", str(shown.files.cert), shown.not_after_ms, mend),
        *(
            Paper(each.name, str(shown.files.ca), each.not_after_ms, NEW_AUTHORITY)
            for each in shown.authorities
        ),
    )


def _file(path: str, now_ms: int) -> FileFacts:
    try:
        config = parse_node_config(load_yaml(path), path)
    except RedwireError as error:
        return FileFacts(path, error=error)
    return FileFacts(path, config, inspect(config, now_ms))


async def _with_doors(file: FileFacts, told: Settings | RedwireError | None) -> FileFacts:
    """`file` with the addresses of the others, as its node dials them: by the settings in force if they are
    known, which may have left the file behind.
    """
    if file.config is None:
        return file
    known = told.cluster if isinstance(told, Settings) else file.config.cluster
    return replace(file, doors=tuple(await _doors(file.config, known.members)))


async def _doors(config: NodeConfig, members: Iterable[MemberConfig]) -> list[Door]:
    """Every other member's address, as this node dials it."""
    doors: list[Door] = []

    async def knock(member: str, addr: Address) -> None:
        error = ""
        try:
            with anyio.fail_after(DOOR_S):
                (await connect(addr.host, addr.port, None)).close()
        except TimeoutError:
            error = f"no answer within {DOOR_S:g} s"
        except ConnectFailed as failed:
            error = failed.message
        doors.append(Door(member, str(addr), error))

    async with anyio.create_task_group() as tasks:
        for member in members:
            if member.id != config.node.id:
                addr = config.node.dial.get(member.id, member.addr)
                tasks.start_soon(knock, member.id, addr)
    return sorted(doors, key=lambda door: door.member)
