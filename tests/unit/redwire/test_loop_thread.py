"""The thread of a blocking client: what it runs, what interrupts those who wait, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from redwire import loop_thread
from redwire.errors import ChannelClosed, RequestInvalid
from redwire.loop_thread import LoopThread

ROOT = Path(__file__).parents[3]
WAIT_S = 10.0


class Manager:
    """Notes what is done with it. `entering` and `leaving` are run in its place, if given."""

    def __init__(self, entering: Callable[[], object] | None = None, leaving: object = None) -> None:
        self.noted: list[str] = []
        self.in_enter = threading.Event()
        self._entering = entering
        self._leaving = leaving

    async def __aenter__(self) -> None:
        self.noted.append("entering")
        self.in_enter.set()
        try:
            if self._entering is not None:
                await self._entering()
        except asyncio.CancelledError:
            self.noted.append("given up")
            raise
        self.noted.append("entered")

    async def __aexit__(self, *error: object) -> None:
        self.noted.append("left")
        if isinstance(self._leaving, BaseException):
            raise self._leaving


class Interrupted(BaseException):
    """What the signal of these tests raises."""


@contextmanager
def interrupted_once(ready: Callable[[], bool]) -> Iterator[None]:
    """In the main thread: a signal's handler raises, as soon as it is `ready`."""

    def interrupt(*about: object) -> None:
        raise Interrupted

    def send() -> None:
        end_s = time.monotonic() + WAIT_S
        while not ready() and time.monotonic() < end_s:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(Interrupted):
            yield
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


async def forever() -> None:
    await asyncio.Event().wait()


async def name() -> str:
    return threading.current_thread().name


async def fail() -> None:
    raise ValueError("mine")


def test_calls_run_in_the_thread_between_entering_and_leaving() -> None:
    manager = Manager()
    thread = LoopThread(manager)
    thread.start()
    assert manager.noted == ["entering", "entered"]
    assert thread.call(name) == "redwire" and threading.current_thread().name != "redwire"
    with pytest.raises(ValueError, match="mine"):
        thread.call(fail)
    thread.stop()
    thread.stop()
    thread.join()
    assert manager.noted[2:] == ["left"] and thread.stopping


def test_what_entering_raises_comes_out_of_start_and_nothing_goes_on() -> None:
    thread = LoopThread(Manager(fail))
    with pytest.raises(ValueError, match="mine"):
        thread.start()
    with pytest.raises(ChannelClosed):
        thread.call(name)
    thread.stop()
    thread.join()


def test_what_leaving_raises_comes_out_of_join_once() -> None:
    thread = LoopThread(Manager(leaving=ValueError("mine")))
    thread.start()
    thread.stop()
    with pytest.raises(ValueError, match="mine"):
        thread.join()
    thread.join()


def test_one_that_was_stopped_before_it_started_enters_nothing() -> None:
    manager = Manager()
    thread = LoopThread(manager)
    thread.join()
    with pytest.raises(ChannelClosed):
        thread.call(name)
    thread.stop()
    with pytest.raises(ChannelClosed, match="the client was closed"):
        thread.start()
    assert not manager.noted


def test_one_that_is_stopped_while_it_enters_gives_up() -> None:
    manager = Manager(forever)
    thread = LoopThread(manager)
    threading.Thread(target=lambda: manager.in_enter.wait(WAIT_S) and thread.stop()).start()
    with pytest.raises(ChannelClosed, match="the client was closed"):
        thread.start()
    assert manager.noted == ["entering", "given up"]


def test_the_thread_itself_may_stop_it_and_can_neither_wait_for_itself_nor_hang() -> None:
    thread = LoopThread(Manager())

    async def from_within() -> None:
        with pytest.raises(RequestInvalid, match="would wait for ever"):
            thread.call(name)
        thread.join()
        thread.stop()

    thread.start()
    thread.call(from_within)
    thread.join()
    with pytest.raises(ChannelClosed, match="the client was closed"):
        thread.call(name)


def test_who_still_waits_at_the_end_is_told_and_nobody_waits_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_thread, "LAST_S", 0.05)
    thread, told, begun = LoopThread(Manager()), list[ChannelClosed](), threading.Semaphore(0)

    async def wait() -> None:
        begun.release()
        await forever()

    def ask() -> None:
        try:
            thread.call(wait)
        except ChannelClosed as error:
            told.append(error)

    thread.start()
    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
        assert begun.acquire(timeout=WAIT_S)
    thread.stop()
    thread.join()
    for asker in askers:
        asker.join(WAIT_S)
    assert [str(error) for error in told] == ["the client was closed"] * 3
    assert not any(error.retry for error in told)


