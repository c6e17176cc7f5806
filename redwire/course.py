"""What to do next about one write, after each thing that happened to it: the client's half of R8 and R9.

A write is sent, and then it is committed, or one of these happens:

    refused, may pass      send it again after a pause, the same key
    refused for good       that is the outcome, unless an earlier attempt may be in the log: ask for the key
    key expired            on the first attempt it was certainly not executed: once more under a new key
    not confirmed          that is the outcome, unless the server could not even look for an earlier attempt
    connection lost        send it again, the same key, as one attempt more
    deadline               what is then known

What was once *unknown* or *not confirmed* is never called refused, unless the primary says that the key is
absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from redwire.attempts import Attempts
from redwire.errors import (
    ASK_HINT,
    ChannelClosed,
    Code,
    DeadlineExceeded,
    NotConfirmed,
    RedwireError,
    UnknownOutcome,
)

if TYPE_CHECKING:
    import random

PAUSE_FIRST_S = 0.02
"""Some commits within a region: what passes at all has often passed by then."""
PAUSE_MAX_S = 1.0
"""So soon a write goes on once the cluster takes writes again; a crowd of clients asks once a second each."""


class Again(msgspec.Struct, frozen=True):
    """Send the request, the same key, after a pause."""

    pause_s: float


class Ask(msgspec.Struct, frozen=True):
    """Ask the primary, after a pause, what became of the key."""

    pause_s: float


class Rekey(msgspec.Struct, frozen=True):
    """Get a new client id, and send the request under a new key."""


class End(msgspec.Struct, frozen=True):
    """The outcome is this error."""

    error: RedwireError


Step = Again | Ask | Rekey | End


class Course(Attempts):
    """The story of one write so far. `unissued` is why there is no new client id yet, where one is needed."""

    def __init__(self, chance: random.Random, *, in_flight: bool) -> None:
        super().__init__(in_flight=in_flight)
        self._chance = chance
        self._pauses = 0
        self._rekeyed = False
        self.unissued: RedwireError | None = None

    def lost(self, error: RedwireError) -> Step:
        """The connection ended before an answer came."""
        self.unheard(error)
        return Again(self._pause_s())

    def failed(self, error: RedwireError) -> Step:
        """The server, or the way to it, answered with an error."""
        if error.code is Code.KEY_EXPIRED:
            self.in_flight = False
            return self._expired(error)
        before = self.doubt
        self.heard(error)
        if isinstance(error, NotConfirmed):
            looked_for = before is not None and error.receipt is None  # an earlier attempt
            return Again(self._pause_s()) if looked_for else End(error)
        if error.retry:
            return Again(self._pause_s())
        return End(error) if before is None else Ask(0.0)

    def absent(self) -> Step:
        """The primary says that the key was never executed and is not in its log."""
        assert self.refusal is not None
        return End(self.refusal)

    def unanswered(self, error: RedwireError) -> Step:
        """Asking for the key brought nothing: the connection ended, the primary cannot tell, or will not."""
        if error.code is Code.KEY_EXPIRED:
            return self._expired(error)
        if error.code is Code.FORBIDDEN or error.code is Code.UNAUTHENTICATED and not error.retry:
            return End(self._untold(error))
        return Ask(self._pause_s())

    def timed_out(self, phase: str, timeout_s: float, why: str, hint: str = "") -> RedwireError:
        """The deadline came in `phase`: what can be said. `why` is the last thing that went wrong, or "", and
        `hint` what to do about it; where a new client id was waited for, that counts.
        """
        if self.unissued is not None and not self.doubtful:
            why, hint = self.unissued.message, self.unissued.hint
        tail = f": {why}" if why else ""
        how = f"within {timeout_s:g} s"
        unsent = f"not sent {how}, in phase {phase}{tail}"
        return self._left(phase, how, tail, DeadlineExceeded(unsent, phase=phase, hint=hint))

    def abandoned(self) -> RedwireError:
        """The client is being closed: what can be said."""
        how = "before the client was closed"
        return self._left("answer", how, "", ChannelClosed(f"not sent {how}", retry=False))

    def _left(self, phase: str, how: str, tail: str, unsent: RedwireError) -> RedwireError:
        """The outcome of a write that nobody pursues any more; `unsent` if it cannot have been executed."""
        if not self.doubtful:
            return self.refusal or unsent
        lost = "" if self.doubt is None else f", and an earlier attempt was lost ({self.doubt.message})"
        if self.doubt is not None and tail == f": {self.doubt.message}":
            tail = ""  # nothing else is known
        return self.open_end(f"no answer {how}{lost}{tail}: written or not is not known", phase, ASK_HINT)

    def _expired(self, error: RedwireError) -> Step:
        if self.doubt is None and not self._rekeyed:
            self._rekeyed = True
            return Rekey()
        if self.doubt is None:
            return End(error)
        return End(
            UnknownOutcome(
                f"an attempt was lost ({self.doubt.message}), and its key is forgotten by now",
                phase="answer",
                hint="read the document, then decide",
            )
        )

    def _untold(self, error: RedwireError) -> RedwireError:
        """The outcome of a write whose user may not write any more, nor ask."""
        assert self.doubt is not None
        lost = f"an attempt was lost ({self.doubt.message})"
        text = f"{lost}, and what became of it is not told: {error.message}"
        return self.open_end(text, "answer", "an administrator may ask for the key")

    def _pause_s(self) -> float:
        """From 20 ms doubling to 1 s; half of it is chance, to keep clients from one rhythm."""
        pause_s = min(PAUSE_FIRST_S * 2.0 ** min(self._pauses, 16), PAUSE_MAX_S)
        self._pauses += 1
        return pause_s * (0.5 + 0.5 * self._chance.random())
