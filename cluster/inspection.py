"""What would keep a node from running, found before it starts: files, address, data directory, the log.

Nothing is changed, and a node that runs is not disturbed: while a process holds the data directory, nobody
looks into it.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import msgspec

from cluster import audit, credentials, meta
from cluster.address import Address
from cluster.advice import Advice
from cluster.cluster_config import ClusterConfig
from cluster.comparison import check_file
from cluster.config import AnonymousAccess, NodeConfig, ReplicationRole
from cluster.credentials import CredentialSet
from cluster.data_lock import Holder, looked_into, nearest, require_folder
from cluster.errors import DataDirForeign, DiskFailed, ListenFailed, LogCorrupt
from cluster.exposure import FOLDERS, WRITTEN, exposed
from cluster.log_view import LogView
from cluster.namesakes import namesakes
from cluster.opening import followed_last
from cluster.recovery import verify
from cluster.registry import Registry
from cluster.replacement import check_named, require_joined
from cluster.segment import Place, require_file
from cluster.soundness import still_pieces
from cluster.tables import is_new, open_reader, read_position, require_whole, translated
from cluster.volume import INODES_MIN, LOG_FOLDER, free_bytes, free_inodes
from redwire.errors import RedwireError
from redwire.position import EMPTY, Lsn, Position, Reign


class Inspection(msgspec.Struct, frozen=True):
    """`errors` keep the node from running, `warnings` do not yet; `ends` are those of the certificates, whose
    time is over or soon will be. `remarks` are what could not be looked at because a node runs here. `shown`
    is None without TLS or in error.
    """

    errors: tuple[RedwireError, ...]
    ends: tuple[Advice, ...]
    warnings: tuple[Advice, ...]
    remarks: tuple[Advice, ...]
    shown: CredentialSet | None


def _may_write(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))


def inspect(
    config: NodeConfig,
    now_ms: int,
    *,
    take_over: bool = False,
    may_write: Callable[[Path], bool] = _may_write,
    free_bytes: Callable[[Path], int] = free_bytes,
    free_inodes: Callable[[Path], int | None] = free_inodes,
) -> Inspection:
    """Look at everything that `config` names on this machine; `now_ms` is the wall clock, since 1970.

    `take_over`: the node will be started with `--take-over`. `may_write`: whether this user may read and
    write a file, or make files in a folder. `free_bytes`: what its volume has for them, `free_inodes`: how
    many of them.
    """
    errors = [*namesakes(sys.path)]
    warnings = [*_nobody_administers(config), *_nobody_audits(config, may_write)]
    shown: CredentialSet | None = None
    if config.tls is not None:
        try:
            shown = credentials.load(config.tls, config.cluster.name, config.node.id, now_ms)
            warnings += shown.unnamed(config.advertised.host)
        except RedwireError as error:
            errors.append(error)
    holder: Holder | None = None
    try:
        with looked_into(Path(config.node.data_dir)) as holder:
            if holder is None:
                kept = _kept(config, may_write)
                errors += [] if take_over else _may_not_lead(config, kept)
                warnings += _nobody_leads(config, kept)
                warnings += check_file(config, kept.logged)
        warnings += _short_of_space(config, free_bytes)
        warnings += _short_of_inodes(config, free_inodes)
        warnings += exposed(Path(config.node.data_dir))
    except RedwireError as error:
        errors.append(error)
    remarks: list[Advice] = []
    if holder is not None:
        remarks.append(Advice(f"{holder} runs in {config.node.data_dir}: it was not looked into"))
    for key, address in (("node.listen", config.node.listen), ("metrics.listen", config.metrics.listen)):
        try:
            taken = list(_listening(address, key, holder)) if address is not None else []
            remarks.extend(taken)
        except RedwireError as error:
            errors.append(error)
    ends = () if shown is None else tuple(shown.ending(now_ms))
    return Inspection(tuple(errors), ends, tuple(warnings), tuple(remarks), shown)


def _nobody_administers(config: NodeConfig) -> Iterator[Advice]:
    """Administrators are named when the cluster is made, and users are made by them."""
    if not config.cluster.admins and config.auth.anonymous is AnonymousAccess.OFF:
        what = "cluster.admins names nobody: in a cluster that begins so nobody can make users or "
        what += "change settings"
        yield Advice(what, "name whose certificate may")


def _nobody_audits(config: NodeConfig, may_write: Callable[[Path], bool]) -> Iterator[Advice]:
    """The node does without a file of the audit log that cannot be written."""
    for path in map(Path, audit.paths(config.audit)):
        folder = path.parent
        if folder == Path(config.node.data_dir):
            folder = nearest(folder)
        why = _unwritable(path, folder, may_write)
        if why:
            what = f"{path}: the audit log cannot be written there: {why}; its lines will be lost"
            yield Advice(what, "mend that, or name another audit.file")
            return


def _unwritable(path: Path, folder: Path, may_write: Callable[[Path], bool]) -> str:
    """Why this user cannot write the file `path`, or make it in `folder` where it is missing; "" if that is
    possible.
    """
    try:
        if S_ISDIR(path.stat().st_mode):
            return "it is a directory"
    except FileNotFoundError:
        if not os.path.isdir(folder):
            return f"there is no folder {folder}"
    except OSError as error:
        return str(error.strerror)
    return "" if may_write(path if os.path.lexists(path) else folder) else "not by this user"


class Kept(msgspec.Struct, frozen=True):
    """What a data directory says: the reign accepted last, None for none, and all settings that were in force
    by what was applied, none in a new one.
    """

    reign: Reign | None = None
    logged: tuple[ClusterConfig, ...] = ()


def _kept(config: NodeConfig, may_write: Callable[[Path], bool]) -> Kept:
    """Look into a directory that can be written to and is this node's. Raises what the node itself would."""
    folder = Path(config.node.data_dir)
    require_folder(folder)
    there = nearest(folder)
    if not may_write(there):
        what = "cannot be written to" if there == folder else f"cannot be made in {there}"
        raise DiskFailed(folder, f"the data directory {what} by this user")
    for path in (folder / part for part in FOLDERS):
        if os.path.lexists(path) and not path.is_dir():
            raise DiskFailed(path, "it is no directory")
    for path in (path for part in WRITTEN for path in sorted(folder.glob(part))):
        if not may_write(path):
            raise DiskFailed(path, "cannot be read and written by this user")
        require_file(path)
    known = meta.load(folder)
    with translated(folder):
        check_named(folder, known)
    if known is None:
        return Kept()
    if known.node != config.node.id:
        raise DataDirForeign(folder, known.node, config.node.id)
    reign = Reign(known.term, known.primary) if known.primary else None
    state = folder / known.state_file
    if is_new(state):
        _check_log(folder, known, EMPTY)
        return Kept(reign)
    require_whole(state)
    with translated(state), closing(open_reader(state, still=True)) as connection:
        for _ in still_pieces(state, connection):
            pass
        records = Registry(state, connection).records
        applied = read_position(state, connection)
    _check_log(folder, known, applied)
    return Kept(reign, tuple(ClusterConfig.from_record(record) for _, record in records))