def test_calls_that_race_with_the_end_all_return() -> None:
    for _ in range(50):
        thread, ended = LoopThread(Manager()), list[str]()

        def ask(thread: LoopThread = thread, ended: list[str] = ended) -> None:
            try:
                while True:
                    thread.call(name)
            except ChannelClosed as error:
                ended.append(str(error))

        thread.start()
        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        thread.stop()
        thread.join()
        for asker in askers:
            asker.join(WAIT_S)
        assert ended == ["the client was closed"] * 4


def test_an_interrupted_call_is_cancelled_before_the_next_one_begins() -> None:
    thread, noted, begun = LoopThread(Manager()), list[str](), threading.Event()

    async def first() -> None:
        begun.set()
        try:
            await forever()
        finally:
            noted.append("cancelled")

    async def second() -> None:
        noted.append("second")

    thread.start()
    with interrupted_once(begun.is_set):
        thread.call(first)
    thread.call(second)
    assert noted == ["cancelled", "second"]
    thread.stop()
    thread.join()


def test_an_interrupted_call_that_has_not_begun_does_not_begin() -> None:
    thread, blocked, go_on, noted = LoopThread(Manager()), threading.Event(), threading.Event(), list[str]()

    async def block() -> None:
        blocked.set()
        go_on.wait(WAIT_S)

    async def late() -> None:
        noted.append("begun")

    thread.start()
    blocker = threading.Thread(target=thread.call, args=(block,))
    blocker.start()
    assert blocked.wait(WAIT_S)
    with interrupted_once(lambda: len(thread._calls) == 2):
        thread.call(late)
    go_on.set()
    thread.call(name)
    blocker.join()
    thread.stop()
    thread.join()
    assert not noted


def test_an_interrupted_start_gives_up_to_enter() -> None:
    manager = Manager(forever)
    thread = LoopThread(manager)
    with interrupted_once(manager.in_enter.is_set):
        thread.start()
    thread.join()
    assert manager.noted == ["entering", "given up"]


FAKE = """
import gc, os, sys, threading, warnings
from redwire.errors import ChannelClosed
from redwire.sync import SyncClient

warnings.filterwarnings("ignore", message=".*fork.*")  # there are threads, and this is about them

class Fake:
    left = threading.Event()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        self.left.set()

    async def get(self, collection, id, **options):
        return id

def opened():
    return SyncClient(Fake()).__enter__()

def child(do):
    global db
    pid = os.fork()
    if not pid:
        do()
        gc.collect()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert db.get("c", "parent") == "parent"

db = opened()
assert db.get("c", "a") == "a"
"""


@pytest.mark.parametrize(
    "script",
    [
        "",
        "import atexit; atexit.register(lambda: print(db.get('c', 'b'), end=''))",
        "sys.modules['redwire'].kept = db",
        "db.me = db; del db; gc.collect(); assert Fake.left.wait(10)",
        "del db; assert Fake.left.wait(10)",
        "child(lambda: None); db.__exit__(None, None, None)",
        "child(lambda: db.__exit__(None, None, None))",
        """
        def rebind():
            global db
            db = opened()
            assert db.get("c", "b") == "b"
        child(rebind)
        """,
        """
        def drop():
            global db
            del db
        child(drop)
        """,
        """
        other = opened()
        async def collect():
            gc.collect()
        gc.disable()
        db.me = db
        del db
        other._run(collect)
        assert Fake.left.wait(10)
        """,
        """
        thread = db._thread
        async def collect():
            gc.collect()
        gc.disable()
        db.me = db
        del db
        thread.call(collect)
        thread.join()
        assert Fake.left.is_set()
        """,
        """
        import asyncio, signal
        class Soft(BaseException):
            pass
        def interrupt(*about):
            raise Soft
        class Slow(Fake):
            times = 0
            async def __aenter__(self):
                self.times += 1
                if self.times == 1:
                    signal.setitimer(signal.ITIMER_REAL, 0.1)
                    await asyncio.Event().wait()
        signal.signal(signal.SIGALRM, interrupt)
        slow = SyncClient(Slow())
        try:
            slow.__enter__()
        except Soft:
            with slow:
                assert slow.get("c", "b") == "b"
        else:
            sys.exit(1)
        """,
        """
        class Late:
            def __init__(self, db):
                self.db = db
            def __del__(self):
                try:
                    self.db.get("c", "b")
                except ChannelClosed:
                    self.db.__exit__(None, None, None)
        sys.late = Late(db)
        """,
    ],
    ids=[
        *("left open", "used at exit", "held by a module", "garbage in a cycle", "dropped"),
        *("child exits", "child leaves", "child rebinds", "child drops"),
        *("collected in another loop", "collected in its own loop", "opened again", "used by the last ones"),
    ],
)
def test_a_client_that_nobody_closes_neither_hangs_nor_warns(script: str) -> None:
    source = FAKE + textwrap.dedent(script)
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
