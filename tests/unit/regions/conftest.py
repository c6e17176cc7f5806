"""Clusters for the tests of what a policy promises and takes, and brute force to hold them against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from itertools import chain, combinations

import pytest
from hypothesis import strategies as st

from redwire.position import NodeId, Region
from regions.binding import Member, MemberKind, Membership
from regions.commit_policy import AckN, CommitPolicy, Local, Majority, Regions


@pytest.fixture(scope="session")
def cluster() -> Callable[..., Membership]:
    """`cluster("eu-1 us-1", "sa-1")`: voters and readers, each in the region that its name begins with; one
    whose name begins with `-` is bound to none.
    """

    def make(voters: str, readers: str = "") -> Membership:
        kinds = ((voters, MemberKind.VOTER), (readers, MemberKind.READER))
        return Membership(
            tuple(
                Member(NodeId(name.lstrip("-")), Region(name.partition("-")[0]), kind)
                for names, kind in kinds
                for name in names.split()
            )
        )

    return make


class BruteForce:
    """Commit policies said once more, over every set of members, by whoever reads R7 and nothing else."""

    def __init__(self, membership: Membership) -> None:
        self.region = {member.id: member.region for member in membership.members}
        self.voters = {member.id for member in membership.members if member.kind is MemberKind.VOTER}

    def sets(self) -> Iterator[Set[NodeId]]:
        """Every set of members, readers too."""
        ids = list(self.region)
        return map(frozenset, chain.from_iterable(combinations(ids, n) for n in range(len(ids) + 1)))

    def meets(self, policy: CommitPolicy, primary: NodeId, copies: Set[NodeId]) -> bool:
        """Whether a record on the disks of `copies` meets every clause."""
        disks = [node for node in copies if node in self.voters]
        others = [node for node in disks if node != primary]
        if primary not in disks:
            return False
        for clause in policy.clauses:
            if isinstance(clause, AckN):
                ok = len(others) >= clause.n
            elif isinstance(clause, Majority):
                ok = 2 * len(disks) > len(self.voters)
            elif isinstance(clause, Regions):
                ok = sum(any(self.region[d] == name for d in disks) for name in clause.names) >= clause.needed
            else:
                ok = isinstance(clause, Local)
            if not ok:
                return False
        return True

    def committing(self, policy: CommitPolicy, primary: NodeId) -> list[Set[NodeId]]:
        """Every set of copies with which `primary` may have confirmed a write."""
        return [copies for copies in self.sets() if self.meets(policy, primary, copies)]

    def kept(self, policy: CommitPolicy, primary: NodeId, lost: Set[NodeId]) -> bool:
        """Whether a surviving voter has every write that `primary` may have confirmed."""
        left = self.voters - lost
        return all(copies & left for copies in self.committing(policy, primary))

    def successor(self, rule: CommitPolicy, lost: Set[NodeId]) -> bool:
        """Whether some votes of survivors are a majority and meet every set that can commit."""
        commits = [copies for voter in self.voters for copies in self.committing(rule, voter)]
        return any(
            votes <= self.voters - lost
            and 2 * len(votes) > len(self.voters)
            and all(votes & copies for copies in commits)
            for votes in self.sets()
        )

    def writable(self, policy: CommitPolicy, primary: NodeId, lost: Set[NodeId]) -> bool:
        """Whether `primary`, alive, can confirm a write with survivors only."""
        return primary not in lost and any(not c & lost for c in self.committing(policy, primary))

    def commit_ms(
        self, policy: CommitPolicy, primary: NodeId, rtt_ms: Mapping[NodeId, float]
    ) -> float | None:
        """The least, over all sets that meet the policy, of the greatest distance in the set."""
        times = [
            max(0.0 if node == primary else rtt_ms[node] for node in copies & self.voters)
            for copies in self.committing(policy, primary)
        ]
        return min(times, default=None)


@pytest.fixture(scope="session")
def brute_force() -> type[BruteForce]:
    return BruteForce


REGIONS = tuple(map(Region, ("ap", "eu", "us")))


@st.composite
def _topologies(draw: st.DrawFn) -> Membership:
    voters = draw(st.lists(st.sampled_from((*REGIONS, Region(""))), min_size=1, max_size=6))
    readers = draw(st.lists(st.sampled_from((*REGIONS, Region("sa"))), max_size=2))
    return Membership(
        (
            *(Member(NodeId(f"r-{i}"), region, MemberKind.READER) for i, region in enumerate(readers)),
            *(Member(NodeId(f"v-{i}"), region) for i, region in enumerate(voters)),
        )
    )


@st.composite
def _clauses(draw: st.DrawFn) -> Local | Majority | AckN | Regions:
    kind = draw(st.sampled_from((Local, Majority, AckN, Regions)))
    if kind is AckN:
        return AckN(draw(st.integers(1, 5)))
    if kind is Regions:
        names = draw(st.lists(st.sampled_from(REGIONS), min_size=1, unique=True))
        return Regions(tuple(names), draw(st.none() | st.integers(1, len(names))))
    return kind()


TOPOLOGIES = _topologies()
POLICIES = st.lists(_clauses(), min_size=1, max_size=3).map(lambda parts: CommitPolicy(tuple(parts)))


@pytest.fixture(scope="session")
def topologies() -> st.SearchStrategy[Membership]:
    return TOPOLOGIES


@pytest.fixture(scope="session")
def policies() -> st.SearchStrategy[CommitPolicy]:
    """Policies that a cluster of six in three regions may have; not every cluster can meet them."""
    return POLICIES
