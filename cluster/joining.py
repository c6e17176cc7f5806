"""What a node that belongs to no cluster yet tells its clients: for what it waits, and for whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redwire.errors import Code, Refused
from redwire.message.peer import Report
from redwire.node_role import NodeRole
from redwire.position import ClusterId, Lsn, NodeId

_UNJOINED = "this node has not joined its cluster yet"


def unjoined(
    me: NodeId, members: Iterable[NodeId], reports: Mapping[NodeId, Report], role: NodeRole, *, named: bool
) -> Refused:
    """The refusal. `reports` are those of the members in reach, `role` is this node's own; others are spoken
    of only if they may be `named`.
    """
    text = _UNJOINED
    roles = {role, *(report.role for report in reports.values())}
    if any(report.cluster for report in reports.values()):
        text += (
            ", and follows whoever leads it" if NodeRole.PRIMARY in roles else "; nobody in reach leads it"
        )
    else:
        text += "; a new one begins once a majority of it runs"
        text += "" if NodeRole.OPENING in roles else ", among it the one with role: primary"
    facts: dict[str, object] = {"node": str(me)}
    missing = sorted(set(members) - reports.keys() - {me})
    if named and missing:
        facts["missing"] = missing
        text += f"; not heard yet: {', '.join(missing)}"
    return Refused(Code.NOT_READY, text, hint="retry", facts=facts)


def userless(cluster: ClusterId, settings: Lsn) -> str:
    """What a node that knows no users yet tells whoever claims to be one, and nothing else; "" once it does.

    `settings` is where its settings stand: users come behind the first ones in the log.
    """
    if settings:
        return ""
    return f"{'this node has not taken in its cluster yet' if cluster else _UNJOINED}; try another host"
