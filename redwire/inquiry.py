"""What to do next about one read, after each thing that happened to it.

not reached in its time         the next node
the node answers no read        the next node
STALE                           the primary, which has the token for certain, unless a region was asked for
a failure that may pass         the next node
DAMAGED                         the next node; at the last one that is the answer
any other failure               that is the answer
deadline                        what is then known
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from redwire.errors import (
    ELSEWHERE_HINT,
    ChannelClosed,
    Code,
    DeadlineExceeded,
    NotConfirmed,
    RedwireError,
    Refused,
)
from redwire.routing import InRegion, Primary, ReadMode
from redwire.topology import Topology

WAIT_SHARE = 0.9
"""Of the remaining time, what a node may wait for a token when no other node may answer instead: the rest
carries its answer, or its refusal, back.
"""
WAIT_ELSEWHERE_MS = 250
"""What a replica may wait for a token before the primary, which has it for certain, is asked: one that keeps
up has it within a round trip between regions.
"""
SILENCE_S = 2.0
"""How long a node may answer no read before the next one is asked instead: one that is well answers sooner
from anywhere on earth, also where it waits `WAIT_ELSEWHERE_MS` for a token. One that answers others meanwhile
has many: if all who wait for it went elsewhere, every node would have the reads of all to answer, for nobody.
"""
SILENCE_SHARE = 0.5
"""Of a short call's time, beside what the node's answers take anyway: what is left is for another node."""


def silence_within(timeout_s: float) -> float:
    """How long a node may answer no read where the whole call has `timeout_s`."""
    return min(SILENCE_S, SILENCE_SHARE * timeout_s)


class Patience(msgspec.Struct, frozen=True):
    """What a node is given: `wait_ms` to wait for the token, `silence_s` in which it answers no read."""

    wait_ms: int
    silence_s: float


class Asked(msgspec.Struct, frozen=True):
    """A node that was sent the request and has not answered."""

    addr: str
    at_s: float


@dataclass(slots=True, eq=False)
class Inquiry:
    """The story of one read, to be over at `end_s`. Times are of the monotonic clock.

    `mode` is which nodes may be asked from here on. `phase` is what the read waits for, `trouble` why the
    last node was of no use, or the last one that said why, None if none was; `sent` whether a node may still
    be at work on it. `asked` is the node whose answer is awaited now, `silence_s` how long one may answer no
    read while others may answer instead, if its answers take no time.
    """

    mode: ReadMode
    end_s: float
    silence_s: float = SILENCE_S
    phase: str = "select"
    trouble: RedwireError | None = None
    sent: bool = False
    asked: Asked | None = None
    _sent_before: bool = False

    def unheard(self, error: RedwireError) -> None:
        """The node cannot be reached, or the one that was asked says nothing."""
        self.asked = None
        if not self._telling:
            self.trouble = error

    def ask(self, addr: str, now_s: float, *, alone: bool, rtt_s: float = 0.0) -> Patience:
        """The request goes to the node at `addr`; what that one is given. `alone` if no other one may answer
        in its place; `rtt_s` is how long its answers take, as far as that is known.
        """
        self.phase = "answer"
        self._sent_before, self.sent = self.sent, True
        self.asked = Asked(addr, now_s)
        left_s = max(self.end_s - now_s, 0.0)
        if alone:
            return Patience(int(left_s * WAIT_SHARE * 1000), math.inf)
        wait_s = min(left_s, WAIT_SHARE * self.silence_s)
        return Patience(min(WAIT_ELSEWHERE_MS, int(wait_s * 1000)), min(self.silence_s + rtt_s, SILENCE_S))

    def answered(self) -> None:
        """The node answered."""
        self.asked = None

    def failed(self, error: RedwireError, *, alone: bool) -> bool:
        """The node answered with an error, or the connection ended before it did; whether that is the answer,
        since no other node would say anything else.
        """
        self.trouble, self.asked = error, None
        if isinstance(error, Refused):
            self.sent = self._sent_before  # it certainly did nothing
        if error.code is Code.STALE:
            if not isinstance(self.mode, InRegion):
                self.mode = Primary()
            return False
        return not error.retry and (alone or error.code is not Code.DAMAGED)

    def silent(self, now_s: float) -> tuple[str, int]:
        """The node that was asked said nothing in its time: its address, and how many ms that was."""
        assert self.asked is not None
        addr, seconds = self.asked.addr, now_s - self.asked.at_s
        self.unheard(ChannelClosed(f"{addr} did not answer within {seconds:.1f} s"))
        return addr, round(seconds * 1_000)

    @property
    def held_up(self) -> bool:
        """Whether the deadline, if it is now, comes for the silence of the node that was asked."""
        return self.asked is not None and not self._telling

    def overdue(self, timeout_s: float, why: str, hint: str = "") -> RedwireError:
        """The deadline has come: what can be said. `why` is what may be wrong where nothing else is known,
        `hint` what to do about it.
        """
        if self.trouble is not None and self._telling:
            return self.trouble
        if self.trouble is not None:
            why, hint = self.trouble.message, self.trouble.hint
        what = "no answer" if self.sent else "nobody could be asked"
        text = f"{what} within {timeout_s:g} s, in phase {self.phase}" + (f": {why}" if why else "")
        if self.sent:
            hint = ELSEWHERE_HINT if isinstance(self.mode, Primary) else ""
        return DeadlineExceeded(text, phase=self.phase, hint=hint, sent=self.sent)

    @property
    def _telling(self) -> bool:
        """Whether `trouble` says more than that the last try was cut short."""
        trouble = self.trouble
        return trouble is not None and (trouble.code is Code.STALE or isinstance(trouble, NotConfirmed))


def refusal(mode: ReadMode, known: Topology | None) -> Refused | None:
    """Why no node can be asked that `mode` allows, while none is known; None if there may be one all the
    same: the cluster has not said yet who there is.
    """
    if not isinstance(mode, InRegion) or known is None or not known.replicas:
        return None
    regions = sorted({known.primary.region, *(replica.region for replica in known.replicas)} - {""})
    facts = {"missing": [mode.name], "lacking": 1}
    text = f"no node of region {mode.name!r} is in the topology"
    hint = f"the regions are {', '.join(regions)}"
    if mode.name in regions:
        text = f"no node of region {mode.name!r} is among the hosts of the URI"
        hint = "discovery=off stays with these: leave it out, or name a host of that region"
    return Refused(Code.MISSING_REGIONS, text, hint=hint, facts=facts)
