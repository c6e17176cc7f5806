"""An operator gives a node up by `--lost`, and it comes back with its old disk: it sets that aside (R5)."""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TIMES = {"replica_timeout_ms": 1_500}
ALONE = 300
"""Writes that only the lost node has: more than the other one writes afterwards, so its LSNs go back."""


def parted(shop: Any) -> None:
    """`eu-1` led, has confirmed what nobody else has, and is down."""
    shop.db.put("c", "kept", {"n": 1})
    shop.converge()
    shop.kill("us-1")
    shop.fill("alone", ALONE)
    shop.db.put("alone", "last", {"n": 1})  # so its log says, too, that the others are committed
    shop.kill("eu-1")
    shop.set_role("eu-1", "replica")
    shop.set_role("us-1", "primary")


def follows_with_the_others(shop: Any, since: int) -> None:
    """`eu-1` has moved to `diverged/` what only it had, and holds what all hold."""
    shop.wait_log("eu-1", "log and state of before lie in diverged/ now", since=since)
    shop.converge()
    shop.db.put("c", "after", {"n": 3})
    shop.converge()
    for node in shop.nodes:
        assert shop.documents(node, "alone") == {}
        assert shop.documents(node, "c").keys() == {"kept", "instead", "after"}
    shop.check_same_log()
    assert list((shop.data_dir("eu-1") / "diverged").glob("*state*.db"))


def test_who_was_given_up_comes_back_behind_where_it_was(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1", policy="local", **TIMES)
    parted(shop)
    shop.lead("us-1", "--take-over", "--lost", "eu-1")
    shop.db.put("c", "instead", {"n": 2}, timeout_s=30)
    since, mark = shop.mark("eu-1"), shop.mark("us-1")
    shop.start_node("eu-1")
    follows_with_the_others(shop, since)
    assert "the reign ends" not in shop.said("us-1", mark)
    again = shop.mark("eu-1")
    assert shop.terminate("eu-1") == 0
    shop.start_node("eu-1")
    shop.converge()
    assert "snapshot" not in shop.said("eu-1", again), "once is enough"


def test_a_primary_starts_again_beside_one_that_was_given_up_and_has_its_old_disk(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1", policy="local", **TIMES)
    parted(shop)
    shop.lead("us-1", "--take-over", "--lost", "eu-1")
    shop.db.put("c", "instead", {"n": 2}, timeout_s=30)
    assert shop.terminate("us-1") == 0
    since = shop.mark("eu-1")
    shop.start_node("eu-1")
    shop.wait_log("eu-1", "listens on", since=since)
    shop.lead("us-1")
    follows_with_the_others(shop, since)


@pytest.mark.parametrize("led", ["once more", "three times more", "three times more, and leads again"])
def test_who_began_reigns_that_the_new_primary_never_heard_of_follows_it(fleet: Any, led: str) -> None:
    """It started again while the other one was away: its term is as new as that of the other, or newer."""
    shop = fleet("eu-1", "us-1", policy="local", **TIMES)
    shop.db.put("c", "kept", {"n": 1})
    shop.converge()
    shop.kill("us-1")
    for _ in range(1 if led == "once more" else 3):
        shop.kill("eu-1")
        shop.lead("eu-1")
    shop.fill("alone", ALONE)
    stops = led.endswith("leads again")
    if stops:
        shop.signal_node("eu-1", signal.SIGSTOP)
    else:
        shop.kill("eu-1")
        shop.set_role("eu-1", "replica")
    since = shop.mark("eu-1")
    shop.set_role("us-1", "primary")
    shop.lead("us-1", "--take-over", "--lost", "eu-1")
    shop.at("us-1").put("c", "instead", {"n": 2}, timeout_s=30)
    if stops:
        shop.signal_node("eu-1", signal.SIGCONT)
    else:
        shop.start_node("eu-1")
    follows_with_the_others(shop, since)
    assert shop.status("us-1").own.role == "primary"


def test_one_that_led_on_without_knowing_leads_no_more(fleet: Any) -> None:
    """It was stopped, not gone: both serve until they hear of each other."""
    shop = fleet("eu-1", "us-1", policy="local", **TIMES)
    shop.db.put("c", "kept", {"n": 1})
    shop.converge()
    shop.kill("us-1")
    shop.fill("alone", ALONE)
    since = shop.mark("eu-1")
    shop.signal_node("eu-1", signal.SIGSTOP)
    shop.set_role("us-1", "primary")
    shop.lead("us-1", "--take-over", "--lost", "eu-1")
    shop.at("us-1").put("c", "instead", {"n": 2}, timeout_s=30)
    shop.signal_node("eu-1", signal.SIGCONT)
    shop.wait_log("eu-1", "the reign ends", since=since)
    follows_with_the_others(shop, since)
