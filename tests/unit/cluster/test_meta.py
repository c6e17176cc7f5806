"""meta.cbor as bytes, and its damage."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import cbor2
import msgspec
import pytest
from msgspec.structs import replace

from cluster.errors import DiskFailed, DiskFull, FormatNewer, FormatOlder, MetaCorrupt
from cluster.files import SYSCALLS
from cluster.meta import FORMAT, Meta, Vote, load, save
from redwire.position import ClusterId, Incarnation, Lsn, NodeId, Position, Reign, Term, TermEntry, TermList

NEW = Meta(node=NodeId("eu-1"), incarnation=Incarnation("ab" * 16))
FULL = Meta(
    node=NodeId("eu-1"),
    incarnation=Incarnation("ab" * 16),
    cluster=ClusterId("cd" * 16),
    term=Term(7),
    primary=NodeId("us-1"),
    vote=Vote(Term(8), NodeId("ap-1"), Term(5)),
    watermark=Lsn(2**60),
    state_file="state-3.db",
    generation=3,
    base=Position(Term(6), Lsn(100), bytes(range(16))),
    terms=TermList((TermEntry(Term(1), Lsn(1), 0), TermEntry(Term(6), Lsn(40), 0))),
)


def test_the_newest_vote_for_anybody_else_is_remembered_beside_the_last_one() -> None:
    vote, others = Vote(), []
    for term, node in ((2, "b"), (3, "b"), (5, "a"), (6, "a"), (8, "c"), (9, "a")):
        vote = vote.followed_by(Reign(Term(term), NodeId(node)))
        assert vote.reign == Reign(Term(term), NodeId(node))
        others.append(vote.other)
    assert others == [0, 0, 3, 3, 6, 8]


@pytest.mark.parametrize("meta", [NEW, FULL])
def test_what_was_saved_is_loaded(tmp_path: Path, meta: Meta) -> None:
    assert load(tmp_path) is None
    save(tmp_path, FULL)
    save(tmp_path, meta)
    assert load(tmp_path) == meta
    assert [path.name for path in tmp_path.iterdir()] == ["meta.cbor"]
    assert (tmp_path / "meta.cbor").stat().st_mode & 0o777 == 0o600


def test_any_changed_missing_or_added_byte_is_told_apart_and_the_file_is_named(tmp_path: Path) -> None:
    save(tmp_path, FULL)
    path = tmp_path / "meta.cbor"
    data = path.read_bytes()
    damaged = [data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] for at in range(len(data))]
    damaged += [data[:size] for size in range(len(data))] + [data + b"\0"]
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(MetaCorrupt, match=r"meta\.cbor"):
            load(tmp_path)
        assert path.read_bytes() == bad


def with_crc(body: bytes) -> bytes:
    return body + b"\x1a" + zlib.crc32(body).to_bytes(4, "big")


@pytest.mark.parametrize(("form", "refused"), [(FORMAT + 1, FormatNewer), (FORMAT - 1, FormatOlder)])
def test_another_format_is_not_called_damage(tmp_path: Path, form: int, refused: type[Exception]) -> None:
    fields = msgspec.to_builtins(FULL, builtin_types=(bytes,)) | {"format": form, "unheard_of": 1}
    (tmp_path / "meta.cbor").write_bytes(with_crc(cbor2.dumps(fields)))
    with pytest.raises(refused, match=f"format {form}"):
        load(tmp_path)


@pytest.mark.parametrize(
    "item",
    [[], "text", {}, {"format": FORMAT}, {"format": "2"}, {"format": FORMAT, "node": 5, "incarnation": ""}],
)
def test_a_whole_file_that_holds_something_else_is_damage(tmp_path: Path, item: object) -> None:
    (tmp_path / "meta.cbor").write_bytes(with_crc(cbor2.dumps(item)))
    with pytest.raises(MetaCorrupt):
        load(tmp_path)


def test_bytes_that_are_no_cbor_are_damage_though_their_crc_holds(tmp_path: Path) -> None:
    (tmp_path / "meta.cbor").write_bytes(with_crc(b"\xff\xff"))
    with pytest.raises(MetaCorrupt):
        load(tmp_path)


def test_an_unknown_field_of_the_same_format_is_damage(tmp_path: Path) -> None:
    fields = msgspec.to_builtins(FULL, builtin_types=(bytes,)) | {"unheard_of": 1}
    (tmp_path / "meta.cbor").write_bytes(with_crc(cbor2.dumps(fields)))
    with pytest.raises(MetaCorrupt, match="unheard_of"):
        load(tmp_path)


def test_a_save_is_synced_before_its_name_and_the_name_after(tmp_path: Path) -> None:
    synced: list[tuple[str, Meta | None]] = []

    def fsync(fd: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{fd}")).name, load(tmp_path)))
        os.fsync(fd)

    save(tmp_path, NEW)
    save(tmp_path, FULL, replace(SYSCALLS, fsync=fsync))
    assert synced == [("meta.cbor.tmp", NEW), (tmp_path.name, FULL)]


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EIO, DiskFailed)])
def test_a_save_that_fails_leaves_the_old_state(tmp_path: Path, number: int, error: type[Exception]) -> None:
    def fsync(fd: int) -> None:
        raise OSError(number, "no")

    save(tmp_path, NEW)
    with pytest.raises(error):
        save(tmp_path, FULL, replace(SYSCALLS, fsync=fsync))
    assert load(tmp_path) == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["meta.cbor"]


def test_a_file_that_cannot_be_read_is_the_disk_s_failure(tmp_path: Path) -> None:
    (tmp_path / "meta.cbor").symlink_to("meta.cbor")  # which leads nowhere
    with pytest.raises(DiskFailed):
        load(tmp_path)


@pytest.mark.parametrize(("make", "what"), [(os.mkfifo, "a pipe"), (os.mkdir, "a directory")])
def test_what_is_no_file_in_its_place_is_damage_and_is_not_opened(
    tmp_path: Path, make: Callable[[Path], None], what: str
) -> None:
    make(tmp_path / "meta.cbor")
    with pytest.raises(MetaCorrupt, match=rf"meta\.cbor is damaged: it is {what}, and no file"):
        load(tmp_path)


def test_a_pipe_that_has_the_name_of_its_draft_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "meta.cbor.tmp")
    save(tmp_path, FULL)
    assert load(tmp_path) == FULL
