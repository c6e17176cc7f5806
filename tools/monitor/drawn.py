"""Widgets that draw lines from a view and post what was clicked. They decide nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tools.condition.tone import Tone
from tools.monitor.ink import Line
from tools.monitor.panels import Panel
from tools.monitor.watch import View

LOOKS = {
    Tone.PLAIN: ("none", "$foreground"),
    Tone.DIM: ("none", "$foreground-muted"),
    Tone.HEAD: ("bold", "$text-primary"),
    Tone.STRONG: ("bold", "$foreground"),
    Tone.CHART: ("none", "$text-primary"),
    Tone.GOOD: ("none", "$text-success"),
    Tone.WARN: ("none", "$text-warning"),
    Tone.BAD: ("bold", "$text-error"),
}
"""Each tone's text style, and its colour by the name that every theme, light or dark, gives it."""


def content(lines: Sequence[Line]) -> Content:
    """Lines as a widget of Textual's own shows them, wrapped where they are long."""
    parts: list[str | tuple[str, str]] = []
    for place, line in enumerate(lines):
        if place:
            parts.append("\n")
        parts += [(span.text, " ".join(LOOKS[span.tone]).removeprefix("none ")) for span in line]
    return Content.assemble(*parts)


class Drawn(Widget):
    """One panel, drawn line by line: what looks as before costs nothing. `title` stands in its border."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"tone--{tone.value}" for tone in Tone}
    DEFAULT_CSS = "".join(
        f"Drawn > .tone--{tone.value} {{ text-style: {style}; color: {color}; }}\n"
        for tone, (style, color) in LOOKS.items()
    )

    class Resized(Message):
        """There is another width to draw in."""

    def __init__(self, panel: Panel, *, title: str = "", id: str | None = None, classes: str = "") -> None:
        super().__init__(id=id, classes=classes)
        self.border_title = title
        self._panel = panel
        self._lines: list[Line] = []

    def draw(self, view: View) -> None:
        """Show `view`: lines that look as before stay."""
        width = self.content_size.width
        before, self._lines = self._lines, self._panel(view, width)
        if len(before) != len(self._lines):
            self.refresh(layout=True)
            return
        changed = [y for y, (old, new) in enumerate(zip(before, self._lines, strict=True)) if old != new]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A row a line."""
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        """One row of the content."""
        line = self._lines[y] if y < len(self._lines) else ()
        style = self.get_component_rich_style
        strip = Strip([Segment(span.text, style(f"tone--{span.tone.value}")) for span in line])
        return strip.adjust_cell_length(self.content_size.width, self.rich_style)

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
