"""Commands of one client: changes of settings and accounts, which the primary makes and no key stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import anyio

from redwire.course import LAST_TRY_SHARE
from redwire.errors import (
    AuthenticationFailed,
    ChannelClosed,
    Code,
    ConnectFailed,
    DeadlineExceeded,
    NotConfirmed,
    NotPrimary,
    RedwireError,
    UnknownOutcome,
)
from redwire.frame import Kind
from redwire.link import Answer
from redwire.pool import Pool

AGAIN_S = 0.1
"""Before the primary is told again: a reign is ready a round trip after it began."""
_NOT_YET = frozenset((Code.NOT_PRIMARY, Code.NOT_READY, Code.BUSY))


class Told(NamedTuple):
    """The answer to a command. `repeated`: it was sent before, and may have been done then."""

    answer: Answer
    repeated: bool


class Commands:
    """Commands over the links of `pool`. `trouble` is why the last one still waits; "" once it does not."""

    def __init__(self, pool: Pool) -> None:
        self.trouble = ""
        self._pool = pool

    async def tell(
        self, kind: Kind, body: bytes, timeout_s: float, *, hint: str, repeatable: bool = False
    ) -> Told:
        """Have the primary do something; its answer.

        What it refuses because it does not lead, or cannot do it yet, is sent again within the deadline. What
        is `repeatable` is so after any refusal that can pass, and after a sending of which nothing was heard.

        Raises the answer that was an error, `DeadlineExceeded` when nothing was sent, and `UnknownOutcome`,
        which says `hint`, when something was and may have been done. A later refusal does not change that.
        """
        sendings = _Sendings(hint)
        try:
            with anyio.move_on_after(timeout_s) as limit:
                while True:
                    told = await self._send(sendings, kind, body, repeatable)
                    if told is not None:
                        return told
                    await anyio.sleep(AGAIN_S)
                    left_s = limit.deadline - anyio.current_time()
                    if sendings.refused and left_s < LAST_TRY_SHARE * timeout_s:
                        break
        finally:
            self.trouble = ""
        if (error := sendings.outcome(f"no answer within {timeout_s:g} s")) is not None:
            raise error
        said = sendings.said
        why, hint = (said.message, said.hint) if said is not None else (self._pool.trouble, self._pool.hint)
        text = f"nobody could be asked within {timeout_s:g} s" + (f": {why}" if why else "")
        raise DeadlineExceeded(text, phase=self._pool.phase, hint=hint) from said

    async def _send(self, sendings: _Sendings, kind: Kind, body: bytes, repeatable: bool) -> Told | None:
        """Send it once; None when it is to be sent again. Raises what became of it."""
        try:
            link = await self._pool.leader()
        except (AuthenticationFailed, ChannelClosed, ConnectFailed) as error:
            if not sendings.lost:
                raise
            text = f"the session ended before there was an answer, and no other began: {error.message}"
            raise UnknownOutcome(text, phase="answer", hint=sendings.hint) from error
        sendings.under_way = link.failure is None
        try:
            return Told(await link.ask(kind, body), sendings.lost)
        except RedwireError as error:
            passes = error.retry if repeatable or not sendings.under_way else error.code in _NOT_YET
            sendings.ended(error)
            if not passes:
                outcome = sendings.outcome(error.message)
                if outcome is None or outcome is error:
                    raise
                raise outcome from error
            self.trouble = error.message
        self._pool.look_around()  # it may be cut off, and another one lead
        return None


@dataclass(slots=True, eq=False)
class _Sendings:
    """What is known of one command. `lost`: a sending of it got no answer that says what became of it.

    `said` is the last error that answered one.
    """

    hint: str
    under_way: bool = False
    lost: bool = False
    said: RedwireError | None = None

    def ended(self, error: RedwireError) -> None:
        """The one under way, if any, came to this."""
        if self.under_way:
            self.under_way, self.said = False, error
            self.lost = self.lost or isinstance(error, ChannelClosed | NotConfirmed)

    @property
    def refused(self) -> bool:
        """Whether all of them certainly did nothing."""
        return self.said is not None and not self.lost and not self.under_way

    def outcome(self, message: str) -> RedwireError | None:
        """What to tell when no more are sent; None when no primary was ever asked."""
        if (self.lost or self.under_way) and not isinstance(self.said, NotConfirmed):
            return UnknownOutcome(message, phase="answer", hint=self.hint)
        return None if isinstance(self.said, NotPrimary) else self.said
