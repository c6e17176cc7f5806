from __future__ import annotations

import queue
import random
import re
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster.client_ids import MARK_BYTES, marked
from cluster.errors import DiskFailed, NodeError, StateCorrupt
from cluster.scrub import Scrub
from cluster.soundness import PIECE_ROWS, pieces, still_pieces, verify
from cluster.state import State
from cluster.tables import open_reader, translated
from redwire import body
from redwire.message.log import Admit, TermStart
from redwire.position import Lsn
from redwire.record import Key, Op, Record, RequestKind, encode_system

TABLES = ("meta", "terms", "collections", "docs", "keys", "config", "users", "tokens")
FLIPS = 200


@pytest.fixture
def sound(tmp_path: Path, written_log: Any) -> Path:
    """A state file with something in most of its tables, and nothing in a log of its own."""
    path = tmp_path / "state.db"
    state = State.open(path)
    start = encode_system(RequestKind.TERM_START, body.encode(TermStart("1", ("us-2",))))
    admit = encode_system(RequestKind.ADMIT, body.encode(Admit("eu-1", "c0ffee" * 5 + "00")))
    state.apply([written_log.batch(start, admit)])
    for part in range(20):
        key = Key(marked(Lsn(1), bytes(MARK_BYTES)), part + 1, 1)
        rows = [Record(Op.PUT, f"c{part % 3}", f"id-{part}-{row}", b'{"n": %d}' % row) for row in range(20)]
        state.apply([written_log.write(*rows, key=key)])
    state.checkpoint()
    state.close()
    return path


def held(path: Path) -> object:
    """Everything in the file, by name and by the order of its keys."""
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        tables = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]
        tables[0] = [row[1:] for row in tables[0]]  # the number of the only row says nothing
        by_name = [
            (name, connection.execute("SELECT c FROM collections WHERE name = ?", (name,)).fetchall())
            for _, name in tables[2]
        ]
        by_id = connection.execute("SELECT * FROM docs INDEXED BY docs_by_id ORDER BY c, id").fetchall()
        return tables, by_name, by_id
    finally:
        connection.close()


Look = Callable[[Path, sqlite3.Connection], Iterator[None]]


def look_through(path: Path, look: Look) -> None:
    with translated(path), closing(open_reader(path, still=True)) as connection:
        for _ in look(path, connection):
            pass


@pytest.mark.parametrize("look", [still_pieces, pieces])
def test_a_bit_that_flips_anywhere_is_found_or_changes_nothing(sound: Path, look: Look) -> None:
    whole, before = sound.read_bytes(), held(sound)
    chance, found = random.Random(7), 0
    for _ in range(FLIPS):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        sound.write_bytes(damaged)
        try:
            look_through(sound, look)
        except NodeError:
            found += 1
        else:
            assert held(sound) == before
    assert found > FLIPS // 5  # much of the small file is free space
    sound.write_bytes(whole)
    verify(sound)


@pytest.fixture
def scrub() -> Any:
    """`scrub(path)`: a look at once; what it posts is in `scrub.posted`."""
    posted: queue.Queue[NodeError] = queue.Queue()
    made: list[Scrub] = []

    def post(callback: Callable[..., object], *args: object) -> None:
        callback(*args)

    def begin(path: Path) -> Scrub:
        made.append(Scrub(path, post, posted.put, first_s=0))
        return made[-1]

    begin.posted = posted  # type: ignore[attr-defined]
    yield begin
    for each in made:
        each.stop()


def test_of_large_documents_a_few_are_in_memory_at_a_time(tmp_path: Path, written_log: Any) -> None:
    state = State.open(tmp_path / "state.db")
    big = b'{"n": "%s"}' % (b"x" * (1 << 20))
    for number in range(12):
        state.apply([written_log.write(Record(Op.PUT, "c", f"{number}", big))])
    state.close()
    with closing(open_reader(state.path)) as connection:
        list(pieces(state.path, connection))  # what is loaded for the first time does not count
        tracemalloc.start()
        seen = list(pieces(state.path, connection))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(seen) == 12 + 1 + 1 + 1 and peak < 4 << 20


def test_beside_the_writer_no_view_is_held_between_two_pieces_nor_for_long_in_one(
    tmp_path: Path, written_log: Any
) -> None:
    """Else SQLite's log grows for as long as the look through millions of documents takes."""
    state = State.open(tmp_path / "state.db")
    rows = [Record(Op.PUT, f"c{number % 7}", f"id-{number}", b"{}") for number in range(20 * PIECE_ROWS)]
    state.apply([written_log.write(*rows)])
    with closing(open_reader(state.path)) as connection:
        steps: list[int] = [0]
        connection.set_progress_handler(lambda: steps.append(steps.pop() + 1), 100)
        for number, _ in enumerate(pieces(state.path, connection)):
            state.apply([written_log.write(Record(Op.PUT, "c0", "id-0", b'{"n": %d}' % number))])
            assert state.checkpoint() is not None, "nobody keeps the log from being folded"
            steps.append(0)
    state.close()
    assert len(steps) > 40 and max(steps) < PIECE_ROWS  # a hundred instructions a row are plenty


