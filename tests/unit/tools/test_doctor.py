"""What the doctor makes of facts: each thing that is wrong is found, named, and comes with what to type."""

from __future__ import annotations

import json
import socket
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from cluster.advice import Advice
from cluster.config import NodeConfig, parse_node_config
from cluster.credentials import DAY_MS
from cluster.inspection import Inspection
from cluster.retention import Reason
from cluster.settings import Settings
from redwire.errors import ConfigInvalid, DeadlineExceeded, TlsInvalid
from redwire.position import Lsn
from redwire.status import (
    Cluster,
    Disk,
    Lag,
    NodeStatus,
    Primary,
    Quorum,
    RegionStatus,
    Slot,
    Status,
    Vantage,
)
from redwire.status import Settings as InForce
from redwire.tls import certificate_validity_ms
from tools.authority import Authority
from tools.condition import problems, trouble
from tools.dev.cluster_folder import free_ports
from tools.dev.place import clusters
from tools.doctor.facts import Asked, Door, Facts, FileFacts, Lack, Paper
from tools.doctor.finding import Check, Finding, Level, document, text
from tools.doctor.health import OF_PROBLEMS, OF_TROUBLES
from tools.doctor.judge import judge
from tools.doctor.survey import survey

NOW_MS = 1_700_000_000_000
NAMES = ("eu-1", "us-1", "ap-1")
MB = 1_000_000


def node(name: str, **changes: Any) -> NodeStatus:
    """One that is well, and reaches both others in 80 ms."""
    well = NodeStatus(
        id=name,
        addr=f"{name}.example.net:5050",
        region=name[:2],
        declared=name[:2],
        role="primary" if name == "eu-1" else "replica",
        health="healthy",
        connected=True,
        lag=Lag(state="caught_up", records=0, bytes=0, ms=0),
        slot=Slot(state="ok"),
        rtts_us={other: 80_000 for other in NAMES if other != name},
        disk=Disk(state="working", fsync_p99_us=900, free_bytes=900 * MB, floor_bytes=200 * MB),
        certificate_ends_at_ms=NOW_MS + 300 * DAY_MS,
        version="0.1.0",
    )
    return replace(well, **changes)


def cluster(**nodes: NodeStatus) -> Status:
    """A document in which all is well but for the nodes that are given, as eu_1=…"""
    given = {name.replace("_", "-"): row for name, row in nodes.items()}
    rows = tuple(given.get(name) or node(name) for name in NAMES)
    return Status(
        vantage=Vantage(node="eu-1", region="eu", source="eu-1", at_ms=NOW_MS),
        cluster=Cluster(id="ab" * 16, name="shop"),
        term=1,
        primary=Primary(node="eu-1", state="leading", since_at_ms=NOW_MS - 60_000),
        settings=InForce(
            lsn=3,
            policy="majority",
            floor="majority",
            policy_timeout_ms=10_000,
            replica_timeout_ms=5_000,
        ),
        quorum=Quorum(met=True),
        regions=tuple(RegionStatus(name=row.region, nodes=(row.id,), voters=1) for row in rows),
        nodes=rows,
    )


def seen_from(name: str, status: Status) -> Status:
    """The same as another node tells it."""
    return replace(status, vantage=replace(status.vantage, node=name, region=name[:2]))


def asked(status: Status, *silent: str, **ahead_ms: float) -> tuple[Asked, ...]:
    """All nodes but the `silent` answer with that document."""
    return tuple(
        Asked(name, f"{name}.example.net:5050", error="refused")
        if name in silent
        else Asked(
            name,
            f"{name}.example.net:5050",
            seen_from(name, status),
            ahead_ms=ahead_ms.get(name.replace("-", "_"), 0.0),
            unsure_ms=40.0,
        )
        for name in NAMES
    )


def facts(status: Status | None = None, *silent: str, **changes: Any) -> Facts:
    known: dict[str, Any] = {
        "now_ms": NOW_MS,
        "version": "0.1.0",
        "hosts": tuple(f"{name}.example.net:5050" for name in NAMES),
        "asked": asked(status or cluster(), *silent),
    }
    return Facts(**(known | changes))


def bad(found: Facts) -> list[Finding]:
    """What is not in order; whatever is wrong says what to do."""
    findings = [finding for finding in judge(found) if finding.level is not Level.OK]
    assert all(finding.what and finding.where and finding.mend for finding in findings)
    return findings


def only(found: Facts) -> Finding:
    (finding,) = bad(found)
    return finding


def test_a_cluster_that_is_well_is_told_to_be_by_every_check() -> None:
    findings = judge(facts())
    assert {finding.level for finding in findings} == {Level.OK}
    assert {finding.check for finding in findings} == set(Check) - {Check.CONFIG, Check.SETTINGS}
    assert len(findings) == len({finding.check for finding in findings})


def test_a_node_that_does_not_answer_is_an_error_with_where_it_was_asked() -> None:
    gone = node("us-1", health="unhealthy", why="not connected", rtts_us={})
    found = bad(facts(cluster(us_1=gone), "us-1"))
    ports = next(finding for finding in found if finding.check is Check.PORTS)
    assert (ports.level, ports.where, ports.why) == (Level.ERROR, "us-1", "refused")
    assert ports.what == "no answer at us-1.example.net:5050 from here"
    assert "systemctl start redwire-node" in ports.mend and "nc -vz us-1.example.net 5050" in ports.mend
    assert [finding.what for finding in found if finding.check is Check.NODES] == [
        "region us is out: not connected"
    ]
    assert Check.PAIRS not in {finding.check for finding in found}


