"""The command line as a person runs it: arguments in; exit code, output and errors out."""

from __future__ import annotations

import io
import sys
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import anyio.to_thread
import pytest

from tools.cli.main import main


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


class Said(io.TextIOWrapper):
    """What a command prints: text, by its locale's `encoding`, and bytes."""

    def __init__(self, encoding: str) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding=encoding, write_through=True)

    def getvalue(self) -> str:
        return self._bytes.getvalue().decode()


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Ran]]:
    """Run `redwire` with these arguments, in a thread: the test's loop goes on meanwhile."""

    def run(arguments: tuple[str, ...], stdin: bytes, encoding: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["redwire", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        out, err, code = Said(encoding), Said(encoding), 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Ran(code, out.getvalue(), err.getvalue())

    async def call(*arguments: str, stdin: bytes = b"", encoding: str = "utf-8") -> Ran:
        return await anyio.to_thread.run_sync(run, arguments, stdin, encoding)

    return call
