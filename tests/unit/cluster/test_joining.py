"""What a node that belongs to no cluster yet says: one table of who is in reach and what it waits for."""

from __future__ import annotations

import pytest

from cluster.joining import unjoined, userless
from redwire.errors import Code
from redwire.node_role import NodeRole
from redwire.position import ClusterId, Lsn, NodeId
from tests.reports import CLUSTER, report

MEMBERS = frozenset(NodeId(name) for name in ("a", "b", "c"))


NEW = "a new one begins once a majority of it runs"


@pytest.mark.parametrize(
    ("role", "others", "text"),
    [
        (NodeRole.OPENING, [], f"; {NEW}; not heard yet: b, c"),
        (NodeRole.REPLICA, [report("b", role="opening")], f"; {NEW}; not heard yet: c"),
        (NodeRole.REPLICA, [report("b")], f"; {NEW}, among it the one with role: primary; not heard yet: c"),
        (NodeRole.REPLICA, [report("b", cluster=CLUSTER), report("c")], "; nobody in reach leads it"),
        (
            NodeRole.REBUILDING,
            [report("b", cluster=CLUSTER, role="primary")],
            ", and follows whoever leads it; not heard yet: c",
        ),
    ],
)
def test_a_node_that_has_not_joined_says_for_what_and_for_whom_it_waits(role, others, text):
    reports = {NodeId(other.node): other for other in others}
    told = unjoined(NodeId("a"), MEMBERS, reports, role, named=True)
    assert (told.code, told.retry) == (Code.NOT_READY, True)
    assert told.message == f"NOT_READY: this node has not joined its cluster yet{text}"
    missing = sorted(MEMBERS - reports.keys() - {"a"})
    assert told.facts == {"node": "a"} | ({"missing": list(missing)} if missing else {})


def test_who_may_not_know_the_members_is_told_that_a_node_waits_and_not_for_whom():
    told = unjoined(NodeId("a"), MEMBERS, {}, NodeRole.OPENING, named=False)
    assert told.message.endswith(NEW) and told.facts == {"node": "a"}


@pytest.mark.parametrize(
    ("cluster", "settings", "text"),
    [
        ("", 0, "this node has not joined its cluster yet; try another host"),
        (CLUSTER, 0, "this node has not taken in its cluster yet; try another host"),
        (CLUSTER, 1, ""),
    ],
)
def test_a_node_knows_no_users_before_the_first_settings_are_in_its_state(cluster, settings, text):
    assert userless(ClusterId(cluster), Lsn(settings)) == text
