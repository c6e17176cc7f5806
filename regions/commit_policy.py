"""Commit policies: which copies of a record must be on disk before its write is confirmed.

A policy is a conjunction of clauses. Every clause asks for the primary's own disk; what it asks for beyond
that stands in its docstring (R7). The text form, with keywords in either case and whitespace wherever one
likes:

    policy = clause *( "&" clause )
    clause = "local" | "remote_wal" | "majority" | "quorum" | "ack_n" "=" number
           | "regions" "(" [ number "of" ] name *( "," name ) ")"

`str(policy)` is the canonical form: clauses in a fixed order, each once, and none that another one of the
same policy implies for every cluster (`local` beside anything, the smaller of two `ack_n`). Policies with the
same canonical form are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn

import msgspec

from redwire.errors import PolicyInvalid
from redwire.handshake import DNS_LABEL
from redwire.position import Region
from redwire.spelling import guess

POLICY_CHARS_MAX = 255
"""The text travels behind a one-byte length, and it is all ASCII."""
_PARSED_MAX = 256
"""Texts whose policy is remembered: each client sends its text with every write, and few texts exist."""


class Local(msgspec.Struct, frozen=True):
    """The primary's disk and nothing else."""

    def __str__(self) -> str:
        return "local"


class RemoteWal(msgspec.Struct, frozen=True):
    """A copy in the archive."""

    def __str__(self) -> str:
        return "remote_wal"


@dataclass(frozen=True, slots=True)
class AckN:
    """The disks of `n` voters beside the primary; `n` is at least 1."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise PolicyInvalid(f"ack_n={self.n} asks for no other copy", hint="write 'local'")

    def __str__(self) -> str:
        return f"ack_n={self.n}"


class Quorum(msgspec.Struct, frozen=True):
    """What the cluster's `QuorumConfig` says; it has no meaning of its own until that config resolves it."""

    def __str__(self) -> str:
        return "quorum"


class Majority(msgspec.Struct, frozen=True):
    """The disks of floor(voters / 2) + 1 voters, the primary's included."""

    def __str__(self) -> str:
        return "majority"


@dataclass(frozen=True, slots=True)
class Regions:
    """The disk of a voter in each of the named regions, or in `k` of them; the primary's counts for its own
    region.

    Names are kept sorted and once each. `k` is None for "all", also when it was given as their number. No
    name, a name that is no DNS label, and a `k` that the names cannot meet raise `PolicyInvalid`.
    """

    names: tuple[Region, ...]
    k: int | None = None

    def __post_init__(self) -> None:
        names = tuple(sorted(set(self.names)))
        if not names:
            raise PolicyInvalid("regions() names no region", hint="name at least one, as in regions(eu)")
        for name in names:
            if not DNS_LABEL.match(name):
                raise PolicyInvalid(
                    f"{name!r} is not a region name", hint="a DNS label in lower case, as in eu-west-1"
                )
        if self.k is not None and not 1 <= self.k <= len(names):
            raise PolicyInvalid(
                f"{self.k} of {len(names)} regions is not possible", hint=f"1 to {len(names)}"
            )
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "k", None if self.k == len(names) else self.k)

    @property
    def needed(self) -> int:
        """In how many of the named regions a copy must be."""
        return len(self.names) if self.k is None else self.k

    def __str__(self) -> str:
        count = "" if self.k is None else f"{self.k} of "
        return f"regions({count}{','.join(self.names)})"


Clause = Local | RemoteWal | AckN | Quorum | Majority | Regions

_KEYWORDS: dict[type[Clause], str] = {
    Local: "local",
    RemoteWal: "remote_wal",
    AckN: "ack_n",
    Quorum: "quorum",
    Majority: "majority",
    Regions: "regions",
}
_FORMS = "local, ack_n=N, majority, regions(eu,us), regions(2 of eu,us,ap) and quorum, joined by '&'"
_ORDER = {kind: place for place, kind in enumerate(_KEYWORDS)}


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """A conjunction of clauses in canonical form; without any it is `local`. Equal and hashed by its text.

    Raises `PolicyInvalid` when the text would exceed `POLICY_CHARS_MAX`.
    """

    clauses: tuple[Clause, ...] = field(compare=False)
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        clauses = _canonical(self.clauses)
        text = " & ".join(map(str, clauses))
        if len(text) > POLICY_CHARS_MAX:
            raise PolicyInvalid(
                f"the policy takes {len(text)} characters, at most {POLICY_CHARS_MAX}",
                hint="name fewer regions",
            )
        object.__setattr__(self, "clauses", clauses)
        object.__setattr__(self, "text", text)

    @classmethod
    def parse(cls, text: str) -> CommitPolicy:
        """The policy that `text` spells. Raises `PolicyInvalid`, whose facts are `asked`, where the text goes
        wrong `position` (a character, from 1), and for a word that is wrong `token` too.
        """
        try:
            return _parsed(text)
        except PolicyInvalid as error:
            error.facts["asked"] = text
            raise

    @property
    def quoted(self) -> str:
        """The text as a shell takes it for one word; it never holds a quotation mark."""
        return self.text if self.text.isidentifier() else f"'{self.text}'"

    def __and__(self, other: CommitPolicy) -> CommitPolicy:
        """The policy that asks for what both ask for."""
        return CommitPolicy(self.clauses + other.clauses)

    def resolved(self, quorum: CommitPolicy) -> CommitPolicy:
        """The policy with what `quorum` asks for in place of the name `quorum`."""
        if Quorum() not in self.clauses:
            return self
        named = tuple(clause for clause in self.clauses if not isinstance(clause, Quorum))
        return CommitPolicy(named + quorum.clauses)

    def __str__(self) -> str:
        return self.text


