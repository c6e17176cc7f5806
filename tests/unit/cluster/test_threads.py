"""Errors that nobody foresaw in a thread."""

from __future__ import annotations

import threading

import pytest

from cluster.errors import Scarce
from cluster.threads import scarce, watched


def end(error: BaseException | None = None) -> None:
    def run() -> None:
        if error is not None:
            raise error

    thread = threading.Thread(target=run, name="apply")
    thread.start()
    thread.join()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[threading.ExceptHookArgs]:
    """What is shown as a bug would be."""
    shown: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    return shown


def test_an_error_that_ends_a_thread_is_shown_and_told(shown: list[threading.ExceptHookArgs]) -> None:
    told: list[BaseException] = []
    error = KeyError("nobody foresaw it")
    with watched(told.append):
        end(error)
        end()
    assert told == [error]
    assert [(bug.exc_value, bug.thread and bug.thread.name) for bug in shown] == [(error, "apply")]


def test_an_error_that_cannot_be_shown_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def show(_: threading.ExceptHookArgs) -> None:
        raise MemoryError

    monkeypatch.setattr(threading, "excepthook", show)
    monkeypatch.setattr("sys.excepthook", lambda *_: None)  # where Python shows what a hook raises
    told: list[BaseException] = []
    error = MemoryError()
    with watched(told.append):
        end(error)
    assert told == [error]


def test_what_ends_a_thread_on_purpose_is_no_error(shown: list[threading.ExceptHookArgs]) -> None:
    told: list[BaseException] = []
    with watched(told.append):
        end(SystemExit(1))
    assert told == []


def test_afterwards_all_is_as_before() -> None:
    before = threading.excepthook
    with watched(lambda error: None):
        assert threading.excepthook is not before
    assert threading.excepthook is before


def test_what_the_system_refuses_is_told_apart_from_a_bug() -> None:
    thread = RuntimeError("can't start new thread")
    for error in (thread, ExceptionGroup("", [KeyError(), ExceptionGroup("", [thread])])):
        told = scarce(error)
        assert isinstance(told, Scarce) and "no more threads" in told.message and "ulimit -u" in told.hint
    assert "memory" in str(scarce(MemoryError()))
    assert scarce(RuntimeError("a bug")) is None and scarce(ExceptionGroup("", [KeyError()])) is None
