"""Standard input, output and error: there from the first moment of a process, and heard to its last."""

from __future__ import annotations

import os
import sys

_STDOUT = 1
_FAILED = 1
_PIPE_CLOSED = 141
"""128 and SIGPIPE: as of a tool that dies of it; nothing is said."""


def fill_standard_streams() -> None:
    """Put the null device in the place of each that is closed. To be called before any file is opened: it
    would take the number, and have what is said written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            assert null == number, "the lowest number that is free"
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, "w" if number else "r", closefd=False))


def all_said(code: int, said: str) -> int:
    """The exit code `code` of `redwire-node`, once what it `said` has left; else that of why it could not."""
    try:
        sys.stdout.write(said)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # it is flushed once more at the end
        if isinstance(error, BrokenPipeError):
            return _PIPE_CLOSED
        print(f"redwire-node: standard output: {error.strerror}", file=sys.stderr)
        return code or _FAILED
    return code
