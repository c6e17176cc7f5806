"""The arithmetic of commit: which copies meet a policy, how far they reach, and which policy is the stronger.

No state and no connection is known here; `regions.coordinator` keeps who holds what. Two readings of R7 stand
side by side: `satisfied_by` says it as the rule does, over a set of copies; `CompiledRule` says it over
durable LSNs, fast. They agree: a policy is met at an LSN by the voters durable there exactly when that LSN is
at or below the watermark.

Every clause asks for the primary's own disk, which makes two rewritings exact. A majority of m is m - 1
*other* voters. The primary's region, where named, is met by the primary itself and can be taken off the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from enum import StrEnum
from functools import lru_cache
from itertools import combinations

import msgspec
from msgspec.structs import replace

from redwire.errors import PolicyInvalid
from redwire.position import Lsn, NodeId, Region
from regions.binding import Membership
from regions.commit_policy import (
    LOCAL,
    AckN,
    Clause,
    CommitPolicy,
    Local,
    Majority,
    Quorum,
    Regions,
    RemoteWal,
    no_archive,
    unresolved,
)
from regions.errors import InsufficientReplicas, MissingRegions, QuorumError

SYNC_TIMEOUT_MS = 5_000
"""RedDB's, where `QuorumConfig` comes from; also as long as a silent member counts as in reach."""
REGIONS_TIMEOUT_MS = 10_000
"""RedDB's: the slowest of several regions decides."""
ENUMERATED_VOTERS_MAX = 9
"""2^8 sets around the primary: a millisecond or two, once per configuration. Each voter more doubles it."""
_COMPARISONS_MAX = 256
"""As many as policy texts are remembered; an entry is four references and a truth value."""


class QuorumMode(StrEnum):
    """What a `QuorumConfig` waits for."""

    ASYNC = "async"
    SYNC = "sync"
    REGIONS = "regions"


class QuorumConfig(msgspec.Struct, frozen=True):
    """What the policy name `quorum` stands for in this cluster, and how long a wait for it lasts.

    `timeout_ms` is None for "without end". Made by `async_commit`, `sync` and `regions`.
    """

    policy: CommitPolicy = LOCAL
    timeout_ms: int | None = None

    @classmethod
    def async_commit(cls) -> QuorumConfig:
        """Wait for nobody."""
        return cls()

    @classmethod
    def sync(cls, min_replicas: int) -> QuorumConfig:
        """Wait 5 s for `min_replicas` (at least 1) voters beside the primary. Raises `PolicyInvalid`."""
        return cls(CommitPolicy((AckN(min_replicas),)), SYNC_TIMEOUT_MS)

    @classmethod
    def regions(cls, required: Iterable[str]) -> QuorumConfig:
        """Wait 10 s for a copy in every one of the regions, of which there is one. Raises `PolicyInvalid`."""
        if isinstance(required, str):  # its letters would be regions
            raise PolicyInvalid(f"{required!r} is one text", hint="pass the regions' names in a list")
        return cls(CommitPolicy((Regions(tuple(map(Region, required))),)), REGIONS_TIMEOUT_MS)

    def with_timeout(self, timeout_ms: int) -> QuorumConfig:
        """The same, waiting for `timeout_ms` (at least 1). Raises `PolicyInvalid`."""
        if timeout_ms < 1:
            raise PolicyInvalid(
                f"a wait of {timeout_ms} ms cannot end well", hint="at least 1 ms, or without_timeout()"
            )
        return replace(self, timeout_ms=timeout_ms)

    def without_timeout(self) -> QuorumConfig:
        """The same, waiting for ever."""
        return replace(self, timeout_ms=None)

    @property
    def mode(self) -> QuorumMode:
        """ASYNC waits for nobody, REGIONS names regions, SYNC counts copies."""
        if self.policy == LOCAL:
            return QuorumMode.ASYNC
        named = any(isinstance(clause, Regions) for clause in self.policy.clauses)
        return QuorumMode.REGIONS if named else QuorumMode.SYNC

    def resolve(self, policy: CommitPolicy) -> CommitPolicy:
        """`policy` with this in place of the name `quorum`.

        Raises `PolicyInvalid` when it names an ASYNC quorum: the caller asks for a promise and would get
        none.
        """
        if Quorum() in policy.clauses and self.mode is QuorumMode.ASYNC:
            raise PolicyInvalid(
                "quorum: the cluster's quorum is async and waits for nobody", hint="write 'majority'"
            )
        return policy.resolved(self.policy)