def test_a_node_of_redwire_dev_is_brought_back_by_its_own_verbs() -> None:
    gone = node("us-1", region="ap", declared="ap", health="unhealthy", why="not connected", rtts_us={})
    regions = (RegionStatus(name="eu", nodes=("eu-1",)), RegionStatus(name="ap", nodes=("us-1", "ap-1")))
    found = bad(facts(replace(cluster(us_1=gone), regions=regions), "us-1", dev=clusters() / "shop"))
    mends = {finding.check: finding.mend for finding in found}
    assert mends[Check.PORTS] == mends[Check.NODES]
    start, resume = "redwire dev start us-1 --name shop", "redwire dev resume us-1 --name shop"
    assert mends[Check.PORTS].startswith(f"{start} (if it is paused: {resume})")


def test_the_end_of_a_link_of_redwire_dev_is_nobodys_address() -> None:
    links = Asked("", "127.0.0.1:12345", error="refused")
    assert bad(facts(asked=(*asked(cluster()), links), dev=clusters() / "shop")) == []


def test_a_region_that_the_primary_does_not_reach_and_that_answers_here_is_not_given_up() -> None:
    gone = node("us-1", health="unhealthy", why="not connected")
    found = bad(facts(cluster(us_1=gone)))
    region = next(finding for finding in found if finding.check is Check.NODES)
    assert region.what == "region us is out: not connected"
    assert region.mend.startswith("they run (us-1 answer from here)") and "gone for good" not in region.mend


def test_a_region_that_has_just_stopped_does_not_answer_though_others_still_tell_of_it() -> None:
    gone = node("us-1", health="unhealthy", why="not connected")  # its round trips as others heard them last
    found = bad(facts(cluster(us_1=gone), "us-1"))
    region = next(finding for finding in found if finding.check is Check.NODES)
    assert region.mend.startswith("start its nodes; if it is gone for good")


def test_a_node_that_stays_away_for_a_newer_term_than_the_primarys_is_told_from_a_broken_line() -> None:
    gone = node("us-1", health="unhealthy", why="not connected")
    status = cluster(us_1=gone)
    lost = Primary(node="eu-1", state="lost", since_at_ms=NOW_MS - 60_000)
    apart = replace(seen_from("us-1", status), term=3, primary=lost)
    others = tuple(each for each in asked(status) if each.member != "us-1")
    found = bad(facts(asked=(*others, Asked("us-1", "us-1.example.net:5050", apart))))
    leader = next(finding for finding in found if finding.check is Check.LEADER)
    assert (leader.level, leader.where) == (Level.ERROR, "us-1")
    assert leader.what == "it has accepted term 3, eu-1 leads term 1" and "redwire events" in leader.mend


@pytest.mark.parametrize(
    ("deaf", "told"),
    [
        ((), "still followed by us-1, ap-1"),
        (("ap-1",), "still followed by us-1; given up by ap-1"),
    ],
)
def test_a_leader_that_gives_no_answer_here_is_not_called_well_though_others_believe_in_it(
    deaf: tuple[str, ...], told: str
) -> None:
    lost = Primary(node="eu-1", state="lost", since_at_ms=NOW_MS)
    asked_now = tuple(
        replace(each, status=replace(each.status, primary=lost)) if each.member in deaf else each
        for each in asked(cluster(), "eu-1")
    )
    found = bad(facts(asked=asked_now))
    (leader,) = [each for each in found if each.check is Check.LEADER]
    assert (leader.level, leader.where) == (Level.ERROR, "eu-1")
    assert leader.what == f"it leads, and does not answer this host; {told}"
    assert Check.QUORUM not in {each.check for each in judge(facts(asked=asked_now))}, "nobody can say"
    refuses = replace(asked_now[0], lack=Lack.REFUSAL)
    assert Check.LEADER not in {each.check for each in bad(facts(asked=(refuses, *asked_now[1:])))}


def test_a_node_that_does_not_let_the_user_in_is_there_and_says_so() -> None:
    refused = Asked("us-1", "us-1.example.net:5050", error="wrong user or password", lack=Lack.REFUSAL)
    others = tuple(each for each in asked(cluster()) if each.member != "us-1")
    (port,) = (each for each in bad(facts(asked=(*others, refused))) if each.check is Check.PORTS)
    assert port.what == "the node at us-1.example.net:5050 is there and does not let this URI's user in"
    assert "password" in port.mend and "start it" not in port.mend


def test_a_node_that_takes_a_valid_certificate_for_an_untimely_one_has_a_wrong_clock() -> None:
    """Over lines that are old it goes on: nothing else is wrong yet."""
    others = tuple(each for each in asked(cluster()) if each.member != "us-1")
    says = "us-1.example.net:5050 refused our certificate: sslv3 alert bad certificate"
    refused = Asked("us-1", "us-1.example.net:5050", error=says, lack=Lack.DATE)
    (clock,) = (each for each in judge(facts(asked=(*others, refused))) if each.check is Check.CLOCKS)
    assert (clock.level, clock.where) == (Level.ERROR, "us-1")
    assert clock.what.startswith("its clock is likely wrong by days") and "timedatectl" in clock.mend
    expired = Paper("the certificate of ops", "ops.pem", NOW_MS - 1, "redwire certs issue")
    found = judge(facts(asked=(*others, refused), papers=(expired,)))
    assert all(each.level is Level.OK for each in found if each.check is Check.CLOCKS), "it is right to"


