"""What an intake asks about, and its answers at a glance, made for tests."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from cluster.effects import Fate, Flight, Now, Result
from cluster.intake import Room, Turn
from cluster.policies import Policies
from redwire.errors import Code, RedwireError, Refused
from redwire.position import Lsn, NodeId, Region
from redwire.record import Key
from regions.binding import Member, Membership
from regions.commit_policy import LOCAL
from regions.errors import InsufficientReplicas

AMPLE = Room(1 << 30, 1 << 30, 100)
EXECUTED = Result(Fate.DUPLICATE, 7, bytes(9))
FORGOTTEN = Result(Fate.EXPIRED)
OUT_OF_REACH = InsufficientReplicas(1, 0)
VOTERS = Membership(tuple(Member(NodeId(name), Region(name[:2])) for name in ("eu-1", "us-1", "ap-1")))
POLICIES = Policies(LOCAL, LOCAL, VOTERS, NodeId("eu-1"))


def key(sequence: int, oldest: int = 1) -> Key:
    return Key(b"c" * 16, sequence, oldest)


@dataclass
class World:
    """What an intake asks about: `results` of keys, and by policy who is out of reach."""

    ready: bool = True
    complete: bool = True
    grace: bool = False
    ms: int = 1_000
    results: dict[tuple[bytes, int], Result] = field(default_factory=dict)
    errors: dict[str, RedwireError] = field(default_factory=dict)
    flights: deque[Flight] = field(default_factory=deque)
    asked: list[str] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)

    def lookup(self, asked: Key) -> Result | None:
        return self.results.get((asked.client, asked.sequence))

    def reached(self, policy: object) -> Lsn:
        return Lsn(self.met.get(str(policy), 0))

    def refusal(self, policy: object, now_ms: int) -> RedwireError | None:
        assert now_ms == self.ms
        self.asked.append(str(policy))
        return self.errors.get(str(policy))

    def turn(self) -> Turn:
        hold = None if self.ready else Refused(Code.NOT_READY, "not yet")
        return Turn(Now(self.ms * 1000, 0), hold, self.complete, self.grace)


def told(answers) -> list[tuple[type, int]]:
    return [(type(answer), answer.proposal.correlation) for answer in answers]


def codes(answers) -> list[Code]:
    return [answer.error.code for answer in answers]
