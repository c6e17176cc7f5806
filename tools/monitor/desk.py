"""The way of one change: the form, the plan of a dry run, the question, the act, and what came of it."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any

from textual.app import App

from redwire.errors import NotConfirmed, RedwireError, UnknownOutcome
from redwire.message.settings import SettingsChanged
from tools.condition.tone import Tone
from tools.monitor import steering
from tools.monitor.dialogs import FormDialog, Notice, PlanDialog
from tools.monitor.feed import Feed
from tools.monitor.ink import Line, Span, marked
from tools.monitor.steering import Form, Request
from tools.monitor.watch import View


class Change(Enum):
    """What an operator may ask for; the words stand in the bindings of keys."""

    BIND = "bind"
    UNBIND = "unbind"
    POLICY = "policy"


def not_admin(view: View) -> list[Line]:
    """Why nothing can be changed from here."""
    who = f"the role {view.role}" if view.role else "a role that is not known"
    return [
        (marked(f"The cluster lets this monitor in with {who}.", Tone.WARN),),
        (Span("Settings are changed by principals with the role admin: name one in the URI,"),),
        (Span("such as reds://HOST/?ca=ca.pem&cert=ops.pem&key=ops.key"),),
    ]


NOTED_S = 60.0
"""What is under way is said until it is over, however long nobody answers."""


class Desk:
    """Takes one operator through one change. Runs in a worker of `app`."""

    def __init__(self, app: App[Any], feed: Feed) -> None:
        self._app = app
        self._feed = feed

    async def serve(self, kind: Change, view: View) -> None:
        """From the form of a change to the outcome.

        Nothing is changed before the operator agreed to the plan.
        """
        form = await self._form(kind, view)
        request = None if form is None else await self._app.push_screen_wait(FormDialog(form))
        if request is None:
            return
        dry = await self._ask(request, based_on=request.based_on, dry_run=True)
        if dry is None:
            return
        plan = steering.plan(request, dry)
        if not await self._app.push_screen_wait(PlanDialog(plan)):
            return
        done = await self._ask(request, based_on=plan.based_on, dry_run=False)
        if done is not None:
            where = f"committed at LSN {done.lsn}" if done.lsn else "it was so already: nothing was logged"
            lines = [(marked(done.text, Tone.GOOD),), (Span(where),)]
            await self._app.push_screen_wait(Notice("Done", lines))

    async def _form(self, kind: Change, view: View) -> Form | None:
        """What to ask; None after an error that was shown."""
        match kind:
            case Change.BIND:
                return steering.bind_form(view.status, view.selected)
            case Change.UNBIND:
                return steering.unbind_form(view.status, view.selected)
            case Change.POLICY:
                return await self._policy_form(view)

    async def _policy_form(self, view: View) -> Form | None:
        try:
            return steering.policy_form(view.status, await self._feed.settings())
        except RedwireError as error:
            await self._app.push_screen_wait(Notice(_heading(error), _error_lines(error)))
            return None

    async def _ask(self, request: Request, *, based_on: int, dry_run: bool) -> SettingsChanged | None:
        """What the cluster answers; None after an error that was shown."""
        words = "asking the primary for the plan" if dry_run else "changing the settings"
        self._app.notify(words, timeout=NOTED_S)
        try:
            answer = await self._feed.change(request, based_on=based_on, dry_run=dry_run)
        except RedwireError as error:
            await self._over()
            await self._app.push_screen_wait(Notice(_heading(error), _error_lines(error)))
            return None
        await self._over()
        return answer

    async def _over(self) -> None:
        """Take back what was said to be under way. The application says it in a turn of its own, which comes
        first here: a quick answer would leave it standing over what follows.
        """
        said = asyncio.Event()
        self._app.call_later(said.set)
        await said.wait()
        self._app.clear_notifications()


def _heading(error: RedwireError) -> str:
    return "Not known" if isinstance(error, NotConfirmed | UnknownOutcome) else "Nothing was changed"


def _error_lines(error: RedwireError) -> list[Line]:
    unknown = isinstance(error, NotConfirmed | UnknownOutcome)
    lines: list[Line] = [(marked(error.message, Tone.WARN if unknown else Tone.BAD),)]
    if unknown:
        lines.append((Span("The change may or may not have happened: look at the settings."),))
    return [*lines, (Span(error.hint),)] if error.hint else lines
