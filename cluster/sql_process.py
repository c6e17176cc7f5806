"""Statements of drivers run in processes of their own, which the kernel bounds in time and memory.

SQLite cannot do it: nothing interrupts it while it compiles a statement or is inside one function, and a
kilobyte of SQL can ask for either to take hours, or all memory (subqueries that double each other when they
are folded together; a LIKE over megabytes; a parsed copy of a document for each place that reads it). So the
process that runs a statement can have so much memory and no more, and an alarm ends it; the next statement
gets a new one. The node only passes bodies in and finished answers out.

Both ends of the pipe are here. A message is a u32 length and MessagePack.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from cluster.errors import NodeError, QueryFailed
from cluster.reader import ReadThreads
from cluster.right_of_way import RightOfWay
from cluster.sql import SECONDS_MAX, SqlWorker
from cluster.sql_kinds import decode_query, encode_result
from cluster.threads import Post
from cluster.turns import Turns
from redwire.errors import Code, RedwireError, TooLarge
from redwire.frame import PAYLOAD_BYTES_MAX

SQL_PROCESSES = 2
"""Statements that run at once. A process starts with the first statement for it."""
MEMORY_BYTES_MAX = 100_000_000
"""What a process may take beyond what it has when it is ready, sorting and temporary tables included.

Of answers the largest takes 53 MB. A document that is asked by a field takes the most where it is an array of
digits, 14 bytes for each of its own, so 5 MiB of it are found; of words or objects 8 MiB are (SQLite 3.40).
"""
ALARM_LATE_S = 0.5
"""When SQLite should have ended a statement by itself, which it does wherever it looks at the clock."""
GENTLE = 10
"""By how much statements give way to a node that serves writes."""
EXIT_S = 10.0
"""What a process has to end once nobody asks it anything: longer than its alarm leaves a statement."""

_LENGTH_BYTES = 4
_OUT_OF_MEMORY = 3
_LESS = "narrow it down, or add a LIMIT"
_ROOT = Path(__file__).resolve().parents[1]


class SqlRequest(msgspec.Struct, frozen=True):
    """The body of a driver's request of `kind`, and whose it is.

    After `answer_by_s` on the monotonic clock nobody waits for the answer.
    """

    kind: int
    payload: bytes
    answer_by_s: float = float("inf")
    asker: str = ""


class SqlReader(ReadThreads[SqlRequest, bytes]):
    """Answers drivers' SQL from the state file at `path`, each request with the body of its Result.

    Askers who wait have their turns round robin: much that one asks for keeps no other waiting.

    Errors: `QueryFailed`, and `NodeError` where the file is at fault.
    """

    def __init__(
        self, path: Path, post: Post, *, processes: int = SQL_PROCESSES, way: RightOfWay | None = None
    ) -> None:
        """Each statement waits for `way`."""
        self._path = path
        self._way = way or RightOfWay()
        self._processes: list[SqlProcess] = []
        self._refusing = threading.Event()
        super().__init__(
            self._begin,
            post,
            name="sql",
            threads=processes,
            together_max=1,
            waiting=Turns(lambda job: job[0].asker),
        )

    def stop(self) -> None:
        """End statements that run, refuse those that wait, and wait until the threads are gone."""
        self._refusing.set()
        for process in self._processes:
            process.kill()
        self._way.give_back()  # whoever could take it for a fold has stopped before
        super().stop()

    def _begin(self) -> SqlProcess:
        process = SqlProcess(self._path, refusing=self._refusing, way=self._way)
        self._processes.append(process)
        return process


class SqlProcess:
    """One process, started again after a statement that ended it; for one thread, but for `kill`.

    Once `refusing` is set no statement is begun any more.
    """

    def __init__(
        self,
        path: Path,
        *,
        seconds_max: float = SECONDS_MAX,
        refusing: threading.Event | None = None,
        way: RightOfWay | None = None,
    ) -> None:
        self._path = path
        self._seconds_max = seconds_max
        self._refusing = refusing or threading.Event()
        self._way = way or RightOfWay()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process there is now."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """End the process, which is idle."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=EXIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def kill(self) -> None:
        """End what runs."""
        process = self._process
        if process is not None:
            process.kill()

    def answers(self, queries: Sequence[SqlRequest]) -> Iterator[list[bytes | RedwireError]]:
        """One answer for each request, in order. Raises nothing: it lives as long as its thread."""
        for request in queries:
            try:
                answer: bytes | RedwireError = self.run(request)
            except RedwireError as error:
                answer = error
            yield [answer]

    def run(self, request: SqlRequest) -> bytes:
        """The body of the answer, once the way is free.

        Raises `QueryFailed`, or `NodeError` where the file is at fault.
        """
        with self._way.passing():
            return self._run(request)

    def _run(self, request: SqlRequest) -> bytes:
        if self._refusing.is_set():
            raise _closing()
        if time.monotonic() >= request.answer_by_s:
            raise QueryFailed("the statement waited too long for its turn", hint="retry", code=Code.TIMEOUT)
        process = self._ready()
        assert process.stdin is not None and process.stdout is not None
        try:
            _write(process.stdin, _encode(_Ask(request.kind, request.payload)))
            answer = _read(process.stdout)
        except OSError:
            answer = None
        if answer is None:
            self.close()
            raise _closing() if self._refusing.is_set() else _ended(process.returncode, self._seconds_max)
        return _body(_decode_answer(answer))

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()  # something ended it while it was idle
        if self._process is None:
            self._process = _started(self._path, self._seconds_max)
        return self._process


