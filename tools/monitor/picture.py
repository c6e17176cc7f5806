"""A picture of the monitor, taken without a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable

import anyio

from redwire.errors import DeadlineExceeded, RedwireError
from tools.errors import NodeNotReady
from tools.monitor.app import Monitor, after
from tools.monitor.feed import Feed
from tools.monitor.watch import View

PATIENCE_S = 30.0
"""Beside the history that is wanted: longer than any node takes to start and to be connected to."""
SETTLE_MS = 600
"""From the last key to the picture: two drawings, of which the second knows every width."""
_FONT_FACES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_SIGNATURE = re.compile(r"\s*<!-- Generated with .*?-->")
_FONTS = "Fira Code, Menlo, Consolas, DejaVu Sans Mono, monospace"


class Camera(Monitor):
    """A monitor that takes `svg` of the tab `tab` once it has `seconds` of history, and ends. `on_look`
    gets what it knows each time that it draws.
    """

    def __init__(
        self, feed: Feed, *, tab: str, seconds: int, theme: str, on_look: Callable[[View], None]
    ) -> None:
        super().__init__(feed, theme=theme)
        self.svg = ""
        self._aims = False
        self._tab = tab
        self._seconds = seconds
        self._on_look = on_look

    def draw(self) -> None:
        """Draw, and look whether it is time."""
        super().draw()
        self._on_look(self.view())
        if self.known.history.seconds >= self._seconds and not self._aims:
            self._aims = True
            self.action_tab(self._tab)
            after(self, SETTLE_MS, self._take)

    def _take(self) -> None:
        self.svg = self_contained(self.export_screenshot(title=self.TITLE))
        self.exit()


def _unheard(view: View) -> None:
    """Nobody waits for the picture."""


async def take(
    feed: Feed,
    *,
    size: tuple[int, int],
    tab: str = "overview",
    seconds: int = 5,
    theme: str = "dark",
    on_look: Callable[[View], None] = _unheard,
) -> str:
    """The SVG of a monitor in `size` columns and rows, with `seconds` of history; `on_look` hears meanwhile
    what is known.

    Raises `DeadlineExceeded` when no document comes, `NodeNotReady` when none more does, and what ended the
    feed.
    """
    camera = Camera(feed, tab=tab, seconds=seconds, theme=theme, on_look=on_look)
    failure: RedwireError | None = None
    with anyio.move_on_after(PATIENCE_S + seconds):
        failure = await camera.run_async(headless=True, size=size)
    if failure is not None:
        raise failure
    if not camera.svg:
        raise _unfinished(camera.view(), PATIENCE_S + seconds)
    return camera.svg


def _unfinished(view: View, after_s: float) -> RedwireError:
    if view.waiting:
        text = f"no document came within {after_s:g} s: {view.notice or 'nobody answered'}"
        return DeadlineExceeded(text, phase="connect", hint="is --uri right?")
    text = f"{view.history.seconds} s of history came within {after_s:g} s, and then nothing"
    return NodeNotReady(text, hint="see redwire doctor; --history takes less")


def self_contained(svg: str) -> str:
    """The picture alone: no fonts that would be fetched from elsewhere, and no signature."""
    alone = _SIGNATURE.sub("", _FONT_FACES.sub("", svg))
    return re.sub(r"font-family: [^;]+;", f"font-family: {_FONTS};", alone)
