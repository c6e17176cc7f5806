"""The application: takes news from a feed, draws views of it in tabs, and asks before it changes anything."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any, ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.message import Message
from textual.widgets import Footer, Static, TabbedContent, TabPane

from redwire.clock import clock_ms
from redwire.errors import RedwireError
from tools.condition.tone import Tone
from tools.errors import Interrupted
from tools.monitor import headline, panels
from tools.monitor.commits import commits
from tools.monitor.desk import Change, Desk, not_admin
from tools.monitor.dialogs import Notice, help_lines
from tools.monitor.drawn import Chooser, Drawn, content
from tools.monitor.feed import Feed
from tools.monitor.ink import marked
from tools.monitor.pace import Pace
from tools.monitor.terminal import Terminal
from tools.monitor.themes import THEMES
from tools.monitor.watch import STEPS_S, Arrived, Ended, News, View, Watch

WIDTH_MIN, HEIGHT_MIN = 80, 24
"""A terminal as it opens everywhere; in less, figures would have to be cut."""
TABS = ("overview", "nodes", "commits", "slots", "events", "trouble")
TICK_S = 1.0
"""Ages are shown in seconds."""
QUIET_MS = 900
"""A little less than from one tick to the next: one that comes early still finds the time quiet."""


def after(app: App[Any], wait_ms: int, callback: Callable[[], None]) -> None:
    """Call `callback` from `app` in so many milliseconds, or as soon after that as there is time.

    Textual's own timers skip a time that has passed already. One that is to fire once, and loses the
    processor between two of its statements, never fires: then nothing would be drawn any more.
    """
    asyncio.get_running_loop().call_later(wait_ms / 1_000, app.call_later, callback)


class Heard(Message):
    """News of the feed. Of documents of one second that wait, only the newest is taken."""

    def __init__(self, news: News) -> None:
        super().__init__()
        self.news = news

    def can_replace(self, message: Message) -> bool:
        """Whether `message`, which waits behind this one, makes this one needless."""
        return (
            isinstance(message, Heard)
            and isinstance(message.news, Arrived)
            and isinstance(self.news, Arrived)
            and message.news.addr == self.news.addr
            and message.news.at_ms // 1_000 == self.news.at_ms // 1_000
        )


class Monitor(App[RedwireError | None]):
    """Returns the error that ended it, None when somebody quit."""

    CSS_PATH = "monitor.tcss"
    TITLE = "redwire monitor"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("b", f"change('{Change.BIND.value}')", "Bind"),
        Binding("u", f"change('{Change.UNBIND.value}')", "Unbind"),
        Binding("p", f"change('{Change.POLICY.value}')", "Policy"),
        Binding("z", "zoom", "Zoom"),
        Binding("t", "theme", "Theme"),
        Binding("q,ctrl+c", "quit", "Quit", key_display="q"),
        *(Binding(str(place), f"tab('{name}')", name, show=False) for place, name in enumerate(TABS, 1)),
        Binding("left", "step(-1)", "tab", show=False),
        Binding("right", "step(1)", "tab", show=False),
        Binding("up,k", "choose(-1)", "node", show=False),
        Binding("down,j", "choose(1)", "node", show=False),
    ]

    def __init__(self, feed: Feed, *, theme: str = "dark") -> None:
        super().__init__(driver_class=Terminal)
        self.known = Watch()
        self.pace = Pace()
        self._feed = feed
        self._desk = Desk(self, feed)
        self._step_s = STEPS_S[0]
        self._selected = ""
        for each in THEMES.values():
            self.register_theme(each)
        self.theme = THEMES[theme].name
        self.animation_level = "none"
        self.HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (panels.WIDE, "-wide")]

    def compose(self) -> ComposeResult:
        """Two lines that stay, the tabs, and the keys."""
        yield Static("", id="small")
        yield Drawn(headline.title, id="title")
        yield Drawn(headline.headline, id="headline")
        with TabbedContent(id="tabs"):
            with TabPane("1 Overview", id="overview"), VerticalScroll():
                with Container(classes="pair"):
                    yield Drawn(panels.regions, title="Regions")
                    yield Drawn(panels.pressing, title="Time to trouble")
                yield Drawn(panels.nodes, title="Nodes", classes="wide")
                with Container(classes="pair wide"):
                    yield Drawn(commits, title="Commits")
                    yield Drawn(panels.events, title="Events")
                with Container(classes="pair wide"):
                    yield Drawn(panels.slots, title="Slots")
                    yield Drawn(panels.disks, title="Disks")
            with TabPane("2 Nodes", id="nodes"), VerticalScroll():
                yield Chooser(panels.nodes, title="Nodes", id="choose")
                yield Drawn(panels.node_detail, title="Chosen")
            with TabPane("3 Commits", id="commits"), VerticalScroll():
                yield Drawn(commits, title="Commits")
            with TabPane("4 Slots", id="slots"), VerticalScroll():
                yield Drawn(panels.slots, title="Slots")
                yield Drawn(panels.disks, title="Disks")
            with TabPane("5 Events", id="events"), VerticalScroll():
                yield Drawn(panels.events, title="Events")
            with TabPane("6 Trouble", id="trouble"), VerticalScroll():
                yield Drawn(panels.troubles, title="Time to trouble")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to follow the feed; where there is a terminal, SIGTERM gives it back first."""
        if not self.is_headless:
            ended = Interrupted("ended by SIGTERM", number=signal.SIGTERM)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, ended)
        self.run_worker(self._feed.follow(self._post), name="feed")
        self.set_interval(TICK_S, self._tick)
        self._fit(self.size.width, self.size.height)
        self.redraw()

    def _post(self, news: News) -> None:
        self.post_message(Heard(news))

    # what comes in

    def on_heard(self, message: Heard) -> None:
        """Learn, and draw soon."""
        if isinstance(message.news, Ended):
            self.exit(message.news.error)
        else:
            self.known.take(message.news)
            self.redraw()

    def on_chooser_chosen(self, message: Chooser.Chosen) -> None:
        """A node was clicked."""
        names = [node.id for node in self.view().status.nodes]
        if message.place < len(names):
            self._selected = names[message.place]
            self.redraw()

    def on_drawn_resized(self) -> None:
        """A panel is seen that was not, or in another width."""
        self.redraw()

    def on_resize(self, event: events.Resize) -> None:
        """Tell when there is too little room."""
        self._fit(event.size.width, event.size.height)
        self.redraw()

    # drawing

    def view(self) -> View:
        """What is known now."""
        return self.known.view(clock_ms(), self._step_s, self._selected)

    def redraw(self) -> None:
        """Draw as soon as the pace allows."""
        wait_ms = self.pace.wanted(clock_ms())
        if wait_ms is not None:
            after(self, wait_ms, self.draw)

    def _tick(self) -> None:
        """Clocks go on where no news comes."""
        if self.pace.quiet(clock_ms(), QUIET_MS):
            self.redraw()

    def draw(self) -> None:
        """Draw what is seen."""
        self.pace.drew(clock_ms())
        if not self.screen_stack:  # it is over
            return
        view = self.view()
        for panel in self.screen_stack[0].query(Drawn):
            if panel.content_size.width and (not view.waiting or panel.id in ("title", "headline")):
                panel.draw(view)

    def _fit(self, width: int, height: int) -> None:
        small = width < WIDTH_MIN or height < HEIGHT_MIN
        self.screen_stack[0].set_class(small, "-small")
        text = f"This terminal has {width}×{height}. The monitor needs {WIDTH_MIN}×{HEIGHT_MIN}: enlarge it."
        self.screen_stack[0].query_one("#small", Static).update(content([(marked(text, Tone.WARN),)]))

    # keys

    def action_tab(self, name: str) -> None:
        """Show a tab."""
        self.query_one("#tabs", TabbedContent).active = name

    def action_step(self, by: int) -> None:
        """Show the tab beside."""
        tabs = self.query_one("#tabs", TabbedContent)
        tabs.active = TABS[(TABS.index(tabs.active) + by) % len(TABS)]

    def action_choose(self, by: int) -> None:
        """Choose a node beside, or scroll where there are none to choose."""
        tabs = self.query_one("#tabs", TabbedContent)
        view = self.view()
        names = [node.id for node in view.status.nodes]
        if tabs.active != "nodes":
            tabs.query_one(f"#{tabs.active} VerticalScroll").scroll_relative(y=by, animate=False)
        elif names:
            place = names.index(view.selected) + by
            self._selected = names[max(0, min(len(names) - 1, place))]
            self.redraw()

    def action_zoom(self) -> None:
        """Let a column of the charts stand for more time, or for one second again."""
        self._step_s = STEPS_S[(STEPS_S.index(self._step_s) + 1) % len(STEPS_S)]
        self.redraw()

    def action_theme(self) -> None:
        """Light or dark."""
        self.theme = THEMES["light" if self.current_theme.dark else "dark"].name

    def action_help(self) -> None:
        """Show the keys and what symbols mean."""
        self.push_screen(Notice("Help", help_lines()))

    def action_change(self, kind: str) -> None:
        """Begin a change, the value of a `Change`, for those who may."""
        view = self.view()
        if view.waiting:
            self.push_screen(Notice("Not yet", [(marked("No document has come yet.", Tone.WARN),)]))
        elif not view.may_change:
            self.push_screen(Notice("Not admin", not_admin(view)))
        else:
            self.run_worker(self._desk.serve(Change(kind), view), name="desk")