WAITING = "this node has not joined its cluster yet; not heard yet: us-1, ap-1"


def test_a_node_that_waits_for_its_cluster_answers_and_says_for_whom() -> None:
    """Also where nobody else does: that it is there is the way to what is wrong."""
    first, *others = asked(cluster(), *NAMES)
    waiting = Asked("eu-1", first.addr, error=WAITING, lack=Lack.WAITING, missing=("us-1", "ap-1"))
    found = {each.where: each for each in bad(facts(asked=(waiting, *others)))}
    assert found.keys() == set(NAMES), "that no node answers is not said"
    there, gone = found["eu-1"], found["us-1"]
    assert (there.check, there.level, there.why) == (Check.NODES, Level.ERROR, WAITING)
    assert there.what == "it answers at eu-1.example.net:5050, and waits"
    assert there.mend.startswith("start us-1, ap-1; if they run, see on eu-1 ")
    assert gone.what.startswith("no answer at us-1.example.net:5050")
    dev = bad(facts(asked=(waiting,), dev=clusters() / "shop"))[0]
    assert dev.mend == "redwire dev start us-1 --name shop; redwire dev start ap-1 --name shop"
    alone = bad(facts(asked=(replace(waiting, missing=()),)))[0]
    assert alone.mend.endswith("redwire doctor --wait 60")


def test_certificates_that_end_at_one_moment_are_counted_one_by_one() -> None:
    (fine,) = (each for each in judge(facts()) if each.check is Check.CERTIFICATES)
    assert fine.what.startswith(f"of {len(NAMES)} nodes' ")


def test_when_nobody_answers_that_is_said_and_nothing_is_called_well() -> None:
    findings = judge(facts(cluster(), *NAMES))
    assert {finding.level for finding in findings} == {Level.ERROR}
    assert "no node answers" in {finding.what for finding in findings}


def test_a_pair_that_is_cut_is_found_though_both_answer_from_here() -> None:
    status = cluster(us_1=node("us-1", rtts_us={"eu-1": 80_000}), ap_1=node("ap-1", rtts_us={"eu-1": 80_000}))
    found = only(facts(status))
    assert (found.check, found.level, found.where) == (Check.PAIRS, Level.ERROR, "us-1 to ap-1")
    assert found.what == "us-1 and ap-1 do not reach each other"
    assert "on us-1: nc -vz ap-1.example.net 5050" in found.mend


def test_who_is_not_reached_by_anybody_is_no_broken_pair_however_fresh_its_last_word_is() -> None:
    others = {
        name: node(name, rtts_us={other: 80_000}) for name, other in (("eu-1", "ap-1"), ("ap-1", "eu-1"))
    }
    found = judge(facts(cluster(eu_1=others["eu-1"], ap_1=others["ap-1"]), "us-1"))
    (pairs,) = (finding for finding in found if finding.check is Check.PAIRS)
    assert pairs.level is Level.OK and "eu-1, ap-1 reach each other" in pairs.what


def test_a_pair_that_is_cut_one_way_names_who_does_not_reach_whom() -> None:
    found = only(facts(cluster(us_1=node("us-1", rtts_us={"eu-1": 80_000}))))
    assert found.what == "us-1 does not reach ap-1"


def test_whom_a_node_reaches_is_taken_from_others_when_it_is_not_reached_from_here() -> None:
    alone = node("us-1", rtts_us={"eu-1": 80_000})
    found = bad(facts(cluster(us_1=alone), "us-1"))
    assert [finding.what for finding in found if finding.check is Check.PAIRS] == ["us-1 does not reach ap-1"]


@pytest.mark.parametrize(
    ("ahead_ms", "where", "what", "level"),
    [
        ({"us_1": 1_200.0}, "us-1", "its clock is 1.2 s ahead of that of this machine", Level.WARNING),
        ({"ap_1": -3_000.0}, "ap-1", "its clock is 3.0 s behind that of this machine", Level.WARNING),
        ({"us_1": 400_000.0}, "us-1", "its clock is 6 min 40 s ahead of that of this machine", Level.ERROR),
        (
            {"eu_1": 2_000.0, "us_1": 2_001.0, "ap_1": 1_999.0},
            "this machine",
            "its clock is 2.0 s behind that of ap-1",
            Level.WARNING,
        ),
    ],
)
def test_a_clock_that_differs_from_most_others_is_named(
    ahead_ms: dict[str, float], where: str, what: str, level: Level
) -> None:
    found = only(facts(asked=asked(cluster(), **ahead_ms)))
    assert (found.check, found.where, found.what, found.level) == (Check.CLOCKS, where, what, level)


def test_what_a_long_way_may_have_added_is_no_wrong_clock() -> None:
    assert bad(facts(asked=asked(cluster(), us_1=1_030.0))) == []


@pytest.mark.parametrize(
    ("days", "level"), [(300, Level.OK), (20, Level.WARNING), (3, Level.WARNING), (-1, Level.ERROR)]
)
def test_a_nodes_certificate_is_told_before_it_ends_and_is_an_error_when_it_has(
    days: int, level: Level
) -> None:
    row = node("ap-1", certificate_ends_at_ms=NOW_MS + days * DAY_MS + 1_000)
    findings = [each for each in judge(facts(cluster(ap_1=row))) if each.check is Check.CERTIFICATES]
    assert [finding.level for finding in findings] == [level]
    if level is not Level.OK:
        assert findings[0].where == "ap-1"
        assert findings[0].mend.startswith("redwire certs issue node ap-1 ")


