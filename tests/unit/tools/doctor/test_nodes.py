"""Nodes that are not reached, that just started, or that do not let the asker in."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from redwire.status import (
    Primary,
    RegionStatus,
)
from tests.doctor_facts import NAMES, NOW_MS, asked, bad, cluster, facts, node, seen_from
from tools.dev.place import clusters
from tools.doctor.facts import Asked, Lack, Paper
from tools.doctor.finding import Check, Level
from tools.doctor.judge import judge


def test_a_cluster_that_is_well_is_told_to_be_by_every_check() -> None:
    findings = judge(facts())
    assert {finding.level for finding in findings} == {Level.OK}
    assert {finding.check for finding in findings} == set(Check) - {Check.CONFIG, Check.SETTINGS}
    assert len(findings) == len({finding.check for finding in findings})


def test_a_node_that_does_not_answer_is_an_error_with_where_it_was_asked() -> None:
    gone = node("us-1", health="unhealthy", why="not connected", connected=False, rtts_us={})
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


def test_who_takes_a_snapshot_is_waited_for_and_no_line_to_it_is_mended() -> None:
    taking = node("us-1", role="rebuilding", health="unhealthy", why="not connected")
    mend = "us-1 takes a snapshot, and counts again when it has caught up: redwire events"
    alone = bad(facts(cluster(us_1=taking)))
    assert [(each.where, each.mend) for each in alone if each.check is Check.NODES] == [("us", mend)]
    beside = replace(taking, region="eu", declared="eu")
    regions = (RegionStatus(name="eu", nodes=("eu-1", "us-1")), RegionStatus(name="ap", nodes=("ap-1",)))
    found = bad(facts(replace(cluster(us_1=beside), regions=regions)))
    assert ("us-1 is unhealthy: not connected", mend) in [(each.what, each.mend) for each in found]


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


def test_a_node_that_was_removed_and_still_answers_is_told_to_be_no_member() -> None:
    gone = Asked("sa-1", "sa-1.example.net:5050", seen_from("sa-1", cluster()))
    (found,) = bad(facts(asked=(*asked(cluster()), gone)))
    assert (found.check, found.level, found.where) == (Check.NODES, Level.WARNING, "sa-1")
    assert found.what == "it answers at sa-1.example.net:5050, and is no member of the cluster"


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


def test_a_node_that_the_primary_hears_and_nobody_reaches_is_not_to_be_started() -> None:
    (found,) = (each for each in bad(facts(cluster(), "us-1")) if each.check is Check.PORTS)
    assert found.what == "no answer at us-1.example.net:5050 from here, though us-1 follows the primary"
    assert "compare node.listen with us-1.example.net:5050" in found.mend and "systemctl" not in found.mend


def test_a_certificate_that_is_not_accepted_is_no_silence() -> None:
    stranger = Asked("", "h:5050", error="self-signed", hint="see ca=", lack=Lack.PAPER)
    (found,) = (each for each in bad(facts(asked=(stranger,))) if each.check is Check.PORTS)
    assert found.what == "what is at h:5050 shows a certificate that is not accepted here"
    assert (found.why, found.mend) == ("self-signed", "see ca=")


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
