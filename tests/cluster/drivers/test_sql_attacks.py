"""A reader's SQL stays reading, and costs nobody else more than it may, whatever it asks for."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest

PROCESSES = 2
STATEMENT_S = 5.0
SLACK_S = 20.0
"""What a machine that is four times slower may add to a statement's own bound."""
NODE_BYTES_MAX = 60 << 20
"""What all attacks together may add to a node: bodies on their way in and out."""
PROCESS_BYTES_MAX = 160 << 20
"""What one process for statements may hold: its share, and what Python takes by itself."""
GOOD_S = 5.0
"""What a good client waits at most for a write and a read while the attack goes on."""

NUMBERS = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM t) "
ARRAY = (
    "WITH RECURSIVE t(x) AS (SELECT '0,0,0,0,0,0,0,0,' UNION ALL SELECT x||x FROM t LIMIT {}), "
    "b AS MATERIALIZED (SELECT '['||max(x)||'0]' AS x FROM t) "
)
FOUR_MIB, EIGHT_MIB = ARRAY.format(19), ARRAY.format(20)
TERMS = "WITH a0 AS NOT MATERIALIZED (SELECT version AS y FROM loot)"
TERMS += "".join(f", a{n + 1} AS NOT MATERIALIZED (SELECT y+y AS y FROM a{n})" for n in range(40))

REFUSED = [
    "ATTACH 'file:other.db' AS other",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA hard_heap_limit = 1",
    "VACUUM INTO '/tmp/stolen.db'",
    "DELETE FROM loot",
    "WITH x AS (SELECT 1) DELETE FROM main.docs",
    "WITH x AS (SELECT 1) INSERT INTO main.docs SELECT 1, 'x', 1, '{}' FROM x",
    "WITH x AS (SELECT 1) UPDATE main.docs SET doc = '{}' RETURNING *",
    "SELECT load_extension('/lib/libm.so')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('/tmp/x', 'x')",
    "SELECT * FROM main.docs",
    "SELECT body FROM main.users",
    "SELECT * FROM main.tokens",
    "SELECT * FROM main.sqlite_schema",
    "SELECT sql FROM sqlite_temp_schema",
    "SELECT * FROM pragma_table_info('docs')",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM dbstat",
    "WITH loot AS (SELECT * FROM main.users) SELECT * FROM loot",
    "SHOW COLLECTIONS UNION SELECT name, body FROM main.users",
    "SELECT printf('%.*c', 2000000000, 'x')",
    "SELECT length(zeroblob(2000000000))",
    "SELECT randomblob(1000000000)",
    "SELECT fts3_tokenizer('simple', x'0000000000000000')",
    "SELECT sqlite_compileoption_get(1)",
    "SELECT 1; DROP TABLE docs",
    "EXPLAIN SELECT * FROM loot",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT 1" + " UNION SELECT 1" * 600,
]
BOUNDED = {
    "counting for ever": NUMBERS + "SELECT count(*) FROM t",
    "a row for every number": NUMBERS + "SELECT x FROM t",
    "a text that doubles": NUMBERS
    + ", d(y) AS (SELECT 'xx' UNION ALL SELECT y||y FROM d) SELECT length(y) FROM d",
    "all numbers, sorted": NUMBERS + "SELECT hex(hex(x)) FROM t ORDER BY 1",
    "a search of megabytes for megabytes": FOUR_MIB
    + "SELECT instr(x, substr(x, 2, 2000000) || 'end') FROM b",
    "one array parsed in eight places": EIGHT_MIB
    + f"SELECT 1 FROM b, {', '.join(f'json_each(b.x) j{n}' for n in range(8))} LIMIT 1",
    "large documents, parsed": "SELECT count(*) FROM loot a, json_tree(a.doc) x, loot b, json_tree(b.doc) y",
    "large documents, joined": "SELECT group_concat(doc) FROM loot",
    "a sum of endless terms": TERMS + " SELECT y FROM a40",
}


@pytest.fixture(scope="module")
def loot(shop: Any) -> Any:
    """A shop with something to steal: three documents, two of them of nearly 8 MiB."""
    with shop.log_in("cpp") as driver:
        driver.insert("loot", {"id": "small", "n": 1})
        for ident in ("big", "bigger"):
            driver.insert("loot", {"id": ident, "zeros": [0] * 4_000_000})
    return shop


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def children(pid: int) -> list[int]:
    """The node's processes for statements."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


@pytest.mark.parametrize("sql", REFUSED, ids=lambda sql: sql[:40])
def test_what_is_not_reading_is_refused_and_nothing_is_touched(loot: Any, sql: str) -> None:
    with loot.log_in("php", user="reader") as driver:
        for _ in range(2):
            with pytest.raises(loot.EngineError, match="^(QUERY|TOO_LARGE): ") as caught:
                driver.query(sql)
            assert "_body" not in str(caught.value)
        assert driver.query("SELECT id FROM loot ORDER BY id LIMIT 2")["rows"] == [
            {"id": "big"},
            {"id": "bigger"},
        ]
    assert not Path("/tmp/stolen.db").exists()


@pytest.mark.slow
def test_what_takes_too_much_is_ended_in_time_and_harms_nobody(loot: Any) -> None:
    """All attacks from connections of their own, while a good client writes and reads."""
    pid = loot.fleet.processes["eu-1"].pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = peak_bytes(pid)
    told: dict[str, str] = {}

    def attack(name: str, sql: str) -> None:
        with loot.log_in("go", user="reader") as driver:
            try:
                driver.query(sql)
            except loot.EngineError as error:
                told[name] = str(error)

    began = time.monotonic()
    attackers = [threading.Thread(target=attack, args=case) for case in BOUNDED.items()]
    for each in attackers:
        each.start()
    worst, peaks, writes = 0.0, list[int](), 0
    with loot.log_in("java") as good:
        while any(each.is_alive() for each in attackers):
            started = time.monotonic()
            good.insert("good", {"id": f"{writes}"})
            assert good.get("good", f"{writes}")["found"]
            worst, writes = max(worst, time.monotonic() - started), writes + 1
            there = children(pid)
            assert len(there) <= PROCESSES
            for child in there:
                with contextlib.suppress(OSError, IndexError):  # it may have ended meanwhile
                    peaks.append(peak_bytes(child))
            time.sleep(0.02)
        rows = good.query("SELECT count(*) AS n FROM good")["rows"]
    assert rows == [{"n": writes}]
    for each in attackers:
        each.join()
    assert told.keys() == BOUNDED.keys()
    ends = ("TIMEOUT: the statement took more than", "TOO_LARGE: ", "QUERY: the answer has more than")
    assert {name: text for name, text in told.items() if not text.startswith(ends)} == {}
    turns = -(-len(BOUNDED) // PROCESSES)
    assert time.monotonic() - began < turns * (STATEMENT_S + 1) + SLACK_S
    assert worst < GOOD_S
    assert peak_bytes(pid) - before < NODE_BYTES_MAX
    assert max(peaks) < PROCESS_BYTES_MAX