@pytest.mark.parametrize(("days", "level"), [(31, Level.OK), (29, Level.WARNING), (0, Level.ERROR)])
def test_the_askers_certificate_and_its_authority_are_looked_at_too(days: int, level: Level) -> None:
    paper = Paper("the certificate of ops", "ops.pem", NOW_MS + days * DAY_MS, "redwire certs issue user ops")
    (found,) = [each for each in judge(facts(papers=(paper, paper))) if each.where == "ops.pem"]
    assert (found.check, found.level) == (Check.CERTIFICATES, level)


def test_files_of_the_uri_that_cannot_be_used_are_one_error_and_nobody_is_blamed() -> None:
    trust = TlsInvalid(Path("ops.key"), "others than the owner may use this key", hint="chmod 600")
    found = only(facts(asked=(), trust=trust))
    assert found.check is Check.CERTIFICATES and "ops.key" in found.what and found.mend == "chmod 600"


def test_a_quorum_that_is_not_met_and_a_lost_primary_are_errors() -> None:
    status = replace(cluster(), quorum=Quorum(met=False, why="no voter in reach in us"))
    assert (found := only(facts(status))).check is Check.QUORUM and "no voter in reach in us" in found.what
    lost = Primary(node="eu-1", state="lost", since_at_ms=NOW_MS)
    status = replace(cluster(), primary=lost, quorum=Quorum(why="no primary is in sight"))
    (found,) = bad(facts(status))
    assert (found.check, found.level, found.where) == (Check.LEADER, Level.ERROR, "eu-1")
    assert "Lose the primary" in found.mend


@pytest.mark.parametrize("heard", [{}, {"us-1": 80_000}])  # the lost one, and when it has just stopped
def test_nodes_that_only_wait_for_a_primary_are_not_to_be_checked(heard: dict[str, int]) -> None:
    waiting = {"health": "unknown", "why": "no primary is in sight"}
    status = replace(
        cluster(
            eu_1=node("eu-1", health="unknown", why="not heard", rtts_us=heard),
            us_1=node("us-1", **waiting),
            ap_1=node("ap-1", **waiting),
        ),
        primary=Primary(node="eu-1", state="lost", since_at_ms=NOW_MS),
        quorum=Quorum(why="no primary is in sight"),
    )
    found = {each.check: each for each in bad(facts(status, "eu-1"))}
    assert set(found) - {Check.PAIRS} == {Check.PORTS, Check.LEADER, Check.NODES}
    assert found[Check.NODES].what.startswith("us-1, ap-1 run and wait for a primary")
    assert "journalctl" not in found[Check.NODES].mend
    assert found[Check.PORTS].where == found[Check.LEADER].where == "eu-1"


def test_a_node_that_is_to_lead_and_waits_has_in_its_log_for_whom() -> None:
    opening = node("us-1", role="opening")
    found = only(facts(cluster(us_1=opening)))
    assert found.what == "us-1 is opening" and "for whom it waits stands in its log" in found.mend


def test_what_is_not_known_is_not_called_well() -> None:
    def stranger(name: str) -> NodeStatus:
        return NodeStatus(id=name, addr=f"{name}.example.net:5050", region=name[:2], why="not heard")

    lost = replace(
        cluster(eu_1=stranger("eu-1"), us_1=stranger("us-1"), ap_1=node("ap-1", rtts_us={}, slot=Slot())),
        primary=Primary(node="eu-1", state="lost"),
        quorum=Quorum(why="no primary is in sight"),
    )
    (alone,) = (each for each in asked(lost) if each.name == "ap-1")
    findings = [each for each in judge(facts(asked=(alone,))) if each.level is Level.OK]
    assert {each.check for each in findings}.isdisjoint(
        {Check.PAIRS, Check.LEADER, Check.QUORUM, Check.NODES, Check.SLOTS}
    )
    (disks,) = [each for each in findings if each.check is Check.DISKS]
    assert disks.what.startswith("above the floor on ap-1;")


def test_disks_are_errors_when_full_and_warnings_when_slow_filling_or_near_the_floor() -> None:
    def disk(**changes: Any) -> Finding:
        well = node("us-1").disk
        return only(facts(cluster(us_1=node("us-1", disk=replace(well, **changes)))))

    assert (found := disk(state="full")).level is Level.ERROR and found.check is Check.DISKS
    assert found.why == "at most what has its space set aside already is still logged there"
    assert disk(fsync_p99_us=180_000).what == "one write in a hundred takes its disk 180 ms or more"
    assert disk(free_bytes=300 * MB).what == "300 MB are free, the floor is 200 MB"
    filling = disk(floor_ms=30 * 60_000)
    assert (filling.level, filling.where) == (Level.WARNING, "us-1") and "in 30 min" in filling.what
    assert disk(floor_ms=0, free_bytes=100 * MB).level is Level.ERROR


def test_what_a_full_disk_brings_about_is_not_mended_elsewhere() -> None:
    full = node("eu-1", disk=replace(node("eu-1").disk, state="full"), health="unhealthy", why="disk full")
    status = cluster(eu_1=full)
    why = "DISK_FULL: the primary's disk is full"
    out = replace(status.regions[0], holds_watermark=False)
    status = replace(
        status, quorum=replace(status.quorum, met=False, why=why), regions=(out, *status.regions[1:])
    )
    mends = {found.check: found.mend for found in bad(facts(status))}
    assert mends[Check.QUORUM] == mends[Check.NODES] == "see disks"
    assert "free or add space" in mends[Check.DISKS]


