"""Widgets that draw lines from a view and post what was clicked. They decide nothing."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from tools.monitor.ink import Line, Tone
from tools.monitor.panels import Panel
from tools.monitor.watch import View

STYLES = {
    Tone.PLAIN: "",
    Tone.DIM: "$foreground-muted",
    Tone.HEAD: "bold $text-primary",
    Tone.STRONG: "bold",
    Tone.CHART: "$primary",
    Tone.GOOD: "$text-success",
    Tone.WARN: "$text-warning",
    Tone.BAD: "bold $text-error",
}
"""Each tone by the names that every theme, light or dark, gives its colours."""


def content(lines: Sequence[Line]) -> Content:
    """Lines as a widget shows them."""
    parts: list[str | tuple[str, str]] = []
    for place, line in enumerate(lines):
        if place:
            parts.append("\n")
        parts += [(span.text, STYLES[span.tone]) for span in line]
    return Content.assemble(*parts)


class Drawn(Static):
    """One panel. `title` stands in its border where there is one."""

    class Resized(Message):
        """There is another width to draw in."""

    def __init__(self, panel: Panel, *, title: str = "", id: str | None = None, classes: str = "") -> None:
        super().__init__("", id=id, classes=classes)
        self.border_title = title
        self._panel = panel
        self._lines: list[Line] = []

    def draw(self, view: View) -> None:
        """Show `view`; nothing happens where that looks as before."""
        lines = self._panel(view, self.content_size.width)
        if lines != self._lines:
            grown = len(lines) != len(self._lines)
            self._lines = lines
            self.update(content(lines), layout=grown)

    def on_resize(self) -> None:
        """Tell who draws."""
        self.post_message(self.Resized())


class Chooser(Drawn):
    """A panel whose lines below the heading stand for names, chosen by a click on one."""

    class Chosen(Message):
        """A click on the line of the name at `place`."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

    def on_click(self, event: events.Click) -> None:
        """Tell which line it was."""
        line = event.get_content_offset(self)
        if line is not None and line.y > 0:
            self.post_message(self.Chosen(line.y - 1))
