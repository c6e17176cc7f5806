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
