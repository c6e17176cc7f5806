"""What no check inside SQLite can stop is stopped from outside, and the next statement is answered."""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import NodeError, QueryFailed
from cluster.right_of_way import RightOfWay
from cluster.sql import SECONDS_MAX, TWICE_BYTES_MAX
from cluster.sql_process import MEMORY_BYTES_MAX, SqlProcess, SqlReader, SqlRequest
from cluster.state import State
from redwire.errors import Code
from redwire.frame import Kind
from redwire.message.params import ParamQuery, Vector

PATIENCE_S = 40.0
SLACK_S = 10.0
"""What a busy machine may add to an alarm that is set within the process."""


def megabytes(count: int) -> str:
    """A table `b` of one JSON array `x` of this size; `count` is a power of two."""
    doublings = 16 + count.bit_length()
    return (
        f"WITH RECURSIVE t(x) AS (SELECT '0,0,0,0,0,0,0,0,' UNION ALL SELECT x||x FROM t LIMIT {doublings}), "
        "b AS MATERIALIZED (SELECT '['||max(x)||'0]' AS x FROM t) "
    )


FOR_EVER = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM t) SELECT count(*) FROM t"


def doubling(times: int) -> str:
    """Subqueries whose only column is the sum of two of the one before, folded together by the compiler."""
    steps = [f", a{n + 1} AS NOT MATERIALIZED (SELECT y+y AS y FROM a{n})" for n in range(times)]
    first = "a0 AS NOT MATERIALIZED (SELECT value AS y FROM json_each('[1,2]'))"
    return f"WITH {first}{''.join(steps)} SELECT y FROM a{times}"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    state = State.open(tmp_path_factory.mktemp("state") / "state.db")
    yield state.path
    state.close()


@pytest.fixture(scope="module")
def process(path: Path) -> Iterator[SqlProcess]:
    one = SqlProcess(path)
    yield one
    one.close()


@pytest.fixture(scope="module")
def patient(path: Path) -> Iterator[SqlProcess]:
    """What a statement asks for is what ends it here, not its time, also on a machine that is busy."""
    one = SqlProcess(path, seconds_max=PATIENCE_S)
    yield one
    one.close()


def test_one_askers_many_statements_leave_another_its_turn(path: Path) -> None:
    done: queue.Queue[str] = queue.Queue()
    reader = SqlReader(path, lambda callback, *args: callback(*args), processes=1)
    for name in ("a1", "a2", "a3", "a4", "b1"):
        request = SqlRequest(Kind.QUERY, b"SELECT 1", asker=name[0])
        reader.submit(request, lambda _, name=name: done.put(name))  # type: ignore[misc]
    order = [done.get(timeout=PATIENCE_S) for _ in range(5)]
    reader.stop()
    assert order in (["a1", "b1", "a2", "a3", "a4"], ["a1", "a2", "b1", "a3", "a4"])


def ask(process: SqlProcess, sql: str, kind: int = Kind.QUERY) -> Any:
    return json.loads(process.run(SqlRequest(kind, sql.encode())))


def test_every_kind_is_answered_with_the_body_of_its_result(process: SqlProcess) -> None:
    assert ask(process, "SELECT 7 AS n")["rows"] == [{"n": 7}]
    binary = process.run(SqlRequest(Kind.QUERY_BINARY, b"SELECT 7 AS n"))
    assert binary == b"\x01\x00\x01\x00n\x01\x00\x00\x00\x01\x07" + bytes(7)
    asked = ParamQuery("SELECT $1 AS v", (Vector((1.0, -0.5)),), "majority").encode()
    envelope = json.loads(process.run(SqlRequest(Kind.QUERY_WITH_PARAMS, asked)))
    assert envelope["result"] == {"columns": ["v"], "records": [{"values": {"v": "[1.0,-0.5]"}}]}


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        (Kind.QUERY, b"\xff", Code.INVALID),
        (Kind.QUERY, b"DROP TABLE docs", Code.QUERY),
        (Kind.QUERY_WITH_PARAMS, b"", Code.INVALID),
        (Kind.QUERY_WITH_PARAMS, ParamQuery("SELECT 1", (), "perhaps").encode(), Code.COMMIT_POLICY_INVALID),
        (Kind.QUERY, megabytes(8).encode() + b"SELECT hex(x) || hex(x) FROM b", Code.TOO_LARGE),
    ],
)
def test_what_is_wrong_with_a_request_comes_back_with_its_code(
    patient: SqlProcess, kind: int, body: bytes, code: Code
) -> None:
    process, pid = patient, patient.pid
    with pytest.raises(QueryFailed) as caught:
        process.run(SqlRequest(kind, body))
    assert caught.value.code is code
    assert ask(process, "SELECT 1 AS n")["rows"] == [{"n": 1}]
    assert pid is None or process.pid == pid, "it goes on"


