"""The hosts of the URI, and who asks."""

from __future__ import annotations

from msgspec.structs import replace

from tests.doctor_facts import NAMES, asked, bad, cluster, facts, node, only
from tools.doctor.facts import Asked, Lack
from tools.doctor.finding import Check, Level


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
    assert "--topology" in found.mend