def satisfied_by(policy: CommitPolicy, primary: NodeId, copies: Set[NodeId], membership: Membership) -> bool:
    """Whether a record whose durable copies are on `copies` meets `policy`, led by `primary`.

    Readers and strangers among the copies are passed over. Raises `MemberUnknown` when `primary` is no voter.
    """
    membership.voter_index(primary)
    held = {member.id: member.region for member in membership.voters if member.id in copies}
    return primary in held and all(_met(clause, held, membership) for clause in policy.clauses)


def _met(clause: Clause, held: Mapping[NodeId, Region], membership: Membership) -> bool:
    match clause:
        case Local():
            return True
        case RemoteWal():
            return False
        case AckN(n):
            return len(held) - 1 >= n
        case Majority():
            return len(held) >= membership.majority
        case Regions(names):
            return len(set(names).intersection(held.values())) >= clause.needed
        case Quorum():
            raise unresolved()


class CompiledRule(msgspec.Struct, frozen=True):
    """One policy, ready for one membership and one primary. Made by `compile_rule`.

    `others` is how many voters beside the primary must hold a record. Each entry of `spread` is a number of
    regions and, for every region that may provide one, the places of its voters.
    """

    primary: int
    others: int
    spread: tuple[tuple[int, tuple[tuple[int, ...], ...]], ...]
    never: bool

    def watermark(self, durable: Sequence[int]) -> int:
        """The highest LSN at which the policy is met, given each voter's durable LSN in the order of
        `voters`.

        0 when it is met nowhere. Never above the primary's own.
        """
        if self.never:
            return 0
        lsn = durable[self.primary]
        if self.others:
            ranked = list(durable)
            del ranked[self.primary]
            ranked.sort()
            reached = ranked[-self.others]
            if reached < lsn:
                lsn = reached
        for needed, groups in self.spread:
            best = [durable[g[0]] if len(g) == 1 else max([durable[i] for i in g]) for g in groups]
            best.sort()
            reached = best[-needed]
            if reached < lsn:
                lsn = reached
        return lsn


def compile_rule(policy: CommitPolicy, membership: Membership, primary: NodeId) -> CompiledRule:
    """`policy` as arithmetic over the voters' durable LSNs; a clause that can never be met makes it 0 for
    ever.

    Raises `MemberUnknown` when `primary` is no voter, and `PolicyInvalid` for an unresolved `quorum`.
    """
    index, home = membership.voter_index(primary), membership.region_of(primary)
    spread, never = [], False
    for clause in policy.clauses:
        match clause:
            case Local() | AckN() | Majority():
                pass
            case RemoteWal():
                never = True
            case Quorum():
                raise unresolved()
            case Regions():
                needed, names = _abroad(clause, home)
                groups = tuple(filter(None, (_places(name, membership) for name in names)))
                never = never or needed > len(groups)
                if needed:
                    spread.append((needed, groups))
    others = _others_counted(policy, membership)
    return CompiledRule(index, others, tuple(spread), never or others >= len(membership.voters))


def watermark(
    policy: CommitPolicy, primary: NodeId, durable: Mapping[NodeId, Lsn], membership: Membership
) -> Lsn:
    """The highest LSN that `policy` calls met; who is not in `durable` holds nothing. Raises as
    `compile_rule`.
    """
    rule = compile_rule(policy, membership, primary)
    return Lsn(rule.watermark([durable.get(member.id, 0) for member in membership.voters]))


def _abroad(clause: Regions, home: Region) -> tuple[int, tuple[Region, ...]]:
    """How many regions are needed beside the primary's own, and which may provide them."""
    names = tuple(name for name in clause.names if name != home)
    return max(0, clause.needed - (len(clause.names) - len(names))), names


def _places(region: Region, membership: Membership) -> tuple[int, ...]:
    return tuple(index for index, member in enumerate(membership.voters) if member.region == region)


def _others_counted(policy: CommitPolicy, membership: Membership) -> int:
    """How many other voters the counting clauses ask for."""
    counts = [0]
    for clause in policy.clauses:
        if isinstance(clause, AckN):
            counts.append(clause.n)
        elif isinstance(clause, Majority):
            counts.append(membership.majority - 1)
    return max(counts)