def _may_not_lead(config: NodeConfig, kept: Kept) -> Iterator[RedwireError]:
    """That the node will be refused the lead, whatever the others say; what they add to that nobody knows
    here. Of a log of which nothing was applied it is not said: it may be empty, and an empty one has other
    rules.
    """
    refusal = followed_last(config.node.id, kept.reign) if kept.logged else None
    if refusal is not None and config.node.role is ReplicationRole.PRIMARY:
        yield refusal


def _nobody_leads(config: NodeConfig, kept: Kept) -> Iterator[Advice]:
    """Of several members another one's file may say that it leads: that is not to be seen from here."""
    cluster = kept.logged[-1] if kept.logged else config.cluster
    if config.node.role is ReplicationRole.REPLICA and [each.id for each in cluster.members] == [
        config.node.id
    ]:
        what = "node.role is replica, and there is no other member: nobody leads"
        yield Advice(what, "write role: primary")


def _short_of_space(config: NodeConfig, free_bytes: Callable[[Path], int]) -> Iterator[Advice]:
    """Raises `DiskFailed`."""
    folder, floor = Path(config.node.data_dir), config.retention.disk_free_min_bytes
    with translated(folder):
        free = free_bytes(nearest(folder))
    if free <= floor:
        yield Advice(
            f"{folder}: {free} bytes are free on its volume, retention.disk_free_min_bytes is {floor}: "
            "log is given up, and with none left the node refuses writes and does not start again",
            "make room there",
        )


def _short_of_inodes(config: NodeConfig, free_inodes: Callable[[Path], int | None]) -> Iterator[Advice]:
    """Raises `DiskFailed`."""
    folder = Path(config.node.data_dir)
    with translated(folder):
        free = free_inodes(nearest(folder))
    if free is not None and free < INODES_MIN:
        yield Advice(
            f"{folder}: {free} inodes are free on its volume, whatever it has of bytes: with none left no "
            "segment of the log can be made, and the node refuses writes",
            "remove files there, or make a volume with more of them (mkfs.ext4 -N)",
        )


def _check_log(folder: Path, known: meta.Meta, applied: Position) -> None:
    """Look through the log that a state goes on from which stands at `applied`. Raises what their opening
    would: `LogCorrupt`, also where nothing is left of it, as its folder was removed or its volume is not
    there, and `StateCorrupt`.
    """
    place = Place(folder / LOG_FOLDER, known.incarnation, known.generation)
    log = LogView((), known.base, known.base)
    if place.folder.is_dir() and place.paths():
        with translated(place.folder):
            log = verify(place, known.base, known.terms, applied.lsn, known.watermark)
    elif (held := max(applied.lsn, known.watermark)) > known.base.lsn:
        raise LogCorrupt(place.folder, 0, Lsn(known.base.lsn + 1), f"there is no log; LSN {held} was here")
    require_joined(folder / known.state_file, applied, log.base, log.position_at(applied.lsn))


def _listening(listen: Address, key: str, holder: Holder | None) -> Iterator[Advice]:
    """Try the address for a moment. Raises `ListenFailed` where no node could ever have it."""
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in found:
            _try(family, address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            text = f"cannot listen on {listen}: {error.strerror}"
            raise ListenFailed(text, hint=f"see {key}") from error
        if holder is None:
            text = f"another process listens on {listen}, and no node runs in this data directory"
            raise ListenFailed(text, hint=f"end that process, or see {key}") from error
        else:
            yield Advice(f"{listen} is taken, by {holder} if that is this node")


def _try(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
