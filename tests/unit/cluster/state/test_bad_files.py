"""Files that are no state, are one of another format, or were damaged."""

from __future__ import annotations

import copy
import os
import random
import shutil
import sqlite3
import stat
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import DiskFailed, DiskFull, FormatNewer, FormatOlder, StateCorrupt
from cluster.soundness import verify
from cluster.state import State
from cluster.tables import FORMAT, open_reader
from redwire import body
from redwire.message.admin import PutUser
from redwire.message.log import Admit
from redwire.record import Key, RequestKind, encode_system
from tests.state_writes import ANN, VERIFIER, documents, put


def test_a_file_that_is_no_state_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"this is no database" * 100)
    foreign = tmp_path / "foreign"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    for path in (text, foreign):
        before = path.read_bytes()
        with pytest.raises(StateCorrupt):
            State.open(path)
        assert path.read_bytes() == before


def test_a_state_of_another_format_is_refused(state: State, path: Path) -> None:
    state.close()
    connection = sqlite3.connect(path)
    for version, refused in ((FORMAT + 1, FormatNewer), (FORMAT - 1, FormatOlder)):
        connection.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(refused, match=f"of format {version}"):
            State.open(path)
    connection.close()


def test_a_state_in_a_missing_folder_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DiskFailed):
        State.open(tmp_path / "missing" / "state.db")


def test_a_state_is_made_where_python_was_built_without_what_sqlite_need_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(sqlite3.Connection):
        serialize = property()  # type: ignore[assignment]  # who asks for it gets an AttributeError

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Plain))
    State.open(tmp_path / "state.db").close()
    assert [path.name for path in tmp_path.iterdir()] == ["state.db"]
    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600


def test_a_damaged_snapshot_does_not_verify(state: State, tmp_path: Path, written_log: Any) -> None:
    doc = b'{"n":"%s"}' % (b"x" * 5_000)
    state.apply([written_log.write(*(put(str(place), doc) for place in range(20)))])
    target = tmp_path / "snap.db"
    state.snapshot_into(target)
    data = bytearray(target.read_bytes())
    data[-4096 * 3 : -4096 * 2] = b"\xff" * 4096
    target.write_bytes(data)
    with pytest.raises(StateCorrupt):
        verify(target)
    target.write_bytes(b"")
    with pytest.raises(StateCorrupt):
        verify(target)


def turned(path: Path, needle: bytes) -> None:
    """Turn the lowest bit of the last byte of `needle`, wherever the file has it."""
    data = path.read_bytes()
    assert needle in data
    path.write_bytes(data.replace(needle, needle[:-1] + bytes([needle[-1] ^ 1])))


def test_a_bit_that_flips_in_a_document_is_never_taken_for_the_document(
    state: State, path: Path, written_log: Any
) -> None:
    state.apply([written_log.write(put("a", b'{"n":"xyzzy"}'), put("b"))])
    state.checkpoint()
    state.close()
    turned(path, b"xyzzy")
    with pytest.raises(StateCorrupt, match="the document 'a' of collection 1 does not match its checksum"):
        verify(path)
    damaged, asking = State.open(path), copy.deepcopy(written_log)
    with pytest.raises(StateCorrupt, match="'a'"):
        damaged.apply([asking.write(put("a", version=1))])
    with pytest.raises(StateCorrupt, match="'a'"):
        damaged.snapshot_into(path.with_name("snapshot.db"))
    damaged.apply([written_log.write(put("b", version=2), put("a"))])
    damaged.close()
    assert (documents(path)["orders", "a"], verify(path).lsn) == ((4, b"{}"), 4)


