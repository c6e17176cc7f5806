"""Failure (4F): how an error travels, and how it becomes the same error on the other side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Self

import msgspec

from redwire import errors
from redwire.body import ClosedStruct
from redwire.errors import Code, RedwireError
from redwire.printable import printable

MESSAGE_CHARS_MAX = 4_096
"""A Failure is a body of 64 KiB at most: the longest texts, at four bytes a character, take 37 KB of it, the
topology of 64 members with the longest addresses 22.
"""
HINT_CHARS_MAX = 1_024
"""A sentence, or a command to type with its names."""
FACTS_MAX = 16
"""The widest error has three."""
FACT_CHARS_MAX = 256
"""As long as an address may be; of a list it is all its texts together."""
Fact = int | str | list[str]
"""One value: a number, a text, or several texts."""


class Failure(ClosedStruct, frozen=True, kw_only=True):
    """Failure (4F): the error answer to our own kinds. `topology` is a blob, where it helps."""

    code: Code
    message: str
    hint: str = ""
    retry: bool = False
    facts: Annotated[dict[str, Fact], msgspec.Meta(max_length=FACTS_MAX)] = {}  # noqa: RUF012
    topology: bytes | None = None

    @classmethod
    def from_error(cls, error: RedwireError, topology: bytes | None = None) -> Self:
        """What the wire says of `error`, and beside it the `topology` that helps. Long texts are cut."""
        return cls(
            code=error.code,
            message=_cut(error.without_code, MESSAGE_CHARS_MAX),
            hint=_cut(error.hint, HINT_CHARS_MAX),
            retry=error.retry,
            facts={
                _cut(name, FACT_CHARS_MAX): _fact(value) for name, value in [*error.facts.items()][:FACTS_MAX]
            },
            topology=topology,
        )

    def to_error(self) -> RedwireError:
        """What the caller raises: the class that `code` belongs to, with the facts of the sender. Message and
        hint can be printed, whatever was sent.
        """
        told = msgspec.structs.replace(self, message=printable(self.message), hint=printable(self.hint))
        error = told._of_its_class()
        error.retry = self.retry
        error.facts |= self.facts
        return error

    def _of_its_class(self) -> RedwireError:
        if self.code in (Code.INVALID, Code.TOO_LARGE, Code.BATCH_TOO_LARGE):
            return self._request_error()
        if self.code is Code.TIMEOUT:
            phase = str(self.facts.get("phase", "answer"))
            return errors.DeadlineExceeded(self.message, phase=phase, hint=self.hint, sent=True)
        simple = _SIMPLE.get(self.code)
        if simple is not None:
            return simple(self.message, hint=self.hint)
        return errors.Refused(self.code, self.message, hint=self.hint)

    def _request_error(self) -> RedwireError:
        place, size, limit = (self.facts.get(name) for name in ("record", "size", "limit"))
        record = place if isinstance(place, int) else None
        message = self.message.removeprefix(f"record {place}: ")
        if self.code is Code.INVALID or not isinstance(size, int) or not isinstance(limit, int):
            invalid = errors.RequestInvalid(message, record, hint=self.hint)
            invalid.code = self.code
            return invalid
        what = message.removesuffix(f": {size}, at most {limit}")
        return errors.TooLarge(what, size, limit, code=self.code, record=record)


_SIMPLE: dict[Code, type[RedwireError]] = {
    Code.COMMIT_POLICY_INVALID: errors.PolicyInvalid,
    Code.UNAUTHENTICATED: errors.AuthenticationFailed,
    Code.NOT_CONFIRMED: errors.NotConfirmed,
    Code.NOT_PRIMARY: errors.NotPrimary,
    Code.TOKEN_LOST: errors.TokenLost,
}


def _cut(text: str, chars_max: int) -> str:
    """At most `chars_max` characters that UTF-8 can carry."""
    return text[:chars_max].encode(errors="replace").decode()


def _fact(value: object) -> Fact:
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return int(value)
    if isinstance(value, list | tuple):
        return [*_listed(value)]
    return _cut(str(value), FACT_CHARS_MAX)


def _listed(values: Iterable[object]) -> Iterator[str]:
    """Whole texts from the first on, as many as have room."""
    room = FACT_CHARS_MAX
    for text in map(str, values):
        room -= max(1, len(text))
        if room < 0:
            return
        yield _cut(text, FACT_CHARS_MAX)
