"""How a command failed: one line for people, one JSON object with `--json`, and the exit code."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping

import click
import msgspec

from redwire.errors import (
    ASK_HINT,
    AuthenticationFailed,
    Code,
    Conflict,
    ConnectFailed,
    DeadlineExceeded,
    NotConfirmed,
    PolicyInvalid,
    RedwireError,
    Refused,
    RequestInvalid,
    TokenInvalid,
    UnknownOutcome,
    UriInvalid,
)
from redwire.record import Key
from tools.errors import Interrupted, LoadStopped, PromiseEmpty, RoleAbove, ScanStopped

URI_VARIABLE = "REDWIRE_URI"
"""Where a command looks for the URI that it was not given."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNKNOWN = 3
"""Written or not: that is not known."""
EXIT_REFUSED = 4
"""Certainly nothing was changed; or a policy that should not be."""
EXIT_UNSENT = 5
"""Nobody was reached, or let us in, in time: it was not sent, so certainly nothing was changed."""
EXIT_SIGNALLED = 128
"""And the number of the signal, as shells have it."""
EXIT_INTERRUPTED = EXIT_SIGNALLED + signal.SIGINT
EXIT_PIPE_CLOSED = EXIT_SIGNALLED + signal.SIGPIPE
"""As of a tool that dies of it; nothing is said."""


class Failure(msgspec.Struct, frozen=True):
    """What a command says at its end: `message` to people, `code` and `reason` to programs, and so `facts`,
    which differ from code to code. `key` is that of a write whose outcome is not known, None otherwise.
    """

    code: str
    message: str
    reason: str
    exit_code: int
    hint: str = ""
    key: Key | None = None
    facts: Mapping[str, object] = {}

    def __str__(self) -> str:
        return (
            f"redwire: {self.message.removesuffix('.')}; {self.hint}"
            if self.hint
            else f"redwire: {self.message}"
        )

    def to_json(self, *, ended: bool = True) -> str:
        """The same for programs, on one line; `key` is there only with a key. A command that has not `ended`,
        and goes on in spite of it, has no exit code yet: None.
        """
        document = {
            "code": self.code,
            "message": self.reason,
            "hint": self.hint,
            "exit_code": self.exit_code if ended else None,
            "facts": dict(self.facts),
        }
        if self.key is not None:
            document["key"] = str(self.key)
        return json.dumps(document, default=str)


def failure(
    error: RedwireError | OSError | click.ClickException | click.Abort | KeyboardInterrupt,
) -> Failure:
    """The failure behind what a command raised."""
    match error:
        case RedwireError():
            key = error.key if isinstance(error, NotConfirmed | UnknownOutcome | Interrupted) else None
            hint = error.hint if key is None or error.hint not in ("", ASK_HINT) else resolve_hint(key)
            told = error.message, error.without_code
            return Failure(error.name, *told, exit_code(error), hint, key, _facts(error))
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return _simple("SYSTEM", f"{where}{error.strerror or error}", EXIT_FAILED)
        case click.UsageError():
            hint = f"see {error.ctx.command_path} --help" if error.ctx is not None else ""
            return _simple("USAGE", error.format_message(), EXIT_USAGE, hint)
        case click.ClickException():
            return _simple("FAILED", error.format_message(), error.exit_code)
        case click.Abort() | KeyboardInterrupt():
            return _simple("INTERRUPTED", "interrupted", EXIT_INTERRUPTED)


def _simple(code: str, message: str, exit_code: int, hint: str = "") -> Failure:
    return Failure(code, message, message, exit_code, hint)


def _facts(error: RedwireError) -> Mapping[str, object]:
    """What programs are told of it: its facts, and the receipt where the cluster gave one."""
    receipt = error.receipt if isinstance(error, Conflict | NotConfirmed) else None
    return error.facts if receipt is None else error.facts | {"receipt": receipt.to_json()}


def resolve_hint(key: Key) -> str:
    """What to type to learn what became of a write."""
    where = "" if URI_VARIABLE in os.environ else " --uri URI"
    return f"ask what became of it: redwire resolve {key}{where}"


def exit_code(error: RedwireError) -> int:
    """What the exit code says of an outcome."""
    match error:
        case Interrupted(number=number) | ScanStopped(reason=Interrupted(number=number)):
            return EXIT_SIGNALLED + number
        case LoadStopped() | ScanStopped():
            return EXIT_FAILED
        case NotConfirmed() | UnknownOutcome() | RedwireError(code=Code.KEY_EXPIRED):
            return EXIT_UNKNOWN
        case ConnectFailed() | AuthenticationFailed() | DeadlineExceeded(sent=False):
            return EXIT_UNSENT
        case UriInvalid() | TokenInvalid():
            return EXIT_USAGE
        case Refused() | Conflict() | RequestInvalid() | PolicyInvalid() | PromiseEmpty() | RoleAbove():
            return EXIT_REFUSED
        case _:
            return EXIT_FAILED