def behind_the_index(path: Path, statement: str) -> None:
    """Run `statement` while SQLite does not know of the index of documents."""
    schema = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master WHERE name = 'docs_by_id'"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (entry,) = connection.execute(schema).fetchall()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'docs_by_id'")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount == 1
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", entry)


@pytest.mark.parametrize("look", [still_pieces, pieces])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM docs WHERE id = 'id-7-13'",
        "UPDATE docs SET rowid = 10000 WHERE id = 'id-7-13'",
    ],
)
def test_a_row_without_its_entry_and_an_entry_without_its_row_are_found(
    sound: Path, look: Look, statement: str
) -> None:
    look_through(sound, look)
    behind_the_index(sound, statement)
    with pytest.raises(StateCorrupt):
        look_through(sound, look)


def test_an_id_that_changed_is_found_though_no_read_would_meet_it(sound: Path) -> None:
    data, before = sound.read_bytes(), held(sound)
    found = 0
    for each in re.finditer(b"id-7-13", data):
        sound.write_bytes(data[: each.start()] + b"id-7-12" + data[each.end() :])
        try:
            verify(sound)
        except StateCorrupt:
            found += 1
        else:
            assert held(sound) == before, "a copy that is not in use any more"
    assert found == 2, "in the table and in its index"


def test_what_a_look_beside_the_writer_finds_is_posted(sound: Path, scrub: Any) -> None:
    data = sound.read_bytes()
    sound.write_bytes(data.replace(b"id-7-13", b"id-7-12"))
    scrub(sound)
    assert isinstance(scrub.posted.get(timeout=10), StateCorrupt)


def test_a_sound_file_is_left_without_a_word_and_a_look_can_be_broken_off(sound: Path, scrub: Any) -> None:
    looking = scrub(sound)
    looking.stop()
    quiet = Scrub(sound, lambda *args: scrub.posted.put(args), lambda error: None)  # not begun yet
    quiet.stop()
    assert scrub.posted.empty()


def test_a_file_that_is_there_and_cannot_be_opened_is_looked_at_later_and_one_that_is_gone_is_told_of(
    tmp_path: Path, scrub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the process has no descriptor left."""
    monkeypatch.setattr("cluster.scrub.AGAIN_S", 0.05)
    monkeypatch.setattr("cluster.scrub.open_reader", lambda path: sqlite3.connect(tmp_path / "no" / "folder"))
    barred = tmp_path / "state.db"
    barred.touch()
    scrub(barred)
    with pytest.raises(queue.Empty):
        scrub.posted.get(timeout=0.3)
    barred.unlink()
    assert isinstance(scrub.posted.get(timeout=10), DiskFailed)


def test_a_file_that_somebody_has_to_himself_is_looked_at_later(
    sound: Path, scrub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a tool of SQLite's may: that says nothing of what is in it."""
    monkeypatch.setattr("cluster.scrub.AGAIN_S", 0.05)
    monkeypatch.setattr(
        "cluster.scrub.open_reader", lambda path: sqlite3.connect(path, isolation_level=None, timeout=0.05)
    )
    sound.write_bytes(sound.read_bytes().replace(b"id-7-13", b"id-7-12"))
    with closing(sqlite3.connect(sound, isolation_level=None)) as tool:
        tool.execute("PRAGMA locking_mode = EXCLUSIVE")
        tool.execute("BEGIN EXCLUSIVE")
        scrub(sound)
        with pytest.raises(queue.Empty):
            scrub.posted.get(timeout=0.5)
    assert isinstance(scrub.posted.get(timeout=10), StateCorrupt)


def test_keys_whose_place_in_their_order_changed_are_found(sound: Path) -> None:
    with closing(sqlite3.connect(sound)) as connection, connection:
        connection.execute("UPDATE keys SET last = last + 1 WHERE last = (SELECT max(last) FROM keys)")
    with pytest.raises(StateCorrupt, match="the row of keys at LSN .* does not match its checksum"):
        verify(sound)


def test_a_declaration_that_changed_is_found_before_a_row_is_read_by_it(sound: Path) -> None:
    """Else names would have no numbers any more, and their documents be gone for whoever asks."""
    with closing(sqlite3.connect(sound, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        change = "UPDATE sqlite_master SET sql = replace(sql, 'INTEGER PRIMARY', 'INTEGEP PRIMARY')"
        connection.execute(f"{change} WHERE name = 'collections'")
    for use in (verify, State.open):
        with pytest.raises(StateCorrupt, match="not declared as they were"):
            use(sound)


@pytest.mark.parametrize("column", ["applied", "chain", "time_ms", "life"])
def test_where_it_stands_in_values_of_other_types_is_damage(sound: Path, column: str) -> None:
    with closing(sqlite3.connect(sound)) as connection, connection:
        connection.execute(f"UPDATE meta SET {column} = 'text'")
    for use in (verify, State.open):
        with pytest.raises(StateCorrupt, match="where it stands does not match its checksum"):
            use(sound)
