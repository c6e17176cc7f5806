"""The arithmetic of the bench: from what kernel, pgbench and nodes tell to a figure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.bench import sockets
from tools.bench.figures import LOADS, Conditions, Findings, Load, Row, median, percentile, ratio
from tools.bench.memory import Backlog, catch_up_figures
from tools.bench.pgbench import document, latencies_us, script
from tools.bench.proc import MachineCpu, parse_filesystem, parse_machine_cpu, parse_ticks
from tools.bench.run import Plan
from tools.bench.sockets import Connection, moved_bytes
from tools.bench.window import Counters, Watch
from tools.cli import bench

FEW = Findings({})
UNDER = Conditions("local", "on", "TLS 1.3", "ext4", "x")


@pytest.mark.parametrize(
    ("share", "found"), [(0.01, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.76, 4), (1.0, 4)]
)
def test_a_percentile_is_a_sample_that_the_share_does_not_exceed(share: float, found: int) -> None:
    assert percentile([1, 2, 3, 4], share) == found


@pytest.mark.parametrize(("words", "said"), [((), "bench: at work\n"), (("--json",), "")])
def test_what_the_bench_does_is_said_to_people_only(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    def run(plan: Plan, say: Callable[[str], None]) -> Findings:
        say("at work")
        return FEW

    monkeypatch.setattr(bench, "run", run)
    assert CliRunner().invoke(bench.command, words).stderr == said


def test_of_no_samples_there_is_no_median() -> None:
    assert (median([]), median([3, 1, 2])) == (None, 2)


def test_only_the_first_system_is_held_against_the_other_and_under_one_load() -> None:
    one, two = Load("one", 1), Load("two", 2)
    rows = [
        Row("a", one, UNDER, seconds=2, commits=200),
        Row("b", one, UNDER, seconds=2, commits=100),
        Row("a", two, UNDER, seconds=2, commits=200),
        Row("b", two, UNDER, note="it did not run"),
    ]
    assert [ratio(row, rows) for row in rows] == [2.0, None, None, None]


def test_callers_of_one_connection_are_held_against_as_many_clients_of_the_other_system() -> None:
    clients, callers = Load("8 clients", 8), Load("8 callers", 1, 8, beside="8 clients")
    rows = [
        Row("a", clients, UNDER, seconds=1, commits=50),
        Row("b", clients, UNDER, seconds=1, commits=100),
        Row("a", callers, UNDER, seconds=1, commits=150),
    ]
    assert [ratio(row, rows) for row in rows] == [0.5, None, 1.5]
    names = [load.name for load in LOADS if not load.beside]
    assert all(load.beside in names for load in LOADS if load.beside)


def test_the_time_of_a_process_is_found_whatever_it_is_called() -> None:
    behind = "S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 99 99"
    assert parse_ticks(f"42 (a) b (c) {behind}") == 127
    assert parse_ticks("") == 0


def test_a_core_that_waits_for_the_disk_is_not_busy() -> None:
    cpu = parse_machine_cpu("cpu  100 0 100 1000 500 0 0 0 9 9\ncpu0 1 1\n")
    assert cpu.busy_s / cpu.total_s == pytest.approx(200 / 1700)


def test_the_deepest_and_last_mount_tells_the_file_system() -> None:
    mounts = "\n".join(
        f"{number} 1 0:1 / {mount} rw shared:1 - {kind} none rw"
        for number, (mount, kind) in enumerate(
            [("/", "overlay"), ("/var", "ext4"), ("/var/a\\040b", "tmpfs"), ("/var", "xfs")]
        )
    )
    for path, kind in (("/etc", "overlay"), ("/var/lib", "xfs"), ("/var/a b/c", "tmpfs")):
        assert parse_filesystem(mounts, Path(path)) == kind


def test_what_pgbench_measured_counts_from_the_beginning_until_before_the_end() -> None:
    log = [
        "0 1 700 0 9 999999",
        "0 2 800 0 10 0",
        "1 3 skipped 0 10 5",
        "0 4 900 0 11 999999",
        "0 5 7 0 12 0",
    ]
    assert latencies_us(log, 10, 12, writes=2) == [800, 800, 900, 900]


def test_a_pipeline_commits_each_of_its_writes() -> None:
    piped = script(Load("x", 8, 128), ids=10)
    assert piped.count("COMMIT;") == piped.count("BEGIN;") == 128
    assert "COMMIT" not in script(Load("x", 8), ids=10)
    assert len(document(150)) == 150


def message(port: int, peer_port: int, *attributes: tuple[int, bytes]) -> bytes:
    """A socket's diagnosis, as the kernel sends it."""
    parts = [struct.pack("=HH", 4 + len(data), kind) + data for kind, data in attributes]
    padded = [part + bytes(-len(part) % 4) for part in parts]
    return bytes(4) + struct.pack(">HH", port, peer_port) + bytes(64) + b"".join(padded)


def test_bytes_of_a_connection_are_those_of_its_tcp_info() -> None:
    info = bytes(120) + struct.pack("=QQ", 1_000, 2_000) + bytes(8)
    assert sockets.parse(message(5, 6, (1, b"xyz"), (2, info))) == Connection(5, 6, 1_000, 2_000)
    assert sockets.parse(message(5, 6, (2, info[:100]))) == Connection(5, 6, 0, 0)


def test_messages_of_an_answer_are_told_apart_up_to_one_that_lies() -> None:
    def framed(kind: int, body: bytes, length: int | None = None) -> bytes:
        size = 16 + len(body) if length is None else length
        return struct.pack("=IHHII", size, kind, 0, 0, 0) + body + bytes(-len(body) % 4)

    data = framed(20, b"one") + framed(3, b"") + framed(20, b"", length=0) + framed(20, b"two")
    assert list(sockets.split(data)) == [(20, b"one"), (3, b"")]


def test_a_follower_is_who_was_connected_before_the_load_came() -> None:
    links = [Connection(5, 1, 10, 20), Connection(5, 2, 100, 200), Connection(6, 1, 7, 7)]
    assert moved_bytes(links, 5, frozenset({1})) == (30, 300)


def test_what_others_took_is_what_neither_side_did_and_unknown_bytes_are_no_zero() -> None:
    before = Counters(1.0, 2.0, MachineCpu(10.0, 100.0), None)
    after = Counters(2.0, 4.0, MachineCpu(20.0, 110.0), [])
    seen = Watch(list, 1).between(before, after)
    assert (seen.server_s, seen.client_s, seen.client_bytes, seen.wire(5)) == (1.0, 2.0, None, None)
    assert seen.others > 0


@pytest.mark.parametrize(
    ("moments", "speed", "note"),
    [
        ([(0.0, 10), (1.0, 100), (2.0, 150), (3.0, 200)], 5.0, "over 10 MB of records"),
        ([(0.0, 10), (1.0, 200)], None, "faster than two looks at it"),
    ],
)
def test_the_speed_of_a_catch_up_is_that_of_its_bulk_part(
    moments: Sequence[tuple[float, int]], speed: float | None, note: str
) -> None:
    log, applied = catch_up_figures(moments, 4.0, Backlog(10_000_000, 100, 200))
    assert log.value == speed and note in log.note
    assert (applied.value, applied.unit) == (4.0, "s")