def test_what_several_nodes_have_on_one_volume_is_told_once() -> None:
    def on(name: str, **changes: Any) -> NodeStatus:
        well = node(name)
        return replace(well, disk=replace(well.disk, volume="v", **changes))

    near = [on(name, free_bytes=300 * MB) for name in NAMES]
    found = only(facts(cluster(eu_1=near[0], us_1=near[1], ap_1=near[2])))
    assert (found.where, found.what) == ("eu-1, us-1, ap-1", "300 MB are free, the floor is 200 MB")
    full_in = [
        on(name, floor_ms=ms, floor_over_ms=600_000) for name, ms in zip(NAMES, (9e5, 8e5, 7e5), strict=True)
    ]
    found = only(facts(cluster(eu_1=full_in[0], us_1=full_in[1], ap_1=full_in[2])))
    text = "disk (eu-1, us-1 too) reaches its floor of 200 MB, by its last 10 min 00 s, in 11 min 40 s"
    assert (found.where, found.what) == ("ap-1", f"{text} if nothing changes")


def test_when_a_disk_is_full_is_said_to_be_too_early_to_tell_while_it_is() -> None:
    def disks(**over_ms: int) -> str:
        rows = {
            name: replace(node(name), disk=replace(node(name).disk, floor_over_ms=over_ms.get(name[:2])))
            for name in NAMES
        }
        found = judge(facts(cluster(eu_1=rows["eu-1"], us_1=rows["us-1"], ap_1=rows["ap-1"])))
        return next(each.what for each in found if each.check is Check.DISKS)

    assert disks(eu=120_000).endswith("; too early to foretell when these fill: us-1, ap-1")
    assert disks(eu=120_000, us=120_000, ap=120_000).endswith("take 900 µs or less")


def slot(state: str, bound: str) -> Finding:
    """What is found of a slot of ap-1."""
    row = node("ap-1", slot=Slot(state=state, bound=bound, eviction_ms=600_000))
    return only(facts(cluster(ap_1=row)))


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (Reason.BYTES, "raise retention.bytes_max in "),
        (Reason.AGE, "raise retention.age_max_s in "),
        (Reason.DISK, "free space on the primary's disk"),
        (Reason.GONE, "raise retention.bytes_max and age_max_s in "),
    ],
)
def test_a_slot_says_what_would_keep_the_log_for_longer(reason: Reason, advice: str) -> None:
    lost = slot("evicted", reason.value)
    assert (lost.check, lost.level) == (Check.SLOTS, Level.ERROR)
    assert lost.what == f"ap-1: evicted from its slot: {reason.value}"
    assert lost.mend.startswith(f"let it run; if that recurs, {advice}")
    risky = slot("at_risk", reason.value)
    assert (risky.check, risky.level) == (Check.SLOTS, Level.WARNING)
    assert risky.mend.startswith(f"start ap-1 before that, or {advice}")


def test_every_reason_of_retention_has_its_advice_and_a_word_from_elsewhere_names_no_wrong_key() -> None:
    strange = slot("evicted", "phase_of_the_moon").mend
    assert strange.endswith("raise what bounds it: retention in the primary's node.yaml")
    assert len({slot("evicted", reason.value).mend for reason in Reason} | {strange}) == len(Reason) + 1


def test_the_doctor_has_a_mend_for_all_that_is_wrong_or_coming_in_a_document() -> None:
    assert set(OF_PROBLEMS) == set(problems.Kind) - {problems.Kind.SILENCE}
    assert set(OF_TROUBLES) == set(trouble.Kind)


def test_who_is_a_minute_behind_and_comes_no_nearer_is_told() -> None:
    late = Lag(state="behind", records=9_000, ms=70_000)
    found = only(facts(cluster(ap_1=node("ap-1", lag=late))))
    assert (found.check, found.where) == (Check.NODES, "ap-1")
    assert bad(facts(cluster(ap_1=node("ap-1", lag=replace(late, catch_up_ms=9_000))))) == []


def test_versions_that_differ_are_told_with_who_runs_what() -> None:
    found = only(facts(cluster(us_1=node("us-1", version="0.2.0"))))
    assert found.what == "eu-1, ap-1 run 0.1.0; us-1 run 0.2.0"
    assert only(facts(version="0.3.0")).what == "this redwire is 0.3.0, the nodes run 0.1.0"


def test_a_reader_does_not_count_and_that_is_as_it_should_be() -> None:
    reader = node("ap-1", kind="reader", uncounted="reader")
    found = judge(facts(cluster(ap_1=reader)))
    assert [each.level for each in found if each.check is Check.QUORUM] == [Level.OK]
    assert only(facts(cluster(ap_1=node("ap-1", uncounted="another incarnation")))).check is Check.QUORUM


def test_a_binding_that_is_not_what_the_node_says_is_told() -> None:
    found = only(facts(cluster(ap_1=node("ap-1", declared="eu"))))
    assert (found.check, found.level) == (Check.SETTINGS, Level.WARNING)
    assert "redwire regions bind ap-1 REGION --dry-run" in found.mend


def policy(text: str, floor: str) -> Status:
    status = cluster()
    return replace(status, settings=replace(status.settings, policy=text, floor=floor))


