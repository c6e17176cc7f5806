"""What is known of one request that changes something, however often it was sent.

It is executed once or not at all, or what is sent twice has the same effect. What was once *lost* or *not
confirmed* may be executed, whatever is refused later.
"""

from __future__ import annotations

from redwire.errors import LONELY, NotConfirmed, RedwireError, UnknownOutcome

LAST_TRY_SHARE = 0.1
"""Of a call's time: a try that begins when less is left would only make unknown what was refused."""


class Attempts:
    """`attempt` is the number of the next one: one more than those whose fate is not known. `in_flight` says
    whether an answer may still come on the connection that the last one went out on.

    `doubt` is why one of them may have been executed, None if there is no reason; `refusal` is the last
    answer by which one certainly was not, None if there is none.
    """

    def __init__(self, *, in_flight: bool = False) -> None:
        self.attempt = 1
        self.in_flight = in_flight
        self.doubt: RedwireError | None = None
        self.refusal: RedwireError | None = None

    @property
    def doubtful(self) -> bool:
        """Whether one of them may have been executed."""
        return self.in_flight or self.doubt is not None

    @property
    def trouble(self) -> RedwireError | None:
        """Why it is still under way: the last refusal, else `doubt`; None if nothing went wrong."""
        return self.refusal or self.doubt

    @property
    def refused(self) -> RedwireError | None:
        """The last refusal, if it is certainly not executed; else None."""
        return None if self.doubtful else self.refusal

    @property
    def lonely(self) -> bool:
        """Whether the primary may be cut off: it lacks others, and another one may lead."""
        return any(error is not None and error.code in LONELY for error in (self.doubt, self.refusal))

    def sent(self) -> None:
        """One more went out."""
        self.in_flight = True

    def unheard(self, error: RedwireError) -> None:
        """The connection ended before an answer came."""
        self.in_flight = False
        self.attempt += 1
        self.doubt = self.doubt or error

    def heard(self, error: RedwireError) -> None:
        """The answer is this error."""
        self.in_flight = False
        if isinstance(error, NotConfirmed):
            self.doubt = error
        else:
            self.refusal = error

    def open_end(self, text: str, phase: str, hint: str) -> RedwireError:
        """What is to be told where they are `doubtful` and no more is sent: that one is logged, if the server
        said so, else `text`.
        """
        if isinstance(self.doubt, NotConfirmed):
            return self.doubt
        return UnknownOutcome(text, phase=phase, hint=hint)
