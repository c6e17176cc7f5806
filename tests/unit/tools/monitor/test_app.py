"""The application in a terminal that is none, driven by keys and the mouse."""

from __future__ import annotations

import time

import anyio
import pytest
from msgspec.structs import replace
from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.scrollbar import ScrollBar
from textual.widget import Widget

from redwire.clock import clock_ms
from redwire.errors import Code, ConnectFailed, Refused, UnknownOutcome
from redwire.message.settings import SetPolicy
from redwire.status import Quorum, Vantage
from tools.monitor.app import TABS, Monitor
from tools.monitor.pace import DRAW_MS
from tools.monitor.rehearsal import BEGAN_MS, document
from tools.monitor.watch import Ended, Lost

pytestmark = pytest.mark.slow  # each starts an application: half a minute together
SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
BROKEN = replace(document(60), quorum=Quorum(met=False, why="no voter in reach in us"))


@SIZES
async def test_what_is_broken_since_when_and_what_is_next_stand_on_the_first_screen(
    feed, until, size
) -> None:
    async with Monitor(feed).run_test(size=size) as pilot:
        feed.play(document(59))
        feed.play(BROKEN)
        await until(
            pilot,
            "✗ WRITES REFUSED  no voter in reach in us",
            "✗ us-2 is unhealthy: not connected",
            "since 03:00:40 (",
            "next in 45 min 00 s",
            "IF IT GOES, WRITES",
            "TROUBLE IN",
        )


@SIZES
async def test_of_a_panel_every_line_that_changed_is_drawn_anew(feed, until, size) -> None:
    async with Monitor(feed).run_test(size=size) as pilot:
        feed.play(document(0))
        await until(pilot, "120,000", without=("▲ 1 of 2",))
        feed.play(document(60))
        await until(pilot, "▲ 1 of 2", without=("120,000",))


async def test_a_wide_terminal_shows_all_panels_at_once_and_a_small_one_has_tabs(feed, until, shown) -> None:
    everything = ("COMMITS/S", "SLOT OF", "DISK OF", "the settings of LSN 12", "VERSION")
    async with Monitor(feed).run_test(size=(160, 50)) as pilot:
        feed.play(document(60))
        await until(pilot, "TROUBLE IN", *everything)
        await pilot.resize_terminal(80, 24)
        await until(pilot, "TROUBLE IN", without=everything)


@SIZES
async def test_each_tab_has_a_key_and_shows_its_panel(feed, until, press, size) -> None:
    shows = (
        "IF IT GOES",
        "incarnation 9d2c41aa",
        "remote fsync",
        "EVICTED IN",
        "term 4 begins",
        "TROUBLE IN",
    )
    async with Monitor(feed).run_test(size=size) as pilot:
        feed.play(document(60))
        for place, text in enumerate(shows, 1):
            await press(pilot, str(place))
            await until(pilot, text)
        await press(pilot, "right")
        await until(pilot, "IF IT GOES")
        await press(pilot, "left", "left")
        await until(pilot, "term 4 begins")