def test_single_points_of_failure_are_warnings_by_the_prover() -> None:
    found = only(facts(policy("regions(eu,us)", "majority")))
    assert (found.check, found.level) == (Check.SINGLE_POINTS, Level.WARNING)
    assert found.what == "writes stop without eu-1 or us-1 or region eu or region us"
    assert "redwire policy set majority --dry-run" in found.mend
    lower = only(facts(policy("regions(eu,us)", "regions(eu,us)")))
    assert "redwire policy set majority --floor none --dry-run" in lower.mend
    first, *_ = bad(facts(policy("local", "local")))
    assert first.what.startswith("confirmed writes are lost with eu-1")
    found = only(facts(policy("regions(eu,sa)", "majority")))
    assert found.level is Level.ERROR and "sa" in found.what


def test_a_uri_of_one_host_is_told_with_all_of_them() -> None:
    found = only(facts(hosts=("eu-1.example.net:5050",)))
    assert found.level is Level.WARNING
    assert "reds://eu-1.example.net:5050,us-1.example.net:5050,ap-1.example.net:5050/" in found.mend


def test_a_node_with_another_ones_certificate_gets_its_own_issued_and_is_not_called_gone() -> None:
    gone = node("us-1", health="unhealthy", why="not connected", rtts_us={})
    strange = Asked(
        "us-1", "us-1.example.net:5050", error="self-signed", hint="a client names", lack=Lack.PAPER
    )
    others = tuple(each for each in asked(cluster(us_1=gone)) if each.member != "us-1")
    found = {each.check: each for each in bad(facts(asked=(*others, strange)))}
    ports, region = found[Check.PORTS], found[Check.NODES]
    assert ports.what == "what is at us-1.example.net:5050 shows another certificate than us-1 should"
    assert ports.mend.startswith("redwire certs issue node us-1 --host us-1.example.net --out renewed")
    assert region.mend.startswith("see ports") and "gone for good" not in region.mend


def test_a_certificate_that_is_not_accepted_anywhere_is_first_a_matter_of_who_asks() -> None:
    asked_all = tuple(
        Asked("", f"{name}.example.net:5050", error="self-signed", hint="name the cluster's", lack=Lack.PAPER)
        for name in NAMES
    )
    ports = [each for each in bad(facts(asked=asked_all)) if each.check is Check.PORTS]
    assert {each.mend for each in ports} == {"name the cluster's"}


def test_a_host_of_the_uri_that_is_no_member_any_more_is_a_warning() -> None:
    gone = Asked("", "old-1.example.net:5050", error="refused")
    found = only(facts(asked=(*asked(cluster()), gone)))
    assert (found.check, found.level, found.where) == (Check.PORTS, Level.WARNING, "the URI")
    assert "old-1.example.net:5050" in found.what and "old-1" not in found.mend


def test_a_host_of_the_uri_that_is_no_member_and_refuses_the_user_is_not_said_to_be_silent() -> None:
    other = Asked("", "old-1.example.net:5050", error="wrong user or password", lack=Lack.REFUSAL)
    found = only(facts(asked=(*asked(cluster()), other)))
    assert (found.check, found.level, found.where) == (Check.PORTS, Level.ERROR, "old-1.example.net:5050")
    assert "is there and does not let this URI's user in" in found.what and "nobody" not in found.what


def test_who_may_not_see_the_others_is_told_that_and_nothing_is_made_up_about_them() -> None:
    status = cluster()
    hidden = replace(
        status, vantage=replace(status.vantage, hides_others=True), nodes=status.nodes[:1], regions=()
    )
    found = only(facts(asked=(Asked("eu-1", "eu-1.example.net:5050", hidden),)))
    assert "cluster:topology:read" in found.mend


CONFIG: dict[str, Any] = {
    "node": {"id": "eu-1", "region": "eu", "role": "primary", "listen": "127.0.0.1:5050", "data_dir": "data"},
    "tls": {"ca": "ca.pem", "cert": "eu-1.pem", "key": "eu-1.key"},
    "cluster": {
        "name": "shop",
        "members": [{"id": name, "region": name[:2], "addr": f"{name}.example.net:5050"} for name in NAMES],
    },
}


def config(**cluster: Any) -> NodeConfig:
    return parse_node_config(CONFIG | {"cluster": CONFIG["cluster"] | cluster}, "node.yaml")


def logged(**cluster: Any) -> Settings:
    """Settings in force, as they are told to somebody outside."""
    view = Settings(Lsn(3), config(**cluster).cluster).view()
    return Settings.shown(view, "shop")


def file(config: NodeConfig, **changes: Any) -> FileFacts:
    known: dict[str, Any] = {"errors": (), "ends": (), "warnings": (), "remarks": (), "shown": None}
    return FileFacts("node.yaml", config, Inspection(**(known | changes)))


def test_a_file_that_is_right_is_told_to_be_and_what_a_running_node_hides_is_no_warning() -> None:
    findings = judge(
        facts(file=file(config(), remarks=(Advice("process 7 runs in data"),)), settings=logged())
    )
    assert {finding.level for finding in findings} == {Level.OK}
    assert {"eu-1 of shop can start", "its section cluster says what is in force since LSN 3"} < {
        finding.what for finding in findings
    }


@pytest.mark.parametrize(
    ("kind", "what", "mend"),
    [
        ("user", "the certificate of ops", "redwire certs issue user ops --out renewed"),
        ("node", "our certificate", "have its issuer renew it"),
    ],
)
async def test_our_own_certificate_is_named_by_what_it_says_not_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, what: str, mend: str
) -> None:
    authority = Authority.create("shop")
    ca, _ = authority.save(tmp_path)
    issued = authority.issue_user("ops") if kind == "user" else authority.issue_node("ops", ["127.0.0.1"])
    cert, key = issued.save(tmp_path, "client")
    soon_ms = certificate_validity_ms(cert)[1] - 10 * DAY_MS
    monkeypatch.setattr("tools.doctor.survey.wall_ms", lambda: soon_ms)
    uri = f"reds://127.0.0.1:{free_ports(1)[0]}/?ca={ca}&cert={cert}&key={key}&timeout_ms=200"
    ending = next(each for each in bad(await survey(uri, None)) if each.where == str(cert))
    assert ending.what.startswith(f"{what} ends in 10 days") and ending.mend == mend