def _canonical(clauses: Iterable[Clause]) -> tuple[Clause, ...]:
    kept = set(clauses)
    most = max((clause.n for clause in kept if isinstance(clause, AckN)), default=0)
    kept = {clause for clause in kept if not isinstance(clause, AckN) or clause.n == most}
    kept.discard(Local())
    return tuple(sorted(kept, key=lambda clause: (_ORDER[type(clause)], str(clause)))) or (Local(),)


LOCAL = CommitPolicy((Local(),))
MAJORITY = CommitPolicy((Majority(),))


def no_archive() -> PolicyInvalid:
    """`remote_wal` is read, and can be met by no cluster."""
    return PolicyInvalid("remote_wal: this cluster has no archive", hint="ask for copies on its voters")


def unresolved() -> PolicyInvalid:
    """`quorum` where clauses are held against voters."""
    return PolicyInvalid("quorum has no meaning of its own", hint="resolve it first: QuorumConfig.resolve")


@lru_cache(maxsize=_PARSED_MAX)
def _parsed(text: str) -> CommitPolicy:
    if len(text) > POLICY_CHARS_MAX:
        raise PolicyInvalid(
            f"the policy has {len(text)} characters, at most {POLICY_CHARS_MAX}",
            facts={"position": POLICY_CHARS_MAX + 1},
        )
    return _Parser(text).policy()


_TOKEN = re.compile(r"\s*([A-Za-z0-9_-]+|[^\sA-Za-z0-9_-])")
_NUMBER = re.compile(r"[0-9]+\Z")
_PLAIN: dict[str, Clause] = {
    "local": Local(),
    "remote_wal": RemoteWal(),
    "quorum": Quorum(),
    "majority": Majority(),
}


class _Parser:
    """One descent over one text. `_tokens` ends with an empty token that stands at the end of the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [(match[1], match.start(1) + 1) for match in _TOKEN.finditer(text)] + [
            ("", len(text) + 1)
        ]
        self._next = 0

    def policy(self) -> CommitPolicy:
        clauses = [self._clause()]
        while self._peek() == "&":
            self._next += 1
            clauses.append(self._clause())
        if self._peek():
            self._refuse("does not belong here", "clauses are joined by '&'")
        return CommitPolicy(tuple(clauses))

    def _clause(self) -> Clause:
        word = self._peek().lower()
        if word in _PLAIN:
            self._next += 1
            return _PLAIN[word]
        if word == "ack_n":
            self._next += 1
            return self._ack_n()
        if word == "regions":
            self._next += 1
            return self._regions()
        if not word[:1].isalnum():
            self._refuse("stands where a policy should", f"one of {_FORMS}")
        self._refuse("is not a policy", guess(word, _KEYWORDS.values(), f"one of {_FORMS}"))

    def _ack_n(self) -> AckN:
        self._expect("=", "say how many, as in ack_n=1")
        if not _NUMBER.match(self._peek()):
            self._refuse("is not a number of voters", "a whole number from 1, as in ack_n=1")
        if int(self._peek()) == 0:
            self._refuse("asks for no other copy", "write 'local'")
        return AckN(int(self._take()))

    def _regions(self) -> Regions:
        self._expect("(", "name the regions, as in regions(eu,us)")
        counted = _NUMBER.match(self._peek()) is not None and self._peek(1).lower() == "of"
        number, self._next = self._next, self._next + 2 * counted
        names = [self._region(())]
        while self._peek() == ",":
            self._next += 1
            names.append(self._region(names))
        self._expect(")", "region names are parted by ',' and closed by ')'")
        if not counted:
            return Regions(tuple(names))
        k = int(self._tokens[number][0])
        if not 1 <= k <= len(names):
            self._next = number
            self._refuse(f"of {len(names)} regions is not possible", f"1 to {len(names)}")
        return Regions(tuple(names), k)

    def _region(self, before: Sequence[Region]) -> Region:
        name = self._peek()
        if not DNS_LABEL.match(name):
            valid = name.lower().replace("_", "-").strip("-")
            better = (
                f"did you mean {valid}?"
                if DNS_LABEL.match(valid)
                else "a DNS label in lower case, as in eu-west-1"
            )
            self._refuse("is not a region name", better)
        if name in before:
            self._refuse("is named twice", "each region counts once; ack_n asks for more copies")
        return Region(self._take())

    def _peek(self, ahead: int = 0) -> str:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)][0]

    def _take(self) -> str:
        self._next += 1
        return self._tokens[self._next - 1][0]

    def _expect(self, token: str, hint: str) -> None:
        if self._peek() != token:
            self._refuse(f"stands where {token!r} should", hint)
        self._next += 1

    def _refuse(self, problem: str, hint: str) -> NoReturn:
        token, position = self._tokens[self._next]
        raise PolicyInvalid(
            f"policy {self._text!r}: {repr(token) if token else 'the end'} at character {position} {problem}",
            hint=hint,
            facts={"position": position, "token": token},
        )
