"""What came over a connection, on its way to TLS, which gets a few of its records at a time.

TLS reads on by itself until it finds data. A record without any, such as a new key (RFC 8446, 4.6.3), is 27
bytes and costs 0.1 ms, and may ask for an answer that whoever sends it need not read: of what one read of a
socket brings, TLS would be at it for a second, and none of the other connections meanwhile.
"""

from __future__ import annotations

import ssl

RECORDS_MAX = 32
"""Given to TLS at a time: half a megabyte in the largest records, or 3 ms of the dearest."""
BARREN_MAX = 32
"""Records without data, of the last `FORGOTTEN_AFTER` with some. Honest ends change their keys after millions
of records, and a foreign proxy may hand out a handful of sessions to resume.
"""
FORGOTTEN_AFTER = 1_000
_HEADER_BYTES = 5  # type, version, and the length of what follows in the last two (RFC 8446, 5.1)


class Arrivals:
    """The bytes of one connection, in order. On a plain one they are at once where they are read from.

    `bio` is what TLS, or who reads a plain connection, takes them from; `held` is what it gets next.
    `crumbled`: whoever read last stopped at a number of records, not for want of any.
    """

    def __init__(self, *, tls: bool) -> None:
        self.bio = ssl.MemoryBIO()
        self.crumbled = False
        self._tls = tls
        self.held = bytearray()
        self._next = 0  # where in `held` the next record begins
        self._ended = False
        self._barren = self._fruitful = 0

    @property
    def pending(self) -> int:
        """Bytes that nobody has taken yet."""
        return self.bio.pending + len(self.held)

    @property
    def barren(self) -> bool:
        """Whether too many records brought nothing; asked when TLS has read all that it was given."""
        return self._barren > BARREN_MAX

    def write(self, data: bytes) -> None:
        """More came."""
        if not self._tls:
            self.bio.write(data)
        elif self.held or self._next or self.bio.pending or len(data) != _record_bytes(data, 0):
            self.held += data
        else:  # one whole record, as most frames are: spares it the way through `held`
            self._barren += 1
            self.bio.write(data)

    def write_eof(self) -> None:
        """No more will come: whoever reads hears of it behind all that came."""
        self._ended = True
        if not self.held:
            self.bio.write_eof()

    def ready(self) -> bool:
        """Whether TLS has something to read, whose next records it gets when it has read all others."""
        if self.bio.pending:
            return True
        held, at, begun = self.held, self._next, 0
        while begun < RECORDS_MAX and (size := _record_bytes(held, at)):
            at += size
            begun += 1
        size = min(at, len(held)) or (len(held) if self._ended else 0)
        if not size:
            return False
        self._barren += begun
        self._next = at - size if at > size else 0
        self.bio.write(held if size == len(held) else held[:size])
        del held[:size]
        if self._ended and not held:
            self.bio.write_eof()
        return True

    def found(self, count: int) -> None:
        """TLS found data in so many records."""
        self._barren = max(0, self._barren - count)
        self._fruitful += count
        if self._fruitful >= FORGOTTEN_AFTER:
            self.forget()

    def forget(self) -> None:
        """The handshake is over, whose records hold no data; or much came since."""
        self._barren = self._fruitful = 0


def _record_bytes(data: bytes | bytearray, at: int) -> int:
    """How long the record is that begins at `at`; 0 where its header is not all there."""
    if at + _HEADER_BYTES > len(data):
        return 0
    return _HEADER_BYTES + (data[at + 3] << 8 | data[at + 4])