async def test_a_certificate_that_ends_while_the_doctor_looks_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.create("shop")
    ca, _ = authority.save(tmp_path)
    cert, key = authority.issue_node("eu-1", ["127.0.0.1"]).save(tmp_path, "eu-1")
    node = {"id": "eu-1", "region": "eu", "role": "primary", "listen": f"127.0.0.1:{free_ports(1)[0]}"}
    node |= {"advertise": "127.0.0.1:5050", "data_dir": str(tmp_path / "data")}
    member = {"id": "eu-1", "region": "eu", "addr": "127.0.0.1:5050"}
    written = {"node": node, "cluster": {"name": "shop", "members": [member], "admins": ["ops"]}}
    written["tls"] = {"ca": str(ca), "cert": str(cert), "key": str(key)}
    path = tmp_path / "node.yaml"
    path.write_text(json.dumps(written))
    soon_ms = certificate_validity_ms(cert)[1] - 10 * DAY_MS
    days = count()
    monkeypatch.setattr("tools.doctor.survey.wall_ms", lambda: soon_ms + next(days) * DAY_MS)
    found = bad(await survey(None, str(path)))
    assert [each.check for each in found] == [Check.CERTIFICATES]


def test_a_file_that_cannot_be_read_is_an_error_with_its_hint() -> None:
    error = ConfigInvalid("node.yaml", "node.role", "king is not primary or replica", hint="write replica")
    bare = ConfigInvalid("node.yaml", "node.role", "king is not primary or replica")
    found = only(Facts(NOW_MS, "0.1.0", file=FileFacts("node.yaml", error=bare)))
    assert found.mend == "redwire-node check --config node.yaml"
    found = only(Facts(NOW_MS, "0.1.0", file=FileFacts("node.yaml", error=error)))
    assert (found.check, found.level, found.mend) == (Check.CONFIG, Level.ERROR, "write replica")


def test_what_a_check_of_the_node_finds_is_found() -> None:
    error = TlsInvalid(Path("eu-1.pem"), "the certificate has expired", hint="issue it anew")
    warned = Advice("eu-1.pem: the certificate does not name db", "issue it anew with --host db")
    found = bad(Facts(NOW_MS, "0.1.0", file=file(config(), errors=(error,), warnings=(warned,))))
    assert [(each.level, each.mend) for each in found] == [
        (Level.ERROR, "issue it anew"),
        (Level.WARNING, "issue it anew with --host db"),
    ]


def test_settings_that_the_file_says_otherwise_are_named_with_both() -> None:
    members = [dict(each) for each in CONFIG["cluster"]["members"]]
    members[1]["addr"], members[2]["region"] = "10.0.0.9:5050", "us"
    ours = config(policy="ack_n=1", policy_timeout_ms=2_000, admins=["eve"])
    there = logged(members=members, admins=["ops"])
    assert [finding.what for finding in bad(facts(file=file(ours), settings=there))] == [
        "cluster.policy is ack_n=1 here, is majority in the log",
        "cluster.floor is ack_n=1 here, is majority in the log",
        "cluster.policy_timeout_ms is 2000 here, is 10000 in the log",
        "cluster.admins: eve stands here, is missing in the log",
        "cluster.members: us-1 is a voter in us at us-1.example.net:5050 here, "
        "is a voter in us at 10.0.0.9:5050 in the log",
        "cluster.members: ap-1 is a voter in ap at ap-1.example.net:5050 here, "
        "is a voter in us at ap-1.example.net:5050 in the log",
        "cluster.admins: ops is missing here, stands in the log",
    ]


def test_a_file_that_was_held_against_nothing_is_not_called_well() -> None:
    silent = DeadlineExceeded("no node answered within 5 s", phase="answer")
    found = only(facts(file=file(config()), settings=silent))
    assert (found.check, found.level, found.why) == (Check.SETTINGS, Level.WARNING, silent.message)
    young = judge(facts(file=file(config()), settings=replace(logged(), lsn=Lsn(0))))
    assert Check.SETTINGS not in {finding.check for finding in young}


def test_a_peer_that_is_not_reached_from_this_host_is_an_error() -> None:
    shut = Door("us-1", "us-1.example.net:5050", "no answer within 3 s")
    doors = (shut, Door("ap-1", "10.0.0.9:7001", ""))
    found = only(Facts(NOW_MS, "0.1.0", file=replace(file(config()), doors=doors)))
    assert (found.check, found.where, found.why) == (Check.PORTS, "here to us-1", "no answer within 3 s")
    assert "node.dial" in found.mend


