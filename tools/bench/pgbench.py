"""What pgbench is told to do, and what its log says about one window."""

from __future__ import annotations

from collections.abc import Iterable

from tools.bench.figures import Load

TABLE = "CREATE TABLE bench (id text PRIMARY KEY, doc json NOT NULL)"
_UPSERT = "INSERT INTO bench VALUES ('d' || :n, :doc) ON CONFLICT (id) DO UPDATE SET doc = EXCLUDED.doc;"
_NUMBER = "\\set n random(1000000, {last})"


def document(size: int) -> str:
    """A JSON document of `size` bytes, at least 40."""
    head, tail = '{"n":1000000,"name":"d1000000","text":"', '"}'
    return head + "x" * (size - len(head) - len(tail)) + tail


def script(load: Load, ids: int) -> str:
    """The pgbench script of one transaction, or of one pipeline whose writes are committed one by one."""
    number = _NUMBER.format(last=1_000_000 + ids - 1)
    if load.in_flight == 1:
        return f"{number}\n{_UPSERT}\n"
    one = f"{number}\nBEGIN;\n{_UPSERT}\nCOMMIT;\n"
    return "\\startpipeline\n" + one * load.in_flight + "\\endpipeline\n"


def latencies_us(lines: Iterable[str], begin_s: float, end_s: float, writes: int) -> list[int]:
    """What every write took that was answered from `begin_s` until before `end_s`, seconds of the epoch.

    `lines` are those of pgbench's transaction logs; each transaction stands for so many `writes`, which were
    answered together. Failed and skipped ones are left out.
    """
    found: list[int] = []
    for line in lines:
        _, _, took, _, second, micro, *_ = line.split()
        if took.isdecimal() and begin_s <= int(second) + int(micro) / 1e6 < end_s:
            found += [int(took)] * writes
    return found
