"""Commands of one client: changes of settings and accounts, which the primary makes and no key stands for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import anyio

from redwire.attempts import LAST_TRY_SHARE, Attempts
from redwire.errors import (
    AuthenticationFailed,
    ChannelClosed,
    Code,
    ConnectFailed,
    DeadlineExceeded,
    NotConfirmed,
    NotPrimary,
    RedwireError,
)
from redwire.frame import Kind
from redwire.grace import Limit
from redwire.link import Answer
from redwire.message.admin import encode_command
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
        self, kind: Kind, change: bytes, timeout_s: float, *, hint: str, repeatable: bool = False
    ) -> Told:
        """Have the primary do something, within what is left of the deadline; its answer.

        What it refuses because it does not lead, or cannot do it yet, is sent again within the deadline. What
        is `repeatable` is so after any refusal that can pass, and after a sending of which nothing was heard.

        Raises the answer that was an error, `DeadlineExceeded` when no primary was asked, `NotConfirmed`, and
        `UnknownOutcome`, which says `hint`, when it may have been done. A later refusal does not change that.
        """
        attempts, end_s = Attempts(), time.monotonic() + timeout_s

        def body() -> bytes:
            return encode_command(max(0, int((end_s - time.monotonic()) * 1000)), change)

        try:
            with Limit(timeout_s):
                while True:
                    told = await self._send(attempts, kind, body, repeatable)
                    if told is not None:
                        return told
                    await anyio.sleep(AGAIN_S)
                    left_s = end_s - time.monotonic()
                    if attempts.refused is not None and left_s < LAST_TRY_SHARE * timeout_s:
                        break
        except RedwireError as error:
            if not attempts.doubtful or isinstance(error, NotConfirmed):
                raise
            raise attempts.open_end(error.message, "answer", hint) from error
        finally:
            self.trouble = ""
        if attempts.doubtful:
            raise attempts.open_end(f"no answer within {timeout_s:g} s", "answer", hint)
        said = attempts.refusal
        if said is not None and not isinstance(said, NotPrimary):
            raise said
        why, hint = (said.message, said.hint) if said is not None else (self._pool.trouble, self._pool.hint)
        text = f"nobody could be asked within {timeout_s:g} s" + (f": {why}" if why else "")
        raise DeadlineExceeded(text, phase=self._pool.phase, hint=hint) from said

    async def _send(
        self, attempts: Attempts, kind: Kind, body: Callable[[], bytes], repeatable: bool
    ) -> Told | None:
        """Send it once; None when it is to be sent again. Raises why it is not."""
        try:
            link = await self._pool.leader()
        except (AuthenticationFailed, ChannelClosed, ConnectFailed) as error:
            if not attempts.doubtful:
                raise
            text = f"the session ended before there was an answer, and no other began: {error.message}"
            raise ChannelClosed(text, hint=error.hint) from error
        asked = link.failure is None
        if asked:
            attempts.sent()
        try:
            return Told(await link.ask(kind, body()), attempts.doubt is not None)
        except RedwireError as error:
            if asked and isinstance(error, ChannelClosed):
                attempts.unheard(error)
            elif asked:
                attempts.heard(error)
            if not (error.retry if repeatable or not asked else error.code in _NOT_YET):
                raise
            self.trouble = error.message
        self._pool.look_around()  # it may be cut off, and another one lead
        return None
