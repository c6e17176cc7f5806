"""The monitor over real nodes: what it shows, a change that it makes, and the loss of the node it asks."""

from __future__ import annotations

import html
import re
from typing import Any

import anyio
import pytest

from tools.monitor.app import Monitor
from tools.monitor.feed import ClusterFeed

pytestmark = pytest.mark.slow

DEADLINE_S = 30.0


async def until(pilot: Any, *texts: str) -> str:
    """Wait until the screen has all of these texts; what it shows then."""
    shown = ""
    with anyio.move_on_after(DEADLINE_S):
        while True:
            await pilot.pause(0.05)
            picture = pilot.app.export_screenshot()
            shown = html.unescape(re.sub(r"<[^>]+>", "", picture)).replace("\xa0", " ")
            if all(text in shown for text in texts):
                return shown
    raise AssertionError(f"{texts} never stood on the screen, but: {shown}")


async def press(pilot: Any, *keys: str) -> None:
    for key in keys:
        pilot.app.simulate_key(key)
        await pilot.pause(0)


async def test_the_monitor_shows_changes_and_survives_the_loss_of_its_node(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1", "ap-1", policy="regions(eu,us)", floor="majority")
    shop.db.put("c", "one", {"n": 1})
    uri = shop.uri("us-1", "eu-1")
    async with Monitor(ClusterFeed(uri, "test")).run_test(size=(160, 50)) as pilot:
        await until(pilot, "● WRITES GO ON  regions(eu,us) is met", "seen from us-1", "ap-1", "● 1 of 1")
        head = await anyio.to_thread.run_sync(shop.converge)
        await until(pilot, f"LSN {head:,}", "▲ stop: no voter in reach in us", "● go on", "admin")

        await press(pilot, "p")
        await until(pilot, "Change the commit policy")
        pilot.app.screen.query_one("#field-policy").value = "majority"
        await press(pilot, "enter")
        await until(pilot, "nothing is changed yet", "policy: regions(eu,us)  ->  majority", "Do it (y)")
        assert shop.db.admin.settings().policy == "regions(eu,us)"
        await press(pilot, "y")
        await until(pilot, "committed at LSN")
        await press(pilot, "escape")
        await until(pilot, "● WRITES GO ON  majority is met")
        assert shop.db.admin.settings().policy == "majority"

        shop.kill("us-1")
        await until(pilot, "us-1 was lost", "now at", "● WRITES GO ON")
        await until(pilot, "✗ region us is out", "since", "✗ out")


async def test_a_floor_that_was_not_set_follows_the_policy_unless_it_is_pinned(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1", policy="majority")
    async with Monitor(ClusterFeed(shop.uri("eu-1"), "test")).run_test(size=(160, 50)) as pilot:
        await until(pilot, "● WRITES GO ON  majority is met", "us-1")
        for pinned, row in (("", "policy: majority  ->  regions(eu,us)"), ("majority", "floor: the policy")):
            await press(pilot, "p")
            await until(pilot, "Change the commit policy")
            assert pilot.app.screen.query_one("#field-floor").value == ""
            pilot.app.screen.query_one("#field-policy").value = "regions(eu,us)"
            pilot.app.screen.query_one("#field-floor").value = pinned
            await press(pilot, "enter")
            await until(pilot, "nothing is changed yet", row)
            typed = pilot.app.screen.query("#typed")
            if typed:
                typed.first().value = "regions(eu,us)"
            await press(pilot, "enter" if typed else "y")
            await until(pilot, "committed at LSN")
            assert shop.db.admin.settings().floor == pinned
            await press(pilot, "escape")
            await until(pilot, "● WRITES GO ON  regions(eu,us) is met")
    assert shop.db.admin.settings().commit_rule == "majority"
