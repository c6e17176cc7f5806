"""Ready for what: from a status document to yes or no, and why."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cluster.health import ASKED_LAG_MS_MAX, Demand, Purpose, readiness
from redwire.errors import RequestInvalid
from redwire.status import Cluster, Disk, Lag, NodeStatus, Primary, Quorum, Status, Vantage

READ, WRITE = Demand(Purpose.READ), Demand(Purpose.WRITE)


@pytest.fixture
def leading() -> Status:
    """`eu-1` leads and all is well."""
    return Status(
        vantage=Vantage(node="eu-1", source="eu-1"),
        cluster=Cluster(id="c1", name="shop"),
        primary=Primary(node="eu-1", state="leading"),
        quorum=Quorum(met=True),
        nodes=(
            NodeStatus(id="eu-1", role="primary", disk=Disk(state="working")),
            NodeStatus(id="us-1", role="replica", lag=Lag(state="behind", ms=40)),
        ),
    )


@pytest.fixture
def following(leading: Status) -> Status:
    """The same cluster as `us-1` tells it, 40 ms behind as the primary said 300 ms ago."""
    return replace(leading, vantage=Vantage(node="us-1", source="eu-1", age_ms=300))


def why(status: Status, demand: Demand, trouble: str = "") -> str:
    """Why not; "" for ready."""
    found = readiness(status, demand, trouble)
    assert found.ready is (found.why == "")
    return found.why


def own(status: Status, **changes: object) -> Status:
    """`status` with another row of the node that answers."""
    me = status.vantage.node
    rows = tuple(replace(row, **changes) if row.id == me else row for row in status.nodes)
    return replace(status, nodes=rows)


def test_a_primary_with_its_quorum_is_ready_for_both(leading: Status) -> None:
    assert why(leading, READ) == why(leading, WRITE) == ""
    assert why(leading, Demand(Purpose.READ, 0)) == ""
    assert readiness(leading, WRITE, "").primary == "eu-1"


def test_a_replica_is_ready_for_reads_and_names_who_takes_writes(following: Status) -> None:
    assert why(following, READ) == ""
    assert why(following, WRITE) == "us-1 does not lead; eu-1 does"


def test_without_a_primary_a_replica_reads_at_any_age_and_at_no_certain_one(following: Status) -> None:
    lost = own(replace(following, primary=Primary(node="eu-1", state="lost")), lag=Lag())
    assert why(lost, READ) == ""
    assert why(lost, Demand(Purpose.READ, ASKED_LAG_MS_MAX)) == "its lag is unknown"
    assert why(lost, WRITE) == "us-1 does not lead"
    assert readiness(lost, READ, "").primary == ""


def test_a_lag_is_as_old_as_the_judgement_and_what_was_judged_together(following: Status) -> None:
    assert readiness(following, READ, "").lag_ms == 340
    assert why(following, Demand(Purpose.READ, 340)) == ""
    assert why(following, Demand(Purpose.READ, 339)) == "it is 340 ms behind, 339 are allowed"


def test_a_lag_without_its_time_is_not_known_to_be_short(following: Status) -> None:
    behind = own(following, lag=Lag(state="behind", records=3))
    assert why(behind, Demand(Purpose.READ, ASKED_LAG_MS_MAX)) == "its lag is unknown"


def test_a_primary_without_its_quorum_reads_and_does_not_write(leading: Status) -> None:
    alone = replace(leading, quorum=Quorum(met=False, why="region us is missing"))
    assert why(alone, WRITE) == "region us is missing" and why(alone, READ) == ""


def test_a_primary_with_a_disk_that_is_full_does_not_write(leading: Status) -> None:
    assert why(own(leading, disk=Disk(state="full")), WRITE) == "the disk is full"


def test_a_primary_that_does_not_apply_what_it_commits_reads_as_old_as_that(leading: Status) -> None:
    full = own(leading, health="unhealthy", disk=Disk(state="full"), lag=Lag(state="behind", ms=9_000))
    assert why(full, READ) == ""
    assert why(full, Demand(Purpose.READ, 8_999)) == "it is 9000 ms behind, 8999 are allowed"
    idle = own(leading, health="unhealthy", disk=Disk(state="full"), lag=Lag(state="caught_up", ms=0))
    assert why(idle, Demand(Purpose.READ, 0)) == ""


def test_who_answers_no_read_from_a_damaged_state_is_ready_for_none(following: Status) -> None:
    assert why(own(following, disk=Disk(state="damaged")), READ) == "the disk is damaged"


def test_who_takes_a_snapshot_or_is_nobodys_member_reads_nothing(following: Status) -> None:
    assert why(own(following, role="rebuilding"), READ) == "it takes a snapshot"
    assert why(replace(following, cluster=Cluster()), READ) == "us-1 has not joined its cluster yet"


def test_trouble_of_the_process_comes_first(leading: Status) -> None:
    assert why(leading, READ, "the disk hangs") == why(leading, WRITE, "the disk hangs") == "the disk hangs"


@pytest.mark.parametrize(
    ("query", "demand"),
    [
        ([("for", "read")], READ),
        ([("for", "write")], WRITE),
        ([("max_lag_ms", "0"), ("for", "read")], Demand(Purpose.READ, 0)),
        ([("for", "read"), ("max_lag_ms", str(ASKED_LAG_MS_MAX))], Demand(Purpose.READ, ASKED_LAG_MS_MAX)),
    ],
)
def test_a_demand_is_what_its_parameters_say(query: list[tuple[str, str]], demand: Demand) -> None:
    assert Demand.parse(query) == demand


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([], "for is missing"),
        ([("for", "both")], "for is 'both'"),
        ([("for", "read"), ("for", "write")], "given twice"),
        ([("for", "read"), ("lag", "1")], "unknown"),
        ([("for", "write"), ("max_lag_ms", "1")], "for=read"),
        ([("for", "read"), ("max_lag_ms", "-1")], "whole milliseconds"),
        ([("for", "read"), ("max_lag_ms", "")], "whole milliseconds"),
        ([("for", "read"), ("max_lag_ms", "٣")], "whole milliseconds"),
        ([("for", "read"), ("max_lag_ms", str(ASKED_LAG_MS_MAX + 1))], "whole milliseconds"),
        ([("for", "read"), ("max_lag_ms", "1" * 30)], "whole milliseconds"),
        ([("for", "read"), ("max_lag_ms", "0000000005000")], "whole milliseconds"),
    ],
)
def test_a_demand_that_is_none_says_what_would_be_right(query: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(RequestInvalid, match=said):
        Demand.parse(query)
