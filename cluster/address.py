"""A TCP address as configurations write it."""

from __future__ import annotations

import re
from typing import NamedTuple


class Address(NamedTuple):
    """A TCP address. An IPv6 host stands in brackets in text, without them here."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """`host:port` or `[::1]:port`. Raises `ValueError`."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        bare = host[1:-1] if bracketed else host
        strange = not bare.isprintable() or any(sign in bare for sign in " /[]@")
        if not colon or not bare or (":" in bare) != bracketed or strange:
            raise ValueError(f"expected host:port (an IPv6 host in brackets), not {text!r}")
        if not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65_535):
            raise ValueError(f"expected a port from 1 to 65535 behind the last colon, not {port!r}")
        return cls(bare, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return re.fullmatch(r"localhost|::1|127(\.\d{1,3}){3}", self.host) is not None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Whereabouts:
    """Where a member may be: at the address that we know, or at the one that it says itself.

    A member that has moved while we were away is known at its old address, and all that could tell us may
    stand in its log alone. What answers must prove that it is the member, wherever it is.
    """

    def __init__(self, known: Address) -> None:
        """`place` is where to dial now."""
        self.place = known
        self._known = known
        self._told: Address | None = None

    def told(self, text: str) -> None:
        """The member says that it is reached at `text`; what is no address says nothing."""
        try:
            self._told = Address.parse(text)
        except ValueError:
            return

    def missed(self) -> None:
        """It was not reached at `place`: the other one is next, if there is another."""
        elsewhere = self._told if self.place == self._known else None
        self.place = elsewhere or self._known
