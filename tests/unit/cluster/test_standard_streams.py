"""What a process does whose standard streams are closed, or take no more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

LOOK = """
import os, sys
from cluster.standard_streams import fill_standard_streams
fill_standard_streams()
said = open(sys.argv[1], "w")
print("nobody reads this")
print("nor this", file=sys.stderr)
child = "import os; print(os.readlink('/proc/self/fd/2'))"
found = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
print(*found, sys.stdin.read(), file=said, flush=True)
os.dup2(said.fileno(), 1)
os.execv(sys.executable, (sys.executable, "-c", child))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_the_null_device_to_a_process_and_to_those_that_it_starts(
    tmp_path: Path, closed: str
) -> None:
    look = ("sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", LOOK, str(tmp_path / "said"))
    with open(os.devnull, "r+") as null:
        subprocess.run(look, stdin=null, stdout=null, stderr=null, cwd=ROOT, check=True)
    assert (tmp_path / "said").read_text().split() == [os.devnull] * 4


def node(*words: str, stdout: int, unbuffered: str) -> tuple[int, str]:
    """Exit code and standard error of `redwire-node`, where Python holds nothing back if `unbuffered`."""
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "cluster.start", *words]
    done = subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, env=env, text=True, check=False
    )
    os.close(stdout)
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("--help",), ("check", "--json", "--config", "/nowhere.yaml")])
def test_an_answer_that_cannot_leave_is_an_error_of_one_line(words: tuple[str, ...], unbuffered: str) -> None:
    told = node(*words, stdout=os.open("/dev/full", os.O_WRONLY), unbuffered=unbuffered)
    assert told == (1, "redwire-node: standard output: No space left on device\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_answer_that_nobody_reads_any_more_is_no_error_to_speak_of(unbuffered: str) -> None:
    source, sink = os.pipe()
    os.close(source)
    assert node("--help", stdout=sink, unbuffered=unbuffered) == (141, "")
