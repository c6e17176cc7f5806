"""Commands for a process that lives on: a Unix socket in its folder, a line for each command and each answer.

Whoever may enter the folder may give commands: the socket has mode 0600.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
from anyio.abc import SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from tools.errors import LinkInvalid

LINE_BYTES_MAX = 4 << 10
"""A command names links and a few numbers; the answer to it fits as well."""
ANSWER_S = 10.0
"""A process that turns answers within milliseconds."""
READ_BYTES = 1 << 16
"""One reading of a socket."""


async def serve(
    path: Path, command: Callable[[str], str], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Answer every line at `path` with what `command` says, one line, until cancelled.

    Started when `ask` reaches it. A socket that an earlier process left there is replaced.
    """
    with _address(path) as address:
        listener = await anyio.create_unix_listener(address, mode=0o600)

        async def answer(stream: SocketStream) -> None:
            async with stream:
                lines = BufferedByteReceiveStream(stream)
                with suppress(anyio.IncompleteRead, anyio.DelimiterNotFound, anyio.BrokenResourceError):
                    while True:
                        line = await lines.receive_until(b"\n", LINE_BYTES_MAX)
                        await stream.send(command(line.decode(errors="replace")).encode() + b"\n")

        async with listener:
            task_status.started()
            try:
                await listener.serve(answer)
            finally:
                os.unlink(address)


def ask(path: Path, line: str) -> str:
    """The answer to one command. Raises `LinkInvalid` when nobody listens at `path`, or does not answer."""
    answer = b""
    try:
        with _address(path) as address, socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(ANSWER_S)
            stream.connect(address)
            stream.sendall(line.encode() + b"\n")
            while not answer.endswith(b"\n"):
                data = stream.recv(READ_BYTES)
                if not data:
                    raise ConnectionResetError("closed without an answer")
                answer += data
    except OSError as error:
        why = error.strerror or str(error)
        raise LinkInvalid(f"nobody takes commands at {path}: {why}", hint="do the links run?") from error
    return answer[:-1].decode()


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """`path` in few bytes: a socket's address holds 107, and folders lie deeper than that."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
