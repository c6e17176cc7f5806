"""What a change wins and loses, as every verb and the monitor tell it."""

from __future__ import annotations

import io

import pytest
from msgspec.structs import replace
from rich.console import Console

from redwire.message.settings import MemberView, SettingsChanged, SettingsView
from redwire.status import NodeStatus
from regions.binding import MemberKind
from tools.grid import draw
from tools.outlook import Group, document, membership, outlook, own_floor, part, settings_document

NODES = ("eu-1", "eu-2", "us-1", "us-2", "ap-1")


def view(policy: str, nodes: tuple[str, ...] = NODES) -> SettingsView:
    members = tuple(MemberView(id=n, region=n[:2], addr=f"{n}:5050", kind="voter") for n in nodes)
    return SettingsView(
        lsn=1,
        policy=policy,
        floor="",
        policy_timeout_ms=1,
        replica_timeout_ms=1,
        members=members,
        admins=(),
    )


def found(before: str, after: str, nodes: tuple[str, ...] = NODES):
    return outlook(SettingsChanged.between(view(before, nodes), view(after, nodes), text=""))


def test_a_pair_of_which_one_node_is_enough_says_nothing_new() -> None:
    seen = found("regions(eu,us)", "regions(eu,us,ap)")
    lost = [str(each.lost) for each in seen.differences if not each.won]
    assert "eu-1 + ap-1" in lost and "eu-1 + us-1" not in lost
    first, *others = seen.groups
    assert first == Group(False, "still writable", "yes", "no", ("ap-1", "region ap"))
    assert all(group.won for group in others) and any("eu-1 + us-1" in group.losses for group in others)
    assert part(seen).text().splitlines()[:3] == [
        "What is won and lost",
        "LOST  still writable: yes -> no, when this is lost:",
        "      ap-1, region ap",
    ]


@pytest.mark.parametrize(("before", "after"), [("local", "ack_n=1"), ("majority", "ack_n=1")])
def test_what_is_won_and_lost_fits_on_a_terminal_and_no_loss_is_broken_in_two(before, after) -> None:
    many = tuple(f"{region}-{number}" for region in ("frankfurt", "virginia", "tokyo") for number in (1, 2))
    seen = found(before, after, many)
    said = io.StringIO()
    draw([part(seen)], Console(file=said, width=80, force_terminal=True, color_system=None))
    lines = said.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) > 2 * len(seen.groups) > 0
    names = [name for line in lines if line.startswith("      ") for name in line.strip(" ,").split(", ")]
    assert names == [loss for group in seen.groups for loss in group.losses]


def test_where_nothing_is_won_or_lost_that_is_said_in_words() -> None:
    assert part(found("majority", "majority")).text() == (
        "nothing is won or lost, whatever node or region is lost"
    )


def test_what_is_lost_comes_before_what_is_won() -> None:
    won = [group.won for group in found("regions(eu,us)", "ack_n=1").groups]
    assert won == sorted(won) and set(won) == {False, True}


def test_a_change_after_which_writes_survive_less_is_told_by_what_they_do_not_survive() -> None:
    assert found("majority", "majority & regions(eu,us)").risk == ""
    assert found("local", "ack_n=1").risk == ""
    loses = "acknowledged writes would no longer survive the loss of "
    assert found("majority", "ack_n=1").risk == f"{loses}region eu, region us"
    assert (
        found("majority", "local").risk
        == f"{loses}eu-1, eu-2, us-1, us-2, ap-1, region eu, region us, region ap"
    )
    three = ("eu-1", "us-1", "ap-1")
    pairs = found("ack_n=2", "majority", three)
    assert pairs.risk == "" and pairs.groups[0].losses == ("eu-1 + us-1", "eu-1 + ap-1", "us-1 + ap-1")


def test_a_policy_that_nobody_in_reach_can_meet_is_asked_about_whatever_else_it_wins() -> None:
    before, after = view("majority"), view("majority & regions(eu,us)")
    changed = SettingsChanged.between(before, after, text="", unmet="no voter of us is in reach")
    refused = "writes that name no policy are refused for now: no voter of us is in reach"
    assert outlook(changed).risk == outlook(changed).refused == refused
    changed = SettingsChanged.between(before, view("ack_n=1"), text="", unmet="why")
    assert outlook(changed).risk.endswith(
        "region eu, region us; writes that name no policy are refused for now: why"
    )


def test_programs_are_told_of_a_loss_what_it_leaves_before_and_after_and_what_of_that_is_worse() -> None:
    changed = SettingsChanged.between(view("majority"), view("ack_n=1"), text="")
    told = document(changed, outlook(changed), dry_run=True)
    (region,) = [each for each in told["differences"] if each["region"] == "eu"]
    assert region == {
        "region": "eu",
        "nodes": ["eu-1", "eu-2"],
        "before": {"kept": True, "writable": "yes", "successor": True},
        "after": {"kept": False, "writable": "unless_primary_lost", "successor": False},
        "better": [],
        "worse": ["kept", "writable", "successor"],
    }
    same = outlook(SettingsChanged.between(view("local"), view("local"), text=""))
    assert document(changed, same, dry_run=True)["differences"] == []


def test_programs_are_told_the_floor_that_holds_and_whether_it_was_set() -> None:
    told = settings_document(view("majority"))
    assert (told["floor"], told["floor_is_policy"]) == ("majority", True)
    told = settings_document(replace(view("majority"), floor="local"))
    assert (told["floor"], told["floor_is_policy"]) == ("local", False)


def test_members_count_alike_whoever_names_them() -> None:
    told = tuple(NodeStatus(id=n, region=n[:2], addr=f"{n}:5050") for n in NODES)
    assert membership(told) == membership(view("majority").members)
    *_, stranger = membership((*told, NodeStatus(id="sa-1", region="sa", addr="sa-1:1", kind="new"))).members
    assert stranger.kind is MemberKind.READER


def test_where_no_floor_is_set_it_is_said_what_holds() -> None:
    alone = view("majority")
    assert own_floor(alone) == "the policy is its own floor: no write is confirmed with less than majority"
    assert own_floor(replace(alone, floor="local")) == ""
