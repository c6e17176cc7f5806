"""Work that is called off: what SQLite does ends at once, and what it would begin does not begin."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from cluster.errors import CalledOff
from cluster.recall import Recall

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def test_a_statement_that_runs_is_interrupted() -> None:
    recall = Recall()
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    running = threading.Event()
    connection.create_function("running", 0, running.set)
    caller = threading.Thread(target=lambda: (running.wait(), recall.call_off()))
    caller.start()
    with pytest.raises(CalledOff), recall.over(connection):
        connection.execute(f"SELECT running(), ({ENDLESS})").fetchone()
    caller.join()
    assert connection.execute("SELECT 1").fetchone() == (1,), "outside it is nobody's work"
    connection.close()


def test_a_statement_that_begins_when_the_work_was_called_off_ends_too() -> None:
    recall = Recall()
    connection = sqlite3.connect(":memory:")
    with pytest.raises(CalledOff), recall.over(connection):
        recall.call_off()
        connection.execute(ENDLESS).fetchone()
    with pytest.raises(CalledOff), recall.over(connection):
        pytest.fail("nothing begins any more")
    connection.close()


def test_what_sqlite_finds_wrong_stays_what_it_is() -> None:
    recall = Recall()
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError, match="no such table"), recall.over(connection):
        connection.execute("SELECT * FROM missing")
    recall.look()
    connection.close()
    recall.call_off()
