"""The audit log's file: its mode, its rotation, and that a disk that fails breaks nothing else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from cluster.audit import LINES_WAITING_MAX, STOP_S, Audit
from cluster.audit_events import Accepted, Act, Actor, ActOutcome, Ended, Lost, Rejected
from cluster.config import AuditConfig, Off
from cluster.effects import Now
from cluster.log_config import Level
from redwire.position import Lsn, NodeId


class Log:
    """An audit log in a folder, and what it said to the node."""

    def __init__(self, path: Path, bytes_max: int = 1 << 20, files: int = 3) -> None:
        self.path = path
        self.notes: list[str] = []
        self.levels: set[Level] = set()
        config = AuditConfig(file=str(path), bytes_max=bytes_max, files=files)
        self.audit = Audit(config, NodeId("eu-1"), lambda: Now(0, 1_767_323_045_678), self.note)

    def note(self, text: str, level: Level = Level.INFO) -> None:
        self.notes.append(text)
        self.levels.add(level)

    def write(self, *numbers: int) -> None:
        for number in numbers:
            self.audit.record(Lost(lines=number))

    def numbers(self) -> list[int]:
        """What stands in the file, once everything was written."""
        self.audit.close()
        return [json.loads(line)["lines"] for line in self.path.read_text().splitlines() if line]


def test_a_line_has_the_time_in_utc_and_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.log")
    log.write(1)
    assert log.numbers() == [1]
    assert json.loads(log.path.read_text()) == {
        "time": "2026-01-02T03:04:05.678Z",
        "node": "eu-1",
        "event": "lost",
        "lines": 1,
    }
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600 and log.notes == []


def test_lines_go_on_behind_those_of_an_earlier_start_also_behind_a_torn_one(tmp_path: Path) -> None:
    first = Log(tmp_path / "audit.log")
    first.write(1)
    assert first.numbers() == [1]
    with first.path.open("a") as file:
        file.write('{"time": "202')
    second = Log(tmp_path / "audit.log")
    second.write(2)
    second.audit.close()
    whole, torn, last = first.path.read_text().splitlines()
    assert json.loads(whole)["lines"] == 1 and torn == '{"time": "202' and json.loads(last)["lines"] == 2


def test_the_file_is_rotated_at_its_size_and_the_oldest_goes(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.log", bytes_max=4096, files=3)
    log.write(*range(300))
    last = log.numbers()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert [files.pop(0) for _ in range(2)] == ["audit-refused.log", "audit-sessions.log"]
    assert files == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())
    assert all(path.stat().st_size <= 4096 for path in tmp_path.iterdir())
    older = [json.loads(line)["lines"] for line in (tmp_path / "audit.log.1").read_text().splitlines()]
    assert older + last == list(range(older[0], 300)) and older[0] > 0


def refused(number: int) -> Rejected:
    return Rejected(address="127.0.0.1:9", method="bearer", name="", certificate="", why=f"no {number}")


def test_what_is_refused_has_files_of_its_own_and_pushes_out_no_act(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.log", bytes_max=4096, files=3)
    ops = Actor("127.0.0.1:1", "ops", "")
    act = Act(by=ops, act="put_user", target="ann").came_to(ActOutcome.DONE, lsn=Lsn(7), term=1)
    log.audit.record(act)
    log.audit.record(act.came_to(ActOutcome.REFUSED, why="not yours"))
    for number in range(300):
        log.audit.record(refused(number))
        log.audit._tally.next_second()
    log.audit.close()
    (line,) = log.path.read_text().splitlines()
    assert json.loads(line)["outcome"] == "done"
    others = sorted(path.name for path in tmp_path.glob("audit-refused*"))
    assert others == ["audit-refused.log", "audit-refused.log.1", "audit-refused.log.2"]
    paths = [tmp_path / name for name in others]
    assert all(path.stat().st_size <= 4096 and stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)
    assert json.loads(paths[0].read_text().splitlines()[-1])["why"] == "no 299"


def test_who_comes_in_and_whose_session_is_ended_has_files_of_its_own_and_pushes_out_no_act(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path / "audit.log", bytes_max=4096, files=2)
    ops = Actor("127.0.0.1:1", "ops", "")
    log.audit.record(Act(by=ops, act="put_user", target="ann").came_to(ActOutcome.DONE, lsn=Lsn(7), term=1))
    for kind in ("user", "node", "anonymous"):
        log.audit.record(Accepted(address="a:1", method="", kind=kind, name=kind, role="read"))
    for _ in range(300):
        log.audit.record(Ended(session=ops, why="removed"))
    log.audit.close()
    assert [json.loads(line)["event"] for line in log.path.read_text().splitlines()] == ["act"]
    (anonymous,) = (tmp_path / "audit-refused.log").read_text().splitlines()
    assert json.loads(anonymous)["kind"] == "anonymous"
    others = sorted(tmp_path.glob("audit-sessions*"))
    assert [path.name for path in others] == ["audit-sessions.log", "audit-sessions.log.1"]
    assert all(path.stat().st_size <= 4096 and stat.S_IMODE(path.stat().st_mode) == 0o600 for path in others)
    assert json.loads(others[0].read_text().splitlines()[-1])["event"] == "ended"


def test_what_is_no_regular_file_takes_every_line_and_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = Log(path)
    log.write(1)
    log.audit.record(refused(2))
    log.audit.record(Accepted(address="a:1", method="", kind="user", name="app", role="read"))
    log.audit.close()
    events = [json.loads(line)["event"] for line in os.read(reader, 1 << 16).splitlines()]
    os.close(reader)
    assert events == ["lost", "refused", "accepted"] and [each.name for each in tmp_path.iterdir()] == [
        "pipe"
    ]


async def test_lines_that_cannot_be_written_are_counted_and_said(tmp_path: Path) -> None:
    log = Log(tmp_path / "no" / "audit.log")
    log.audit.look()
    log.write(1, 2)
    while log.audit.status().lost < 2:
        await anyio.sleep(0.001)
    log.audit.look()
    (note,) = log.notes
    assert "cannot be written, and its lines are lost" in note and f"{log.path}: No such file" in note
    log.path.parent.mkdir()
    log.write(3)
    while log.audit.status().trouble:
        await anyio.sleep(0.001)
    log.audit.look()
    assert log.notes[1:] == ["the audit log is written again; 2 lines are lost"]
    assert log.numbers() == [3, 2] and log.levels == {Level.ERROR}


def test_of_several_files_the_one_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "audit-sessions.log").mkdir()
    log = Log(tmp_path / "audit.log")
    log.audit.look()
    log.audit.close()
    (note,) = log.notes
    assert note.endswith(f"its lines are lost: {tmp_path}/audit-sessions.log: Is a directory")


async def test_a_disk_that_hangs_keeps_nobody_waiting_and_what_is_too_much_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    os.mkfifo(path)
    log = Log(path)
    log.write(*range(3 * LINES_WAITING_MAX))
    log.audit.look()
    (note,) = log.notes
    assert f"{LINES_WAITING_MAX} lines wait for the disk" in note
    numbers: list[int] = []

    def drain() -> None:
        with path.open() as lines:
            numbers.extend(json.loads(line)["lines"] for line in lines)

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    while log.audit.status().waiting:
        await anyio.sleep(0.001)
    await anyio.to_thread.run_sync(log.audit.close)
    reader.join(10)
    assert not reader.is_alive(), "the pipe was not closed"
    lost = numbers.pop()
    # which found room depends on when the pipe's own buffer took some; none is there twice or out of turn
    assert numbers == sorted(set(numbers)) and len(numbers) + lost == 3 * LINES_WAITING_MAX
    assert lost > LINES_WAITING_MAX
    assert log.notes[1:] == [f"the audit log is written again; {lost} lines are lost"]


def test_a_file_that_is_moved_or_removed_is_made_anew_and_loses_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.log")
    for number, take_away in enumerate((Path.unlink, lambda path: path.rename(tmp_path / "old"))):
        log.write(number)
        while not log.path.exists() or str(number) not in log.path.read_text().split('"lines":')[-1]:
            time.sleep(0.001)
        take_away(log.path)
    log.write(2)
    log.audit.close()
    (line,) = (tmp_path / "audit.log").read_text().splitlines()
    assert json.loads(line)["lines"] == 2
    assert json.loads((tmp_path / "old").read_text())["lines"] == 1
    assert log.audit.status().lost == 0


def test_a_file_that_cannot_even_be_closed_is_opened_anew(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.log")
    (open_,) = (fd for fd in Path("/proc/self/fd").iterdir() if fd.exists() and fd.samefile(log.path))
    os.close(int(open_.name))  # as after the loss of a network volume: whatever is done with it fails
    log.write(1, 2)
    assert log.numbers() == [1, 2]
    assert (log.audit.status().trouble, log.audit.status().lost, log.notes) == ("", 0, [])


async def test_a_thread_that_has_ended_is_said_and_the_lines_after_it_are_lost(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.log")
    log.audit._waiting.put(None)  # what its thread ends by
    while not log.audit.status().trouble:
        await anyio.sleep(0.001)
    log.write(1, 2)
    log.audit.look()
    assert (log.audit.status().lost, log.audit.status().waiting) == (2, 0)
    words = "lost: {}: the thread that writes it has ended; start the node again"
    assert log.notes == [f"the audit log cannot be written, and its lines are {words.format(log.path)}"]
    log.audit.close()


def test_a_disk_that_stands_still_holds_up_neither_the_end_nor_the_exit(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "audit.log")
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", FORSAKEN, tmp_path / "audit.log"], capture_output=True, text=True, timeout=30
    )
    assert time.monotonic() - began_s >= STOP_S
    assert (done.returncode, done.stderr) == (0, "")
    assert "lines are lost, the disk stands still" in done.stdout


FORSAKEN = """
import sys
from cluster.audit import Audit
from cluster.audit_events import Lost
from cluster.config import AuditConfig
from cluster.effects import Now
audit = Audit(AuditConfig(file=sys.argv[1]), "eu-1", lambda: Now(0, 0), lambda text, level: print(text))
for number in range(5_000):
    audit.record(Lost(lines=number))
audit.close()
"""


def _unheard(text: str, level: Level = Level.INFO) -> None:
    raise AssertionError(text)


def test_off_is_no_file_and_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    audit = Audit(AuditConfig(file=Off.OFF), NodeId("eu-1"), lambda: Now(0, 0), _unheard)
    audit.record(Lost(lines=1))
    audit.close()
    assert list(tmp_path.iterdir()) == []


def test_who_came_in_and_who_did_not_is_counted_also_where_nothing_is_written(tmp_path: Path) -> None:
    audit = Audit(AuditConfig(file=Off.OFF), NodeId("eu-1"), lambda: Now(0, 0), [].append)
    audit.record(Accepted(address="a:1", method="scram", kind="user", name="app", role="read"))
    for _ in range(2):
        audit.record(Rejected(address="a:1", method="scram", name="app", certificate="", why="password"))
    assert (audit.status().accepted, audit.status().rejected) == (1, 2)
