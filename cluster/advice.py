"""What an operator should do before it becomes an error."""

from __future__ import annotations

import msgspec


class Advice(msgspec.Struct, frozen=True):
    """`what` is wrong or will be, where, and how to `mend` it; "" where `what` says all. `str()` is both."""

    what: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.mend}" if self.mend else self.what