def test_sqlites_log_that_ends_below_what_was_folded_into_the_file_is_damage(
    state: State, tmp_path: Path, written_log: Any
) -> None:
    """A node that was killed between the two halves of a checkpoint leaves both, here as a copy."""
    state.apply([written_log.write(*(put(f"{n}", b'{"n":%500d}' % n) for n in range(100)))])
    state.checkpoint()
    state.apply([written_log.write(put("7"))])
    state.apply([written_log.write(put("93"))])
    state.sqlite_log.fold_beside()
    copy, log = tmp_path / "copy.db", state.path.with_name("state.db-wal").read_bytes()
    copy.write_bytes(state.path.read_bytes())
    beside = copy.with_name("copy.db-wal")
    for kept in (log, log[:32], b""):
        beside.write_bytes(kept)
        State.open(copy).close()
        assert documents(copy) == documents(state.path)
    beside.write_bytes(log[: 32 + (len(log) - 32) // 2].ljust(len(log), b"\0"))  # its header, half its frames
    for _ in range(2):  # a second try does not find what the first one has made of them
        with pytest.raises(StateCorrupt, match="at LSN 102, and with its -wal at 101: that was damaged"):
            State.open(copy)


def test_a_state_beside_which_another_ones_log_lies_is_refused_and_left_as_it_is(
    tmp_path: Path, written_log: Any
) -> None:
    """Of two nodes, one of which folded its log later than the other: what was written over between that is
    in neither the file nor the log.
    """
    batches = [
        written_log.write(put(str(n % 40), b'{"n":%500d}' % n), key=Key(ANN, n, n)) for n in range(1, 70)
    ]
    for name, folded in (("eu", 50), ("us", 60)):
        state = State.open(tmp_path / f"{name}.db")
        state.apply(batches[:folded])
        state.checkpoint()
        state.apply(batches[folded:])
        for kept in ("db", "db-wal"):
            shutil.copy(tmp_path / f"{name}.{kept}", tmp_path / f"killed-{name}.{kept}")
        state.close()
    for name in ("eu", "us"):
        shutil.copy(tmp_path / f"killed-{name}.db", tmp_path / "whole.db")
        shutil.copy(tmp_path / f"killed-{name}.db-wal", tmp_path / "whole.db-wal")
        State.open(tmp_path / "whole.db").close()
        assert documents(tmp_path / "whole.db") == documents(tmp_path / "eu.db")
    mixed, beside = tmp_path / "killed-eu.db", tmp_path / "killed-eu.db-wal"
    shutil.copy(tmp_path / "killed-us.db-wal", beside)
    before = mixed.read_bytes(), beside.read_bytes()
    for _ in range(2):
        with pytest.raises(StateCorrupt, match="at LSN 50, and the -wal beside it goes on from another file"):
            State.open(mixed)
    assert (mixed.read_bytes(), beside.read_bytes()) == before


def test_a_bit_that_flips_beside_the_documents_keeps_the_state_from_being_opened(
    state: State, path: Path, written_log: Any
) -> None:
    member = encode_system(RequestKind.ADMIT, body.encode(Admit("eu-1", "c0ffee" * 5 + "00")))
    user = PutUser(name="ada", role="read", verifier=VERIFIER, topology_read=False)
    account = encode_system(RequestKind.ACCOUNT, body.encode(user))
    state.apply([written_log.write(put("a"), key=Key(ANN, 1, 1)), written_log.batch(member, account)])
    state.checkpoint()
    state.close()
    whole = path.read_bytes()
    for needle in (ANN, b"c0ffee", b"ada", state.applied.chain):
        turned(path, needle)
        for look in (State.open, verify):
            with pytest.raises(StateCorrupt, match="does not match its checksum"):
                look(path)
        path.write_bytes(whole)
    State.open(path).close()


def turned_to(path: Path, table: str, column: str | None, byte: int) -> None:
    """In the first row of `table`, a leaf in SQLite's format, have `byte` say what is in `column`; for None,
    where the row lies.
    """
    with closing(open_reader(path)) as connection:
        find = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(find, (table,)).fetchone()
        columns = [name for name, *_ in connection.execute(f"SELECT * FROM {table}").description]
    data = bytearray(path.read_bytes())
    place = (page - 1) * 4_096 + 8
    if column is not None:
        row = place - 8 + int.from_bytes(data[place : place + 2], "big")
        place = row + 3 + columns.index(column)  # behind the sizes of row and header, and the rowid
    assert data[place] != byte
    data[place] = byte
    path.write_bytes(data)


NULL, BLOB_OF_6 = 0, 2 * 6 + 12


@pytest.mark.parametrize(
    ("table", "column", "byte"),
    [
        ("meta", "applied", NULL),
        ("meta", "term", NULL),
        ("meta", "before", NULL),
        ("meta", None, 0),
        ("collections", "name", BLOB_OF_6),
        ("collections", None, 0),
    ],
)
def test_a_value_of_another_type_than_was_written_is_damage(
    state: State, path: Path, written_log: Any, table: str, column: str | None, byte: int
) -> None:
    """The bits that flip may be those which say what is in a row, or where it lies."""
    state.apply([written_log.write(put("a"))])
    state.checkpoint()
    state.close()
    turned_to(path, table, column, byte)
    for look in (State.open, verify):
        with pytest.raises(StateCorrupt):
            look(path)


def test_a_schema_that_is_no_text_any_more_is_damage(state: State, path: Path) -> None:
    state.close()
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE terms", b"CREATE \xffABLE terms"))
    for look in (State.open, verify):
        with pytest.raises(StateCorrupt, match="its schema cannot be read"):
            look(path)


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-shm", "state.db-journal"])
def test_a_pipe_in_the_place_of_one_of_its_files_is_damage_and_is_not_opened(
    tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / name)
    for opening in (State.open, open_reader):
        with pytest.raises(StateCorrupt, match=f"{name} is damaged: it is a pipe, and no file"):
            opening(tmp_path / "state.db")


def test_a_folder_that_is_none_any_more_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with closing(State.open(folder / "state.db")) as opened:
        folder.rename(tmp_path / "elsewhere")
        folder.touch()
        with pytest.raises(DiskFailed, match="state.db"):
            _ = opened.checkpoint_due


def test_a_file_of_an_earlier_moment_in_the_place_of_a_killed_ones_is_refused(
    tmp_path: Path, written_log: Any
) -> None:
    """As from a copy that was made of the file alone, while some of its log was in it."""
    state, mixed = State.open(tmp_path / "state.db"), tmp_path / "mixed.db"
    state.apply([written_log.write(put("a", b"{}"))])
    state.sqlite_log.fold_beside()
    shutil.copy(state.path, mixed)
    state.apply([written_log.write(put("b", b"{}"))])
    state.checkpoint()
    state.apply([written_log.write(put("c", b"{}"))])
    shutil.copy(f"{state.path}-wal", f"{mixed}-wal")
    state.close()
    with pytest.raises(StateCorrupt, match="at LSN 1, and the -wal beside it goes on from another file"):
        State.open(mixed)


def killed(state: State, folder: Path) -> State:
    """What a process finds that starts after this one was killed."""
    for kept in ("state.db", "state.db-wal"):
        shutil.copy(state.path.with_name(kept), folder / kept)
    return State.open(folder / "state.db")


def test_a_log_that_is_folded_again_before_anything_was_written_is_of_its_own_file(
    tmp_path: Path, written_log: Any
) -> None:
    """As where space is short, or a transaction came to nothing: what nobody wrote is no life."""
    state = State.open(tmp_path / "state.db")
    first, second = (written_log.write(put(ident, b"{}")) for ident in ("a", "b"))
    for _ in range(3):
        state.checkpoint(urgent=True)
    state.apply([first])
    with pytest.raises(DiskFull):
        state.checkpoint()
        state.apply([second], fits=lambda growth_bytes: False)
    state.checkpoint()
    state.apply([second])
    (tmp_path / "killed").mkdir()
    again = killed(state, tmp_path / "killed")
    assert again.applied == second.position
    for each in (state, again):
        each.close()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_was_folded_when_a_killed_process_finds_its_own_log_beside_its_file(
    tmp_path: Path, written_log: Any, seed: int
) -> None:
    chance = random.Random(seed)
    state = State.open(tmp_path / "state.db")
    readers: list[sqlite3.Connection] = []
    for number in range(60):
        match chance.choice(("apply", "apply", "fail", "fold", "fold", "beside", "read", "unread", "kill")):
            case "apply":
                batch = written_log.write(put(str(number % 7), b'{"n":%300d}' % number))
                state.apply([batch])
            case "fail":
                before = copy.deepcopy(written_log)
                with pytest.raises(DiskFull):
                    state.apply([before.write(put("x", b"{}"))], fits=lambda growth_bytes: False)
            case "fold":
                state.checkpoint(urgent=chance.random() < 0.5)
            case "beside":
                state.sqlite_log.fold_beside()
            case "read":
                readers.append(sqlite3.connect(state.path, isolation_level=None))
                readers[-1].execute("BEGIN")
                readers[-1].execute("SELECT applied FROM meta").fetchone()
            case "unread" if readers:
                readers.pop(chance.randrange(len(readers))).close()
            case "kill":
                folder = tmp_path / f"killed-{number}"
                folder.mkdir()
                again = killed(state, folder)
                assert again.applied == state.applied
                again.close()
    for each in (*readers, state):
        each.close()
