"""The `redwire` command for tests that run it often: forked from a process that has imported all verbs.

`CommandForks` writes a program that takes the place of `redwire`. It hands its words, folder, environment and
the three standard files to that process, and ends with the exit code of the process that is forked for them.
"""

from __future__ import annotations

import gc
import io
import marshal
import os
import signal
import socket
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Self

from tools.cli.main import VERBS, main

BACKLOG = 64
CHUNK_BYTES = 1 << 16
PROGRAM = """\
#!/bin/sh
'''exec' "{python}" -IS "$0" "$@"
' '''
import _socket, marshal, os, sys
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
server.connect({path!r})
files = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2))
request = marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ)))
sent = server.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
while sent < len(request):
    sent += server.send(request[sent:])
server.shutdown(_socket.SHUT_WR)
os._exit(int(server.recv(8) or 70))
"""
"""The shell starts Python, whose path may hold blanks, which the first line of a program cannot; for Python
its two lines are a text.
"""


class CommandForks:
    """Makes `program` while it is entered."""

    def __init__(self, program: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="redwire-")  # a socket's path has to be short
        self._path = Path(self._folder.name) / "socket"
        self._program = program
        program.write_text(PROGRAM.format(python=sys.executable, path=str(self._path)))
        program.chmod(0o755)

    def __enter__(self) -> Self:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._path))
            listener.listen(BACKLOG)
            command = [sys.executable, "-m", __name__, str(listener.fileno())]
            self._server = subprocess.Popen(command, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL)
        try:  # once this is answered everything is imported, and no command takes longer than the next
            subprocess.run([self._program, "--version"], stdout=subprocess.DEVNULL, check=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._server.kill()
        self._server.wait()
        self._folder.cleanup()


def serve(listener: socket.socket) -> None:
    """Fork a process for each that connects."""
    for verb in VERBS.values():
        import_module(verb.where.partition(":")[0])
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    while True:
        connection, _ = listener.accept()
        with connection:
            if os.fork() == 0:
                listener.close()
                connection.sendall(str(_be_redwire(connection)).encode())
                os._exit(0)


def _be_redwire(connection: socket.socket) -> int:
    """Be `redwire` for whoever is at the other end; the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, files, _, _ = socket.recv_fds(connection, CHUNK_BYTES, 3)
    while chunk := connection.recv(CHUNK_BYTES):
        request += chunk
    arguments, folder, environment = marshal.loads(request)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["redwire", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            assert isinstance(stream, io.TextIOWrapper)
            stream.flush()
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
