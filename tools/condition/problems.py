"""What is broken now: the lines at the top of the screen, the worst first, read from a status document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from enum import Enum

import msgspec

from redwire.node_role import NodeRole
from redwire.status import NodeStatus, RegionStatus, Status
from tools import figures
from tools.condition.tone import Tone
from tools.condition.view import fresh


class Kind(Enum):
    """What is wrong. `SILENCE` is the asker's own, and in no document: nobody answers."""

    PRIMARY = "primary"
    QUORUM = "quorum"
    HIDDEN = "hidden"
    VIEW = "view"
    REGION = "region"
    HEALTH = "health"
    ROLE = "role"
    DISK = "disk"
    DAMAGE = "damage"
    SLOT = "slot"
    BINDING = "binding"
    LAG = "lag"
    COUNTED = "counted"
    CHANGE = "change"
    SILENCE = "silence"


Key = tuple[Kind, str]


class Problem(msgspec.Struct, frozen=True):
    """One thing that is broken (BAD) or not as it should be (WARN).

    `subject` is the node or region that has it, "" where that is the cluster. `since_at_ms` is None where the
    document does not say.
    """

    kind: Kind
    subject: str
    tone: Tone
    text: str
    since_at_ms: int | None = None

    @property
    def key(self) -> Key:
        """What stays the same while it lasts."""
        return self.kind, self.subject


def find(status: Status, growing: Set[str] = frozenset()) -> list[Problem]:
    """Everything that is wrong, the worst first. `growing` are nodes whose lag has not shrunk for long."""
    out = [region for region in status.regions if _all_out(_nodes_of(status, region))]
    told = {name for region in out for name in region.nodes}
    found = [*_leading(status), *_of_regions(status, out), *_of_nodes(status, growing, told)]
    found += _of_settings(status)
    return sorted(found, key=lambda problem: problem.tone is not Tone.BAD)


def inodeless(node: NodeStatus) -> bool:
    """Whether its disk is full and no file can be made there, whatever it has of bytes."""
    return node.disk.state == "full" and node.disk.free_inodes == 0


def _leading(status: Status) -> Iterator[Problem]:
    primary, quorum = status.primary, status.quorum
    if primary.state == "lost":
        yield Problem(Kind.PRIMARY, "", Tone.BAD, f"primary {primary.node} is lost", primary.since_at_ms)
    elif primary.state == "none":
        yield Problem(Kind.PRIMARY, "", Tone.BAD, "nobody leads", primary.since_at_ms)
    elif primary.state != "leading":
        yield Problem(Kind.PRIMARY, "", Tone.WARN, f"primary: {primary.state}", primary.since_at_ms)
    if quorum.met is False:
        yield Problem(Kind.QUORUM, "", Tone.BAD, f"quorum not met: {quorum.why or 'no reason given'}")
    if status.vantage.hides_others:
        text = "the other nodes are hidden from this user, who lacks cluster:topology:read"
        yield Problem(Kind.HIDDEN, "", Tone.WARN, text)
    if status.vantage.source != status.vantage.node and not fresh(status):
        source, age = status.vantage.source, figures.duration(status.vantage.age_ms)
        yield Problem(Kind.VIEW, "", Tone.WARN, f"the view of {source} is {age} old")


def _of_regions(status: Status, out: Iterable[RegionStatus]) -> Iterator[Problem]:
    for region in out:
        nodes = _nodes_of(status, region)
        since = max((node.acked_at_ms for node in nodes if node.acked_at_ms), default=None)
        whys = {node.why for node in nodes}
        why = f": {next(iter(whys))}" if len(whys) == 1 and "" not in whys else ""
        yield Problem(Kind.REGION, region.name, Tone.BAD, f"region {region.name} is out{why}", since)


def _of_nodes(status: Status, growing: Set[str], told: Set[str]) -> Iterator[Problem]:
    """Of nodes in `told` their health stands with their region's."""
    for node in status.nodes:
        if node.id not in told:
            yield from _health(node)
        if node.disk.state in ("full", "failed", "stopped"):
            tone = Tone.WARN if node.disk.state == "stopped" else Tone.BAD
            lack = ", no inode is left" if inodeless(node) else ""
            yield Problem(Kind.DISK, node.id, tone, f"{node.id}: disk {node.disk.state}{lack}")
        if node.disk.state == "damaged":
            yield Problem(Kind.DAMAGE, node.id, Tone.BAD, f"{node.id}: disk damaged")
        if node.slot.state == "evicted":
            bound = f": {node.slot.bound}" if node.slot.bound else ""
            yield Problem(Kind.SLOT, node.id, Tone.BAD, f"{node.id}: evicted from its slot{bound}")
        if node.declared and node.declared != node.region:
            text = f"{node.id} declares {node.declared}, is bound to {node.region or 'no region'}"
            yield Problem(Kind.BINDING, node.id, Tone.WARN, text)
        if node.id in growing and node.lag.state == "behind" and node.lag.catch_up_ms is None:
            yield Problem(Kind.LAG, node.id, Tone.WARN, f"{node.id} is behind and comes no nearer")
        if node.uncounted and node.kind == "voter":
            yield Problem(Kind.COUNTED, node.id, Tone.WARN, f"{node.id} does not count: {node.uncounted}")


def _health(node: NodeStatus) -> Iterator[Problem]:
    why = f": {node.why}" if node.why else ""
    if node.health == "unhealthy":
        yield Problem(Kind.HEALTH, node.id, Tone.BAD, f"{node.id} is unhealthy{why}", node.acked_at_ms)
    elif node.health != "healthy":
        since = node.lag.since_at_ms or node.acked_at_ms
        yield Problem(Kind.HEALTH, node.id, Tone.WARN, f"{node.id} is {node.health}{why}", since)
    if node.role in (NodeRole.REBUILDING, NodeRole.OPENING):
        yield Problem(Kind.ROLE, node.id, Tone.WARN, f"{node.id} is {node.role}")


def _of_settings(status: Status) -> Iterator[Problem]:
    if status.settings.pending:
        text = f"change not committed yet: {status.settings.pending}"
        yield Problem(Kind.CHANGE, "", Tone.WARN, text)


def _nodes_of(status: Status, region: RegionStatus) -> list[NodeStatus]:
    return [node for node in status.nodes if node.id in region.nodes]


def _all_out(nodes: list[NodeStatus]) -> bool:
    """Whether no copy there counts, as that of a node does whose log goes on beside a damaged state."""
    counts = [node.health != "unhealthy" or node.disk.state == "damaged" for node in nodes]
    return bool(nodes) and not any(counts)
