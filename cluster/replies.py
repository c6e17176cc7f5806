"""What one client's session sends: frames, and errors in the words of our own kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cluster.guests import user_of
from cluster.service import Service
from redwire.body import encode
from redwire.errors import Code, RedwireError
from redwire.frame import Kind
from redwire.handshake import Principal
from redwire.message.failure import Failure


class Wire(Protocol):
    """Where frames go. `peer` is the address of the client."""

    @property
    def peer(self) -> str:
        """Whom they reach."""

    @property
    def buffered_bytes(self) -> int:
        """What was sent and nobody has taken yet."""

    @property
    def gone(self) -> bool:
        """Whether nobody will ever take anything more."""

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        """Send one frame. Never waits."""

    def when_below(self, limit_bytes: int, call: Callable[[], None]) -> None:
        """Call `call`, once, when fewer than `limit_bytes` wait, or nobody will ever take them."""


class Replies:
    """The way back to `principal` behind `wire`."""

    __slots__ = ("_principal", "_service", "send", "wire")

    def __init__(self, service: Service, principal: Principal, wire: Wire) -> None:
        self._service = service
        self._principal = principal
        self.wire: Wire = wire
        self.send = wire.send

    @property
    def user(self) -> str:
        """Whose session it is, where users share something; whoever has no name is one user."""
        return user_of(self._principal)

    def hang_up(self) -> None:
        """The client is gone: what is said from now on is dropped. What still waits, for a minute at most,
        holds nothing of its connection.
        """
        self.wire, self.send = _NOBODY, _NOBODY.send

    def fail(self, correlation: int, error: RedwireError) -> None:
        """Send `error` as a Failure, and count it; with the way to the primary where that is what helps."""
        self._service.node.bulletin.counts.answered(error.code)
        topology = self._service.announcer.blob(self._principal) if error.code is Code.NOT_PRIMARY else None
        self.send(Kind.FAILURE, encode(Failure.from_error(error, topology)), correlation)


class _Nobody:
    """Where a client was that is gone."""

    peer = ""
    buffered_bytes = 0
    gone = True

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        """Nobody hears it."""

    def when_below(self, limit_bytes: int, call: Callable[[], None]) -> None:
        """At once: nothing waits."""
        call()


_NOBODY = _Nobody()
