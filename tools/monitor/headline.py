"""The top of the screen: where we look from, whether writes go on, what is broken since when, what comes."""

from __future__ import annotations

from tools import figures
from tools.monitor.ink import SYMBOLS, Line, Span, Tone, cut_line, marked, spread
from tools.monitor.problems import Kind, Problem
from tools.monitor.trouble import Trouble
from tools.monitor.watch import View

PROBLEMS_SHOWN = 3
"""With the lines on writes and on what is next this leaves 14 of 24 lines to a tab."""


def title(view: View, width: int) -> list[Line]:
    """One line: cluster, who leads, who answers, as whom, and the time there."""
    if view.waiting:
        return [(Span(" redwire monitor", Tone.STRONG),)]
    status = view.status
    name = status.cluster.name or status.cluster.id or "a cluster without a name"
    term = "" if status.term is None else f" term {status.term}"
    left = [Span(f" {name} ", Tone.STRONG)]
    if status.primary.state == "leading":
        left.append(Span(f" primary {status.primary.node}{term}  LSN {figures.count(status.watermark)} "))
    seen_from = f" seen from {status.vantage.node or view.addr}"
    left.append(Span(seen_from, Tone.DIM))
    if view.newer:
        left.append(Span(f"  {SYMBOLS[Tone.WARN]} schema {status.schema} is newer than this", Tone.WARN))
    role = f"{view.role or 'role ?'}" + ("" if view.may_change else ", read-only")
    clock = f"{figures.clock(view.now_ms)} UTC" if view.now_ms else "time ?"
    return [spread(tuple(left), (Span(f"{role}  ", Tone.DIM), Span(f"{clock} ")), width)]


def headline(view: View, width: int) -> list[Line]:
    """Two lines and up to `PROBLEMS_SHOWN` on what is broken; how many more there are is said."""
    if view.waiting:
        return _waiting(view, width)
    lines = [cut_line(_writes(view), width)]
    if view.notice:
        lines.append(cut_line((marked(view.notice, Tone.WARN),), width))
    shown = [problem for problem in view.problems if problem.kind is not Kind.QUORUM]
    room = PROBLEMS_SHOWN - bool(view.notice)
    if len(shown) > room:
        rest = shown[room - 1 :]
        shown = shown[: room - 1]
        lines += [_problem(view, problem, width) for problem in shown]
        tone = Tone.BAD if any(problem.tone is Tone.BAD for problem in rest) else Tone.WARN
        names = "; ".join(problem.text for problem in rest)
        lines.append(cut_line((marked(f"and {len(rest)} more: {names}", tone),), width))
    else:
        lines += [_problem(view, problem, width) for problem in shown]
    lines.append(_next(view, width))
    return lines


def _waiting(view: View, width: int) -> list[Line]:
    if not view.notice:
        return [(marked("asking for the first document", Tone.PLAIN),)]
    silent = figures.duration(view.silent_ms)
    first = f"no node answers, for {silent} by now; trying on"
    return [(marked(first, Tone.BAD),), cut_line((Span(f"  {view.notice}"),), width)]


def _writes(view: View) -> Line:
    quorum, policy = view.status.quorum, view.status.settings.policy or figures.UNKNOWN
    if view.silent_ms is not None:
        return (marked("WRITES ?", Tone.DIM), Span(f"  last word {figures.duration(view.silent_ms)} ago"))
    if quorum.met is None:
        return (marked("WRITES ?", Tone.WARN), Span(f"  not known from here; policy {policy}"))
    if not quorum.met:
        problem = next(problem for problem in view.problems if problem.kind is Kind.QUORUM)
        why = quorum.why or "no reason given"
        return (
            marked("WRITES REFUSED", Tone.BAD),
            Span(f"  {why}  "),
            Span(since(view, problem), Tone.STRONG),
            Span(f"  policy {policy}", Tone.DIM),
        )
    by = f", completed mostly by {quorum.completed_by}" if quorum.completed_by else ""
    rate = view.status.commits.rate
    return (
        marked("WRITES GO ON", Tone.GOOD),
        Span(f"  {policy} is met{by}"),
        Span(f"  {figures.count(rate)} commits/s", Tone.DIM),
    )


def _problem(view: View, problem: Problem, width: int) -> Line:
    when = since(view, problem)
    return spread((marked(problem.text, problem.tone),), (Span(when, Tone.STRONG),), width)


def since(view: View, problem: Problem) -> str:
    """Since when, and how long that is; "?" where nobody knows."""
    at_ms = problem.since_at_ms
    if at_ms is None:
        return f"since {figures.UNKNOWN}"
    before = " or before" if problem.key in view.before else ""
    lasted = "" if view.now_ms is None else f" ({figures.duration(max(0, view.now_ms - at_ms))})"
    return f"since {figures.moment(at_ms, view.now_ms)}{lasted}{before}"


def _next(view: View, width: int) -> Line:
    coming = next((each for each in view.troubles if each.in_ms > 0 and each.tone is not Tone.PLAIN), None)
    if coming is None:
        calm = "nothing in sight" if not view.problems else "nothing beyond that"
        return (Span("  next ", Tone.DIM), Span(calm, Tone.DIM))
    return cut_line((Span("  next ", Tone.DIM), *_coming(coming)), width)


def _coming(coming: Trouble) -> Line:
    when = Span(f"in {figures.duration(coming.in_ms)}  ", Tone.STRONG)
    return (when, marked(f"{coming.node} {coming.text}", coming.tone))
