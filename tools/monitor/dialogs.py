"""What stands in front of everything: forms, plans, what came of them, and help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Button, Input, Label, Static

from redwire.errors import RedwireError
from tools.condition.tone import Tone
from tools.monitor.drawn import content
from tools.monitor.ink import SYMBOLS, Line, Span, marked
from tools.monitor.steering import Form, Plan, Request
from tools.monitor.watch import STEPS_S

_CANCEL: BindingType = Binding("escape", "cancel", "Cancel")


class FormDialog(ModalScreen[Request | None]):
    """Asks until the answers make a request; None when it is cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [_CANCEL]

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form = form

    def compose(self) -> ComposeResult:
        """A line a field, and under them what is wrong."""
        with Vertical(classes="dialog"):
            yield Label(self._form.title, classes="heading")
            yield from self._inputs()
            yield Static("", id="wrong")
            yield _buttons(("Show the plan", "go"), ("Cancel", "cancel"))

    def _inputs(self) -> Iterator[Widget]:
        for field in self._form.fields:
            hint = f" ({', '.join(field.choices)})" if field.choices else ""
            yield Label(field.label + hint, classes="label")
            suggest = SuggestFromList(field.choices) if field.choices else None
            yield Input(field.value, id=f"field-{field.key}", suggester=suggest, compact=True)

    def on_input_submitted(self) -> None:
        """Enter in any field is the button."""
        self._go()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of the two."""
        self._go() if event.button.id == "go" else self.action_cancel()

    def _go(self) -> None:
        given = {field.key: self.query_one(f"#field-{field.key}", Input).value for field in self._form.fields}
        try:
            request = self._form.check(given)
        except RedwireError as error:
            self.query_one("#wrong", Static).update(content([(marked(str(error), Tone.BAD),)]))
        else:
            self.dismiss(request)

    def action_cancel(self) -> None:
        """Do nothing."""
        self.dismiss(None)


class PlanDialog(ModalScreen[bool]):
    """Shows a plan; True when it is to be done. What is dangerous has to be typed back."""

    BINDINGS: ClassVar[list[BindingType]] = [_CANCEL, Binding("y", "agree", "Do it")]

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def compose(self) -> ComposeResult:
        """Before, after, lost, won, and the question."""
        with Vertical(classes="dialog"):
            yield Label("The plan; nothing is changed yet", classes="heading")
            with VerticalScroll(classes="body above-typed" if self._plan.typed else "body"):
                yield Static(content(plan_lines(self._plan)), id="plan")
            if self._plan.typed:
                yield Label(f"To do it, type {self._plan.typed}", classes="label apart", markup=False)
                yield Input(id="typed", compact=True)
            yield Static("", id="wrong")
            yield _buttons(("Do it" if self._plan.typed else "Do it (y)", "go"), ("Cancel", "cancel"))

    def on_mount(self) -> None:
        """The safe button has the focus, or the line that is to be typed."""
        self.query_one("#typed" if self._plan.typed else "#cancel").focus()

    def on_input_submitted(self) -> None:
        """Enter after typing back is the button."""
        self.action_agree()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of the two."""
        self.action_agree() if event.button.id == "go" else self.action_cancel()

    def action_agree(self) -> None:
        """Do it, if what had to be typed was."""
        if self._plan.typed and self.query_one("#typed", Input).value.strip() != self._plan.typed:
            text = f"that is not {self._plan.typed}; nothing is changed"
            self.query_one("#wrong", Static).update(content([(marked(text, Tone.BAD),)]))
        else:
            self.dismiss(True)

    def action_cancel(self) -> None:
        """Do nothing."""
        self.dismiss(False)


def plan_lines(plan: Plan) -> list[Line]:
    """A plan in words."""
    lines: list[Line] = [(Span(plan.text, Tone.STRONG),), ()]
    if not plan.rows:
        lines.append((Span("nothing changes: it is so already"),))
    for what, before, after in plan.rows:
        lines.append((Span(f"{what}: ", Tone.HEAD), Span(before), Span("  ->  "), Span(after, Tone.STRONG)))
    lines += [(), *_listed("lost", plan.lost, Tone.BAD), *_listed("won", plan.won, Tone.GOOD)]
    return lines


def _listed(name: str, texts: Sequence[str], tone: Tone) -> Iterator[Line]:
    if not texts:
        yield (Span(f"{name}: ", Tone.HEAD), Span("nothing that is known of"))
    for text in texts:
        yield (Span(f"{name}: ", Tone.HEAD), marked(text, tone))


class Notice(ModalScreen[None]):
    """Says something until a key is pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,space,q,question_mark", "close", "Close", show=False)
    ]

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__()
        self._heading = title
        self._lines = lines

    def compose(self) -> ComposeResult:
        """The text, and a button for the mouse."""
        with Vertical(classes="dialog"):
            yield Label(self._heading, classes="heading")
            with VerticalScroll(classes="body"):
                yield Static(content(self._lines), id="notice")
            yield _buttons(("Close", "close"))

    def on_button_pressed(self) -> None:
        """The only one."""
        self.action_close()

    def action_close(self) -> None:
        """Go away."""
        self.dismiss(None)


def _buttons(*named: tuple[str, str]) -> Widget:
    return Horizontal(*(Button(text, id=id, compact=True) for text, id in named), classes="buttons")


KEYS = (
    ("1-6, left, right", "tabs; the mouse does as well"),
    ("up, down", "choose a node on its tab, or scroll"),
    ("b, u", "bind a node to a region, unbind it"),
    ("p", "change the commit policy, its floor and its timeout"),
    ("z", f"what a column of the charts stands for: {', '.join(map(str, STEPS_S))} s"),
    ("t", "light or dark"),
    ("?", "this; escape closes it"),
    ("q", "quit"),
)
WORDS = (
    (Tone.GOOD, "good"),
    (Tone.WARN, "look at it: degraded, coming, or a word not known here"),
    (Tone.BAD, "broken"),
    (Tone.DIM, "not known; never a zero. A gap in a chart is a dot"),
    (Tone.PLAIN, "neither good nor bad: on its way, or far off"),
)


def help_lines() -> list[Line]:
    """Keys, symbols, and what the words on the screen stand for."""
    lines: list[Line] = [(Span(f"{keys:<17} ", Tone.HEAD), Span(text)) for keys, text in KEYS]
    lines.append(())
    lines += [(Span(SYMBOLS[tone], tone), Span(f" {text}")) for tone, text in WORDS]
    lines += [
        (),
        (Span("completes", Tone.HEAD), Span(": share of recent commits whose rule its copy completed")),
        (Span("if it goes", Tone.HEAD), Span(": writes by the default policy, all else staying as it is")),
        (Span("Every change is shown as a plan first. Times are UTC.", Tone.DIM),),
    ]
    return lines