async def test_tabs_and_nodes_are_chosen_by_the_mouse_as_by_keys(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        feed.play(document(60))
        await until(pilot, "TROUBLE IN")
        await pilot.click("#--content-tab-nodes")
        await until(pilot, ">eu-1", "eu-1.example.net:5050")
        await pilot.click("#choose", offset=(2, 3))
        await until(pilot, ">us-1", "us-1.example.net:5050")
        await press(pilot, "down")
        await until(pilot, ">us-2", "not connected")
        await press(pilot, "up", "up", "up", "up", "up")
        await until(pilot, ">eu-1")


async def test_a_terminal_that_is_too_small_says_so_until_it_is_large_enough(feed, until) -> None:
    async with Monitor(feed).run_test(size=(79, 24)) as pilot:
        feed.play(document(60))
        await until(pilot, "This terminal has 79×24. The monitor needs 80×24", without=("REGION",))
        await pilot.resize_terminal(80, 23)
        await until(pilot, "This terminal has 80×23", without=("REGION",))
        await pilot.resize_terminal(80, 24)
        await until(pilot, "REGION", without=("This terminal",))


async def test_help_names_every_key_and_symbol_and_closes(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        feed.play(document(60))
        await press(pilot, "question_mark")
        await until(pilot, "change the commit policy", "bind a node", "not known; never a zero", "quit")
        await press(pilot, "escape")
        await until(pilot, "REGION", without=("change the commit policy",))


async def test_light_and_dark_change_colours_and_no_words(feed, until, shown, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        feed.play(document(60))
        text = await until(pilot, "▲ 1 of 2")
        dark = pilot.app.current_theme.dark
        await press(pilot, "t")
        await pilot.pause(0)
        assert dark and not pilot.app.current_theme.dark
        assert "▲ 1 of 2" in shown(pilot.app) and "● WRITES GO ON" in text
    async with Monitor(feed, theme="light").run_test(size=(80, 24)) as pilot:
        assert not pilot.app.current_theme.dark


def faint(app) -> set[tuple[float, str, str]]:
    """(contrast, colour, ground) of everything on the screen that stands out less than 4.5 to 1."""
    found = set()
    for style in styles(app):
        if style.color is not None and style.bgcolor is not None:
            colours = [Color.from_rich_color(each) for each in (style.color, style.bgcolor)]
            lighter, darker = sorted((luminance(each) for each in colours), reverse=True)
            contrast = (lighter + 0.05) / (darker + 0.05)
            if contrast < 4.5:
                found.add((round(contrast, 1), *(each.hex for each in colours)))
    return found


def styles(app) -> set[Style]:
    """Those of all cells on the screen but scroll bars. (`get_style_at` would draw a line for each cell.)"""
    width, height = app.size
    found = set()
    for y in range(height):
        lines: dict[Widget, list[Style]] = {}
        for x in range(width):
            widget, region = app.screen.get_widget_at(x, y)
            if widget not in lines:
                (strip,) = widget.render_lines(Region(0, y - region.y, region.width, 1))
                lines[widget] = [each.style or Style() for each in strip for _ in range(each.cell_length)]
            if not isinstance(widget, ScrollBar):
                found.add(lines[widget][x - region.x])
    return found


def luminance(colour: Color) -> float:
    """As WCAG 2.1 has it."""
    parts = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.normalized
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_every_text_stands_out_from_its_ground(feed, until, press, theme: str) -> None:
    shows = {"1": "IF IT GOES", "2": "9d2c41aa", "3": "remote fsync", "4": "EVICTED IN", "5": "term 4 begins"}
    dialogs = {"question_mark": "never a zero", "b": "Bind a node", "p": "Change the commit policy"}
    async with Monitor(feed, theme=theme).run_test(size=(80, 24)) as pilot:
        feed.play(document(60))
        for key, text in (shows | dialogs).items():
            await press(pilot, key)
            await until(pilot, text)
            await pilot.pause()  # what has just been mounted is laid out
            assert faint(pilot.app) == set(), key
            await press(pilot, *(["escape"] if key in dialogs else []))


async def test_a_lost_node_is_told_at_once_and_so_is_the_move(feed, until) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        feed.play(document(60))
        await until(pilot, "● WRITES GO ON")
        feed.post(Lost("eu-1.example.net:5050", "it is silent", clock_ms()))
        await until(pilot, "? WRITES ?", "eu-1 does not answer", without=("● WRITES GO ON",))
        moved = replace(document(61), vantage=Vantage(node="us-1", source="us-1", at_ms=BEGAN_MS))
        feed.play(moved, "us-1.example.net:5050")
        await until(pilot, "now at us-1: eu-1 was lost (it is silent)", "seen from us-1", "● WRITES GO ON")


async def test_before_any_node_answered_it_says_why_not(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        await until(pilot, "asking for the first document")
        feed.post(Lost("", "connection refused", clock_ms()))
        await until(pilot, "no node answers", "connection refused")
        await press(pilot, "b")
        await until(pilot, "No document has come yet")


async def test_what_no_node_can_mend_ends_it_with_the_error(feed) -> None:
    app = Monitor(feed)
    error = ConnectFailed("another cluster's certificate", retry=False)
    async with app.run_test(size=(80, 24)) as pilot:
        feed.post(Ended(error))
        await pilot.pause(0)
    assert app.return_value is error


async def test_a_flood_of_documents_is_drawn_four_times_a_second_at_most(feed, until) -> None:
    app = Monitor(feed)
    async with app.run_test(size=(80, 24)) as pilot:
        feed.play(document(0))
        await until(pilot, "REGION")
        draws, began_s = app.pace.draws, time.monotonic()
        second = 0
        while time.monotonic() - began_s < 1.5 or app.pace.draws - draws < 2:
            for _ in range(20):
                second += 1
                feed.play(document(second))
            await pilot.pause(0)
        elapsed_ms = (time.monotonic() - began_s) * 1_000
        assert second > 40, "many more than are drawn, however slow the machine is"
        assert app.pace.draws - draws <= elapsed_ms / DRAW_MS + 1
        await until(pilot, f"LSN {document(second).watermark:,}")


async def test_a_document_from_a_newer_version_is_shown_as_far_as_it_is_known(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(120, 30)) as pilot:
        node = replace(document(0).nodes[2], health="radiant")
        feed.play(replace(document(0), schema=99, nodes=(node,)))
        await until(pilot, "schema 99 is newer than this", "us-1 is radiant")
        await press(pilot, "2")
        await until(pilot, "▲ radiant")


async def test_the_charts_zoom_out_and_in_again(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        feed.play(document(0))
        await press(pilot, "3")
        for text in ("5 s a column", "15 s a column", "1 s a column"):
            await press(pilot, "z")
            await until(pilot, text)


# steering


@pytest.mark.parametrize("role", ["read", "write", ""])
async def test_who_may_not_change_anything_is_told_so(feed, until, press, role: str) -> None:
    feed.role = role
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        feed.play(document(60))
        await until(pilot, "not admin")
        for key in "bup":
            await press(pilot, key)
            await until(pilot, "Not admin", "with the role admin")
            await press(pilot, "escape")
            await until(pilot, "REGION", without=("with the role admin",))
    assert feed.asked == []


async def fill(press, pilot, **given: str) -> None:
    for key, value in given.items():
        pilot.app.screen.query_one(f"#field-{key}").value = value
    await press(pilot, "enter")


async def begin(press, feed, until, pilot, key: str, title: str) -> None:
    feed.play(document(60))
    await until(pilot, "REGION")
    await press(pilot, key)
    await until(pilot, title)


@SIZES
async def test_a_plan_is_shown_and_nothing_happens_without_consent(feed, until, press, size) -> None:
    async with Monitor(feed).run_test(size=size) as pilot:
        await begin(press, feed, until, pilot, "p", "Change the commit policy")
        await fill(press, pilot, timeout="5s")
        await until(pilot, "nothing is changed yet", "policy timeout: 10 s  ->  5.0 s", "lost: nothing")
        await press(pilot, "escape")
        await until(pilot, "REGION", without=("nothing is changed yet",))
    assert [dry for _, _, dry in feed.asked] == [True]


async def still(until, pilot, text: str) -> str:
    """What the screen shows once `text` stands there and all that was posted before is handled and drawn."""
    await until(pilot, text)
    handled = anyio.Event()
    pilot.app.call_later(handled.set)
    await handled.wait()
    await pilot.pause(0)
    await pilot.pause(0)
    return await until(pilot, text)


async def test_what_was_under_way_is_not_said_any_more_once_there_is_an_answer(feed, until, press) -> None:
    feed.errors.extend([None, Refused(Code.SETTINGS_CHANGED, "ops2 changed the settings")])
    async with Monitor(feed).run_test(size=(80, 24), notifications=True) as pilot:
        await begin(press, feed, until, pilot, "p", "Change the commit policy")
        await fill(press, pilot, timeout="5s")
        text = await still(until, pilot, "nothing is changed yet")
        assert "asking the primary" not in text
        await press(pilot, "y")
        text = await still(until, pilot, "ops2 changed the settings")
        assert "changing the settings" not in text


async def test_a_harmless_change_is_done_by_a_key_on_the_settings_that_were_seen(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        await begin(press, feed, until, pilot, "p", "Change the commit policy")
        await fill(press, pilot, timeout="5s")
        await until(pilot, "nothing is changed yet")
        await press(pilot, "y")
        await until(pilot, "committed at LSN 13")
    (_, _, dry), (request, based_on, real) = feed.asked
    assert (dry, real, based_on) == (True, False, document(0).settings.lsn)
    assert request.change == SetPolicy(policy_timeout_ms=5_000)


async def test_a_dangerous_change_is_typed_back_and_nothing_else_does(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        await begin(press, feed, until, pilot, "p", "Change the commit policy")
        await fill(press, pilot, policy="ack_n=1")
        await until(pilot, "acknowledged writes would no longer survive the loss of", "type ack_n=1")
        await press(pilot, "y", "enter")
        await until(pilot, "that is not ack_n=1; nothing is changed")
        assert len(feed.asked) == 1
        await press(pilot, "backspace", *"ack_n=1", "enter")
        await until(pilot, "committed at LSN 13")
    assert feed.asked[1][0].change == SetPolicy(policy="ack_n=1")


async def test_binding_begins_with_the_chosen_node_and_doubts_a_wrong_name(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        feed.play(document(60))
        await press(pilot, "2", "down", "down")
        await until(pilot, ">us-1")
        await press(pilot, "b")
        await until(pilot, "Bind a node to a region")
        assert pilot.app.screen.query_one("#field-node").value == "us-1"
        await fill(press, pilot, node="us-11", region="ap")
        await until(pilot, "there is no node 'us-11'; did you mean us-1?")
        await press(pilot, "escape")
        await until(pilot, ">us-1")
    assert feed.asked == []


async def test_who_was_slower_than_another_operator_is_told(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        feed.errors.extend(
            [None, Refused(Code.SETTINGS_CHANGED, "ops2 changed the settings", hint="look again")]
        )
        await begin(press, feed, until, pilot, "p", "Change the commit policy")
        await fill(press, pilot, timeout="5s")
        await until(pilot, "nothing is changed yet")
        await press(pilot, "y")
        await until(pilot, "Nothing was changed", "ops2 changed the settings", "look again")


async def test_settings_that_cannot_be_had_are_no_form(feed, until, press) -> None:
    feed.deaf = ConnectFailed("no node answers", retry=True)
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        await begin(press, feed, until, pilot, "p", "Nothing was changed")
        await until(pilot, "no node answers", without=("Change the commit policy",))
    assert feed.asked == []


async def test_an_outcome_that_is_not_known_is_not_called_failed(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        feed.errors.extend([None, UnknownOutcome("no answer within 20 s", phase="answer")])
        await begin(press, feed, until, pilot, "p", "Change the commit policy")
        await fill(press, pilot, timeout="5s")
        await until(pilot, "nothing is changed yet")
        await press(pilot, "y")
        await until(pilot, "Not known", "may or may not have happened", without=("Nothing was changed",))


async def test_a_refused_plan_is_shown_with_its_reason(feed, until, press) -> None:
    async with Monitor(feed).run_test(size=(80, 24)) as pilot:
        feed.errors.append(Refused(Code.COMMIT_POLICY_INVALID, "no voter in mars"))
        await begin(press, feed, until, pilot, "p", "Change the commit policy")
        await fill(press, pilot, timeout="5s")
        await until(pilot, "Nothing was changed", "no voter in mars")
    assert len(feed.asked) == 1


def test_every_tab_has_a_name_of_its_own() -> None:
    assert len(set(TABS)) == len(TABS) == 6