def cpu_s(process: SqlProcess) -> float:
    """What the process has worked so far, however long it had to wait for that."""
    user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_text_as_long_as_one_may_be_takes_little_memory_and_time(patient: SqlProcess) -> None:
    process = patient
    assert ask(process, f"SELECT length('{'x' * 1_000_000}') AS n")["rows"] == [{"n": 1_000_000}]
    began_s = cpu_s(process)
    assert ask(process, f"SELECT length('{(chr(39) * 2) * 500_000}') AS n")["rows"] == [{"n": 500_000}]
    for unended in "'\"`[":
        with pytest.raises(QueryFailed) as caught:
            ask(process, f"SELECT {f'{unended}x' * 499_999 + unended * 2}")
        assert caught.value.code is Code.QUERY
    assert cpu_s(process) - began_s < SECONDS_MAX


MEMORY = {
    "a document parsed for each place that reads it": megabytes(8)
    + f"SELECT 1 FROM b, {', '.join(f'json_each(b.x) j{n}' for n in range(8))} LIMIT 1",
    "subqueries that double each other as they are compiled": doubling(40),
    "a value that escaping makes six times as large": "WITH RECURSIVE t(x) AS (SELECT char(1,1,1,1,1,1,1,1) "
    "UNION ALL SELECT x||x FROM t LIMIT 21) SELECT max(x) AS x FROM t",
}


@pytest.mark.parametrize("sql", MEMORY.values(), ids=MEMORY)
def test_a_statement_that_takes_too_much_memory_is_ended_and_the_next_one_answered(
    patient: SqlProcess, sql: str
) -> None:
    process = patient
    ask(process, "SELECT 1")
    assert process.pid is not None
    limit, _ = resource.prlimit(process.pid, resource.RLIMIT_AS)
    assert 0 < limit - virtual_bytes(process.pid) < MEMORY_BYTES_MAX + (10 << 20)
    began = time.monotonic()
    with pytest.raises(QueryFailed) as caught:
        ask(process, sql)
    assert caught.value.code is Code.TOO_LARGE
    assert time.monotonic() - began < PATIENCE_S
    assert ask(process, "SELECT 1 AS n")["rows"] == [{"n": 1}]


def test_a_statement_that_looks_at_no_clock_is_ended_by_the_alarm(path: Path) -> None:
    sql = megabytes(4) + "SELECT instr(x, substr(x, 2, 2000000) || 'end') FROM b"
    process = SqlProcess(path, seconds_max=0.5)
    began = time.monotonic()
    with pytest.raises(QueryFailed, match="more than 0.5 seconds") as caught:
        ask(process, sql)
    assert caught.value.code is Code.TIMEOUT
    assert 0.5 < time.monotonic() - began < SLACK_S
    assert ask(process, "SELECT 1 AS n")["rows"] == [{"n": 1}]
    process.close()


def test_rows_that_do_not_fit_an_answer_twice_are_refused_before_they_are_encoded(
    process: SqlProcess,
) -> None:
    def run(columns: int) -> bytes:
        sql = "SELECT " + ", ".join(f"$1 AS c{n}" for n in range(columns))
        asked = ParamQuery(sql, ("x" * 1_000_000,), None).encode()
        return process.run(SqlRequest(Kind.QUERY_WITH_PARAMS, asked))

    assert len(run(8)) > 16_000_000
    pid = process.pid
    with pytest.raises(QueryFailed, match=f"the answer has more than {TWICE_BYTES_MAX} bytes") as caught:
        run(9)
    assert caught.value.code is Code.TOO_LARGE and process.pid == pid, "it goes on"