async def test_a_peer_is_looked_for_where_the_settings_in_force_have_it_not_where_the_file_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, left = free_ports(2)
    node = {"id": "eu-1", "region": "eu", "role": "replica", "listen": f"127.0.0.1:{free}"}
    members = [{"id": name, "region": "eu", "addr": f"127.0.0.1:{left}"} for name in ("eu-1", "eu-2")]
    members[0]["addr"] = f"127.0.0.1:{free}"
    written = {"node": node | {"data_dir": "data"}, "tls": {"ca": "ca.pem", "cert": "c.pem", "key": "c.key"}}
    path = tmp_path / "node.yaml"
    path.write_text(json.dumps(written | {"cluster": {"name": "shop", "members": members}}))
    with socket.create_server(("127.0.0.1", 0)) as moved:
        addr = f"127.0.0.1:{moved.getsockname()[1]}"
        told = logged(members=[members[0], members[1] | {"addr": addr}])

        async def settings(*_: object) -> Settings:
            return told

        monkeypatch.setattr("tools.doctor.survey._settings", settings)
        found = await survey(f"red://127.0.0.1:{free}/?timeout_ms=100", str(path))
    assert found.file is not None and found.file.doors == (Door("eu-2", addr, ""),)


def test_no_audit_and_strangers_are_told() -> None:
    loose = parse_node_config(
        CONFIG | {"audit": {"file": "off"}, "auth": {"anonymous": "write"}}, "node.yaml"
    )
    whats = [finding.what for finding in bad(Facts(NOW_MS, "0.1.0", file=file(loose)))]
    assert whats == ["audit is off", "auth.anonymous is write"]


def test_the_worst_comes_first_and_programs_get_the_same_keys_every_time() -> None:
    findings = judge(facts(policy("regions(eu,us)", "majority"), "us-1"))
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels, key=list(Level).index)
    shown = document(findings)
    assert (shown["ok"], shown["errors"], shown["warnings"]) == (False, 1, 1)
    assert {tuple(each) for each in shown["findings"]} == {("check", "level", "where", "what", "why", "mend")}
    assert json.loads(json.dumps(shown)) == shown
    told = text(findings)
    assert told.startswith("error    ports ") and told.endswith("\n\n1 error, 1 warning")


async def test_the_command_asks_every_node_and_its_exit_code_says_whether_something_is_wrong(
    cluster: Any, command_line: Any
) -> None:
    ran = await command_line("doctor", "--json", "--uri", cluster.uri(cluster.nodes[0]))
    shown = json.loads(ran.out)
    ports = [each["what"] for each in shown["findings"] if each["check"] == "ports" and each["level"] == "ok"]
    assert ports == ["from here these answer: eu-1, us-1, ap-1"]
    assert ran.code == (0 if shown["ok"] else 1)
    cluster.stop(cluster.nodes[2])
    ran = await command_line("doctor", "--uri", cluster.uri())
    assert ran.code == 1 and "error    ports          ap-1: no answer at" in ran.out


class Looks:
    """What the doctor finds out, one look after the other; the last one stays."""

    def __init__(self, *found: Facts) -> None:
        self._found = list(found)
        self.count = 0

    async def __call__(self, uri: str | None, file: str | None) -> Facts:
        self.count += 1
        return self._found.pop(0) if len(self._found) > 1 else self._found[0]


def unheard() -> Facts:
    """us-1 has just started, and has not heard ap-1 yet."""
    return facts(cluster(us_1=node("us-1", rtts_us={"eu-1": 80_000})))


@pytest.mark.parametrize("arguments", [(), ("--json",)])
async def test_a_node_that_has_just_started_is_given_a_moment(
    command_line: Any, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("tools.cli.doctor.survey", looks := Looks(unheard(), facts()))
    ran = await command_line("doctor", "--uri", "reds://eu-1:5050", *arguments)
    assert (ran.code, looks.count) == (0, 2)
    said = "redwire: nodes that run do not hear each other: looking again, for 3 s\n"
    assert ran.err == ("" if arguments else said)


async def test_what_is_wrong_for_longer_is_told_after_that_moment_and_what_cannot_pass_at_once(
    command_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.cli.doctor.SETTLE_S", 0.6)
    monkeypatch.setattr("tools.cli.doctor.survey", looks := Looks(unheard()))
    ran = await command_line("doctor", "--uri", "reds://eu-1:5050")
    assert (ran.code, looks.count) == (1, 2) and "us-1 does not reach ap-1" in ran.out
    monkeypatch.setattr("tools.cli.doctor.survey", looks := Looks(facts(cluster(), "us-1")))
    assert (await command_line("doctor", "--uri", "reds://eu-1:5050")).code == 1
    assert looks.count == 1


async def test_another_process_of_a_nodes_name_is_told_with_its_address_and_is_no_broken_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An old copy of us-1 was started where it stood before, and knows the addresses of then."""
    old = "old-1.example.net:5050"
    cut = seen_from("us-1", cluster(us_1=node("us-1", addr=old, rtts_us={})))
    answers = {each.addr: each for each in asked(cluster())} | {old: Asked("us-1", old, cut)}

    async def ask(_: str, addr: str, name: str) -> Asked:
        await anyio.sleep(0.01 if addr == old else 0)  # its word is the last one
        return answers[addr]

    monkeypatch.setattr("tools.doctor.survey._ask", ask)
    seeds = ",".join(("eu-1.example.net", "ap-1.example.net", "old-1.example.net"))
    found = replace(await survey(f"reds://{seeds}/", None), now_ms=NOW_MS)
    twin = only(found)
    assert (twin.check, twin.level, twin.where) == (Check.NODES, Level.ERROR, "us-1")
    assert twin.what == f"another process answers at {old} by the name us-1"
    assert twin.mend == f"stop the one at {old}"


async def test_the_command_wants_to_know_where_to_look(command_line: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("REDWIRE_URI", raising=False)
    ran = await command_line("doctor")
    assert ran.code == 2 and "--config FILE" in ran.err
