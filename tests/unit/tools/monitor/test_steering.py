from __future__ import annotations

import pytest
from msgspec.structs import replace

from cluster.settings import Settings
from redwire.errors import PolicyInvalid, RedwireError, RequestInvalid
from redwire.message.settings import BindRegion, SetPolicy, SettingsChanged
from tools.errors import DurationInvalid
from tools.monitor import rehearsal
from tools.monitor.rehearsal import IN_FORCE, RECORD, document
from tools.monitor.steering import (
    Form,
    Plan,
    Request,
    bind_form,
    plan,
    policy_form,
    unbind_form,
)
from tools.outlook import outlook

STATUS = document(0)
SETTINGS = IN_FORCE.view()
"""No floor is set: the commit rule that the document names is the policy."""


def filled(form: Form, **given: str) -> Request:
    return form.check({field.key: given.get(field.key, field.value) for field in form.fields})


def planned(request: Request) -> Plan:
    return plan(request, dry(request))


def dry(request: Request, before: Settings = IN_FORCE) -> SettingsChanged:
    return rehearsal.answer(rehearsal.planned(request, before))


def test_a_node_is_bound_to_a_region_that_is_there() -> None:
    request = filled(bind_form(STATUS, "us-2"), region="ap")
    assert (request.change, request.warnings) == (BindRegion("us-2", "ap"), ())


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"node": "us-11", "region": "us"}, "there is no node 'us-11'; did you mean us-1?"),
        ({"node": "moon", "region": "us"}, "there is no node 'moon'; there are eu-1, eu-2, us-1, us-2, ap-1"),
        ({"node": "us-1", "region": ""}, "press u to unbind"),
        ({"node": "us-1", "region": "U S"}, "no name of a region"),
        ({"node": "us-1", "region": "eu", "lost": "us-2 app"}, "no node or region 'app'; did you mean ap?"),
    ],
)
def test_a_name_that_is_not_there_gives_the_nearest(given: dict[str, str], text: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        filled(bind_form(STATUS, ""), **given)
    assert text in str(caught.value)


def test_a_new_region_is_possible_doubted_and_typed_back() -> None:
    request = filled(bind_form(STATUS, "us-2"), region="uss")
    found = planned(request)
    assert found.lost[0] == "uss is a new region, with no other node in it; did you mean us?"
    assert found.typed == "us-2"


@pytest.mark.parametrize(
    ("given", "change"),
    [
        ({"policy": "majority"}, SetPolicy(policy="majority")),
        ({"floor": "majority"}, SetPolicy(floor="majority")),
        ({"timeout": "5s"}, SetPolicy(policy_timeout_ms=5_000)),
        ({"policy": "ack_n=1", "floor": "ack_n=1"}, SetPolicy(policy="ack_n=1", floor="ack_n=1")),
        ({"floor": "regions(eu,us)"}, SetPolicy(floor="regions(eu,us)")),
    ],
)
def test_only_what_differs_is_changed(given: dict[str, str], change: SetPolicy) -> None:
    assert filled(policy_form(STATUS, SETTINGS), **given).change == change


def test_a_floor_that_is_not_set_does_not_stand_in_the_form() -> None:
    assert STATUS.settings.floor == "regions(eu,us)"
    floor = next(field for field in policy_form(STATUS, SETTINGS).fields if field.key == "floor")
    assert floor.value == ""


def test_a_floor_that_is_set_stays_when_the_policy_changes() -> None:
    before = Settings.of(replace(RECORD, policy="regions(eu,us,ap)", floor="majority"), IN_FORCE.lsn)
    request = filled(policy_form(STATUS, before.view()), policy="majority")
    assert request.change == SetPolicy(policy="majority")
    assert dry(request, before).after.floor == "majority"


def test_a_floor_that_is_emptied_is_given_up() -> None:
    request = filled(policy_form(STATUS, replace(SETTINGS, floor="majority")), floor="")
    assert request.change == SetPolicy(floor="")


def test_a_change_of_the_policy_is_based_on_the_settings_that_were_read() -> None:
    assert filled(policy_form(STATUS, SETTINGS), policy="majority").based_on == SETTINGS.lsn


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({}, RequestInvalid, "this is what is in force"),
        ({"policy": ""}, RequestInvalid, "the policy is empty"),
        ({"policy": "moons(3)"}, PolicyInvalid, "moons"),
        ({"policy": "regions(eu,uss)"}, RequestInvalid, "did you mean us?"),
        ({"timeout": ""}, DurationInvalid, "no duration"),
        ({"timeout": "soon"}, DurationInvalid, "no duration"),
        ({"timeout": "0 ms"}, DurationInvalid, "1 to 3600000"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_told(
    given: dict[str, str], error: type[RedwireError], text: str
) -> None:
    with pytest.raises(error) as caught:
        filled(policy_form(STATUS, SETTINGS), **given)
    assert text in str(caught.value)


def test_a_weaker_policy_wins_and_loses_and_is_typed_back() -> None:
    found = planned(filled(policy_form(STATUS, SETTINGS), policy="ack_n=1", floor="ack_n=1"))
    assert found.rows == (("policy", "regions(eu,us)", "ack_n=1"), ("floor", "the policy", "ack_n=1"))
    assert any(text.startswith("still writable: no -> ") and "region us" in text for text in found.won)
    assert any(text.startswith("writes kept: yes -> no") and "region eu" in text for text in found.lost)
    assert found.typed == "ack_n=1" and found.based_on == STATUS.settings.lsn


def test_a_policy_that_hangs_on_one_more_node_says_so() -> None:
    found = planned(filled(policy_form(STATUS, SETTINGS), policy="regions(eu,us,ap)"))
    assert found.lost == ("still writable: yes -> no, when this is lost: ap-1, region ap",)
    assert found.typed == ""


def test_a_promise_that_is_empty_is_a_loss() -> None:
    found = planned(filled(policy_form(STATUS, SETTINGS), policy="local", floor="local"))
    assert found.lost[0].startswith("acknowledged writes would no longer survive the loss of eu-1, ")
    assert found.lost[1].startswith("local promises one disk")


@pytest.mark.parametrize("policy", ["majority", "regions(eu,us,ap)", "regions(eu)", "ack_n=1", "local"])
def test_what_is_typed_back_is_what_the_command_line_asks_about(policy: str) -> None:
    request = filled(policy_form(STATUS, SETTINGS), policy=policy)
    answer = dry(request)
    risk = outlook(answer).risk
    assert bool(plan(request, answer).typed) == bool(risk) == (policy in ("regions(eu)", "ack_n=1", "local"))
    assert plan(request, answer).lost[:1] == (risk,) or not risk


def test_what_loses_nothing_needs_no_typing() -> None:
    found = planned(filled(policy_form(STATUS, SETTINGS), timeout="5s"))
    assert (found.won, found.lost, found.typed) == ((), (), "")
    assert found.rows == (("policy timeout", "10 s", "5.0 s"),)


def test_unbinding_the_second_node_of_a_region_lets_it_hang_on_the_first() -> None:
    found = planned(filled(unbind_form(STATUS, "us-2")))
    assert found.rows == (("region of us-2", "us", "no region"),)
    assert found.lost == ("still writable: yes -> no, when this is lost: us-1",)
    assert found.typed == ""


def test_what_is_given_up_for_good_is_typed_back_by_name() -> None:
    found = planned(filled(policy_form(STATUS, SETTINGS), policy="majority", lost="us-2, us-2 ap"))
    assert found.typed == "us-2 ap"
    assert found.lost[:2] == ("us-2 is given up for good", "ap is given up for good")


def test_what_cannot_be_worked_out_is_a_danger_and_not_silent() -> None:
    request = filled(policy_form(STATUS, SETTINGS), policy="majority")
    answer = dry(request)
    found = plan(request, replace(answer, policy="moons(3)"))
    assert "cannot be worked out here" in found.lost[0] and found.typed == "majority"
