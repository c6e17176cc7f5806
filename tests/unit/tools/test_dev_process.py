"""Processes that were started by somebody else: found, signalled and ended, and strangers left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.dev.process import Process, end, find

SOON_S = 5.0
SLEEPER = "import signal, sys, time; {setup}print(flush=True); time.sleep(60)"
Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """A process that sleeps, told apart by its arguments; with `stubborn` it does not hear SIGTERM."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, stubborn: bool = False) -> subprocess.Popen[bytes]:
        setup = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
        command = [sys.executable, "-c", SLEEPER.format(setup=setup), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout and process.stdout.read(1)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def command(process: subprocess.Popen[bytes], *more: str) -> list[str]:
    assert isinstance(process.args, list)
    return ["any program", *process.args[1:], *more]


def found(process: subprocess.Popen[bytes]) -> Process:
    there = Process.of(process.pid)
    assert there is not None
    return there


def test_a_process_is_found_by_its_command_whoever_started_it(spawn: Spawn, tmp_path: Path) -> None:
    one, other = spawn(str(tmp_path / "one")), spawn(str(tmp_path / "other"), "--more")
    commands = {
        "nobody": ["x", "-m", str(tmp_path)],
        "other": command(other)[:-1],
        "one": command(one),
        "one with more": command(one, "--more"),
    }
    assert find(commands) == {"other": found(other), "one": found(one)}


def test_a_process_that_ended_is_not_found_even_if_nobody_took_notice(spawn: Spawn, tmp_path: Path) -> None:
    process = spawn(str(tmp_path))
    there = found(process)
    process.kill()
    there.wait(SOON_S)  # it is a zombie now: its parent, this test, has not waited for it
    assert not there.runs
    assert Process.of(process.pid) is None
    assert find({"x": command(process)}) == {}
    there.send_signal(signal.SIGTERM)


def test_a_stranger_with_the_id_of_a_process_that_is_gone_is_not_touched(spawn: Spawn) -> None:
    stranger = spawn()
    there = found(stranger)
    gone = Process(there.pid, there.started_ticks - 1)
    assert not gone.runs
    gone.send_signal(signal.SIGTERM)
    gone.kill()
    gone.wait(0)
    end([gone])
    assert stranger.poll() is None and there.runs


def test_a_paused_process_runs_and_is_paused(spawn: Spawn) -> None:
    there = found(spawn())
    assert not there.is_paused
    there.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + SOON_S
    while not there.is_paused:
        assert time.monotonic() < deadline
    assert there.runs
    with pytest.raises(subprocess.TimeoutExpired):
        there.wait(0.01)


def test_the_end_comes_to_all_also_to_paused_ones(spawn: Spawn) -> None:
    child, paused = spawn(), spawn()
    other = found(paused)
    other.send_signal(signal.SIGSTOP)
    end([child, other])
    assert child.returncode == -signal.SIGTERM
    assert paused.wait(SOON_S) == -signal.SIGTERM


def test_who_does_not_hear_is_killed(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.dev.process.STOP_S", 0.2)
    deaf, deaf_child = spawn(stubborn=True), spawn(stubborn=True)
    end([found(deaf), deaf_child])
    assert deaf.wait(SOON_S) == -signal.SIGKILL
    assert deaf_child.returncode == -signal.SIGKILL
