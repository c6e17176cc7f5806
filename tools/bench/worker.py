"""A process of ours beside the measurement: one JSON line in, lines out, and an end in any case."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

import msgspec

from tools.errors import BenchImpossible

STOP_S = 10.0
"""It ends with its standard input; longer than that it hangs."""


class Worker:
    """`python -m <module>`, told by a first line what to do. A context manager: it ends with it."""

    def __init__(self, module: str, order: msgspec.Struct) -> None:
        """Start it."""
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.say(order)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def say(self, order: msgspec.Struct) -> None:
        """Write one line to it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def line(self) -> bytes:
        """Its next line. Raises `BenchImpossible` when it has ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        return line

    def _gone(self) -> BenchImpossible:
        return BenchImpossible(f"{self._module} ended early", hint="what it said stands above")