def _started(path: Path, seconds_max: float) -> subprocess.Popen[bytes]:
    """A process that finds this same code, whatever the folder it is started in."""
    command = [sys.executable, "-P", "-m", "cluster.sql_process", str(path), str(seconds_max)]
    places = os.pathsep.join((str(_ROOT), *filter(None, sys.path)))
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": places},
        )
    except OSError as error:
        text = f"a process for the statement cannot be started: {error.strerror}"
        raise QueryFailed(text, hint="retry", code=Code.BUSY) from error


def _closing() -> QueryFailed:
    return QueryFailed("this node lets go of its state", hint="retry", code=Code.BUSY)


def _ended(code: int, seconds_max: float) -> QueryFailed:
    """Why a process with this exit code did not answer."""
    if code == -signal.SIGALRM:
        hint = "narrow it down: fewer functions over large values, fewer subqueries"
        text = f"the statement took more than {seconds_max:g} seconds"
        return QueryFailed(text, hint=hint, code=Code.TIMEOUT)
    if code == -signal.SIGSEGV:
        text = "the process that ran the statement crashed, as it does where memory for the answer runs out"
        return QueryFailed(text, hint=_LESS, code=Code.TOO_LARGE)
    if code == _OUT_OF_MEMORY:
        text = f"the statement took more than {MEMORY_BYTES_MAX} bytes of memory"
        return QueryFailed(text, hint=_LESS, code=Code.TOO_LARGE)
    return QueryFailed(f"the process that ran the statement ended (exit code {code})")


# --- what goes through the pipe


class _Ask(msgspec.Struct, frozen=True, array_like=True):
    kind: int
    payload: bytes


class _Result(msgspec.Struct, frozen=True, array_like=True, tag="result"):
    body: bytes


class _Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """The request is at fault."""

    code: str
    message: str
    hint: str


class _Broken(msgspec.Struct, frozen=True, array_like=True, tag="broken"):
    """The file is at fault, not the request."""

    code: str
    message: str
    hint: str


_Answer = _Result | _Failed | _Broken
_encode = msgspec.msgpack.Encoder().encode
_decode_ask = msgspec.msgpack.Decoder(_Ask).decode
_decode_answer = msgspec.msgpack.Decoder(_Answer).decode


def _body(answer: _Answer) -> bytes:
    match answer:
        case _Result(body):
            return body
        case _Failed(code, message, hint):
            raise QueryFailed(message, hint=hint, code=Code(code))
        case _Broken(code, message, hint):
            error = NodeError(message, hint=hint)
            error.code = Code(code)
            raise error


def _write(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(len(message).to_bytes(_LENGTH_BYTES, "little"))
    pipe.write(message)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    """The next message; None when the other end has gone."""
    length = pipe.read(_LENGTH_BYTES)
    wanted = int.from_bytes(length, "little")
    message = pipe.read(wanted) if len(length) == _LENGTH_BYTES else b""
    return message if message and len(message) == wanted else None


# --- the process


def main() -> None:
    """Answer requests until there are no more. The command line names the state file and each one's time."""
    path, seconds_max = Path(sys.argv[1]), float(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node to hear
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.nice(GENTLE)
    worker: SqlWorker | None = None
    try:
        while (message := _read(sys.stdin.buffer)) is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds_max + ALARM_LATE_S)
            try:
                if worker is None:
                    worker = SqlWorker(path, seconds_max=seconds_max)
                    _limit_memory()
                ask = _decode_ask(message)
                answer: _Answer = _Result(answered(worker, ask.kind, ask.payload))
            except NodeError as error:
                answer = _Broken(error.code, error.message, error.hint)
            except RedwireError as error:
                answer = _Failed(error.code, error.message, error.hint)
            encoded = _encode(answer)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _write(sys.stdout.buffer, encoded)
    except BrokenPipeError:
        os._exit(0)  # the node has gone
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)  # too little is left to go on with, or even to clean up


def answered(worker: SqlWorker, kind: int, payload: bytes) -> bytes:
    """The body that answers one. Raises `RequestInvalid`, `PolicyInvalid`, `QueryFailed`, or `NodeError`."""
    body = encode_result(kind, worker.run(decode_query(kind, payload)))
    if len(body) > PAYLOAD_BYTES_MAX:
        raise TooLarge("bytes of the answer", len(body), PAYLOAD_BYTES_MAX)
    return body


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES_MAX
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
