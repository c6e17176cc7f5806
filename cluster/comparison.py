"""The cluster section of a node's own file, held against what the log ever said: the log's settings are in
force, and a file may be outdated; what it says and the log never said is somebody's mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from cluster.advice import Advice
from cluster.cluster_config import ClusterConfig
from cluster.config import NodeConfig, ReplicationRole
from redwire.errors import ConfigInvalid

OUTDATED = "the file is outdated, the log's settings are in force"
UNHEARD = "the file says what this node's log has not said yet, whose settings are in force"
_NAME = "cluster.name"


class Difference(msgspec.Struct, frozen=True):
    """The fact `name` of a file and of the log: as `here` and as `logged` say in words; None where it is
    missing.
    """

    name: str
    here: str | None
    logged: str | None

    def __str__(self) -> str:
        return f"{self.name} {_said(self.here)} here, {_said(self.logged)} in the log"


class Comparison(msgspec.Struct, frozen=True):
    """A node's own `cluster` section beside the log: `unheard` is what the log never said, `outdated` what it
    said once and says no more. The log's settings are in force.
    """

    unheard: tuple[Difference, ...]
    outdated: tuple[Difference, ...]


def compare(ours: ClusterConfig, logged: Sequence[ClusterConfig]) -> Comparison:
    """`ours` beside all settings that the log ever had, the last of which are in force; none: no
    difference.
    """
    unheard: list[Difference] = []
    outdated: list[Difference] = []
    facts, mine = [dict(_facts(each)) for each in logged], dict(_facts(ours))
    for name in dict.fromkeys((*mine, *(facts[-1] if facts else ()))):
        here = mine.get(name)
        if facts and here != facts[-1].get(name):
            difference = Difference(name, here, facts[-1].get(name))
            (outdated if any(each.get(name) == here for each in facts) else unheard).append(difference)
    return Comparison(tuple(unheard), tuple(sorted(outdated, key=str)))


def check_file(config: NodeConfig, logged: Sequence[ClusterConfig]) -> tuple[Advice, ...]:
    """Hold a node's file against all settings that its log ever had; what is to be warned of.

    A replica that was away cannot tell what was changed meanwhile from what never was. Raises `ConfigInvalid`
    for another cluster's name, and on the node that is to lead for everything that the log never said:
    somebody believes that it counts.
    """
    found = compare(config.cluster, logged)
    leads = config.node.role is ReplicationRole.PRIMARY
    wrong = [str(each) for each in found.unheard if leads or each.name == _NAME]
    if wrong:
        hint = "the log's settings are in force: write them into the file, or change them by command"
        raise ConfigInvalid("this node's configuration", "cluster", "; ".join(wrong), hint=hint)
    outdated = (Advice(f"{OUTDATED}: {each}") for each in found.outdated)
    return (*outdated, *(Advice(f"{UNHEARD}: {each}") for each in found.unheard))


def _facts(cluster: ClusterConfig) -> Iterator[tuple[str, str]]:
    yield _NAME, f"is {cluster.name}"
    yield "cluster.policy", f"is {cluster.default_policy}"
    yield "cluster.floor", f"is {cluster.commit_rule}"
    yield "cluster.policy_timeout_ms", f"is {cluster.policy_timeout_ms}"
    yield "cluster.replica_timeout_ms", f"is {cluster.replica_timeout_ms}"
    for admin in cluster.admins:
        yield f"cluster.admins: {admin}", "stands"
    for member in cluster.members:
        region = f"in {member.region}" if member.region else "in no region"
        yield f"cluster.members: {member.id}", f"is a {member.kind.value} {region} at {member.addr}"


def _said(fact: str | None) -> str:
    return "is missing" if fact is None else fact