@lru_cache(maxsize=_COMPARISONS_MAX)
def minimal_sets(
    policy: CommitPolicy, membership: Membership, primary: NodeId
) -> frozenset[frozenset[NodeId]]:
    """Every set of voters that meets `policy` and of which no smaller part does; empty when no set does.

    Raises `PolicyInvalid` above `ENUMERATED_VOTERS_MAX` voters, and as `compile_rule`.
    """
    if len(membership.voters) > ENUMERATED_VOTERS_MAX:
        raise PolicyInvalid(
            f"{len(membership.voters)} voters make too many sets of copies to list",
            hint=f"{ENUMERATED_VOTERS_MAX} at most",
        )
    rule, size = compile_rule(policy, membership, primary), len(membership.voters)
    others = [index for index in range(size) if index != rule.primary]
    found: list[frozenset[int]] = []
    for count in range(size):
        for chosen in combinations(others, count):
            copies = frozenset((rule.primary, *chosen))
            if any(smaller <= copies for smaller in found):
                continue
            if rule.watermark([index in copies for index in range(size)]):
                found.append(copies)
    return frozenset(frozenset(membership.voters[index].id for index in copies) for copies in found)


@lru_cache(maxsize=_COMPARISONS_MAX)
def at_least(policy: CommitPolicy, floor: CommitPolicy, membership: Membership, primary: NodeId) -> bool:
    """Whether every set of copies that meets `policy` also meets `floor` (R6).

    Exact up to `ENUMERATED_VOTERS_MAX` voters. Above, clauses are compared instead: True is still a proof,
    False may be said of a policy that only an enumeration could prove. A policy that no set can meet is at or
    above every floor: ask `require_satisfiable` first. Raises as `compile_rule`.
    """
    if len(membership.voters) <= ENUMERATED_VOTERS_MAX:
        sets = minimal_sets(policy, membership, primary)
        return all(satisfied_by(floor, primary, copies, membership) for copies in sets)
    return implies(policy, floor, membership, primary)


def implies(policy: CommitPolicy, floor: CommitPolicy, membership: Membership, primary: NodeId) -> bool:
    """Whether the clauses of `policy` prove those of `floor`, without looking at any set: sound, not
    complete.
    """
    compile_rule(policy, membership, primary)
    home = membership.region_of(primary)
    abroad = [_abroad(clause, home) for clause in policy.clauses if isinstance(clause, Regions)]
    others = max([_others_counted(policy, membership), *(needed for needed, _ in abroad)])

    def proven(clause: Clause) -> bool:
        match clause:
            case Local():
                return True
            case RemoteWal():
                return clause in policy.clauses
            case AckN(n):
                return others >= n
            case Majority():
                return others + 1 >= membership.majority
            case Regions():
                needed, names = _abroad(clause, home)
                if others > _others_without(needed, names, membership):
                    return True
                return any(have - len(set(given) - set(names)) >= needed for have, given in abroad)
            case Quorum():
                raise unresolved()

    return all(map(proven, floor.clauses))


def concise(policy: CommitPolicy, membership: Membership, primary: NodeId) -> CommitPolicy:
    """`policy` without clauses that its others prove: the same copies meet both. Raises as `compile_rule`."""
    for clause in policy.clauses:
        others = CommitPolicy(tuple(other for other in policy.clauses if other != clause))
        if implies(others, CommitPolicy((clause,)), membership, primary):
            policy = others
    return policy


def _others_without(needed: int, names: Sequence[Region], membership: Membership) -> int:
    """How many other voters can hold a copy while fewer than `needed` of the regions `names` do; -1 for none
    needed.
    """
    if not needed:
        return -1
    sizes = sorted((len(membership.voters_in(name)) for name in names), reverse=True)
    elsewhere = len(membership.voters) - 1 - sum(sizes)
    return elsewhere + sum(sizes[: needed - 1])


def shortfall(
    policy: CommitPolicy, membership: Membership, primary: NodeId, reached: Set[NodeId]
) -> QuorumError | None:
    """What keeps the voters in `reached`, and the primary, from meeting `policy`; None when they can (R8).

    Missing regions are named before missing copies. Raises `PolicyInvalid` for what no voter can provide:
    `remote_wal`, or a `quorum` that nobody resolved.
    """
    held = {
        member.id: member.region
        for member in membership.voters
        if member.id in reached or member.id == primary
    }
    for clause in reversed(policy.clauses):
        match clause:
            case Regions(names):
                missing = [name for name in names if name not in held.values()]
                lacking = clause.needed - (len(names) - len(missing))
                if lacking > 0:
                    return MissingRegions(missing, lacking)
            case AckN() | Majority():
                required = _others_counted(policy, membership)
                if len(held) - 1 < required:
                    return InsufficientReplicas(required, len(held) - 1)
            case RemoteWal():
                raise no_archive()
            case Quorum():
                raise unresolved()
            case Local():
                pass
    return None
