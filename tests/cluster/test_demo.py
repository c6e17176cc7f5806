from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The demo as a process of its own; everything it starts names `folder` in its command line."""
    return subprocess.Popen(
        [sys.executable, "-m", "tools.cli.main", "demo", *arguments],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_behind(folder: Path) -> list[str]:
    """The command lines of processes that have to do with `folder`."""
    return [line for _, line in processes() if str(folder) in line]


def processes() -> Iterator[tuple[int, str]]:
    """The id and the command line of each."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield int(path.parent.name), path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_shows_a_lost_region_and_leaves_nothing_behind(tmp_path: Path) -> None:
    process = demo(tmp_path, "--json")
    out, err = process.communicate()
    document = json.loads(out)
    failed = [check for scene in document["scenes"] for check in scene["checks"] if not check["ok"]]
    assert failed == [], f"{failed}\n{err}"
    assert (process.returncode, document["ok"], err) == (0, True, "")
    assert len(document["scenes"]) == 8
    assert document["scenes"][2]["facts"]["documents"] > 30_000
    assert left_behind(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_and_all_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    process = demo(tmp_path)
    deadline = time.monotonic() + 60
    while len(left_behind(tmp_path)) < 7:
        assert time.monotonic() < deadline, "five nodes, their links and their guard never ran"
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    said = "redwire: interrupted; no node of the demo runs any more, their files are removed\n"
    assert (process.returncode, err) == (128 + number, said)
    assert f"{number.name}: ending all nodes" in out
    assert left_behind(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_demo_that_fails_says_what_ended_and_keeps_what_it_wrote(tmp_path: Path) -> None:
    process = demo(tmp_path, "--json")
    deadline = time.monotonic() + 60
    while not (
        found := [pid for pid, line in processes() if f"{tmp_path}/" in line and line.endswith("us-2.yaml ")]
    ):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(found[0], signal.SIGKILL)
    out, err = process.communicate()
    document = json.loads(out)
    (failed,) = [check for scene in document["scenes"] for check in scene["checks"] if not check["ok"]]
    assert failed["detail"].startswith("us-2 ended with code -9; it said:\n")
    assert (process.returncode, err) == (1, "")
    assert left_behind(tmp_path) == []
    (folder,) = tmp_path.iterdir()
    assert document["folder"] == str(folder) and (folder / "us-2.log").exists()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_demo_that_nobody_reads_any_more_ends_without_a_word(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
    assert left_behind(tmp_path) == [] and list(tmp_path.iterdir()) == []
