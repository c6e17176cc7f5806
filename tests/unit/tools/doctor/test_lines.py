"""Lines between nodes, clocks and certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.credentials import DAY_MS
from redwire.errors import TlsInvalid
from tests.doctor_facts import NOW_MS, asked, bad, cluster, facts, node, only
from tools.doctor.facts import Paper
from tools.doctor.finding import Check, Level
from tools.doctor.judge import judge


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
