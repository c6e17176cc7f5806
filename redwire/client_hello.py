"""The first words of a TLS client, as far as a server has to know them before it answers (RFC 8446, 4.1.2).

OpenSSL reads them too, but by then it has decided whether to ask for a certificate.
"""

from __future__ import annotations

HANDSHAKE = 22
"""The type of the record that a ClientHello comes in."""
RECORD_BYTES_MAX = 16 << 10
"""What one record holds (RFC 8446, 5.1)."""
_HEADER_BYTES = 5
_CLIENT_HELLO = 1
_ALPN = 16
_RANDOM_BYTES = 32


def whole(data: bytes | bytearray) -> bool:
    """Whether the first record has come, or what came begins with none that could hold a ClientHello."""
    if len(data) < _HEADER_BYTES:
        return data[:1] not in (b"", bytes((HANDSHAKE,)))
    size = int.from_bytes(data[3:5], "big")
    return data[0] != HANDSHAKE or size > RECORD_BYTES_MAX or len(data) >= _HEADER_BYTES + size


def protocols(data: bytes | bytearray) -> tuple[bytes, ...] | None:
    """The application protocols (ALPN, RFC 7301) that the ClientHello in the first record of `data` offers;
    None where there is none that can be read, or it goes on in another record.
    """
    hello = _Reader(bytes(data))
    try:
        if hello.number(1) != HANDSHAKE:
            return None
        hello.skip(2)
        hello = hello.part(2)
        if hello.number(1) != _CLIENT_HELLO:
            return None
        hello = hello.part(3)
        hello.skip(2 + _RANDOM_BYTES)
        for length_bytes in (1, 2, 1):  # a session's name, ciphers, compressions
            hello.part(length_bytes)
        extensions = hello.part(2) if hello.left else hello
        while extensions.left:
            kind, body = extensions.number(2), extensions.part(2)
            if kind == _ALPN:
                names, found = body.part(2), list[bytes]()
                while names.left:
                    found.append(names.part(1).rest())
                return tuple(found)
        return ()
    except EOFError:
        return None


class _Reader:
    """Takes numbers and parts off the front of some bytes. Raises `EOFError` where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        """Whether there is more."""
        return self._at < len(self._data)

    def number(self, size: int) -> int:
        """A number of so many bytes."""
        return int.from_bytes(self._take(size), "big")

    def part(self, length_bytes: int) -> _Reader:
        """What follows a length of so many bytes."""
        return _Reader(self._take(self.number(length_bytes)))

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        self._take(size)

    def rest(self) -> bytes:
        """All that is left."""
        return self._data[self._at :]

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise EOFError
        taken, self._at = self._data[self._at : end], end
        return taken