def cpu_ticks(pid: int) -> int:
    """What the process has taken of a core: it is at work when this rises."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (signal.SIGSEGV, Code.TOO_LARGE, "where memory for the answer"),
        (signal.SIGKILL, Code.QUERY, "code -9"),
    ],
)
def test_a_process_that_ends_at_its_work_is_spoken_of_and_replaced(
    path: Path, number: signal.Signals, code: Code, says: str
) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    process = SqlProcess(path, seconds_max=PATIENCE_S)
    ask(process, "SELECT 1")
    pid = process.pid
    assert pid is not None
    before = cpu_ticks(pid)
    request = SqlRequest(Kind.QUERY, FOR_EVER.encode())
    thread = threading.Thread(target=lambda: answers.put(next(process.answers([request]))))
    thread.start()
    while cpu_ticks(pid) < before + 5:
        time.sleep(0.01)
    os.kill(pid, number)
    (failed,) = answers.get(timeout=PATIENCE_S)
    thread.join()
    assert isinstance(failed, QueryFailed) and failed.code is code and says in failed.message
    assert ask(process, "SELECT 1 AS n")["rows"] == [{"n": 1}]
    process.close()


def test_a_process_that_was_killed_idle_is_replaced_without_a_word(process: SqlProcess) -> None:
    ask(process, "SELECT 1")
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ask(process, "SELECT 1 AS n")["rows"] == [{"n": 1}]
    assert process.pid != pid


def test_a_request_that_nobody_waits_for_any_more_is_not_run(path: Path) -> None:
    process = SqlProcess(path)
    with pytest.raises(QueryFailed, match="too long for its turn") as caught:
        process.run(SqlRequest(Kind.QUERY, b"SELECT 1", time.monotonic()))
    assert caught.value.code is Code.TIMEOUT and process.pid is None


def test_a_file_that_is_at_fault_is_not_taken_for_a_bad_statement(tmp_path: Path) -> None:
    process = SqlProcess(tmp_path / "missing.db")
    with pytest.raises(NodeError, match="missing.db"):
        ask(process, "SELECT 1")
    process.close()


def test_the_process_ends_with_its_owner(process: SqlProcess, path: Path) -> None:
    one = SqlProcess(path)
    ask(one, "SELECT 1")
    pid = one.pid
    one.close()
    one.close()
    assert one.pid is None and not Path(f"/proc/{pid}").exists()


def test_requests_are_answered_by_threads_and_errors_are_answers(path: Path) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    reader = SqlReader(path, lambda callback, *args: callback(*args))
    reader.submit(SqlRequest(Kind.QUERY, b"SELECT 7 AS n"), answers.put)
    assert json.loads(answers.get(timeout=30))["rows"] == [{"n": 7}]
    reader.submit(SqlRequest(Kind.QUERY, b"DROP TABLE docs"), answers.put)
    assert isinstance(answers.get(timeout=30), QueryFailed)
    reader.stop()


def test_whoever_stops_waits_for_no_statement(path: Path) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    reader = SqlReader(path, lambda callback, *args: callback(*args), processes=1)
    reader.submit(SqlRequest(Kind.QUERY, b"SELECT 1"), answers.put)
    assert isinstance(answers.get(timeout=30), bytes)
    for _ in range(20):
        reader.submit(SqlRequest(Kind.QUERY, FOR_EVER.encode()), answers.put)
    began = time.monotonic()
    reader.stop()
    assert time.monotonic() - began < SECONDS_MAX
    assert [answers.get(timeout=1).code for _ in range(20)] == [Code.BUSY] * 20


def test_a_statement_waits_for_the_way_and_whoever_stops_does_not(path: Path) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    way = RightOfWay()
    reader = SqlReader(path, lambda callback, *args: callback(*args), way=way)
    way.take()
    reader.submit(SqlRequest(Kind.QUERY, b"SELECT 7 AS n"), answers.put)
    with pytest.raises(queue.Empty):
        answers.get(timeout=0.5)
    way.give_back()
    assert json.loads(answers.get(timeout=30))["rows"] == [{"n": 7}]
    way.take()
    reader.submit(SqlRequest(Kind.QUERY, b"SELECT 1"), answers.put)
    reader.stop()
    assert answers.get(timeout=1).code == Code.BUSY


def virtual_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
